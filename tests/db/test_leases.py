"""Rows of leases: fences only grow. Waiting and renewing are tests/services/test_leases.py."""

from datetime import timedelta

import pytest

from app.db.engine import Session
from app.db.leases import LeaseHolder, LeaseTable
from tests.db.moments import T0, later

TTL = timedelta(seconds=30)


def acquire(
    session: Session, owner: str, seconds: float = 0, dead: str | None = None
) -> int | None:
    table = LeaseTable(session)
    return table.acquire("leader", owner, later(seconds=seconds), TTL, dead_owner=dead)


def test_a_lease_is_one_owners_until_it_ends_even_for_that_owner(session: Session) -> None:
    assert acquire(session, "a") == 1
    assert acquire(session, "a") is None
    assert acquire(session, "b", 29.9) is None
    assert acquire(session, "b", 30) == 2
    assert LeaseTable(session).holder("leader") == LeaseHolder("leader", "b", 2)


def test_only_the_dead_owner_that_is_named_loses_its_lease_early(session: Session) -> None:
    assert acquire(session, "a") == 1
    assert acquire(session, "b", dead="c") is None
    assert acquire(session, "b", dead="a") == 2


def test_a_late_holder_of_the_same_owner_holds_nothing(session: Session) -> None:
    table = LeaseTable(session)
    acquire(session, "a")
    first = LeaseHolder("leader", "a", 1)
    assert table.holds(first)
    assert acquire(session, "a", 31) == 2
    assert not table.holds(first)
    assert not table.renew(first, later(seconds=32), TTL)
    table.release(first, later(seconds=32))
    assert acquire(session, "b", 33) is None
    assert not table.holds(LeaseHolder("unknown", "a", 1))


def test_a_released_lease_is_free_and_keeps_its_fence(session: Session) -> None:
    acquire(session, "a")
    LeaseTable(session).release(LeaseHolder("leader", "a", 1), T0)
    assert acquire(session, "b") == 2


def test_a_renewed_lease_ends_later(session: Session) -> None:
    acquire(session, "a")
    assert LeaseTable(session).renew(LeaseHolder("leader", "a", 1), later(seconds=20), TTL)
    assert acquire(session, "b", 49) is None
    assert acquire(session, "b", 50) == 2


def test_live_leases_are_those_of_a_prefix_that_have_not_ended(session: Session) -> None:
    table = LeaseTable(session)
    for name, seconds in (("ingest:a", 0), ("ingest:b", 10), ("leader", 10)):
        table.acquire(name, "a", later(seconds=seconds), TTL, dead_owner=None)
    assert table.live("ingest:", later(seconds=29), TTL) == {"ingest:a": "a", "ingest:b": "a"}
    assert table.live("ingest:", later(seconds=30), TTL) == {"ingest:b": "a"}
    table.forget_expired(later(seconds=35))
    assert table.holder("ingest:a") is None
    assert table.holder("ingest:b") is not None


def test_a_lease_taken_by_a_clock_that_was_ahead_is_free(session: Session) -> None:
    assert acquire(session, "a", 24 * 3600) == 1
    assert acquire(session, "b") == 2
    assert not LeaseTable(session).holds(LeaseHolder("leader", "a", 1))


def test_a_lease_of_a_host_whose_clock_is_a_little_ahead_is_held(session: Session) -> None:
    assert acquire(session, "a", 30) == 1
    assert acquire(session, "b") is None


@pytest.mark.parametrize(("ahead_s", "is_held"), [(59, True), (60, True), (61, False)])
def test_F96_a_lease_from_a_clock_ahead_is_held_for_twice_its_length_at_most(
    session: Session, ahead_s: int, is_held: bool
) -> None:
    """A just renewed lease ends after its length; hosts' clocks may differ by as much again."""
    table = LeaseTable(session)
    assert table.acquire("leader", "a", later(seconds=ahead_s - 30), TTL, dead_owner=None) == 1
    assert (table.live("lead", later(seconds=0), TTL) != {}) is is_held
    taken = table.acquire("leader", "b", later(seconds=0), TTL, dead_owner=None)
    assert (taken is None) is is_held
