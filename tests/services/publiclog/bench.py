"""What the tests of checksum databases look at: rows, evidence, audit, and what clients accept."""

from dataclasses import dataclass

from sqlalchemy import text

from app.core.audit import AuditRecord
from app.core.record import Sums
from app.core.tile import parse_tile_path
from app.db.engine import Database, Session
from app.db.sumdb import LogEvidence, LogHead, LogTable
from app.services.audit import AuditReader
from app.services.publiclog.relay import LogRelay
from tests.fakes.sumdb import FakeSumdb
from tests.services.bench import Stopwatch
from tests.services.publiclog.goclient import GoClient
from tests.statements import portable

HELLO, OTHER = "example.com/Hello", "example.com/other"
V1 = "v1.0.0"


def sums(number: int) -> Sums:
    """Return sums that differ for each number."""
    return Sums(f"h1:{number:042}0=", f"h1:{number:042}4=")


async def audited(db: Database, action: str) -> list[AuditRecord]:
    return await AuditReader(db).list(after=0, limit=10_000, action=action)


async def run_sql(db: Database, statement: str, **values: object) -> None:
    def work(session: Session) -> None:
        session.execute(text(portable(session, statement)), values)

    await db.write(work)


async def count(db: Database, table: str) -> int:
    query = text(f"select count(*) from {table}")
    return int(await db.read(lambda s: s.execute(query).scalar_one()))


@dataclass(frozen=True)
class Relaying:
    """One process's relay of a fake log, its database, and the clock of its memory."""

    relay: LogRelay
    db: Database
    clock: Stopwatch

    async def newest(self) -> bytes:
        """Return the newest head, once what was heard before is forgotten."""
        self.clock.seconds += 5
        return await self.relay.latest()

    async def tile(self, path: str) -> bytes:
        return await self.relay.tile(parse_tile_path(path))

    async def evidence(self) -> list[LogEvidence]:
        return await self.db.read(lambda s: LogTable(s, self.relay.name).evidence())

    async def head(self) -> LogHead | None:
        return await self.db.read(lambda s: LogTable(s, self.relay.name).head())

    async def kept(self) -> dict[str, int]:
        """Return how many rows there are of what is kept of the log."""
        return {t: await count(self.db, t) for t in ("log_heads", "log_tiles", "log_lookups")}

    async def tiles(self) -> dict[tuple[int, int], bytes]:
        """Return the tiles that are kept, by level and number."""
        query = text("select level, number, data from log_tiles")
        rows = await self.db.read(lambda s: s.execute(query).all())
        return {(row[0], row[1]): row[2] for row in rows}

    def client(self, log: FakeSumdb) -> GoClient:
        """Return a new `go` that asks here."""
        return GoClient(log.vkey, self.relay.lookup, self.relay.tile)


def put(log: FakeSumdb, name: str, number: int = 1) -> int:
    """Append a record with `sums(number)`, and return its own number."""
    return log.add(name, V1, sums(number).zip_h1, sums(number).go_mod_h1)


async def assert_honest_again(relaying: Relaying, log: FakeSumdb) -> None:
    """What the log says from now on is taken, and still verifies with the log down."""
    log.heal()
    put(log, HELLO)
    log.grow(700)
    put(log, "example.com/later", 5)
    for name in (HELLO, "example.com/later"):
        await relaying.client(log).lookup(name, V1)
    log.stop()
    for name in (HELLO, "example.com/later"):
        await relaying.client(log).lookup(name, V1)
