"""Signs synthetic release archives with a throw-away key, as upstream does with its own."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.upstream.gpgkeys import Room


@dataclass(frozen=True)
class Signer:
    """A pinned primary key with two signing subkeys, of which `newer` came later.

    Attributes:
        primary: its fingerprint, to be pinned.
        export: the armored public key with both subkeys.
        older_export: the same before `newer` was added.
    """

    room: Room
    primary: str
    current: str
    newer: str
    export: bytes
    older_export: bytes
    _made: dict[tuple[bytes, str], bytes] = field(default_factory=dict, repr=False)

    def sign(self, data: bytes, *, by: str | None = None) -> bytes:
        """Return an armored detached signature over data, by the subkey `current` or `by`.

        Ed25519 has one signature for a message, and the time in it is always the same: many tests
        sign the same archive, and only the first runs gpg.
        """
        key = by or self.current
        made = (hashlib.sha256(data).digest(), key)
        if made not in self._made:
            self._made[made] = self.room.sign(key, "--armor", over=data)
        return self._made[made]


@contextmanager
def throwaway_signer() -> Iterator[Signer]:
    """Make the key; no process and no secret key is left behind."""
    room = Room(Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp")))  # agents need a short path
    try:
        primary = room.new_key("Signer <signer@example.com>", "cert")
        current = room.new_subkey(primary)
        older_export = room.export(primary)
        newer = room.new_subkey(primary)
        yield Signer(room, primary, current, newer, room.export(primary), older_export)
    finally:
        room.close()


def gpg_is_here() -> bool:
    """Whether the gpg program is installed."""
    return shutil.which("gpg") is not None
