"""A document is planned while others write: what they change meanwhile is never lost."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from app.core.acl import Effect
from app.core.errors import ConflictError
from app.core.principal import OPERATOR
from app.db.engine import Session
from app.services.assembly import Services
from app.services.tenants import document as documents
from app.services.tenants.plan import Document, TenantPart
from app.services.tenants.snapshot import State, read_state
from tests.installation import running
from tests.nouns import a_credential, a_route, a_rule, a_tenant, an_owner
from tests.services.bench import audited
from tests.web.harbour import proxy_settings, replace_tenant

TO_PROXY = a_route("*", "https://proxy.example")
KEPT = TenantPart(title="kept", rules=(a_rule(Effect.DENY, "a.b"),), routes=(TO_PROXY,))
WANTED = Document(tenants={"acme": KEPT}, ownership=())
Change = Callable[[Services], Awaitable[object]]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with running(proxy_settings(tmp_path)) as made:
        await made.tenants.tenants.create(a_tenant("acme"), OPERATOR)
        await made.tenants.rules.create("acme", a_rule(Effect.DENY, "old.example"), OPERATOR)
        yield made


async def _rename(services: Services) -> object:
    return await replace_tenant(services, a_tenant("acme", "renamed"))


async def _add_rule(services: Services) -> object:
    return await services.tenants.rules.create("acme", a_rule(Effect.DENY, "c.d"), OPERATOR)


async def _add_platform_rule(services: Services) -> object:
    return await services.tenants.rules.create(None, a_rule(Effect.DENY, "c.d"), OPERATOR)


async def _remove_rule(services: Services) -> object:
    [rule] = await services.tenants.rules.page("acme", OPERATOR)
    return await services.tenants.rules.remove("acme", rule.id, OPERATOR)


async def _change_route(services: Services) -> object:
    [route] = await services.tenants.routes.page("acme", OPERATOR)
    off = a_route("*", "https://proxy.example", off=True)
    return await services.tenants.routes.update("acme", route.id, off, OPERATOR)


async def _own(services: Services) -> object:
    return await services.tenants.ownership.put(an_owner("corp.example", "acme"), OPERATOR)


async def _set_credential(services: Services) -> object:
    secret = a_credential("bearer", "s3cret")
    return await services.tenants.credentials.put("acme", "git", secret, OPERATOR)


async def _remove_tenant(services: Services) -> object:
    return await services.tenants.tenants.remove("acme", OPERATOR)


CHANGES: list[Change] = [
    _rename,
    _add_rule,
    _add_platform_rule,
    _remove_rule,
    _change_route,
    _own,
    _set_credential,
    _remove_tenant,
]


def between(
    services: Services, monkeypatch: pytest.MonkeyPatch, change: Change, times: int
) -> list[State]:
    """Have something changed after each of the first plans; return the states planned for."""
    planned: list[State] = []
    write = type(services.shared.db).write
    is_changing = False

    def seen(session: Session) -> State:
        planned.append(read_state(session))
        return planned[-1]

    async def late(database: object, work: Callable[[Session], object], **room: object) -> object:
        nonlocal is_changing
        if len(planned) <= times and not is_changing:
            is_changing = True
            await change(services)
            is_changing = False
        return await write(database, work, **room)  # type: ignore[arg-type]

    monkeypatch.setattr(documents, "read_state", seen)
    monkeypatch.setattr(type(services.shared.db), "write", late)
    return planned


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__.strip("_"))
async def test_a_change_during_the_planning_is_seen_by_the_next_plan(
    services: Services, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    planned = between(services, monkeypatch, change, times=1)
    await services.tenants.documents.apply(WANTED, OPERATOR)
    assert len(planned) == 2
    monkeypatch.undo()
    assert await services.tenants.documents.apply(WANTED, OPERATOR, dry_run=True) == []
    assert (await services.shared.audit.verify())[1] is None


async def test_a_token_that_is_made_or_revoked_is_no_reason_to_plan_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = between(
        services, monkeypatch, lambda s: s.tenants.tokens.create("ci", tenant="acme"), times=1
    )
    await services.tenants.documents.apply(WANTED, OPERATOR)
    assert len(planned) == 1


async def test_who_is_overtaken_each_time_is_told_and_nothing_of_his_is_written(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = iter("abcdefgh")

    def rename(services: Services) -> Awaitable[object]:
        return replace_tenant(services, a_tenant("acme", next(titles)))

    planned = between(services, monkeypatch, rename, times=99)
    with pytest.raises(ConflictError, match="changed during each of 5 tries"):
        await services.tenants.documents.apply(WANTED, OPERATOR)
    assert len(planned) == 5
    monkeypatch.undo()
    assert (await services.tenants.tenants.get("acme", OPERATOR)).title == "e"
    assert await audited(services, "route.update") == []
