"""A keyring file with the pinned keys of one export.

`gpg.py` makes a lost file anew, because gpg would silently make an empty ring instead.
"""

import tempfile
from pathlib import Path

from app.core.errors import KeyringError
from app.core.keylist import Subkey, parse_colons
from app.upstream.gpg_home import writing
from app.upstream.gpg_process import GpgProgram, Transcript


class Ring:
    """The pinned keys of one export, in an OpenPGP keyring file in a home of their own.

    Attributes:
        path: the file.
        keys: what gpg listed when the file was filled; empty before.
    """

    def __init__(self, program: GpgProgram, home: Path, pinned: frozenset[str]) -> None:
        self.path = home / "pinned.gpg"
        self.keys: tuple[Subkey, ...] = ()
        self._program = program
        self._home = home
        self._pinned = pinned

    def fill(self, armored: bytes) -> None:
        """Take the pinned keys from an export. Call it once.

        Raises:
            KeyringError: see `Gpg.load`.
        """
        export = self._home / "export.asc"
        with writing(self._home):
            export.write_bytes(armored)
        _require_pinned_public_keys(self._program, export, self._pinned)
        # Import drops what the primary key does not certify; export then takes the pinned alone.
        imported = self._program.run("--import", str(export))
        self._program.run("--output", str(self.path), "--export", *sorted(self._pinned))
        if not self.path.is_file():
            raise KeyringError(f"gpg refuses the pinned key: {imported.last_words}")
        self._program.keyring = [str(self.path)]
        self.keys = self.usable_keys()

    def usable_keys(self) -> tuple[Subkey, ...]:
        """Return the keys of the ring, as gpg lists them now.

        Raises:
            KeyringError: no key may sign.
        """
        listed = self._program.run("--list-keys", "--fingerprint", "--fingerprint")
        keys = parse_colons(listed.data.decode("utf-8", "replace"))
        keys = tuple(key for key in keys if key.primary in self._pinned)
        if not any(key.can_sign and not key.revoked for key in keys):
            raise KeyringError(
                "the pinned key has no usable signing key: all are revoked, or none may sign"
            )
        return keys

    def check(self, signature: bytes, data: Path) -> Transcript:
        """Return what gpg says of a detached signature; data is the absolute path of the file."""
        # python-gnupg would put its copy into TMPDIR, which may be missing or read-only.
        with writing(self._home), tempfile.TemporaryDirectory(dir=self._home) as folder:
            copy = Path(folder, "signature.asc")
            copy.write_bytes(signature)
            # Without "always", every run would check and lock the trust database, which the verdict
            # ignores. The import needs that database: without it, gpg stops at a revoked key.
            return self._program.run("--trust-model=always", "--verify", str(copy), str(data))


def _require_pinned_public_keys(program: GpgProgram, export: Path, pinned: frozenset[str]) -> None:
    """Check an export without importing it: a secret key must not reach the disk."""
    shown = program.run("--import-options", "show-only", "--import", str(export))
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
