"""Rows of answers that change: the last one counts, and expires for one module."""

import pytest

from app.db.engine import Session
from app.db.moduleanswers import ModuleAnswer, ModuleAnswerTable
from app.db.origins import OriginTable
from tests.db.moments import T0, later

pytestmark = pytest.mark.both_shapes

NAME = "example.com/x"


@pytest.fixture
def one(session: Session) -> int:
    return OriginTable(session).origin("https://one.example")


def answer(origin: int, query: str = "list", status: int = 200, hours: float = 0) -> ModuleAnswer:
    body = b"v1.0.0\n" if status == 200 else b""
    return ModuleAnswer(origin, NAME, query, status, body, later(hours=hours))


def test_the_last_answer_replaces_the_one_before(session: Session, one: int) -> None:
    table = ModuleAnswerTable(session)
    for last in (answer(one), answer(one, status=404, hours=1), answer(one, hours=2)):
        table.save(last)
        assert table.get(one, NAME, "list") == last
    assert table.get(one, NAME, "@latest") is None
    assert table.get(one + 1, NAME, "list") is None


def test_only_the_answer_that_is_named_is_forgotten(session: Session, one: int) -> None:
    table = ModuleAnswerTable(session)
    table.save(answer(one))
    table.save(answer(one, "@latest"))
    table.forget(one, NAME, "list")
    assert table.get(one, NAME, "list") is None
    assert table.get(one, NAME, "@latest") is not None


def test_younger_good_answers_expire_and_absences_and_old_ones_stay(
    session: Session, one: int
) -> None:
    table = ModuleAnswerTable(session)
    two = OriginTable(session).origin("https://two.example")
    saved = [
        answer(one, hours=2),
        answer(one, "@latest", hours=-2),
        answer(one, "@v9.0.0.zip", 404, hours=2),
        answer(two, hours=2),
    ]
    for each in saved:
        table.save(each)
    table.expire([one], NAME, T0)
    hours = []
    for each in saved:
        now = table.get(each.origin_id, NAME, each.query)
        assert now is not None
        assert now.body == each.body
        hours.append((now.fetched_at - T0).total_seconds() / 3600)
    assert hours == [0, -2, 2, 2]
