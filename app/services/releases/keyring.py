"""The keyring for verifying signatures; an admin takes over newer exports of the pinned key.

The primary key is pinned, and it certifies each subkey, so a newer export is safe to take over.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from app import logs
from app.core.errors import ConflictError, KeyringError
from app.core.keylist import Subkey
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.keyrings import Keyrings, RecordedKeyring
from app.db.room import Room
from app.services.clock import Now
from app.upstream.gpg import KEYRING_MAX_BYTES, Gpg, Keyring, lost_subkeys

BUILT_IN = "built-in"
SETTING = "setting"
REFRESH = "refresh"
_log = logs.get("keyring")


@dataclass(frozen=True, slots=True)
class KeyringChange:
    """The changes after taking over an export.

    Attributes:
        added: fingerprints that only the new keyring has.
        removed: fingerprints that only the old keyring had.
    """

    keyring: Keyring
    source: str
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the new keyring has other subkeys than the old one."""
        return bool(self.added or self.removed)


class ReleaseKeyring:
    """The active keyring of this mirror."""

    def __init__(self, db: Database, gpg: Gpg, now: Now) -> None:
        self._db = db
        self._gpg = gpg
        self._now = now
        self._loaded: Keyring | None = None
        self._loading = asyncio.Lock()

    async def configure(self, armored: bytes, source: str) -> None:
        """Make the configured export active, if it differs from the one configured last time.

        If a refresh came later, its export stays active over a restart.

        Raises:
            KeyringError: armored is not a usable export of the pinned key.
        """
        keyring = await asyncio.to_thread(self._gpg.load, armored)
        if self._loaded is None:
            self._loaded = keyring  # most often it is the active one

        if source == BUILT_IN and await self._would_lose(keyring):
            _log.warning("the built-in key is older than the active one and is left aside")
            return

        def work(session: Session) -> None:
            last = Keyrings(session).newest_from(frozenset({BUILT_IN, SETTING}))
            if last is None or last.digest != keyring.digest:
                self._record(session, keyring, source, "system")

        # A server starts on a full disk, too.
        await self._db.write(work, room=Room.BELOW_FLOOR)

    async def _would_lose(self, new: Keyring) -> bool:
        """Whether the active export came by a refresh and has subkeys that new lacks."""
        active = await self._db.read(lambda s: Keyrings(s).active())
        if active is None or active.source != REFRESH:
            return False
        return bool(lost_subkeys(new, await self.active()))

    async def active(self) -> Keyring:
        """Return the active keyring; load it again if another process replaced the export.

        Raises:
            KeyringError: no export is active, or gpg can't load it.
        """
        recorded = await self.recorded()
        async with self._loading:
            if self._loaded is None or self._loaded.digest != recorded.digest:
                self._loaded = await asyncio.to_thread(self._gpg.load, recorded.armored)
            return self._loaded

    async def recorded(self) -> RecordedKeyring:
        """Return the row of the active export.

        Raises:
            KeyringError: no export is active.
        """
        recorded = await self._db.read(lambda s: Keyrings(s).active())
        if recorded is None:
            raise KeyringError("no key export is active; start the service once, or configure one")
        return recorded

    async def is_active(self) -> bool:
        """Report whether an export is active."""
        return await self._db.read(lambda s: Keyrings(s).active()) is not None

    async def take_over(self, armored: bytes, actor: str, *, replace: bool) -> KeyringChange:
        """Make another export of the pinned key the active one.

        Args:
            armored: the export.
            actor: for the audit row.
            replace: also accept an export that lacks subkeys of the active keyring.

        Raises:
            KeyringError: armored is not a usable export of the pinned key.
            ConflictError: the export lacks subkeys of the active keyring, so it is older.
        """
        new = await asyncio.to_thread(self._gpg.load, armored)
        old = await self.active()
        lost = lost_subkeys(new, old)
        if lost and not replace:
            raise ConflictError(
                f"this export lacks {len(lost)} subkey(s) of the active keyring "
                f"({', '.join(lost)}): it looks older; say --replace to take it over all the same"
            )
        change = KeyringChange(new, REFRESH, lost_subkeys(old, new), lost)
        if new.digest != old.digest:
            await self._db.write(lambda s: self._record(s, new, REFRESH, actor))
            _log.info("keyring taken over", digest=new.digest.hex, added=list(change.added))
        return change

    def _record(self, session: Session, keyring: Keyring, source: str, actor: str) -> None:
        at = self._now()
        Keyrings(session).add(keyring.digest, source, keyring.armored, at)
        AuditLog(session).append(
            at, actor, "keyring.activate", f"sha256:{keyring.digest}", f"source: {source}"
        )
        bump_generation(session)

    @property
    def gpg(self) -> Gpg:
        """The gpg program that verifies signatures."""
        return self._gpg


class OwnKeyring:
    """The keys of own releases, as the settings name them.

    Args:
        gpg: with these keys pinned; None where no key is.
        export: the file that holds them.
    """

    def __init__(self, gpg: Gpg | None, export: Path | None) -> None:
        self._gpg = gpg
        self._export = export

    async def active(self) -> tuple[Gpg, Keyring]:
        """Return gpg with the keys; the file is read anew.

        Raises:
            KeyringError: no key is pinned, or the file is not a usable export of a pinned key.
        """
        if self._gpg is None or self._export is None:
            raise KeyringError(
                "no key of your own is pinned here: set MOORAGE_RELEASES__OWN_KEYRING and "
                "MOORAGE_RELEASES__OWN_FINGERPRINTS"
            )
        armored = await read_export(self._export)
        return self._gpg, await asyncio.to_thread(self._gpg.load, armored)

    def close(self) -> None:
        """End every run of gpg."""
        if self._gpg is not None:
            self._gpg.close()


async def read_export(path: Path) -> bytes:
    """Return a key export, at most one byte more than `Gpg.load` accepts.

    Raises:
        KeyringError: the file can't be read.
    """
    try:
        async with aiofiles.open(path, "rb") as file:
            return await file.read(KEYRING_MAX_BYTES + 1)
    except OSError as error:
        raise KeyringError(f"the key export {path} can't be read: {error.strerror}") from error


def signing_subkeys(keyring: Keyring) -> tuple[Subkey, ...]:
    """Return the subkeys that can sign, oldest first."""
    return tuple(sorted((k for k in keyring.subkeys if k.can_sign), key=lambda k: k.created_at))
