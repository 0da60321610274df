"""Refused calls: one audit row for each caller and minute, and none is lost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from app.core.audit import AuditRecord
from app.core.errors import StorageFullError
from app.core.principal import Principal, Scope
from app.db.engine import Database
from app.services.audit import AuditReader
from app.services.refusals import Refusal, RefusalCounter

START = datetime(2026, 11, 27, 10, tzinfo=UTC)
READER = Principal("token:reader", frozenset({Scope.READ}))
OTHER = Principal("token:other", frozenset({Scope.READ}))
RULES = "POST /api/v1/rules"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter(database: Database, clock: Clock) -> RefusalCounter:
    return RefusalCounter(database, clock)


@pytest.fixture
def rows(database: Database) -> Callable[[], object]:
    async def read() -> list[AuditRecord]:
        reader = AuditReader(database)
        assert (await reader.verify())[1] is None
        return await reader.list(after=0, limit=2000)

    return read


async def test_a_minute_of_refused_calls_is_one_row_with_who_what_and_when(
    counter, clock, rows
) -> None:
    for number in range(1000):
        clock.seconds = number * 0.05
        call = RULES if number % 4 else "GET /api/v1/audit"
        await counter.count(READER, Refusal.DENIED, call, "that needs an admin")
        await counter.flush()
    assert await rows() == []
    clock.seconds = 60
    await counter.flush()
    await counter.flush()
    [row] = await rows()
    assert (row.actor, row.action) == ("token:reader", "access.deny")
    assert (row.at, row.object) == (clock(), "GET /api/v1/audit")
    assert row.detail == (
        "1000 times from 2026-11-27T10:00:00Z to 2026-11-27T10:00:49Z: that needs an admin "
        "(POST /api/v1/rules 750, GET /api/v1/audit 250)"
    )


async def test_each_caller_and_kind_has_a_row_of_its_own(counter, rows) -> None:
    await counter.count(READER, Refusal.DENIED, RULES, "no")
    await counter.count(READER, Refusal.MALFORMED, RULES, "no JSON")
    await counter.count(OTHER, Refusal.DENIED, RULES, "no")
    await counter.flush(all_windows=True)
    assert [(row.actor, row.action, row.detail) for row in await rows()] == [
        ("token:reader", "access.deny", "once at 2026-11-27T10:00:00Z: no"),
        ("token:reader", "access.malformed", "once at 2026-11-27T10:00:00Z: no JSON"),
        ("token:other", "access.deny", "once at 2026-11-27T10:00:00Z: no"),
    ]


async def test_a_row_names_eight_calls_and_counts_the_others(counter, rows) -> None:
    for number in range(20):
        await counter.count(READER, Refusal.DENIED, f"GET /{number}/" + "x" * 1000, "no")
    await counter.flush(all_windows=True)
    [row] = await rows()
    assert row.detail.startswith("20 times from ")
    assert "GET /7/" in row.detail
    assert row.detail.endswith("xxx 1, others 12)")
    assert len(row.object) == 300


async def test_counts_that_can_not_be_written_wait_and_are_added_to(
    counter, clock, rows, database
) -> None:
    await counter.count(READER, Refusal.DENIED, RULES, "no")
    clock.seconds = 60
    is_full = True

    def refuse(_connection: object) -> None:
        if is_full:
            raise StorageFullError("the disk is full")

    event.listen(database.engine, "commit", refuse)
    await counter.flush()
    await counter.count(READER, Refusal.DENIED, RULES, "no")
    is_full = False
    await counter.flush()
    [row] = await rows()
    assert row.detail == (
        "2 times from 2026-11-27T10:00:00Z to 2026-11-27T10:01:00Z: no (POST /api/v1/rules 2)"
    )


async def test_a_window_of_a_clock_that_was_ahead_ends_at_once(counter, clock, rows) -> None:
    clock.seconds = 86400
    await counter.count(READER, Refusal.DENIED, RULES, "no")
    clock.seconds = 0
    await counter.flush()
    assert len(await rows()) == 1


async def test_too_many_callers_are_written_early_and_none_is_lost(counter, rows) -> None:
    for number in range(1001):
        who = Principal(f"token:{number}", frozenset({Scope.READ}))
        await counter.count(who, Refusal.DENIED, RULES, "no")
    assert len(await rows()) == 1000
    await counter.flush(all_windows=True)
    assert {row.actor for row in await rows()} == {f"token:{number}" for number in range(1001)}
