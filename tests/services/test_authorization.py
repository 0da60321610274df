"""The one choke point: who is it, and may it do that? Table of credentials, tenants and scopes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.effect import Effect
from app.core.errors import DeniedError, UnauthenticatedError
from app.core.principal import ANONYMOUS, OPERATOR, Principal, Scope
from app.services.authorization import (
    authenticate,
    permission,
    require_admin,
    token_of,
)
from app.services.policy import Policy
from tests.nouns import a_tenant
from tests.services.modules.bench import Bench, process
from tests.web.harbour import replace_tenant

READ, ADMIN, PUBLISH = (frozenset({s}) for s in (Scope.READ, Scope.ADMIN, Scope.PUBLISH))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with process(tmp_path) as made:
        for name, is_open in (("open", True), ("shut", False)):
            draft = a_tenant(name, "", Effect.ALLOW, anonymous_read=is_open)
            await made.services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
        yield made


async def policy_of(bench: Bench) -> Policy:
    return await bench.services.shared.policies.current(fresh=True)


GARBAGE = [
    "",
    "x",
    "ghs_16C7e42F292c6912E7710c838347Ae178B4a",
    "moor_",
    "moor_" + "a" * 49,
    "\x00",
    "ä",
]


@pytest.mark.parametrize("presented", GARBAGE)
async def test_what_is_no_token_counts_as_none_where_reading_is_open(
    bench: Bench, presented: str
) -> None:
    policy = await policy_of(bench)
    assert authenticate(policy, policy.tenants["open"], presented, bench.clock()) == (
        ANONYMOUS,
        None,
    )
    with pytest.raises(UnauthenticatedError):
        authenticate(policy, policy.tenants["shut"], presented, bench.clock())


async def test_F22_a_token_is_good_until_the_moment_it_expires(bench: Bench) -> None:
    ends = bench.clock() + timedelta(days=1)
    _, secret = await bench.services.tenants.tokens.create(
        "ci", tenant="shut", scopes=READ, expires_at=ends
    )
    policy = await policy_of(bench)
    shut = policy.tenants["shut"]
    before = ends - timedelta(microseconds=1)
    _, token = authenticate(policy, shut, secret, before)
    assert token is not None
    assert token.expires_at == ends
    for late in (ends, ends + timedelta(days=1)):
        for tenant in ("shut", "open"):
            with pytest.raises(UnauthenticatedError, match="expired at 2026-"):
                authenticate(policy, policy.tenants[tenant], secret, late)


async def test_F22_no_message_repeats_what_was_presented(bench: Bench) -> None:
    _, secret = await bench.services.tenants.tokens.create("ci", tenant="shut")
    policy = await policy_of(bench)
    for presented in (secret, secret[:-1], secret.upper(), *GARBAGE[2:]):
        try:
            token_of(replace(policy, tokens={}), presented, bench.clock())
        except UnauthenticatedError as error:
            assert presented not in str(error)


WHO = [
    # tenant of the token, scopes, then whether it may read in open, in shut
    (None, READ, True, True),
    (None, ADMIN, True, True),
    (None, PUBLISH, True, False),  # what is open to everybody is open to every token
    ("open", READ, True, False),
    ("shut", READ, True, True),
    ("shut", ADMIN, True, True),
    ("shut", PUBLISH, True, False),
]


@pytest.mark.parametrize(("tenant", "scopes", "in_open", "in_shut"), WHO, ids=range(len(WHO)))
@pytest.mark.parametrize("module", [None, "a.b/c"], ids=["root", "module"])
async def test_a_token_reads_where_it_is_valid(
    bench: Bench,
    tenant: str | None,
    scopes: frozenset[Scope],
    in_open: bool,
    in_shut: bool,
    module: str | None,
) -> None:
    _, secret = await bench.services.tenants.tokens.create("ci", tenant=tenant, scopes=scopes)
    policy, now = await policy_of(bench), bench.clock()
    for name, allowed in (("open", in_open), ("shut", in_shut)):
        of_tenant = policy.tenants[name]
        who, _ = authenticate(policy, of_tenant, secret, now)
        decision = permission(who, of_tenant, module, now).decide(None)
        assert decision.allowed is allowed, (name, decision)
        assert bool(decision.reason) is not allowed


async def test_a_tenant_that_is_switched_off_refuses_everybody(bench: Bench) -> None:
    _, secret = await bench.services.tenants.tokens.create("ci", tenant="open", scopes=READ)
    await replace_tenant(
        bench.services, a_tenant("open", "", Effect.ALLOW, anonymous_read=True, enabled=False)
    )
    policy, now = await policy_of(bench), bench.clock()
    off = policy.tenants["open"]
    with pytest.raises(UnauthenticatedError, match="switched off"):
        authenticate(policy, off, secret, now)
    for who in (ANONYMOUS, OPERATOR):
        assert not permission(who, off, None, now).decide(None).allowed


async def test_a_refusal_of_the_caller_comes_before_any_rule(bench: Bench) -> None:
    policy, now = await policy_of(bench), bench.clock()
    other = Principal("token:1", READ, "open", "1")
    may = permission(other, policy.tenants["shut"], "a.b/c", now)
    for version in (None, "v1.0.0"):
        decision = may.decide(version)
        assert (decision.allowed, decision.by) == (False, "token")
        assert "a.b/c" not in decision.reason


ADMINS = [
    (Principal("a", ADMIN, None), None, True),
    (Principal("a", ADMIN, None), "shut", True),
    (Principal("a", ADMIN, "shut"), "shut", True),
    (Principal("a", ADMIN, "shut"), "open", False),
    (Principal("a", ADMIN, "shut"), None, False),
    (Principal("a", READ, None), "shut", False),
    (Principal("a", PUBLISH, "shut"), "shut", False),
    (ANONYMOUS, "open", False),
]


@pytest.mark.parametrize(("who", "tenant", "allowed"), ADMINS, ids=range(len(ADMINS)))
def test_F28_only_an_admin_changes_and_only_what_is_his(
    who: Principal, tenant: str | None, allowed: bool
) -> None:
    if allowed:
        require_admin(who, tenant)
        return
    with pytest.raises(DeniedError):
        require_admin(who, tenant)
