"""What several processes on one database promise, on SQLite and on PostgreSQL.

The two here are services with connections and threads of their own, in one event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.acl import Effect
from app.core.errors import ConflictError, MoorageError, StaleRevisionError, UnknownError
from app.core.principal import OPERATOR, Scope
from app.db.engine import Database, Session
from app.services.assembly import Services
from app.services.tenants.plan import Document, TenantPart
from tests.installation import running
from tests.nouns import a_rule, a_tenant
from tests.web.harbour import proxy_settings

pytestmark = pytest.mark.both_shapes
Pair = tuple[Services, Services]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two processes on one database, with the tenant "acme"."""
    settings = proxy_settings(tmp_path)
    async with running(settings) as first, running(settings) as second:
        await first.tenants.tenants.create(a_tenant("acme"), OPERATOR)
        yield first, second


async def test_of_eight_clients_with_one_etag_exactly_one_wins(pair: Pair) -> None:
    rule = await pair[0].tenants.rules.create("acme", a_rule(Effect.DENY, "a.b"), OPERATOR)
    for turn in range(3):
        tries = [
            pair[client % 2].tenants.rules.update(
                "acme",
                rule.id,
                a_rule(Effect.DENY, f"turn{turn}.client{client}"),
                OPERATOR,
                revision=rule.revision,
            )
            for client in range(8)
        ]
        ends = await asyncio.gather(*tries, return_exceptions=True)
        lost = [end for end in ends if isinstance(end, StaleRevisionError)]
        assert len(lost) == 7, ends
        [won] = [end for end in ends if not isinstance(end, BaseException)]
        rule = await pair[1].tenants.rules.get("acme", rule.id, OPERATOR)
        assert rule == won


async def test_of_four_documents_at_once_the_state_is_that_of_one(pair: Pair) -> None:
    def document(number: int) -> Document:
        rules = tuple(a_rule(Effect.DENY, f"doc{number}.rule{n}") for n in range(4))
        return Document(tenants={"acme": TenantPart(title=f"doc{number}", rules=rules)})

    for turn in range(3):
        numbers = range(4 * turn, 4 * turn + 4)
        tries = [pair[n % 2].tenants.documents.apply(document(n), OPERATOR) for n in numbers]
        ends = await asyncio.gather(*tries, return_exceptions=True)
        failures = [end for end in ends if isinstance(end, BaseException)]
        assert all(isinstance(end, ConflictError) for end in failures), failures
        assert len(failures) < 4
        title = (await pair[0].tenants.tenants.get("acme", OPERATOR)).title
        rules = await pair[0].tenants.rules.page("acme", OPERATOR)
        assert [rule.pattern.text for rule in rules] == [f"{title}.rule{n}" for n in range(4)]


async def test_units_of_work_that_take_rows_in_opposite_order_all_end_well(pair: Pair) -> None:
    statements = [
        text("UPDATE generation SET value = value + 1"),
        text("UPDATE installation SET uid = uid"),
    ]

    def unit(order: int) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            for statement in statements[::order]:
                session.execute(statement)

        return work

    before = await pair[0].shared.db.read(_generation)
    writes = [
        db.shared.db.write(unit(order)) for _ in range(10) for db in pair for order in (1, -1)
    ]
    await asyncio.gather(*writes)
    assert await pair[0].shared.db.read(_generation) == before + 40


def _generation(session: Session) -> int:
    return session.execute(text("SELECT value FROM generation")).scalar_one()


async def test_a_change_beside_a_removal_is_done_or_finds_nothing(pair: Pair) -> None:
    for turn in range(4):
        name = f"tenant{turn}"
        await pair[0].tenants.tenants.create(a_tenant(name), OPERATOR)
        rule = await pair[0].tenants.rules.create(name, a_rule(Effect.DENY, "a.b"), OPERATOR)
        other = a_rule(Effect.DENY, "c.d")
        ends = await asyncio.gather(
            pair[1].tenants.rules.update(name, rule.id, other, OPERATOR),
            pair[0].tenants.rules.remove(name, rule.id, OPERATOR),
            pair[1].tenants.tenants.remove(name, OPERATOR),
            pair[0].tenants.rules.create(name, other, OPERATOR),
            return_exceptions=True,
        )
        errors = [end for end in ends if isinstance(end, BaseException)]
        assert all(isinstance(error, UnknownError | ConflictError) for error in errors), errors
        with pytest.raises(UnknownError):
            await pair[0].tenants.tenants.get(name, OPERATOR)


async def test_a_revoked_token_is_dead_in_the_other_process_within_a_second(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    waits_s: list[float] = []

    async def wait(_topic: str, seconds: float) -> None:
        waits_s.append(seconds)
        await asyncio.sleep(0)

    # No message of the database comes: the polls alone are fast enough.
    monkeypatch.setattr(second.shared.db.notices, "wait", wait)
    watching = asyncio.ensure_future(second.shared.watch.run())
    token, secret = await first.tenants.tokens.create(
        "ci", tenant="acme", scopes=frozenset({Scope.READ})
    )
    before = (await second.shared.policies.current(fresh=True)).generation
    try:
        await first.tenants.tokens.revoke(token.id)
        waited = len(waits_s)
        while second.shared.watch.since("acme") <= before:
            await asyncio.sleep(0)
        assert sum(waits_s[waited:]) <= 1
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    with pytest.raises(MoorageError):
        await second.tenants.tokens.authenticate(secret)


async def test_no_write_is_lost_when_processes_read_and_then_write(
    database: Database, database_url: str
) -> None:
    other = Database(database_url)

    def work(session: Session) -> None:
        value = _generation(session)
        session.execute(text("UPDATE generation SET value = :new"), {"new": value + 1})

    await asyncio.gather(*(d.write(work) for _ in range(25) for d in (database, other)))
    assert await database.read(_generation) == 51
    other.close()
