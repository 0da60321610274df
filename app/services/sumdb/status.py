"""Reports on checksum databases for admins: relayed logs, evidence, and a tenant's own logs.

Not here: checking a log (`fsck`), changing one (`services/tenantlog`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.core import tlog
from app.core.errors import UnknownError
from app.core.note import parse_note
from app.core.principal import Principal
from app.core.tlog import Tree
from app.db.engine import Database, Session
from app.db.sumdb import LogEvidence, LogHead, LogTable
from app.db.tenantlogs import TenantLog, TenantLogTable
from app.services.authorization import require_admin
from app.services.changes import tenant_named
from app.services.publiclog.relay import LogRelay


@dataclass(frozen=True, slots=True)
class RelayedLog:
    """A relayed public log and its state.

    Attributes:
        head: the newest verified head; None before the first one.
        evidence: number of refused answers that were kept.
    """

    name: str
    url: str
    vkey: str
    head: LogHead | None
    evidence: int


@dataclass(frozen=True, slots=True)
class OwnLogs:
    """A tenant's present log, and its retired logs."""

    log: TenantLog
    retired: Sequence[TenantLog]


class LogStatus:
    """Use cases that only read.

    Args:
        relays: public logs by name, in the order of the settings.
    """

    def __init__(self, db: Database, relays: Mapping[str, LogRelay]) -> None:
        self._db = db
        self._relays = relays

    async def relayed(self, who: Principal) -> list[RelayedLog]:
        """Return the relayed logs, in the order of the settings."""
        require_admin(who, None)

        def work(session: Session) -> list[RelayedLog]:
            tables = {name: LogTable(session, name) for name in self._relays}
            return [
                RelayedLog(
                    name,
                    relay.url,
                    relay.verifier.vkey,
                    tables[name].head(),
                    tables[name].evidence_count(),
                )
                for name, relay in self._relays.items()
            ]

        return await self._db.read(work)

    async def evidence(self, log: str, who: Principal) -> list[LogEvidence]:
        """Return the evidence against a log, oldest first, also if it is not relayed any more.

        Raises:
            UnknownError: no log of that name is relayed, and there is no evidence.
        """
        require_admin(who, None)
        # PostgreSQL accepts no NUL in a text, and the name comes from the request.
        name = log if log.isprintable() else ""
        evidence = await self._db.read(lambda s: LogTable(s, name).evidence())
        if not evidence and name not in self._relays:
            raise UnknownError(f"no log {log[:80]!a} is relayed; see `moorage sumdb logs`")
        return evidence

    async def of_tenant(self, tenant: str, who: Principal) -> OwnLogs:
        """Return a tenant's own logs.

        Raises:
            UnknownError: no tenant has that name, or the tenant has no log.
        """
        require_admin(who, tenant)

        def work(session: Session) -> list[TenantLog]:
            return TenantLogTable(session).of_tenant(tenant_named(session, tenant).id)

        logs = await self._db.read(work)
        for log in logs:
            if not log.retired:
                return OwnLogs(log, [other for other in logs if other.retired])
        raise UnknownError(f"tenant {tenant} has no log; see `moorage sumdb create`")


def tree_of(note: bytes) -> Tree:
    """Return the tree of a head that was verified before.

    Raises:
        BadInputError: the note is not a tree head.
    """
    return tlog.parse_tree(parse_note(note).text)
