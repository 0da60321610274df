"""The gpg program: takes key exports in, verifies detached signatures.

Not here: the verdict on gpg's answers (`app/core/signature.py`), and the run of the program
(`gpg_process.py`). Nothing here downloads keys: gpg runs without agent, dirmngr and configuration
file, in a private home that holds public keys only.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app import tracing
from app.core.digest import Digest
from app.core.errors import KeyringError, NotYetError, SettingsError, StorageError
from app.core.gpgfields import is_fingerprint
from app.core.keylist import Subkey
from app.core.signature import SignatureVerdict, VerdictReason, judge, require_nothing_else
from app.upstream.gpg_home import locked_folder, remove_abandoned, writing
from app.upstream.gpg_process import GpgProgram, RunningPrograms, answering
from app.upstream.gpg_ring import Ring

PINNED_FINGERPRINT = "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"
"""Primary key of the Google Linux Packages Signing Authority, which signs Go's releases."""

SIGNATURE_MAX_BYTES = 64 << 10  # a release signature has about 830 bytes
KEYRING_MAX_BYTES = 1 << 20  # Google's export has 17 KiB


@dataclass(frozen=True, slots=True)
class Keyring:
    """A usable key export.

    Attributes:
        digest: SHA-256 of `armored`.
        armored: the whole export; it may hold more keys than are used.
        subkeys: the pinned primary keys of the export and their subkeys, nothing else.
    """

    digest: Digest
    armored: bytes
    subkeys: tuple[Subkey, ...]


class Gpg:
    """Verification with one gpg binary and one set of pinned primary keys.

    Blocks: call it from a thread. Every method may be called from several threads at once.

    Attributes:
        timeout_s: seconds that one run of gpg may take. 70 MiB take a quarter of a second.
    """

    def __init__(
        self,
        *,
        home_parent: Path,
        pinned: frozenset[str],
        binary: str = "gpg",
        timeout_s: float = 60,
        now: Callable[[], datetime],
    ) -> None:
        """Make a private folder in home_parent; gpg does not run yet and may be missing.

        Args:
            home_parent: an existing folder, best on tmpfs; `close` removes what was made in it.
            pinned: whole fingerprints of primary keys, 40 upper-case hex characters each.
            binary: name or path of gpg.
            timeout_s: see the class.
            now: returns the wall-clock time, UTC.

        Raises:
            SettingsError: pinned is empty or holds something else, such as a key ID.
            StorageError: home_parent can't be written.
        """
        if not pinned or not all(map(is_fingerprint, pinned)):
            raise SettingsError(
                "MOORAGE_RELEASES__PINNED_FINGERPRINTS must list whole fingerprints of primary "
                f"keys (40 upper-case hex characters), not {sorted(pinned)}"
            )
        self.timeout_s = timeout_s
        self._pinned = pinned
        self._binary = binary
        self._now = now
        self._version: str | None = None
        self._running = RunningPrograms()
        self._rings: dict[Digest, Ring] = {}
        with writing(home_parent):
            remove_abandoned(home_parent.absolute())
            self._root, self._lock = locked_folder(home_parent.absolute())

    @property
    def version(self) -> str:
        """The version of gpg, such as "2.2.40", as the last `load` saw it.

        Raises:
            NotYetError: nothing was loaded yet, and gpg can't be run.
        """
        if self._version is None:
            self._program(self._root)
        return self._version or ""

    def load(self, armored: bytes) -> Keyring:
        """Return a keyring with the pinned keys of an export, ready for `verify`.

        Other keys of the export are left out, such as the DSA key of 2007 in Google's. A success
        proves that this gpg can use the key: a newer gpg or the system's crypto policy may refuse
        the key.

        Args:
            armored: the output of `gpg --armor --export`, or of `gpg --export`.

        Raises:
            KeyringError: not a key export, over 1 MiB, without a pinned primary key, holding
                secret keys, without a usable signing subkey (an expired one is usable: it signed
                older releases).
            NotYetError: gpg is missing, crashes or doesn't answer in time.
            StorageError: the private folder can't be written.
        """
        if len(armored) > KEYRING_MAX_BYTES:
            raise KeyringError(f"a key export may have {KEYRING_MAX_BYTES} bytes at most")
        digest = Digest.of(armored)
        ring = self._rings.get(digest)
        if ring is None or not ring.path.is_file():
            ring = self._rings[digest] = self._import(armored)
            return Keyring(digest, armored, ring.keys)  # read just now
        return Keyring(digest, armored, ring.usable_keys())

    def verify(self, keyring: Keyring, signature: bytes, data: Path) -> SignatureVerdict:
        """Return the verdict on a detached signature over a file.

        Trouble with gpg is never a verdict, so that no archive goes into quarantine because of it.
        A client that asks for a new archive gets 503 for a NotYetError. Verified archives need no
        gpg and are served all the time.

        Args:
            keyring: from `load` of this or another instance with the same pins.
            signature: the .asc file. More than 64 KiB are no signature, and gpg does not see them.
            data: absolute path of a regular file that nobody changes meanwhile. The caller has
                checked its size and SHA-256: a truncated file looks like a bad signature.

        Raises:
            NotYetError: gpg is missing, crashes, can't work or doesn't answer in time.
            StorageError: data or the private folder can't be read or written.
        """
        if len(signature) > SIGNATURE_MAX_BYTES:
            return SignatureVerdict(
                False,
                VerdictReason.NO_SIGNATURE,
                f"the signature file has {len(signature)} bytes; "
                f"no release signature has over {SIGNATURE_MAX_BYTES}",
            )
        _require_regular_file(data)
        with tracing.span("gpg"):
            return self._verdict(keyring, signature, data)

    def _verdict(self, keyring: Keyring, signature: bytes, data: Path) -> SignatureVerdict:
        transcript = self._ring(keyring).check(signature, data)
        if not transcript.status_lines and "not a detached signature" not in transcript.stderr:
            raise NotYetError(f"gpg failed: {transcript.last_words}")
        verdict = judge(
            transcript.status_lines,
            transcript.returncode,
            keyring.subkeys,
            self._pinned,
            self._now(),
        )
        if verdict.reason is VerdictReason.BAD_SIGNATURE:
            _require_readable(data)
        return require_nothing_else(signature, verdict)

    def close(self) -> None:
        """End every run of gpg and remove the private folder; may be called twice.

        A thread that waits for gpg gets a NotYetError at once, so that no process has to wait for a
        gpg that hangs.
        """
        self._running.end()
        self._rings.clear()
        shutil.rmtree(self._root, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _import(self, armored: bytes) -> Ring:
        with writing(self._root):
            home = Path(tempfile.mkdtemp(dir=self._root))
        try:
            ring = Ring(self._program(home), home, self._pinned)
            ring.fill(armored)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        return ring

    def _ring(self, keyring: Keyring) -> Ring:
        """Return the ring of a keyring; make the ring if another instance loaded the keyring.

        A cleaner of /tmp may have removed the file. gpg would silently make an empty ring instead,
        and call every key unknown.
        """
        ring = self._rings.get(keyring.digest)
        if ring is None or not ring.path.is_file():
            try:
                ring = self._rings[keyring.digest] = self._import(keyring.armored)
            except KeyringError as error:
                raise NotYetError(f"gpg no longer accepts the keyring: {error}") from error
        return ring

    def _program(self, home: Path) -> GpgProgram:
        with answering(self._binary, self.timeout_s):
            program = GpgProgram(self._binary, home, lambda: self.timeout_s, self._running)
        self._version = program.version_text
        return program


def builtin_key() -> bytes:
    """Return Google's signing key as shipped: the export of 2026, seven subkeys since 2016."""
    return Path(__file__).with_name("google_linux_signing_key.asc").read_bytes()


def lost_subkeys(new: Keyring, old: Keyring) -> tuple[str, ...]:
    """Return the fingerprints of old that new loses; empty if new is not older than old.

    A key is lost if new lacks the key, or if the key is revoked in old and not in new. An export
    that loses keys is older: it would undo a refresh or a revocation.
    """
    revoked_in_new = {key.fingerprint: key.revoked for key in new.subkeys}
    return tuple(
        key.fingerprint
        for key in old.subkeys
        if key.fingerprint not in revoked_in_new
        or (key.revoked and not revoked_in_new[key.fingerprint])
    )


def _require_regular_file(data: Path) -> None:
    """Refuse a pipe, for which gpg would wait, and a folder, which gpg calls a bad signature."""
    if not data.is_absolute():
        raise StorageError("the file to be verified has no absolute path")
    try:
        mode = data.stat().st_mode
    except OSError as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(mode):
        raise StorageError("the file to be verified is not a regular file")


def _require_readable(data: Path) -> None:
    """Read a file to its end, since gpg calls a read error a bad signature."""
    try:
        with data.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> StorageError:
    return StorageError(f"the file to be verified can't be read: {error.strerror}")
