"""Rows of leases: fences only grow. Waiting and renewing are tests/services/test_leases.py."""

from datetime import timedelta

import pytest

from app.db.engine import Session
from app.db.leases import LeaseHolder, LeaseTable, lease_time
from tests.db.moments import T0, later
from tests.shapes import Shape

TTL = timedelta(seconds=30)
pytestmark = pytest.mark.both_shapes
FIRST = int(T0.timestamp() * 1_000_000)


def acquire(
    session: Session, owner: str, seconds: float = 0, dead: str | None = None
) -> int | None:
    table = LeaseTable(session)
    return table.acquire("leader", owner, later(seconds=seconds), TTL, dead_owner=dead)


def test_a_lease_is_one_owners_until_it_ends_even_for_that_owner(session: Session) -> None:
    assert acquire(session, "a") == FIRST
    assert acquire(session, "a") is None
    assert acquire(session, "b", 29.9) is None
    assert acquire(session, "b", 30) == FIRST + 1
    assert LeaseTable(session).holder("leader") == LeaseHolder("leader", "b", FIRST + 1)


def test_only_the_dead_owner_that_is_named_loses_its_lease_early(session: Session) -> None:
    assert acquire(session, "a") == FIRST
    assert acquire(session, "b", dead="c") is None
    assert acquire(session, "b", dead="a") == FIRST + 1


def test_a_late_holder_of_the_same_owner_holds_nothing(session: Session) -> None:
    table = LeaseTable(session)
    acquire(session, "a")
    first = LeaseHolder("leader", "a", FIRST)
    assert table.holds(first)
    assert acquire(session, "a", 31) == FIRST + 1
    assert not table.holds(first)
    assert not table.renew(first, later(seconds=32), TTL)
    table.release(first)
    assert acquire(session, "b", 33) is None
    assert not table.holds(LeaseHolder("unknown", "a", FIRST))


def test_a_released_lease_leaves_no_row_and_its_fence_does_not_come_again(
    session: Session,
) -> None:
    acquire(session, "a")
    LeaseTable(session).release(LeaseHolder("leader", "a", FIRST))
    assert LeaseTable(session).holder("leader") is None
    assert acquire(session, "a", 0.001) == FIRST + 1000
    assert not LeaseTable(session).holds(LeaseHolder("leader", "a", FIRST))


def test_a_renewed_lease_ends_later(session: Session) -> None:
    acquire(session, "a")
    assert LeaseTable(session).renew(LeaseHolder("leader", "a", FIRST), later(seconds=20), TTL)
    assert acquire(session, "b", 49) is None
    assert acquire(session, "b", 50) == FIRST + 1


def test_live_leases_are_those_of_a_prefix_that_have_not_ended(session: Session) -> None:
    table = LeaseTable(session)
    for name, seconds in (("ingest:a", 0), ("ingest:b", 10), ("leader", 10)):
        table.acquire(name, "a", later(seconds=seconds), TTL, dead_owner=None)
    assert table.live("ingest:", later(seconds=29), TTL) == {"ingest:a": "a", "ingest:b": "a"}
    assert table.live("ingest:", later(seconds=30), TTL) == {"ingest:b": "a"}
    table.forget_expired(later(seconds=35))
    assert table.holder("ingest:a") is None
    assert table.holder("ingest:b") is not None


@pytest.mark.parametrize(("ahead_s", "is_held"), [(30, True), (31, False), (86400, False)])
def test_F96_a_lease_that_ends_further_ahead_than_its_length_is_free(
    session: Session, ahead_s: int, is_held: bool
) -> None:
    """It was taken while the clock was ahead."""
    table = LeaseTable(session)
    assert table.acquire("leader", "a", later(seconds=ahead_s - 30), TTL, dead_owner=None)
    assert (table.live("lead", T0, TTL) != {}) is is_held
    assert (table.acquire("leader", "b", T0, TTL, dead_owner=None) is None) is is_held


def test_leases_end_by_the_clock_of_the_database_that_replicas_share(
    session: Session, shape: Shape
) -> None:
    now = lease_time(session, lambda: T0)
    assert (now == T0) is (shape is Shape.SQLITE)
    assert now.tzinfo is not None
    assert now <= lease_time(session, lambda: T0)
