"""Repairing a tenant's log: an older database, a lost head file, or a lost key of secrets.

Without the key that sealed its private key a log never grows again: the tenant gets a new one. An
older database comes from a backup. Clients have seen a newer head and refuse the log until one
of two things happens: they forget that head, or the tenant gets a new log.
"""

import asyncio
import secrets

from app.core.errors import ConflictError, StorageError, UnknownError
from app.core.principal import Principal
from app.db.engine import Database, Session
from app.db.tenantlogs import TenantLog, TenantLogTable
from app.services.authorization import require_admin
from app.services.changes import locked, record, tenant_named
from app.services.clock import Now
from app.services.tenantlog.growth import check_may_sign
from app.services.tenantlog.head import HeadFiles
from app.services.tenantlog.log import SEED_BYTES, TenantLogs


class LogRecovery:
    """Repairs the logs of tenants."""

    def __init__(self, db: Database, logs: TenantLogs, heads: HeadFiles, now: Now) -> None:
        self._db = db
        self._logs = logs
        self._heads = heads
        self._now = now

    async def recover(self, tenant: str, who: Principal, *, accept: bool) -> TenantLog:
        """Return the log that the tenant uses from now on.

        Args:
            tenant: the tenant's name.
            who: an admin of the tenant.
            accept: True continues with the records of the database, under the same name: a client
                that saw a newer head refuses the log until the client deletes its cache of the log.
                False retires this log and starts a new one with another name and key.

        Raises:
            UnknownError: the tenant has no log.
            ConflictError: nothing is wrong with the log, or accepting it does not help.
        """
        require_admin(who, tenant)
        random = secrets.token_bytes(SEED_BYTES)

        def work(session: Session) -> tuple[TenantLog, TenantLog]:
            of_tenant = tenant_named(session, tenant)
            table = TenantLogTable(session)
            log = table.of(of_tenant.id)
            if log is None:
                raise UnknownError(f"tenant {tenant} has no log; see `moorage sumdb create`")
            # Lock the row: without the lock, an append of another process could look like a gap.
            log = table.locked(log.id)
            can_sign = self._logs.can_sign(log)
            if accept and not can_sign:
                raise ConflictError(
                    f"the private key of the log {log.name} can't be opened: it was sealed under "
                    "another key of secrets; only --new-log helps"
                )
            if can_sign and self._may_sign(session, log):
                raise ConflictError(f"nothing is wrong with the log {log.name}")
            detail = "accepted as it is" if accept else "retired"
            record(
                session, self._now(), who, "sumdb.recover", f"log:{log.name}", detail, tenant=tenant
            )
            if accept:
                return log, log
            table.retire(log.id)
            return log, self._logs.create_in(session, of_tenant, random, who)

        old, new = await self._db.write(locked(work))
        if accept:
            await asyncio.to_thread(self._heads.replace, old.name, old.head)
        return new

    def _may_sign(self, session: Session, log: TenantLog) -> bool:
        try:
            check_may_sign(session, log, self._heads)
        except (ConflictError, StorageError):
            return False
        return True
