"""The newest row of the audit log outside the database: an older database that was restored shows.

The hash chain shows rows that were changed. A restored older database has a whole chain that ends
earlier, and revocations that it lacks are undone. So number and hash of the newest row are kept as
`audit.chain`, beside the heads of the tenants' logs, and the database must have that row.
The database says whether a row was ever kept: then a missing object was lost.

Each process writes the object within a second of a change, and at its end.
"""

import asyncio
import re
from contextlib import suppress

from app import logs
from app.core.errors import ConflictError, StorageError
from app.core.principal import Principal
from app.db.audit import AuditLog, ChainHead
from app.db.engine import Database, Session
from app.db.installation import audit_head_was_kept, note_audit_head_kept
from app.db.room import Room
from app.services.authorization import require_admin
from app.services.changes import locked
from app.services.clock import Now
from app.storage.objects import ANY, ObjectStore

_NAME = "audit.chain"
_TRIES = 20
_LINE = re.compile(r"(\d{1,18}) ([0-9a-f]{64})\n", re.ASCII)
_log = logs.get("audit")


class AuditHead:
    """The object of the audit log's newest row."""

    def __init__(self, db: Database, objects: ObjectStore, now: Now) -> None:
        self._db = db
        self._objects = objects
        self._now = now
        self._filed: ChainHead | None = None
        self._trouble: str | None = None

    async def step(self) -> None:
        """File the newest row, unless the database lacks the row that is filed.

        Trouble is logged once, and is what `note` returns until a later step does better.
        """
        last = await self._db.read(lambda s: AuditLog(s).last())
        if last is None or last == self._filed:
            return
        try:
            trouble = await self.problem()
            if trouble is None:
                await asyncio.to_thread(self._keep, last)
                await self._note_kept()
                self._filed = last
        except StorageError as error:
            trouble = str(error)
        if trouble is not None and trouble != self._trouble:
            _log.error("audit head not kept", trouble=trouble)
        self._trouble = trouble

    async def _note_kept(self) -> None:
        """Have the database say that a row was kept. Crash before: the next step does it."""
        if not await self._db.read(audit_head_was_kept):
            await self._db.write(note_audit_head_kept, room=Room.BELOW_FLOOR)

    def note(self) -> str | None:
        """Return what the last step could not do, on one line, or None."""
        return self._trouble

    async def problem(self) -> str | None:
        """Return what is wrong if the database lacks the row that is filed; None if all is well.

        Raises:
            StorageError: the file can't be read.
        """
        filed = await asyncio.to_thread(self._read)
        return await self._db.read(lambda s: _problem(s, filed))

    async def recover(self, who: Principal) -> None:
        """Go on with the rows that the database has, from an admin's decision on.

        Raises:
            ConflictError: nothing is wrong.
            StorageError: the file can't be written.
        """
        require_admin(who, None)
        filed, detail, is_readable = None, "its head was unreadable", False
        with suppress(StorageError):
            filed = await asyncio.to_thread(self._read)
            is_readable = True
            lost = await self._db.read(audit_head_was_kept)
            detail = "its head was lost" if lost else ""
            if filed is not None:
                detail = f"without the row {filed.seq} that was filed"

        def work(session: Session) -> ChainHead | None:
            if is_readable and _problem(session, filed) is None:
                raise ConflictError("nothing is wrong with the audit log")
            note_audit_head_kept(session)
            audit = AuditLog(session)
            audit.append(self._now(), who.actor, "audit.recover", "audit", detail)
            return audit.last()

        last = await self._db.write(locked(work))
        if last is not None:
            await asyncio.to_thread(self._replace, last)
        self._trouble = None

    def _read(self) -> ChainHead | None:
        """Return what is kept; None without an object."""
        return self._look()[0]

    def _look(self) -> tuple[ChainHead | None, str | None]:
        """Return what is kept and its version; None without an object."""
        stored = self._objects.get(_NAME)
        if stored is None:
            return None, None
        match = _LINE.fullmatch(stored.data.decode("ascii", "replace"))
        if match is None:
            raise StorageError(
                f"{_NAME}, beside the heads of the logs, is unreadable: restore it, or run `moorage"
                " audit recover`"
            )
        return ChainHead(int(match[1]), match[2]), stored.version

    def _keep(self, head: ChainHead) -> None:
        """Keep a row, unless a later one is kept by now."""
        for _ in range(_TRIES):
            filed, version = self._look()
            if filed is not None and filed.seq >= head.seq:
                return
            with suppress(ConflictError):
                self._objects.put(_NAME, _line(head), expected=version)
                return
        raise StorageError(f"keep {_NAME}: others keep changing it; try again")

    def _replace(self, head: ChainHead) -> None:
        self._objects.put(_NAME, _line(head), expected=ANY)


def _line(head: ChainHead) -> bytes:
    return f"{head.seq} {head.hash}\n".encode()


def _problem(session: Session, filed: ChainHead | None) -> str | None:
    if filed is None:
        if not audit_head_was_kept(session):
            return None
        return (
            f"{_NAME}, the newest row of the audit log, was kept beside the heads of the logs and "
            "is lost: whether an older database was restored can't be told. Put it back, or run "
            "`moorage audit recover`"
        )
    known = AuditLog(session).hash_of(filed.seq)
    if known == filed.hash:
        return None
    what = "is not there" if known is None else "is another one now"
    return (
        f"row {filed.seq} of the audit log was written before and {what}: an older database was "
        "restored. Make the revocations and denials since again, then run `moorage audit recover`"
    )
