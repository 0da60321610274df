"""The audit chain as a pure function; its rows in the database are tests/services/test_audit.py."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.core.audit import FIRST_HASH, AuditRecord, chain_hash, first_break

Rows = list[tuple[AuditRecord, str, str]]
AT = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def record(seq: int, **more: object) -> AuditRecord:
    made = AuditRecord(
        seq, AT + timedelta(seconds=seq), "system", "release.verified", f"f{seq}", ""
    )
    return replace(made, **more)  # type: ignore[arg-type]


def chain(length: int = 6) -> Rows:
    return chained(*range(1, length + 1))


def chained(*seqs: int) -> Rows:
    """Return rows of these numbers, each honestly hashed."""
    rows, prev = [], FIRST_HASH
    for seq in seqs:
        made = record(seq)
        hashed = chain_hash(prev, made)
        rows.append((made, prev, hashed))
        prev = hashed
    return rows


def test_the_hash_covers_the_previous_hash_and_the_row_as_canonical_json() -> None:
    row = AuditRecord(7, AT, "token:1f2e3d4c", "token.create", "token:00", 'é"\n')
    text = (
        '{"action":"token.create","actor":"token:1f2e3d4c",'
        '"at":"2026-11-23T12:00:00.123456+00:00","detail":"\\u00e9\\"\\n",'
        '"object":"token:00","seq":7}'
    )
    prev = "ab" * 32
    assert chain_hash(prev, row) == hashlib.sha256(f"{prev}\n{text}".encode()).hexdigest()


def test_the_zone_in_which_a_time_is_written_does_not_matter() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    assert chain_hash(FIRST_HASH, record(1)) == chain_hash(
        FIRST_HASH, record(1, at=record(1).at.astimezone(india))
    )


@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_whole_chain_holds(length: int) -> None:
    assert first_break(chain(length), FIRST_HASH, 0) is None


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_chain_holds_when_it_is_checked_in_parts(cut: int) -> None:
    rows = chain()
    assert first_break(rows[cut:], rows[cut - 1][2], cut) is None


CHANGES = {
    "seq": 99,
    "at": AT + timedelta(microseconds=1),
    "actor": "cli",
    "action": "release.quarantined",
    "object": "another",
    "detail": "x",
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("place", range(6))
def test_every_modified_row_is_found_at_that_row(place: int, field: str) -> None:
    rows = chain()
    changed = replace(rows[place][0], **{field: CHANGES[field]})
    rows[place] = (changed, *rows[place][1:])
    assert first_break(rows, FIRST_HASH, 0) == place + 1


@pytest.mark.parametrize("place", range(6))
def test_a_modified_row_with_a_new_hash_is_found_at_the_next_row(place: int) -> None:
    rows = chain()
    forged, prev, _ = rows[place]
    forged = replace(forged, actor="cli")
    rows[place] = (forged, prev, chain_hash(prev, forged))
    # The last row has no successor that would tell: only its hash, kept elsewhere, does.
    assert first_break(rows, FIRST_HASH, 0) == (place + 2 if place < 5 else None)


@pytest.mark.parametrize("place", range(5))
def test_every_removed_row_is_found_at_its_place(place: int) -> None:
    rows = chain()
    del rows[place]
    assert first_break(rows, FIRST_HASH, 0) == place + 1


@pytest.mark.parametrize("place", range(5))
def test_every_pair_of_swapped_rows_is_found_at_the_first_of_them(place: int) -> None:
    rows = chain()
    rows[place], rows[place + 1] = rows[place + 1], rows[place]
    assert first_break(rows, FIRST_HASH, 0) == place + 1


@pytest.mark.parametrize("place", range(1, 7))
def test_a_row_put_in_between_is_found_there(place: int) -> None:
    rows = chain()
    prev = rows[place - 1][2]
    extra = record(place + 1, object="slipped in")
    rows.insert(place, (extra, prev, chain_hash(prev, extra)))
    first_broken = first_break(rows, FIRST_HASH, 0)
    # Behind the last row an honest one looks just the same.
    assert first_broken == (place + 2 if place < 6 else None)


@pytest.mark.parametrize("of", [1, 2])
@pytest.mark.parametrize("place", range(6))
def test_every_changed_hash_is_found(place: int, of: int) -> None:
    rows = chain()
    row = list(rows[place])
    row[of] = "0123456789abcdef" * 4
    rows[place] = (row[0], row[1], row[2])  # type: ignore[assignment]
    assert first_break(rows, FIRST_HASH, 0) == place + 1


@pytest.mark.parametrize(
    ("seqs", "first_broken"),
    [((1, 2, 4), 3), ((2, 3), 1), ((1, 1), 2), ((0, 1), 1), ((1, 2, 3, 2), 4)],
)
def test_a_gap_or_a_repeat_in_the_numbers_is_found_though_all_hashes_are_right(
    seqs: tuple[int, ...], first_broken: int
) -> None:
    assert first_break(chained(*seqs), FIRST_HASH, 0) == first_broken


def test_no_two_rows_have_one_hash_by_moving_text_between_fields() -> None:
    tell: Callable[..., str] = lambda **more: chain_hash(FIRST_HASH, record(1, **more))  # noqa: E731
    hashes = {
        tell(actor="ab", action="c"),
        tell(actor="a", action="bc"),
        tell(object="x", detail='","y":"'),
        tell(object='x","y":"', detail=""),
    }
    assert len(hashes) == 4
