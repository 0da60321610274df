"""Who downloaded what: counted off the hot path, written once, and right across a restart."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.core.errors import DatabaseBusyError, DeniedError
from app.core.principal import OPERATOR, Principal, Scope
from app.db.usage import Download
from app.services.usage import UsageCounter
from tests.services.bench import WallClock
from tests.services.modules.bench import Bench, process

DAY = date(2026, 11, 23)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with process(tmp_path) as made:
        yield made


def counter(bench: Bench) -> UsageCounter:
    return UsageCounter(bench.services.shared.db, bench.clock)


async def test_downloads_are_counted_by_day_tenant_token_module_and_version(bench: Bench) -> None:
    usage = counter(bench)
    for _ in range(3):
        usage.count("acme", "t1", "a.b/c", "v1.0.0")
    usage.count("acme", "", "a.b/c", "v1.0.0")
    usage.count("globex", "t2", "a.b/c", "v1.1.0")
    assert await usage.downloads(OPERATOR) == []
    await usage.flush()
    assert await usage.downloads(OPERATOR) == [
        (Download(DAY, "acme", "", "a.b/c", "v1.0.0"), 1),
        (Download(DAY, "acme", "t1", "a.b/c", "v1.0.0"), 3),
        (Download(DAY, "globex", "t2", "a.b/c", "v1.1.0"), 1),
    ]


async def test_nothing_is_written_twice(bench: Bench) -> None:
    usage = counter(bench)
    usage.count("acme", "", "a.b/c", "v1.0.0")
    for _ in range(3):
        await usage.flush()
    assert [n for _, n in await usage.downloads(OPERATOR)] == [1]


async def test_a_restart_and_a_second_process_add_to_the_same_day(tmp_path: Path) -> None:
    clock = WallClock()
    for _ in range(2):
        async with process(tmp_path, clock=clock) as one, process(tmp_path, owner="two/2/2") as two:
            for bench in (one, two):
                usage = UsageCounter(bench.services.shared.db, clock)
                usage.count("acme", "", "a.b/c", "v1.0.0")
                await usage.flush()
    clock.advance(days=1)
    async with process(tmp_path, clock=clock) as bench:
        usage = counter(bench)
        usage.count("acme", "", "a.b/c", "v1.0.0")
        await usage.flush()
        counted = await usage.downloads(OPERATOR)
    assert [(d.day, n) for d, n in counted] == [(DAY, 4), (DAY + timedelta(days=1), 1)]


async def test_what_the_database_can_not_take_now_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = counter(bench)
    usage.count("acme", "", "a.b/c", "v1.0.0")
    usage.used("t1")

    async def busy(_work: object) -> None:
        raise DatabaseBusyError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(bench.services.shared.db, "write", busy)
        await usage.flush()
    usage.count("acme", "", "a.b/c", "v1.0.0")
    await usage.flush()
    assert [n for _, n in await usage.downloads(OPERATOR)] == [2]


async def test_the_day_of_a_tokens_last_use_is_recorded_and_never_goes_back(bench: Bench) -> None:
    usage = counter(bench)
    token, _ = await bench.services.tenants.tokens.create("ci")
    for days, expected in ((0, DAY), (1, DAY + timedelta(days=1)), (-1, DAY + timedelta(days=1))):
        bench.clock.advance(days=days)
        usage.used(token.id)
        usage.used("gone")
        await usage.flush()
        [listed] = [t for t in await bench.services.tenants.tokens.page() if t.id == token.id]
        assert listed.last_used_on == expected


async def test_an_admin_sees_the_counts_of_one_tenant_and_nobody_elses(bench: Bench) -> None:
    usage = counter(bench)
    for tenant in ("acme", "globex"):
        usage.count(tenant, "", "a.b/c", "v1.0.0")
    await usage.flush()
    admin = Principal("token:1", frozenset({Scope.ADMIN}), "acme", "1")
    assert [d.tenant for d, _ in await usage.downloads(admin, tenant="acme")] == ["acme"]
    for who, tenant in ((admin, "globex"), (admin, None), (Principal("anonymous"), "acme")):
        with pytest.raises(DeniedError):
            await usage.downloads(who, tenant=tenant)


async def test_the_counts_can_be_narrowed_and_paged(bench: Bench) -> None:
    usage = counter(bench)
    for module in ("a.b/c", "a.b/d"):
        for minor in range(3):
            usage.count("acme", "", module, f"v1.{minor}.0")
    await usage.flush()
    assert len(await usage.downloads(OPERATOR, module="a.b/c")) == 3
    assert len(await usage.downloads(OPERATOR, module="a.b/c", version="v1.1.0")) == 1
    assert await usage.downloads(OPERATOR, since=DAY + timedelta(days=1)) == []
    first = await usage.downloads(OPERATOR, limit=4)
    last = first[-1][0]
    after = (last.day, last.tenant, last.token, last.module, last.version)
    rest = await usage.downloads(OPERATOR, after=after)
    assert len({d for d, _ in first + rest}) == 6
