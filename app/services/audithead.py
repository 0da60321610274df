"""The newest row of the audit log outside the database: an older database that was restored shows.

The hash chain shows rows that were changed. A restored older database has a whole chain that ends
earlier, and revocations that it lacks are undone. So number and hash of the newest row are kept in
`keys/logs/audit.chain`, beside the heads of the tenants' logs, and the database must have that row.

Each process writes the file within a second of a change, and at its end.
"""

import asyncio
import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app import logs
from app.core.errors import ConflictError, StorageError
from app.core.principal import Principal
from app.db.audit import AuditLog, ChainHead
from app.db.engine import Database, Session
from app.services.authorization import require_admin
from app.services.changes import locked
from app.services.clock import Now
from app.storage import durable
from app.storage.durable import storage_errors

_NAME = "audit.chain"
_LINE = re.compile(r"(\d{1,18}) ([0-9a-f]{64})\n", re.ASCII)
_log = logs.get("audit")


class AuditHead:
    """The file of the audit log's newest row; a missing folder is made."""

    def __init__(self, db: Database, folder: Path, now: Now) -> None:
        self._db = db
        self._path = folder / _NAME
        self._now = now
        self._filed: ChainHead | None = None
        self._trouble: str | None = None
        with storage_errors("make keys/logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

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
                self._filed = last
        except StorageError as error:
            trouble = str(error)
        if trouble is not None and trouble != self._trouble:
            _log.error("audit head not kept", trouble=trouble)
        self._trouble = trouble

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
        filed, detail = None, "its head was unreadable"
        with suppress(StorageError):
            filed = await asyncio.to_thread(self._read)
            detail = "" if filed is None else f"without the row {filed.seq} that was filed"

        def work(session: Session) -> ChainHead | None:
            is_readable = filed is not None or not detail
            if is_readable and _problem(session, filed) is None:
                raise ConflictError("nothing is wrong with the audit log")
            audit = AuditLog(session)
            audit.append(self._now(), who.actor, "audit.recover", "audit", detail)
            return audit.last()

        last = await self._db.write(locked(work))
        if last is not None:
            await asyncio.to_thread(self._replace, last)
        self._trouble = None

    def _read(self) -> ChainHead | None:
        """Return what is filed; None without a file."""
        with storage_errors(f"read keys/logs/{_NAME}"):
            if not self._path.exists():
                return None
            text = self._path.read_text("ascii", "replace")
        match = _LINE.fullmatch(text)
        if match is None:
            raise StorageError(
                f"keys/logs/{_NAME} is unreadable: restore it, or run `moorage audit recover`"
            )
        return ChainHead(int(match[1]), match[2])

    def _keep(self, head: ChainHead) -> None:
        """File a row, unless a later one is filed by now."""
        with self._lock():
            filed = self._read()
            if filed is None or filed.seq < head.seq:
                self._write(head)

    def _replace(self, head: ChainHead) -> None:
        with self._lock():
            self._write(head)

    def _write(self, head: ChainHead) -> None:
        with storage_errors(f"write keys/logs/{_NAME}"):
            durable.replace_file(self._path, f"{head.seq} {head.hash}\n".encode())

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Return a context that holds a lock between processes; a kill releases the lock too."""
        with (
            storage_errors(f"lock keys/logs/{_NAME}"),
            self._path.with_suffix(".lock").open("ab") as file,
        ):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield


def _problem(session: Session, filed: ChainHead | None) -> str | None:
    if filed is None:
        return None
    known = AuditLog(session).hash_of(filed.seq)
    if known == filed.hash:
        return None
    what = "is not there" if known is None else "is another one now"
    return (
        f"row {filed.seq} of the audit log was written before and {what}: an older database was "
        "restored. Make the revocations and denials since again, then run `moorage audit recover`"
    )
