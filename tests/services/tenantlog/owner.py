"""One process that keeps tenants' logs: what it is made of, without the rest of the services."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.core.privatehost import PrivateHosts
from app.core.record import Sums
from app.core.tile import Tile
from app.core.tlog import Tree
from app.db.engine import Database
from app.db.tenantlogs import LogRecord, TenantLog, TenantLogTable
from app.services.secrets import SecretBox
from app.services.sumdb.fsck import LogFsck, LogReport
from app.services.tenantlog.head import HeadFiles, key_of
from app.services.tenantlog.log import TenantLogs
from app.services.tenantlog.recover import LogRecovery
from app.services.tenants.checks import RouteCheck
from app.services.tenants.tenants import TenantService
from app.services.upstreams import HostAccess
from app.storage.objects import LocalObjects
from app.upstream.address import AddressGuard
from tests.nouns import a_tenant, an_upstream
from tests.services.bench import WallClock
from tests.services.publiclog.bench import V1, sums
from tests.services.publiclog.goclient import EMPTY, GoClient

PATTERN = "sum.corp.example/{tenant}"


@dataclass(frozen=True)
class Owner:
    """One process; several over one database and folder are replicas."""

    db: Database
    logs: TenantLogs
    recovery: LogRecovery
    heads: HeadFiles
    tenants: TenantService
    folder: Path

    def head_file(self, log: TenantLog) -> Path:
        """Return the file of a log's head."""
        return self.folder / key_of(log.name)

    async def log(self, tenant: str = "acme") -> TenantLog:
        """Return a tenant's log, both made if missing."""
        if tenant not in {one.name for one in await self.tenants.page(OPERATOR)}:
            draft = a_tenant(tenant, "", Effect.ALLOW, anonymous_read=True)
            await self.tenants.create(draft, OPERATOR, catch_all=False)
        return await self.logs.create(tenant)

    async def fresh(self, log: TenantLog) -> TenantLog:
        every = await self.db.read(lambda s: TenantLogTable(s).all())
        return next(one for one in every if one.name == log.name)

    async def put(self, log: TenantLog, number: int, of: Sums | None = None) -> LogRecord:
        """Append the record of example.com/m<number>."""
        return await self.logs.append(log, f"example.com/m{number}", V1, of or sums(number))

    async def put_up_to(self, log: TenantLog, size: int) -> None:
        for number in range((await self.fresh(log)).size, size):
            await self.put(log, number)

    async def fsck(self, log: TenantLog) -> LogReport:
        return await LogFsck(self.db, self.heads).run(log)

    def client(self, log: TenantLog, latest: Tree = EMPTY) -> GoClient:
        """Return a `go` that asks here."""

        async def lookup(module: str, version: str) -> bytes:
            return await self.logs.lookup(log, module, version)

        async def tile(tile: Tile) -> bytes:
            return await self.logs.tile(log, tile)

        return GoClient(log.vkey, lookup, tile, latest)


@contextlib.contextmanager
def process(url: str, folder: Path, pattern: str = PATTERN) -> Iterator[Owner]:
    """Run one process that keeps logs, with head files below folder."""
    db, clock = Database(url), WallClock()
    heads = HeadFiles(LocalObjects(folder / "logs"))
    logs = TenantLogs(db, SecretBox(b"k" * 32), heads, clock, pattern)
    check = RouteCheck(AddressGuard([]), HostAccess(PrivateHosts(())))
    recovery = LogRecovery(db, logs, heads, clock)
    tenants = TenantService(db, check, clock, an_upstream("https://x.example"))
    try:
        yield Owner(db, logs, recovery, heads, tenants, folder / "logs")
    finally:
        db.close()
