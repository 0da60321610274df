"""Rows of the audit log: one chain without gaps, whoever appends."""

import pytest
from sqlalchemy import insert

from app.core.audit import FIRST_HASH, chain_hash
from app.core.errors import ConflictError
from app.db.audit import AuditLog, AuditRow
from app.db.engine import Database, Session
from tests.db.moments import T0, later

pytestmark = pytest.mark.both_shapes


def test_rows_are_numbered_from_1_and_each_covers_the_one_before(session: Session) -> None:
    log = AuditLog(session)
    log.append(T0, "cli", "tenant.create", "acme")
    changes = [("rule.create", "1", "allow"), ("rule.create", "2", "")]
    log.append_all(later(hours=1), "token:1", changes)
    before = FIRST_HASH
    for number, (record, prev_hash, this_hash) in enumerate(log.rows(), start=1):
        assert record.seq == number
        assert prev_hash == before
        assert this_hash == chain_hash(prev_hash, record)
        before = this_hash
    assert [record.action for record, _, _ in log.rows()] == [
        "tenant.create",
        "rule.create",
        "rule.create",
    ]


def test_no_change_is_no_row(session: Session) -> None:
    log = AuditLog(session)
    log.append_all(T0, "cli", [])
    assert log.rows() == []


def test_rows_are_pages_above_a_number(session: Session) -> None:
    log = AuditLog(session)
    log.append_all(T0, "cli", [("a.b", str(number), "") for number in range(1, 8)])
    pages = [[record.seq for record, _, _ in log.rows(after, 3)] for after in (0, 3, 6, 7)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7], []]


@pytest.mark.parametrize(
    ("actor", "numbers"),
    [("token:", [2, 3]), ("token:1", [2]), ("token:_", []), ("%", []), ("", [1, 2, 3])],
)
def test_an_actor_is_found_by_how_it_begins_and_wildcards_are_plain_text(
    session: Session, actor: str, numbers: list[int]
) -> None:
    log = AuditLog(session)
    for who in ("cli", "token:1", "token:2"):
        log.append(T0, who, "a.b", "x")
    assert [record.seq for record, _, _ in log.rows(actor=actor)] == numbers


def test_an_action_is_found_by_its_whole_name_within_a_page(session: Session) -> None:
    log = AuditLog(session)
    for action in ("a.b", "a.bc", "a.b", "a.b"):
        log.append(T0, "cli", action, "x")
    assert [record.seq for record, _, _ in log.rows(1, 2, action="a.b")] == [3, 4]


async def test_rows_of_a_change_that_fails_are_not_there(database: Database) -> None:
    def work(session: Session) -> None:
        AuditLog(session).append(T0, "cli", "a.b", "x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(work)
    assert await database.read(lambda s: AuditLog(s).rows()) == []


async def test_no_number_and_no_hash_comes_twice(database: Database) -> None:
    await database.write(lambda s: AuditLog(s).append(T0, "cli", "a.b", "x"))
    [(record, prev_hash, this_hash)] = await database.read(lambda s: AuditLog(s).rows())
    copy = {
        "seq": 1,
        "at": record.at,
        "actor": "cli",
        "action": "a.b",
        "object": "y",
        "detail": "",
        "prev_hash": prev_hash,
        "hash": "other",
    }
    for changed in ({}, {"seq": 2, "hash": this_hash}):
        values = copy | changed
        with pytest.raises(ConflictError):
            await database.write(lambda s, v=values: s.execute(insert(AuditRow), [v]) and None)
