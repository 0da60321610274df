"""The policy: one picture for each generation, and the same in every process within a poll."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.effect import Effect
from app.core.errors import UnauthenticatedError
from app.core.principal import OPERATOR, Scope
from app.db.engine import Session
from app.services.authorization import token_of
from app.services.generation import POLL_S
from app.services.policy import TenantPolicy
from tests.nouns import a_credential, a_route, a_rule, a_tenant, an_owner, an_upstream
from tests.services.modules.bench import Bench, process
from tests.web.harbour import replace_tenant

UPSTREAM = an_upstream("https://proxy.example")


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Bench, Bench]]:
    async with process(tmp_path) as one, process(tmp_path, owner="two/2/2") as other:
        await one.tenant("acme")
        yield one, other


async def seen(bench: Bench) -> TenantPolicy:
    return (await bench.services.shared.policies.current()).tenants["acme"]


def test_a_poll_comes_within_a_second() -> None:
    assert POLL_S < 1


async def test_between_two_changes_nothing_is_read(
    two: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    before = await one.services.shared.policies.current(fresh=True)

    async def fail(_work: object) -> None:
        raise AssertionError("the database was asked")

    with monkeypatch.context() as patched:
        patched.setattr(one.services.shared.db, "read", fail)
        assert await one.services.shared.policies.current() is before


async def test_a_burst_of_changes_is_one_load_after_the_next_poll(
    two: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    policies, db = other.services.shared.policies, other.services.shared.db
    before = await policies.current(fresh=True)
    for number in range(5):
        rule = a_rule(Effect.DENY, f"evil{number}.example")
        await one.services.tenants.rules.create("acme", rule, OPERATOR)
    await other.services.shared.watch.poll()
    reads, read = [], db.read

    async def counted(work: Callable[[Session], object]) -> object:
        reads.append(work)
        return await read(work)

    monkeypatch.setattr(db, "read", counted)
    loaded = await asyncio.gather(*(policies.current() for _ in range(20)))
    assert len(reads) == 1
    assert {id(policy) for policy in loaded} == {id(loaded[0])}
    assert len(loaded[0].tenants["acme"].access.rules) == 5
    assert before.tenants["acme"].access.rules == ()


Change = Callable[[Bench], Awaitable[object]]


async def _tenant(bench: Bench) -> object:
    return await replace_tenant(bench.services, a_tenant("acme", "new", enabled=False))


async def _rule(bench: Bench) -> object:
    return await bench.services.tenants.rules.create("acme", a_rule(Effect.DENY, "a.b"), OPERATOR)


async def _platform(bench: Bench) -> object:
    return await bench.services.tenants.rules.create(None, a_rule(Effect.DENY, "a.b"), OPERATOR)


async def _route(bench: Bench) -> object:
    return await bench.services.tenants.routes.create("acme", a_route("*", UPSTREAM), OPERATOR)


async def _owner(bench: Bench) -> object:
    return await bench.services.tenants.ownership.put(an_owner("own.example", "acme"), OPERATOR)


async def _credential(bench: Bench) -> object:
    draft = a_credential("bearer", "secret")
    return await bench.services.tenants.credentials.put("acme", "nexus", draft, OPERATOR)


async def _token(bench: Bench) -> object:
    return await bench.services.tenants.tokens.create("ci", tenant="acme")


CHANGES: list[Change] = [_tenant, _rule, _platform, _route, _owner, _credential, _token]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__.strip("_"))
async def test_every_change_is_seen_by_another_process_at_its_next_poll(
    two: tuple[Bench, Bench], change: Change
) -> None:
    one, other = two
    before = await other.services.shared.policies.current(fresh=True)
    await change(one)
    assert await other.services.shared.policies.current() is before
    await other.services.shared.watch.poll()
    after = await other.services.shared.policies.current()
    assert after.generation > before.generation
    assert after != before


async def test_F26_a_revoked_token_is_none_in_another_process_at_its_next_poll(
    two: tuple[Bench, Bench],
) -> None:
    one, other = two
    token, secret = await one.services.tenants.tokens.create(
        "ci", tenant="acme", scopes=frozenset({Scope.READ})
    )
    now = one.clock()
    assert (
        token_of(await other.services.shared.policies.current(fresh=True), secret, now).id
        == token.id
    )
    await one.services.tenants.tokens.revoke(token.id)
    await other.services.shared.watch.poll()
    with pytest.raises(UnauthenticatedError, match="unknown or revoked"):
        token_of(await other.services.shared.policies.current(), secret, now)


async def test_F26_a_removed_tenant_takes_its_tokens_with_it(two: tuple[Bench, Bench]) -> None:
    one, other = two
    _, secret = await one.services.tenants.tokens.create("ci", tenant="acme")
    await one.services.tenants.tenants.remove("acme", OPERATOR)
    policy = await other.services.shared.policies.current(fresh=True)
    assert "acme" not in policy.tenants
    with pytest.raises(UnauthenticatedError):
        token_of(policy, secret, one.clock())
    # A tenant that takes the name later gets none of the old one's tokens, rules or routes.
    await one.tenant("acme")
    again = await other.services.shared.policies.current(fresh=True)
    assert (again.tenants["acme"].routes, tuple(again.tenants["acme"].access.rules)) == ((), ())
    with pytest.raises(UnauthenticatedError):
        token_of(again, secret, one.clock())


async def test_the_next_change_is_when_the_first_rule_expires(two: tuple[Bench, Bench]) -> None:
    one, _ = two
    now = one.clock()
    assert (await seen(one)).next_change(now) is None
    for tenant, days in (("acme", 3), (None, 2), ("acme", 5)):
        draft = a_rule(Effect.DENY, f"a.b/{days}", expires_at=now + timedelta(days=days))
        await one.services.tenants.rules.create(tenant, draft, OPERATOR)
    await one.services.shared.watch.poll()
    for passed, left in ((0, 2), (2, 3), (4, 5), (5, None)):
        next_change = (await seen(one)).next_change(now + timedelta(days=passed))
        assert next_change == (None if left is None else now + timedelta(days=left))
