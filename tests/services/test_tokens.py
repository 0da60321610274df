"""Tokens: only their hash is kept, and only a live one says who makes a request. F22, F23."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.core import errors
from app.core.principal import Principal, Scope
from app.core.token import make_token
from app.services.assembly import Services
from app.services.authorization import require_admin
from app.web.responses import status_of
from tests.conftest import MakeServices, MakeSettings
from tests.installation import running
from tests.services.bench import WallClock, audited


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
async def timed(make_settings: MakeSettings, clock: WallClock) -> AsyncIterator[Services]:
    async with running(make_settings(), clock) as services:
        yield services


async def test_a_token_tells_who_makes_a_request(services: Services) -> None:
    token, secret = await services.tenants.tokens.create("ci")
    admin = Principal(f"token:{token.id}", frozenset({Scope.ADMIN}), None, token.id)
    assert await services.tenants.tokens.authenticate(secret) == admin
    [row] = await audited(services, "token.create")
    assert (row.actor, row.object, row.detail) == (
        "cli",
        f"token:{token.id}",
        "ci: admin for the platform",
    )


@pytest.mark.only_sqlite
async def test_a_secret_is_nowhere_in_the_data_directory(services: Services) -> None:
    """Not in the database, not in its write-ahead log, not in an audit row."""
    _, secret = await services.tenants.tokens.create("ci")
    await services.tenants.tokens.authenticate(secret)
    files = [p for p in services.shared.settings.data_dir.rglob("*") if p.is_file()]
    names = {path.name for path in files}
    assert {"moorage.db", "moorage.db-wal"} <= names
    content = {path: path.read_bytes() for path in files}
    assert any(b"token.create" in stored for stored in content.values())  # the looking works
    for part in (secret, secret[5:], secret[5:48]):
        assert [path for path, stored in content.items() if part.encode() in stored] == []


async def test_every_secret_is_another(services: Services) -> None:
    made = [await services.tenants.tokens.create(f"name {number}") for number in range(20)]
    assert len({secret for _, secret in made}) == 20
    assert len({token.id for token, _ in made}) == 20


@pytest.mark.parametrize(
    ("presented", "said"),
    [
        (None, "needs a token"),
        ("", "not a Moorage token"),
        ("Bearer", "not a Moorage token"),
        ("moor_" + "0" * 49, "not a Moorage token"),
        ("é" * 54, "not a Moorage token"),
        ("\0" * 54, "not a Moorage token"),
        ("\ud800" * 54, "not a Moorage token"),
        ("x" * 1_000_000, "not a Moorage token"),
        ("' OR 1=1 --", "not a Moorage token"),
        (make_token(bytes(32)), "unknown or revoked"),
    ],
    ids=[
        "none",
        "empty",
        "word",
        "checksum",
        "accents",
        "nul",
        "surrogates",
        "huge",
        "sql",
        "unknown",
    ],
)
async def test_F22_F23_what_is_no_known_token_is_401(
    presented: str | None, said: str, services: Services
) -> None:
    await services.tenants.tokens.create("ci")
    with pytest.raises(errors.UnauthenticatedError, match=said) as raised:
        await services.tenants.tokens.authenticate(presented)
    assert status_of(raised.value) == 401
    assert presented is None or len(presented) < 20 or presented not in str(raised.value)


async def test_F22_a_token_of_which_one_character_is_wrong_is_401(services: Services) -> None:
    _, secret = await services.tenants.tokens.create("ci")
    for place in (0, 4, 5, 30, 47, 48, 53):
        wrong = secret[:place] + ("A" if secret[place] != "A" else "B") + secret[place + 1 :]
        with pytest.raises(errors.UnauthenticatedError):
            await services.tenants.tokens.authenticate(wrong)


@pytest.mark.both_shapes
async def test_F22_a_token_expires_to_the_second(timed: Services, clock: WallClock) -> None:
    expires_at = clock() + timedelta(days=1)
    _, secret = await timed.tenants.tokens.create("ci", expires_at=expires_at)
    clock.at = expires_at - timedelta(microseconds=1)
    assert (await timed.tenants.tokens.authenticate(secret)).is_platform_admin
    clock.at = expires_at
    with pytest.raises(errors.UnauthenticatedError, match="expired at 2026-11-24T12:00:00"):
        await timed.tenants.tokens.authenticate(secret)


@pytest.mark.both_shapes
async def test_F22_a_revoked_token_stops_at_once_in_every_process(
    make_settings: MakeSettings, start_services: MakeServices
) -> None:
    settings = make_settings()
    first, second = await start_services(settings), await start_services(settings)
    token, secret = await first.tenants.tokens.create("ci")
    _, other = await first.tenants.tokens.create("other")
    before = await second.shared.watch.poll()
    await second.tenants.tokens.authenticate(secret)
    await first.tenants.tokens.revoke(token.id)
    with pytest.raises(errors.UnauthenticatedError, match="unknown or revoked"):
        await second.tenants.tokens.authenticate(secret)
    await second.tenants.tokens.authenticate(other)
    assert await second.shared.watch.poll() > before
    [row] = await audited(second, "token.revoke")
    assert row.object == f"token:{token.id}"


async def test_only_a_live_token_can_be_revoked(services: Services) -> None:
    token, _ = await services.tenants.tokens.create("ci")
    await services.tenants.tokens.revoke(token.id)
    with pytest.raises(errors.ConflictError, match="revoked already"):
        await services.tenants.tokens.revoke(token.id)
    with pytest.raises(errors.UnknownError, match="no token has the id nobody"):
        await services.tenants.tokens.revoke("nobody")
    assert len(await audited(services, "token.revoke")) == 1


@pytest.mark.both_shapes
async def test_of_processes_that_start_at_once_one_makes_the_first_token(
    services: Services,
) -> None:
    first = services.tenants.tokens.create_first
    made = await asyncio.gather(*(first() for _ in range(5)))
    assert len([secret for secret in made if secret]) == 1
    assert len(await services.tenants.tokens.page()) == 1


async def test_the_first_start_makes_one_token_and_no_later_one_does(services: Services) -> None:
    secret = await services.tenants.tokens.create_first()
    assert secret is not None
    assert (await services.tenants.tokens.authenticate(secret)).is_platform_admin
    assert await services.tenants.tokens.create_first() is None
    [token] = await services.tenants.tokens.page()
    await services.tenants.tokens.revoke(token.id)
    assert await services.tenants.tokens.create_first() is None


async def test_tokens_are_listed_oldest_first_without_secrets(
    timed: Services, clock: WallClock
) -> None:
    secrets = []
    for name in ("a", "b", "c"):
        secrets.append((await timed.tenants.tokens.create(name))[1])
        clock.advance(seconds=1)
    listed = await timed.tenants.tokens.page()
    assert [token.name for token in listed] == ["a", "b", "c"]
    assert not any(secret[5:] in repr(listed) for secret in secrets)


def test_only_an_admin_is_an_admin() -> None:
    require_admin(Principal("token:00", frozenset({Scope.ADMIN})), None)
    for scopes in (set(), {Scope.READ}, {Scope.READ, Scope.PUBLISH}):
        with pytest.raises(errors.DeniedError, match="scope `admin`"):
            require_admin(Principal("token:00", frozenset(scopes)), None)


def test_a_tenants_admin_changes_that_tenant_alone() -> None:
    acme = Principal("token:00", frozenset({Scope.ADMIN}), "acme")
    require_admin(acme, "acme")
    for tenant in ("other", None):
        with pytest.raises(errors.DeniedError, match="acme"):
            require_admin(acme, tenant)


@pytest.mark.both_shapes
async def test_two_tokens_of_a_name_are_active_and_no_third(services: Services) -> None:
    first, _ = await services.tenants.tokens.create("ci")
    await services.tenants.tokens.create("ci")
    with pytest.raises(errors.ConflictError, match=f"revoke one, {first.id} is the oldest"):
        await services.tenants.tokens.create("ci")
    await services.tenants.tokens.revoke(first.id)
    await services.tenants.tokens.create("ci")


async def test_rotation_gives_another_secret_and_the_old_one_a_grace(
    timed: Services, clock: WallClock
) -> None:
    old, old_secret = await timed.tenants.tokens.create(
        "ci", expires_at=clock() + timedelta(days=90)
    )
    clock.advance(days=80)
    new, new_secret = await timed.tenants.tokens.rotate(old.id, grace=timedelta(hours=2))
    assert (new.name, new.scopes, new.expires_at) == (
        old.name,
        old.scopes,
        clock() + timedelta(days=90),
    )
    for secret in (old_secret, new_secret):
        await timed.tenants.tokens.authenticate(secret)
    clock.advance(hours=2)
    with pytest.raises(errors.UnauthenticatedError, match="expired"):
        await timed.tenants.tokens.authenticate(old_secret)
    await timed.tenants.tokens.authenticate(new_secret)
