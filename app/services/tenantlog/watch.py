"""Noticing the tenants' logs that refuse to grow, before somebody asks them for a new record."""

import asyncio
from collections.abc import Mapping

from app import logs, metrics
from app.core import tlog
from app.core.errors import BadInputError, MoorageError, StorageError
from app.core.note import parse_note
from app.core.tlog import Tree
from app.db.engine import Database, Session
from app.db.tenantlogs import TenantLog, TenantLogTable
from app.services.tenantlog.growth import why_not_to_sign
from app.services.tenantlog.head import HeadFiles
from app.services.tenantlog.log import TenantLogs

_log = logs.get("sumdb")


class LogWatch:
    """Compares all logs with their head files, again and again.

    Attributes:
        refusals: by log, why it is not written to, as the last look saw it.
    """

    def __init__(self, db: Database, logs: TenantLogs, heads: HeadFiles) -> None:
        self._db = db
        self._logs = logs
        self._heads = heads
        self.refusals: Mapping[str, str] = {}

    async def step(self) -> None:
        """Look at every log that is not retired."""
        names = [log.name for log in await self._db.read(_open_logs)]
        # The files before the database, since an append writes the database first.
        filed = await asyncio.to_thread(lambda: {name: self._read(name) for name in names})

        def work(session: Session) -> dict[str, str]:
            seen = [log for log in _open_logs(session) if log.name in filed]
            whys = {log.name: self._why_not(session, log, filed[log.name]) for log in seen}
            return {name: why for name, why in whys.items() if why is not None}

        refusals = await self._db.read(work)
        for name in sorted(refusals.keys() - self.refusals.keys()):
            _log.error("log refuses to grow", log=name, why=refusals[name])
        self.refusals = refusals
        metrics.set_refusing_logs(len(refusals))

    def note(self) -> str | None:
        """Return one line about the logs that refuse, without their names, or None."""
        count = len(self.refusals)
        if not count:
            return None
        return f"{count} tenants' logs are not written to; see `moorage sumdb verify --all`"

    def _why_not(
        self, session: Session, log: TenantLog, filed: Tree | StorageError | None
    ) -> str | None:
        if not self._logs.can_sign(log):
            return (
                f"the private key of the log {log.name} can't be opened; put the old key of "
                "secrets back, or run `moorage sumdb recover --new-log`"
            )
        return _why_not(session, log, filed)

    def _read(self, name: str) -> Tree | StorageError | None:
        try:
            return self._heads.read(name)
        except StorageError as error:
            return error


def _open_logs(session: Session) -> list[TenantLog]:
    return [log for log in TenantLogTable(session).all() if not log.retired]


def _why_not(session: Session, log: TenantLog, filed: Tree | StorageError | None) -> str | None:
    if isinstance(filed, StorageError):
        return str(filed)
    if filed is not None and filed == _tree_of(log):
        return None  # the usual case, which needs no hashes
    try:
        return why_not_to_sign(session, log, filed)
    except MoorageError as error:
        return str(error)


def _tree_of(log: TenantLog) -> Tree | None:
    try:
        return tlog.parse_tree(parse_note(log.head).text)
    except BadInputError:
        return None
