"""Release files that the selection does not name are let go; what is pinned stays."""

from dataclasses import replace

from app.db.audit import AuditLog
from app.db.releases import ReleaseTable
from app.services.assembly import Services
from app.services.garbage import Garbage
from app.services.releases.retention import ReleaseRetention
from app.services.releases.sync import ReleaseSync
from tests.conftest import MakeServices, PutRelease
from tests.services.bench import NAME, WallClock, stored
from tests.services.conftest import Rewire


def retention(
    services: Services, clock: WallClock, *, pins: tuple[str, ...] = ()
) -> ReleaseRetention:
    """Return a retention whose selection has nothing but pins."""
    releases, db = services.releases, services.shared.db
    selection = replace(releases.sync._selection, minors=0, pins=pins)
    sync = ReleaseSync(db, releases.reader, releases.catalog, releases.ingestion, selection)
    return ReleaseRetention(db, sync, releases.catalog, clock, is_on=True)


async def test_what_is_not_selected_goes_and_comes_again(
    start_services: MakeServices, rewire: Rewire, put_release: PutRelease
) -> None:
    put_release()
    services = rewire(await start_services())
    await services.releases.reader.refresh()
    first = await services.releases.ingestion.ensure(NAME)
    clock = WallClock(services.shared.now())
    assert await retention(services, clock).plan() == [], "it came in within a week"
    clock.advance(days=8)
    assert await retention(services, clock, pins=("1.99.1",)).plan() == []
    rules = retention(services, clock)
    plan = await rules.plan()
    assert [record.file.filename for record in plan] == [NAME]
    assert await rules.run(plan, "cli") == 1
    assert (await rules.plan(), await rules.run(plan, "cli")) == ([], 0)
    record = await services.shared.db.read(lambda s: ReleaseTable(s).get(NAME))
    assert record is not None
    assert (record.served, record.has_bytes, record.derived) == (False, False, None)
    garbage = Garbage(services.shared.db, services.shared.store, clock)
    for _ in range(2):
        await garbage.run(await garbage.plan(), "cli")
        clock.advance(days=2)
    assert first.sha256 not in stored(services)
    again = await services.releases.ingestion.ensure(NAME)
    assert (again.sha256, again.served) == (first.sha256, True)
    assert first.sha256 in stored(services)
    rows = await services.shared.db.read(lambda s: AuditLog(s).rows(action="release.evict"))
    assert [row.object for row, _, _ in rows] == [f"file:{NAME}"]
