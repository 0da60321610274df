"""Zips that are let go come back as they were; quotas refuse what is new, and say whose."""

from collections.abc import Callable

import pytest

from app.core.errors import QuotaError, VerificationError
from app.core.principal import OPERATOR
from app.core.retention import RetentionPolicy
from app.core.tenant import TenantLimits, TenantSettings
from app.services.garbage import Garbage
from app.services.retention import Retention
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.services.modules.bench import INFO, ZIP, Bench

X = module("example.com/x", "v1.0.0", padding_bytes=100_000)
Y = module("example.com/y", "v1.0.0", padding_bytes=100_000)
EVERYTHING = RetentionPolicy(unused_days=1)


def retention(bench: Bench) -> Retention:
    return Retention(bench.services.shared.db, EVERYTHING, bench.clock)


async def let_go(bench: Bench) -> list[str]:
    """Apply the rules, and collect the garbage of two days; return the names of the zips."""
    shared, rules = bench.services.shared, retention(bench)
    bench.clock.advance(days=30)
    plan = await rules.plan()
    assert await rules.run(plan, "cli") == len(plan)
    garbage = Garbage(shared.db, shared.store, bench.clock)
    for _ in range(2):
        await garbage.run(await garbage.plan(), "cli")
        bench.clock.advance(days=2)
    return [one.name for one, _ in plan]


@pytest.fixture
def stored(bench: Bench) -> Callable[[], int]:
    return lambda: len(list(bench.services.shared.store.walk()))


async def test_what_was_let_go_is_fetched_again(
    bench: Bench, fake: FakeGoproxy, stored: Callable[[], int]
) -> None:
    fake.put(X)
    await bench.tenant("acme", fake)
    before = await bench.zip_of("example.com/x", "v1.0.0")
    assert stored() == 1
    assert await let_go(bench) == ["example.com/x@v1.0.0"]
    assert stored() == 0
    assert await bench.zip_of("example.com/x", "v1.0.0") == before
    assert stored() == 1
    assert await let_go(bench) == ["example.com/x@v1.0.0"]


async def test_other_bytes_are_refused_when_it_is_fetched_again(
    bench: Bench, fake: FakeGoproxy
) -> None:
    fake.put(X)
    await bench.tenant("acme", fake)
    await bench.zip_of("example.com/x", "v1.0.0")
    await let_go(bench)
    fake.put(module("example.com/x", "v1.0.0", padding_bytes=100_001))
    with pytest.raises(VerificationError):
        await bench.zip_of("example.com/x", "v1.0.0")


async def test_what_no_public_upstream_gives_again_stays(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy, stored: Callable[[], int]
) -> None:
    fake.put(X)
    second.put(module("corp.example/p", "v1.0.0"))
    await bench.tenant("acme", fake)
    await bench.route("acme", "corp.example", second, private=True)
    await bench.zip_of("example.com/x", "v1.0.0")
    await bench.zip_of("corp.example/p", "v1.0.0")
    assert await let_go(bench) == ["example.com/x@v1.0.0"]
    assert stored() == 1
    [first, *_] = await bench.services.tenants.routes.page("acme", OPERATOR)
    await bench.zip_of("example.com/x", "v1.0.0")
    await bench.services.tenants.routes.remove("acme", first.id, OPERATOR)
    assert await let_go(bench) == [], "no route leads there any more"


async def test_a_plan_is_the_run_and_off_is_off(bench: Bench, fake: FakeGoproxy) -> None:
    fake.put(X)
    await bench.tenant("acme", fake)
    await bench.zip_of("example.com/x", "v1.0.0")
    bench.clock.advance(days=30)
    off = Retention(bench.services.shared.db, RetentionPolicy(), bench.clock)
    assert await off.plan() == []
    rules = retention(bench)
    assert await rules.plan() == await rules.plan()
    assert await rules.run(await rules.plan(), "cli") == 1
    assert await rules.plan() == []


async def set_quota(bench: Bench, tenant: str, quota_bytes: int | None) -> None:
    change = TenantSettings(limits=TenantLimits(quota_bytes=quota_bytes))
    await bench.services.tenants.tenants.change(tenant, change, OPERATOR)


async def test_a_used_quota_refuses_what_is_new_and_serves_what_is_stored(
    bench: Bench, fake: FakeGoproxy
) -> None:
    for one in (X, Y):
        fake.put(one)
    await bench.tenant("acme", fake)
    await bench.tenant("globex", fake)
    await set_quota(bench, "acme", 100_000)
    await bench.zip_of("example.com/x", "v1.0.0")
    with pytest.raises(QuotaError, match=r"tenant acme has used its quota: .* of 97\.7 KiB"):
        await bench.zip_of("example.com/y", "v1.0.0")
    await bench.zip_of("example.com/x", "v1.0.0")
    await bench.zip_of("example.com/y", "v1.0.0", tenant="globex")
    await bench.zip_of("example.com/y", "v1.0.0")  # stored for another one: it costs nothing
    fake.put(module("example.com/z", "v1.0.0"))
    with pytest.raises(QuotaError):
        await bench.ask(INFO, "example.com/z", "v1.0.0")
    await set_quota(bench, "acme", None)
    assert (await bench.ask(ZIP, "example.com/z", "v1.0.0")).file is not None


async def test_what_is_stored_is_told_by_tenant(bench: Bench, fake: FakeGoproxy) -> None:
    for one in (X, Y):
        fake.put(one)
    await bench.tenant("acme", fake)
    await bench.tenant("globex", fake)
    await bench.zip_of("example.com/x", "v1.0.0")
    await bench.zip_of("example.com/y", "v1.0.0", tenant="globex")
    await bench.zip_of("example.com/x", "v1.0.0", tenant="globex")
    service = bench.services.tenants.tenants
    spaces = await service.storage_of_all(OPERATOR)
    assert [(one.tenant, one.zips) for one in spaces] == [("acme", 1), ("globex", 1)]
    assert await service.storage("acme", OPERATOR) == spaces[0]
    await let_go(bench)
    assert [one.zips for one in await service.storage_of_all(OPERATOR)] == [0, 0]
