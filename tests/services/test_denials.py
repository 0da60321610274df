"""What was denied to whom: counted off the hot path, written once, and bounded."""

from datetime import date

import pytest

from app.core.errors import DatabaseBusyError, DeniedError
from app.core.principal import OPERATOR, Principal, Scope
from app.db.denials import OTHERS, Denial, DenialCount
from app.db.engine import Database
from app.services.denials import KEPT, MOST_ROWS, DenialCounter
from tests.services.bench import WallClock

DAY = date(2026, 11, 23)
X = Denial("acme", "t1", "example.com/x", "rule 7")


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def counter(database: Database, clock: WallClock) -> DenialCounter:
    return DenialCounter(database, clock)


async def test_denials_are_counted_by_day_with_the_last_request(
    counter: DenialCounter, clock: WallClock
) -> None:
    for number in range(3):
        clock.advance(seconds=1)
        counter.count(X, f"r{number}")
    assert await counter.denials(OPERATOR) == []
    for _ in range(2):
        await counter.flush()
    today = (DAY, X, DenialCount(3, clock(), "r2"))
    assert await counter.denials(OPERATOR) == [today]
    clock.advance(days=1)
    counter.count(X, "r3")
    await counter.flush()
    tomorrow = (clock().date(), X, DenialCount(1, clock(), "r3"))
    assert await counter.denials(OPERATOR) == [tomorrow, today]


async def test_what_the_database_can_not_take_now_is_kept(
    counter: DenialCounter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter.count(X, "r0")

    async def busy(_work: object) -> None:
        counter.count(X, "r1")  # meanwhile
        raise DatabaseBusyError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", busy)
        await counter.flush()
    counter.count(X, "r2")
    await counter.flush()
    [(_, _, count)] = await counter.denials(OPERATOR)
    assert (count.count, count.last_request) == (3, "r2")


async def test_whoever_asks_for_any_module_fills_neither_memory_nor_disk(
    counter: DenialCounter,
) -> None:
    for _ in range(2):
        for number in range(MOST_ROWS + 50):
            counter.count(Denial("acme", "", f"m{number}.example", "default"), "r0")
        counter.count(Denial("acme", "", "x" * 5000, "default"), "r0")
        counter.count(X, "r0")
        counter.count(Denial("globex", "", "a.example", "default"), "r1")
        await counter.flush()
    of_acme = await counter.denials(OPERATOR, tenant="acme", limit=10_000)
    assert len(of_acme) == MOST_ROWS + 1
    [others] = [count.count for _, denial, count in of_acme if denial.module == OTHERS]
    assert others == 2 * (50 + 2)
    [(_, _, of_globex)] = await counter.denials(OPERATOR, tenant="globex")
    assert of_globex.count == 2


async def test_a_long_path_is_cut(counter: DenialCounter) -> None:
    counter.count(Denial("acme", "", "x" * 5000, "default"), "r0")
    await counter.flush()
    [(_, denial, _)] = await counter.denials(OPERATOR)
    assert denial.module == "x" * 255


async def test_old_days_are_forgotten(counter: DenialCounter, clock: WallClock) -> None:
    counter.count(X, "r0")
    await counter.flush()
    clock.advance(days=KEPT.days)
    counter.count(X, "r1")
    await counter.flush()
    assert len(await counter.denials(OPERATOR)) == 2
    clock.advance(days=1)
    counter.count(X, "r2")
    await counter.flush()
    assert [count.last_request for _, _, count in await counter.denials(OPERATOR)] == ["r2", "r1"]


async def test_an_admin_sees_the_denials_of_one_tenant_and_nobody_elses(
    counter: DenialCounter,
) -> None:
    for tenant in ("acme", "globex"):
        counter.count(Denial(tenant, "", "a.example", "default"), "r0")
    await counter.flush()
    admin = Principal("token:1", frozenset({Scope.ADMIN}), "acme", "1")
    assert [d.tenant for _, d, _ in await counter.denials(admin, tenant="acme")] == ["acme"]
    for who, tenant in ((admin, "globex"), (admin, None), (Principal("anonymous"), "acme")):
        with pytest.raises(DeniedError):
            await counter.denials(who, tenant=tenant)
