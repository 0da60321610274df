"""On wish: the Go project's own signature of an archive, checked on the node by `gpg`.

Then the archive is kept as a file beside the staging folder until `gpg` is content, and only
afterwards unpacked: the two can't overlap.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RefusedError, UsageError, disk_error
from .layout import remove
from .manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT_S = 120.0


def signed_pieces(
    pieces: Iterator[bytes], signature: bytes, keyring: Path, folder: Path
) -> Iterator[bytes]:
    """Yield the pieces again, once one of the keyring's keys has signed all of them.

    Args:
        pieces: of the `.tar.gz`.
        signature: detached, armored or not.
        keyring: an export of public keys.
        folder: a staging folder; further ones with its name and an addition are used.

    Raises:
        RefusedError: no key of the keyring signed the archive.
        UsageError: there is no `gpg`, or the keyring can't be read.
        DiskError: the archive can't be kept.
    """
    kept = folder.with_name(f"{folder.name}-signed")
    try:
        kept.mkdir(mode=0o700)
        archive = kept / "archive"
        with archive.open("xb") as file:
            for piece in pieces:
                file.write(piece)
        (kept / "archive.asc").write_bytes(signature)
        _check(archive, keyring)
        with archive.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except OSError as error:
        raise disk_error(error, "keep the archive in") from error
    finally:
        with contextlib.suppress(OSError):  # the next run tries again
            remove(kept)


def _check(archive: Path, keyring: Path) -> None:
    # Not below the root: gpg refuses a home whose path is longer than a socket's name may be.
    with tempfile.TemporaryDirectory(prefix="moorage-gpg-") as home:
        if _gpg(home, "--import", str(keyring.absolute())).returncode:
            raise UsageError(f"gpg can't read keys from {keyring}")
        done = _gpg(home, "--trust-model", "always", "--verify", f"{archive}.asc", str(archive))
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode or not any(line.startswith("[GNUPG:] VALIDSIG ") for line in lines):
        raise RefusedError(f"no key of {keyring} has signed the archive, says gpg")


def _gpg(home: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    if shutil.which("gpg") is None:
        raise UsageError("--gpg needs the program gpg")
    common = ["gpg", "--homedir", home, "--batch", "--no-tty", "--no-autostart"]
    try:
        return subprocess.run(
            [*common, "--status-fd", "1", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RefusedError("gpg takes too long") from error
