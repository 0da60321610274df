"""Rows of relayed logs: a head replaces the one it was compared with, evidence is bounded."""

import pytest

from app.db import sumdb
from app.db.engine import Session
from app.db.sumdb import LogHead, LogLookup, LogTable
from tests.db.moments import T0, later

pytestmark = pytest.mark.both_shapes

LOG = "sum.example"


@pytest.fixture
def table(session: Session) -> LogTable:
    return LogTable(session, LOG)


def test_a_head_replaces_only_the_head_it_was_compared_with(table: LogTable) -> None:
    first, second = LogHead(1, b"one", T0), LogHead(2, b"two", later(hours=1))
    assert table.head() is None
    assert not table.save_head(second, b"one")
    assert table.save_head(first, None)
    assert not table.save_head(second, None)
    assert not table.save_head(second, b"another")
    assert table.head() == first
    assert table.save_head(second, b"one")
    assert table.head() == second


def test_a_narrower_tile_never_replaces_a_wider_one_and_an_equal_one_does(table: LogTable) -> None:
    narrow, wide, other = b"a" * 32, b"b" * 64, b"c" * 64
    table.save_tile(0, 0, narrow)
    for data, kept in ((wide, wide), (narrow, wide), (other, other)):
        table.save_tile(0, 0, data)
        assert table.tile(0, 0) == kept
    assert table.tile(0, 1) is None
    assert table.tile(1, 0) is None


def test_the_first_answer_to_a_lookup_stays(table: LogTable) -> None:
    first = LogLookup("example.com/x", "v1.0.0", 2**40, b"first")
    table.save_lookup(first, T0)
    table.save_lookup(LogLookup("example.com/x", "v1.0.0", 7, b"second"), later(hours=1))
    assert table.lookup("example.com/x", "v1.0.0") == first
    assert table.lookup("example.com/x", "v1.0.1") is None


def test_one_logs_rows_are_no_others(session: Session, table: LogTable) -> None:
    table.save_head(LogHead(1, b"one", T0), None)
    table.save_tile(0, 0, b"a" * 32)
    table.save_lookup(LogLookup("m", "v1.0.0", 0, b"x"), T0)
    table.add_evidence(b"", b"x", "", T0)
    other = LogTable(session, f"{LOG}/other")
    assert (other.head(), other.tile(0, 0), other.lookup("m", "v1.0.0")) == (None, None, None)
    assert (other.evidence(), other.evidence_count()) == ([], 0)


def test_the_same_evidence_is_kept_once_and_where_it_is_split_makes_a_difference(
    table: LogTable,
) -> None:
    assert table.add_evidence(b"ab", b"c", "fork", T0)
    assert not table.add_evidence(b"ab", b"c", "again", later(hours=1))
    assert table.add_evidence(b"a", b"bc", "fork", later(hours=2))
    kept = [(e.older, e.newer, e.detail, e.seen_at) for e in table.evidence()]
    assert kept == [(b"ab", b"c", "fork", T0), (b"a", b"bc", "fork", later(hours=2))]


def test_more_evidence_than_the_limit_fills_no_disk(
    table: LogTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sumdb, "MAX_EVIDENCE", 3)
    added = [table.add_evidence(b"", b"%d" % number, "", T0) for number in range(5)]
    assert added == [True, True, True, False, False]
    assert table.evidence_count() == 3
