"""The gpg program: takes key exports in, verifies detached signatures. The only user of gnupg.

What to think of gpg's answers is `app/core/signature.py`. Nothing here downloads keys: gpg runs
without agent, dirmngr and configuration file, in a private home that holds public keys only.

Of python-gnupg the process plumbing is used, never `.valid` or `.status`: they call a SHA-1
signature valid, and a release whose subkey has expired since invalid.
"""

import fcntl
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, ClassVar

import gnupg

from app.core.digest import Digest
from app.core.errors import KeyringError, NotYetError, SettingsError, StorageError
from app.core.signature import (
    Subkey,
    Verdict,
    VerdictReason,
    is_fingerprint,
    judge,
    parse_colons,
)

PINNED_FINGERPRINT = "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"
"""Primary key of the Google Linux Packages Signing Authority, which signs Go's releases."""

SIGNATURE_MAX_BYTES = 64 << 10  # a release signature has about 830 bytes
KEYRING_MAX_BYTES = 1 << 20  # Google's export has 17 KiB

# No --weak-digest SHA1: Google's own self-signatures are SHA-1, and gpg would drop the key.
_OPTIONS = [
    "--quiet",
    "--no-options",
    "--no-autostart",
    "--disable-dirmngr",
    "--no-auto-key-retrieve",
]
_STATUS = "[GNUPG:] "


@dataclass(frozen=True, slots=True)
class Keyring:
    """A key export that was found usable.

    Attributes:
        digest: SHA-256 of the export as given.
        armored: the export as given; it may hold more keys than are used.
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
        self._rings: dict[Digest, _Ring] = {}
        with _writing(home_parent):
            _remove_abandoned(home_parent.absolute())
            self._root, self._lock = _locked_folder(home_parent.absolute())

    @property
    def version(self) -> str:
        """The version of gpg, such as "2.2.40": that of the last `load`, without running it again.

        Raises:
            NotYetError: nothing was loaded yet and gpg can't be run.
        """
        if self._version is None:
            self._wrapper(self._root)
        return self._version or ""

    def load(self, armored: bytes) -> Keyring:
        """Return a keyring with the pinned keys of an export, ready for `verify`.

        Other keys in the export are left out, such as the DSA key of 2007 in Google's. Proves
        that this gpg can use the key: a newer gpg or a system's crypto policy may refuse it.

        Args:
            armored: what `gpg --armor --export` printed; the unarmored form will do.

        Raises:
            KeyringError: not a key export, over 1 MiB, without a pinned primary key, holding
                secret keys, without a usable signing subkey (an expired one is usable: it signed
                older releases), or gpg can't be run.
            StorageError: the private folder can't be written.
        """
        try:
            return self._load(armored)
        except NotYetError as error:
            raise KeyringError(f"the key export can't be checked: {error}") from error

    def verify(self, keyring: Keyring, signature: bytes, data: Path) -> Verdict:
        """Return the verdict on a detached signature over a file.

        Trouble that says nothing about the signature is never a verdict, so that an archive isn't
        put in quarantine because of it. NotYetError is 503 for whoever asks for a new archive;
        archives verified earlier need no gpg and are served on.

        Args:
            keyring: from `load` of this or another instance with the same pins.
            signature: the .asc file; over 64 KiB is no signature and is not shown to gpg.
            data: absolute path of a regular file that nobody changes meanwhile. Its size and
                SHA-256 are checked already: a truncated file looks like a bad signature.

        Raises:
            NotYetError: gpg is missing, crashes, can't work or doesn't answer in time.
            StorageError: data or the private folder can't be read or written.
        """
        if len(signature) > SIGNATURE_MAX_BYTES:
            return Verdict(
                False,
                VerdictReason.NO_SIGNATURE,
                f"the signature file has {len(signature)} bytes; "
                f"no release signature has over {SIGNATURE_MAX_BYTES}",
            )
        _require_regular_file(data)
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
        return verdict

    def close(self) -> None:
        """Remove the private folder; may be called twice."""
        self._rings.clear()
        shutil.rmtree(self._root, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _load(self, armored: bytes) -> Keyring:
        if len(armored) > KEYRING_MAX_BYTES:
            raise KeyringError(f"a key export may have {KEYRING_MAX_BYTES} bytes at most")
        digest = Digest.of(armored)
        ring = self._rings.get(digest)
        if ring is None or not ring.path.is_file():
            ring = self._rings[digest] = self._import(armored)
        return Keyring(digest, armored, ring.usable_keys())

    def _import(self, armored: bytes) -> "_Ring":
        with _writing(self._root):
            home = Path(tempfile.mkdtemp(dir=self._root))
        try:
            ring = _Ring(self._wrapper(home), home, self._pinned)
            ring.fill(armored)
            ring.usable_keys()
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        return ring

    def _ring(self, keyring: Keyring) -> "_Ring":
        """Return the ring, made anew if another instance loaded it or a cleaner of /tmp came by.

        From a missing file gpg would quietly make an empty ring and call every key unknown.
        """
        ring = self._rings.get(keyring.digest)
        if ring is None or not ring.path.is_file():
            try:
                ring = self._rings[keyring.digest] = self._import(keyring.armored)
            except KeyringError as error:
                raise NotYetError(f"gpg no longer accepts the keyring: {error}") from error
        return ring

    def _wrapper(self, home: Path) -> "_Wrapper":
        with _answering(self._binary, self.timeout_s):
            wrapper = _Wrapper(self._binary, home, lambda: self.timeout_s)
        self._version = wrapper.version_text
        return wrapper


def builtin_key() -> bytes:
    """Return Google's signing key as shipped: the export of 2026, seven subkeys since 2016."""
    return Path(__file__).with_name("google_linux_signing_key.asc").read_bytes()


def lost_subkeys(new: Keyring, old: Keyring) -> tuple[str, ...]:
    """Return the fingerprints that replacing old by new would lose; empty when new is no older.

    Lost is a key that new lacks, and one that was revoked and no longer is. An export that loses
    some is older, and taking it over would undo a refresh or a revocation.
    """
    revoked_in_new = {key.fingerprint: key.revoked for key in new.subkeys}
    return tuple(
        key.fingerprint
        for key in old.subkeys
        if key.fingerprint not in revoked_in_new
        or (key.revoked and not revoked_in_new[key.fingerprint])
    )


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder "gpg-…" and the descriptor that keeps it locked while we live.

    It gets its name once it is locked, so that nobody can take it for abandoned before.
    """
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return new.rename(parent / new.name.replace(".new-", "gpg-")), descriptor


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that were killed: the kernel has dropped their locks."""
    for folder in parent.glob("gpg-*"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


class Transcript:
    """What one run of gpg said, uninterpreted; stands in for python-gnupg's result classes.

    Attributes:
        stderr: status lines and messages, Latin-1 as python-gnupg decodes them.
        data: standard output.
        returncode: exit code, 0 to 2.
    """

    def __init__(self, gpg: object = None) -> None:
        self.stderr = ""
        self.data = b""
        self.returncode = -1

    def handle_status(self, key: str, value: str) -> None:
        """Ignore python-gnupg's idea of a status line.

        It also breaks lines at U+0085 and other marks, so that a user ID could pose as one.
        """

    @property
    def status_lines(self) -> tuple[str, ...]:
        """The status lines without "[GNUPG:] "."""
        lines = self.stderr.split("\n")
        return tuple(line.removeprefix(_STATUS) for line in lines if line.startswith(_STATUS))

    @property
    def last_words(self) -> str:
        """The last messages for people, on one printable line of at most 300 characters."""
        lines = [line for line in self.stderr.split("\n") if not line.startswith(_STATUS)]
        text = "; ".join(line.removeprefix("gpg: ") for line in lines if line.strip())
        return "".join(c if c.isprintable() else "?" for c in text)[-300:] or "no message"


class _Wrapper(gnupg.GPG):  # type: ignore[misc]  # python-gnupg has no annotations
    """python-gnupg with deadlines, and with results kept raw."""

    result_map: ClassVar[dict[str, Any]] = dict(gnupg.GPG.result_map, verify=Transcript)

    def __init__(self, binary: str, home: Path, timeout_s: Callable[[], float]) -> None:
        self._timeout_s = timeout_s  # before the base class, which runs gpg for its version
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LC_ALL": "C",
        }
        super().__init__(binary, gnupghome=str(home), options=_OPTIONS, env=environment)
        if self.version is None:
            raise ValueError("it does not tell its version")

    @property
    def version_text(self) -> str:
        """The version with dots."""
        return ".".join(map(str, self.version))

    def run(self, *args: str) -> Transcript:
        """Run gpg to its end.

        Raises:
            NotYetError: missing, out of time, or ended otherwise than with 0, 1 or 2.
        """
        transcript = Transcript()
        with _answering(self.gpgbinary, self._timeout_s()):
            self._collect_output(self._open_subprocess(list(args)), transcript)
        if transcript.returncode not in (0, 1, 2):
            raise NotYetError(
                f"gpg crashed (exit code {transcript.returncode}): {transcript.last_words}"
            )
        return transcript

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> Popen[bytes]:
        # A session of its own, so that whatever gpg may start dies with it: a child that holds
        # the pipes open would hang us.
        command = self.make_args(args, passphrase)
        return Popen(
            command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self.env, start_new_session=True
        )

    def _collect_output(
        self, process: Popen[bytes], result: Any, writer: Any = None, stdin: Any = None
    ) -> None:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            _kill(process)

        timer = threading.Timer(self._timeout_s(), expire)
        timer.daemon = True
        timer.start()
        try:
            super()._collect_output(process, result, writer, stdin)
        finally:
            timer.cancel()
            _kill(process)
        if expired.is_set():
            raise TimeoutError


class _Ring:
    """The pinned keys of one export, in an OpenPGP keyring file in a home of their own."""

    def __init__(self, wrapper: _Wrapper, home: Path, pinned: frozenset[str]) -> None:
        self.path = home / "pinned.gpg"
        self._wrapper = wrapper
        self._home = home
        self._pinned = pinned

    def fill(self, armored: bytes) -> None:
        """Take the pinned keys over from an export; once."""
        export = self._home / "export.asc"
        with _writing(self._home):
            export.write_bytes(armored)
        _require_pinned_public_keys(self._wrapper, export, self._pinned)
        # Import drops what the primary key does not certify; export then takes the pinned alone.
        imported = self._wrapper.run("--import", str(export))
        self._wrapper.run("--output", str(self.path), "--export", *sorted(self._pinned))
        if not self.path.is_file():
            raise KeyringError(f"gpg refuses the pinned key: {imported.last_words}")
        self._wrapper.keyring = [str(self.path)]

    def usable_keys(self) -> tuple[Subkey, ...]:
        """Return the keys of the ring; raises KeyringError where none may sign."""
        listed = self._wrapper.run("--list-keys", "--fingerprint", "--fingerprint")
        keys = parse_colons(listed.data.decode("utf-8", "replace"))
        keys = tuple(key for key in keys if key.primary in self._pinned)
        if not any(key.can_sign and not key.revoked for key in keys):
            raise KeyringError(
                "the pinned key has no usable signing key: all are revoked, or none may sign"
            )
        return keys

    def check(self, signature: bytes, data: Path) -> Transcript:
        """Run gpg over a detached signature and the absolute path of the signed file."""
        # python-gnupg would put its copy into TMPDIR, which may be missing or read-only.
        with _writing(self._home), tempfile.NamedTemporaryFile(dir=self._home) as copy:
            copy.write(signature)
            copy.flush()
            # Else every run would check and lock the trust database, which judge ignores. Import
            # needs one: gpg stops at a revoked key without it.
            return self._wrapper.run("--trust-model=always", "--verify", copy.name, str(data))


def _require_pinned_public_keys(wrapper: _Wrapper, export: Path, pinned: frozenset[str]) -> None:
    """Look at an export without importing it: a secret key must not get as far as the disk."""
    shown = wrapper.run("--import-options", "show-only", "--import", str(export))
    listing = shown.data.decode("utf-8", "replace")
    if any(line.startswith(("sec:", "ssb:")) for line in listing.split("\n")):
        raise KeyringError(
            "the export holds secret keys: export public keys, with gpg --armor --export"
        )
    keys = parse_colons(listing)
    if shown.returncode != 0 or not keys:
        raise KeyringError(f"this is not an OpenPGP key export: {shown.last_words}")
    if pinned.isdisjoint(key.primary for key in keys):
        raise KeyringError(f"the export lacks the pinned primary key {' or '.join(sorted(pinned))}")


def _kill(process: Popen[bytes]) -> None:
    """Kill the process and all that it started, unless it has ended and was waited for."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _require_regular_file(data: Path) -> None:
    """Refuse what gpg would wait for (a pipe) or misread: it calls a folder a bad signature."""
    if not data.is_absolute():
        raise StorageError(f"{data} is not an absolute path")
    try:
        mode = data.stat().st_mode
    except OSError as error:
        raise StorageError(f"{data} can't be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StorageError(f"{data} is not a regular file")


def _require_readable(data: Path) -> None:
    """Read a file to its end: to gpg, a read error is a bad signature."""
    try:
        with data.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        raise StorageError(f"{data} can't be read: {error.strerror}") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder} can't be written for gpg: {error.strerror}") from error


@contextmanager
def _answering(binary: str, timeout_s: float) -> Iterator[None]:
    """Turn what python-gnupg raises where gpg is missing or broken into our own error."""
    try:
        yield
    except TimeoutError as error:
        raise NotYetError(f"{binary} did not answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise NotYetError(f"{binary} can't be run: {error}") from error
