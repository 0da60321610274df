"""Each change to tenants takes the lock of all changes before it reads anything.

PostgreSQL lets several transactions write at once. Without the lock, two of them could read the
same revision, and the later one would undo the earlier one unseen.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from app.core.acl import Effect
from app.core.errors import ConflictError, StaleRevisionError
from app.core.principal import OPERATOR
from app.core.tenant import TenantSettings
from app.db.engine import Database
from app.services.assembly import Services
from app.services.tenants.plan import Document
from tests.installation import running
from tests.nouns import a_credential, a_route, a_rule, a_tenant, an_owner
from tests.statements import BEGINNINGS
from tests.web.harbour import proxy_settings

LOCK = "SELECT generation.id FROM generation"
DENY = a_rule(Effect.DENY, "new.example")
ROUTE = a_route("new.example", "https://proxy.example")
SECRET = a_credential("bearer", "s3cret")
SERVICES: dict[str, Callable[[Services], object]] = {
    "tenants": lambda s: s.tenants.tenants,
    "tokens": lambda s: s.tenants.tokens,
    "rules": lambda s: s.tenants.rules,
    "routes": lambda s: s.tenants.routes,
    "ownership": lambda s: s.tenants.ownership,
    "credentials": lambda s: s.tenants.credentials,
    "documents": lambda s: s.tenants.documents,
    "logs": lambda s: s.sumdb.logs,
    "recovery": lambda s: s.sumdb.recovery,
}
# Use cases that write no tenant's state. `logs.append` locks its own log.
OTHERS = {
    "tenants.storage",
    "tenants.storage_of_all",
    *(f"{noun}.page" for noun in SERVICES if noun not in ("documents", "logs", "recovery")),
    *(f"{noun}.get" for noun in ("tenants", "rules", "routes")),
    *(f"logs.{name}" for name in ("of", "append", "lookup", "latest", "tile", "prove")),
    "tokens.authenticate",
}


async def _rotate(services: Services) -> None:
    token, _ = await services.tenants.tokens.create("ci", tenant="acme")
    await services.tenants.tokens.rotate(token.id)


async def _revoke(services: Services) -> None:
    token, _ = await services.tenants.tokens.create("ci", tenant="acme")
    await services.tenants.tokens.revoke(token.id)


async def _update_rule(services: Services) -> None:
    [rule] = await services.tenants.rules.page("acme", OPERATOR)
    await services.tenants.rules.update("acme", rule.id, DENY, OPERATOR)


async def _remove_rule(services: Services) -> None:
    [rule] = await services.tenants.rules.page("acme", OPERATOR)
    await services.tenants.rules.remove("acme", rule.id, OPERATOR)


async def _update_route(services: Services) -> None:
    [route] = await services.tenants.routes.page("acme", OPERATOR)
    await services.tenants.routes.update("acme", route.id, ROUTE, OPERATOR)


async def _remove_route(services: Services) -> None:
    [route] = await services.tenants.routes.page("acme", OPERATOR)
    await services.tenants.routes.remove("acme", route.id, OPERATOR)


async def _recover(services: Services) -> None:
    with pytest.raises(ConflictError, match="nothing is wrong with the log"):
        await services.sumdb.recovery.recover("acme", OPERATOR, accept=True)


CHANGES: dict[str, Callable[[Services], Awaitable[object]]] = {
    "tenants.create": lambda s: s.tenants.tenants.create(a_tenant("new"), OPERATOR),
    "tenants.create_default": lambda s: s.tenants.tenants.create_default(),
    "tenants.change": lambda s: s.tenants.tenants.change(
        "acme", TenantSettings(title="new"), OPERATOR
    ),
    "tenants.remove": lambda s: s.tenants.tenants.remove("acme", OPERATOR),
    "tokens.create": lambda s: s.tenants.tokens.create("ci", tenant="acme"),
    "tokens.create_first": lambda s: s.tenants.tokens.create_first(),
    "tokens.rotate": _rotate,
    "tokens.revoke": _revoke,
    "rules.create": lambda s: s.tenants.rules.create("acme", DENY, OPERATOR),
    "rules.update": _update_rule,
    "rules.remove": _remove_rule,
    "routes.create": lambda s: s.tenants.routes.create("acme", ROUTE, OPERATOR),
    "routes.update": _update_route,
    "routes.remove": _remove_route,
    "ownership.put": lambda s: s.tenants.ownership.put(an_owner("new.example", "acme"), OPERATOR),
    "ownership.remove": lambda s: s.tenants.ownership.remove("corp.example", OPERATOR),
    "credentials.put": lambda s: s.tenants.credentials.put("acme", "new", SECRET, OPERATOR),
    "credentials.remove": lambda s: s.tenants.credentials.remove("acme", "git", OPERATOR),
    "documents.apply": lambda s: s.tenants.documents.apply(
        Document(ownership=()), OPERATOR, prune=True
    ),
    "logs.create": lambda s: s.sumdb.logs.create("acme"),
    "recovery.recover": _recover,
}


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with running(proxy_settings(tmp_path)) as made:
        tenants = made.tenants
        await tenants.tenants.create(a_tenant("acme"), OPERATOR)
        await tenants.rules.create("acme", a_rule(Effect.DENY, "old.example"), OPERATOR)
        await tenants.credentials.put("acme", "git", SECRET, OPERATOR)
        await tenants.ownership.put(an_owner("corp.example", "acme"), OPERATOR)
        await made.sumdb.logs.create("acme")
        yield made


@contextmanager
def write_transactions(database: Database) -> Iterator[list[list[str]]]:
    """Note the statements of each write transaction that begins meanwhile."""
    transactions: list[list[str]] = []

    def begin(_connection: Connection) -> None:
        transactions.append([])

    def note(_connection: Connection, _cursor: object, statement: str, *_: Any) -> None:
        if not statement.startswith(BEGINNINGS):
            transactions[-1].append(" ".join(statement.split()).removesuffix(" FOR UPDATE"))

    event.listen(database.engine, "begin", begin, insert=True)
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield transactions
    finally:
        event.remove(database.engine, "begin", begin)
        event.remove(database.engine, "before_cursor_execute", note)


async def test_every_use_case_is_in_the_table(services: Services) -> None:
    use_cases = {
        f"{noun}.{name}"
        for noun, service in SERVICES.items()
        for name, _ in inspect.getmembers(service(services), inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert use_cases == {*CHANGES, *OTHERS}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_begins_with_the_lock_and_takes_it_once(
    services: Services, name: str
) -> None:
    with write_transactions(services.shared.db) as transactions:
        await CHANGES[name](services)
    assert transactions
    for statements in transactions:
        assert statements[0] == LOCK
        assert statements.count(LOCK) == 1


async def test_a_refused_change_begins_with_the_lock_too(services: Services) -> None:
    with (
        write_transactions(services.shared.db) as transactions,
        pytest.raises(StaleRevisionError),
    ):
        await services.tenants.tenants.remove("acme", OPERATOR, revision=7)
    assert [statements[0] for statements in transactions] == [LOCK]
