"""Rows of blobs: damage, healing, and which are due for a check."""

import pytest

from app.core.digest import Digest
from app.db.blobs import Blobs
from app.db.engine import Session
from tests.db.moments import T0, blob, later

pytestmark = pytest.mark.both_shapes


def test_a_blob_is_recorded_once_and_keeps_its_first_moment(session: Session) -> None:
    blobs = Blobs(session)
    digest = Digest.of(b"x")
    blobs.record(digest, 1, T0)
    blobs.record(digest, 1, later(hours=1))
    [row] = blobs.all()
    assert (row.digest, row.size_bytes, row.damaged) == (digest, 1, False)
    assert row.checked_at == later(hours=1)


def test_damage_is_told_once_and_ends_with_the_next_record(session: Session) -> None:
    blobs, digest = Blobs(session), blob(session, b"x")
    assert blobs.mark_damaged(digest)
    assert not blobs.mark_damaged(digest)
    assert [row.damaged for row in blobs.all()] == [True]
    blobs.record(digest, 1, later(hours=1))
    assert [row.damaged for row in blobs.all()] == [False]
    assert blobs.mark_damaged(digest)


def test_a_blob_is_looked_up_by_its_digest(session: Session) -> None:
    digest = blob(session, b"x")
    assert Blobs(session).has(digest)
    assert not Blobs(session).has(Digest.of(b"y"))


def test_what_is_not_recorded_is_neither_damaged_nor_checked(session: Session) -> None:
    blobs = Blobs(session)
    assert not blobs.mark_damaged(Digest.of(b"unknown"))
    blobs.mark_checked(Digest.of(b"unknown"), T0)
    assert blobs.all() == []


def test_blobs_come_in_the_order_of_their_digests(session: Session) -> None:
    digests = [blob(session, b"%d" % number) for number in range(5)]
    assert [row.digest for row in Blobs(session).all()] == sorted(digests, key=lambda d: d.hex)


def test_those_checked_longest_ago_are_due_first_and_damaged_ones_never(session: Session) -> None:
    blobs = Blobs(session)
    a, b, c, damaged, fresh = (blob(session, name) for name in (b"a", b"b", b"c", b"d", b"e"))
    for digest, hours in ((a, -2), (b, -3), (c, -1), (damaged, -9), (fresh, 0)):
        blobs.mark_checked(digest, later(hours=hours))
    blobs.mark_damaged(damaged)
    assert [row.digest for row in blobs.due(T0, T0, 10)] == [b, a, c]
    assert [row.digest for row in blobs.due(T0, T0, 2)] == [b, a]


@pytest.mark.parametrize("size", [0, 2**31, 2**53])
def test_a_size_may_be_larger_than_32_bits(session: Session, size: int) -> None:
    Blobs(session).record(Digest.of(b"x"), size, T0)
    assert [row.size_bytes for row in Blobs(session).all()] == [size]
