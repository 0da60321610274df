"""Rows of denials: counts add up, and no tenant has more rows of a day than it may."""

from datetime import date, timedelta

import pytest

from app.db.denials import OTHERS, Denial, DenialCount, DenialKey, DenialTable
from app.db.engine import Session
from tests.db.moments import T0, later

pytestmark = pytest.mark.both_shapes

DAY, NEXT = date(2026, 11, 23), date(2026, 11, 24)
X = Denial("acme", "t1", "example.com/x", "rule 7")
ONCE = DenialCount(1, T0, "r0")


def rows(session: Session, **by: object) -> list[tuple[date, Denial, DenialCount]]:
    asked = {"tenant": None, "token": None, "module": None, "since": None, "limit": 1000, **by}
    return DenialTable(session).of(**asked)


def test_counts_of_the_same_key_add_up_and_the_last_time_is_kept(session: Session) -> None:
    table = DenialTable(session)
    table.add(DAY, {X: DenialCount(2, T0, "r1")}, most=10)
    table.add(DAY, {X: DenialCount(3, later(seconds=5), "r2")}, most=10)
    assert rows(session) == [(DAY, X, DenialCount(5, later(seconds=5), "r2"))]
    table.add(DAY, {}, most=10)
    assert len(rows(session)) == 1


def test_what_has_no_row_of_its_own_is_counted_in_one_row(session: Session) -> None:
    table = DenialTable(session)
    many = {Denial("acme", "", f"m{n:02}.example", "default"): ONCE for n in range(7)}
    for _ in range(2):
        table.add(DAY, many, most=5)
        table.add(DAY, {Denial("globex", "", "a.example", "default"): ONCE}, most=5)
    of_acme = rows(session, tenant="acme")
    assert [(denial.module, count.count) for _, denial, count in of_acme] == [
        (OTHERS, 4),
        *((f"m{n:02}.example", 2) for n in range(5)),
    ]
    [(_, _, of_globex)] = rows(session, tenant="globex")
    assert of_globex.count == 2
    table.add(NEXT, many, most=5)
    assert len(rows(session, tenant="acme", since=NEXT)) == 6


def test_the_row_of_all_others_needs_no_free_row(session: Session) -> None:
    table = DenialTable(session)
    others = Denial("acme", module=OTHERS)
    table.add(DAY, {X: ONCE, others: DenialCount(9, T0, "r9")}, most=1)
    assert [(d.module, n.count) for _, d, n in rows(session)] == [(OTHERS, 9), (X.module, 1)]


ALL: list[tuple[date, Denial]] = [
    (NEXT, X),
    (DAY, Denial("acme", "", "example.com/x", "default")),
    (DAY, Denial("acme", "t1", "example.com/x", "rule 7")),
    (DAY, Denial("acme", "t1", "example.com/x", "rule 8")),
    (DAY, Denial("globex", "", "", "token")),
]


def filled(session: Session) -> None:
    for day, denial in reversed(ALL):
        DenialTable(session).add(day, {denial: ONCE}, most=10)


@pytest.mark.parametrize(
    ("by", "places"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"tenant": "acme"}, [0, 1, 2, 3]),
        ({"token": "t1"}, [0, 2, 3]),
        ({"module": "example.com/x", "since": NEXT}, [0]),
        ({"module": "example.com"}, []),
    ],
    ids=str,
)
def test_counts_are_found_by_what_is_asked_newest_day_first(
    session: Session, by: dict[str, object], places: list[int]
) -> None:
    filled(session)
    assert [(day, denial) for day, denial, _ in rows(session, **by)] == [ALL[p] for p in places]


def test_pages_are_in_the_order_of_the_whole_key(session: Session) -> None:
    filled(session)
    seen: list[tuple[date, Denial]] = []
    after: DenialKey | None = None
    while page := rows(session, limit=1, after=after):
        [(day, denial, _)] = page
        seen.append((day, denial))
        after = (day, denial.tenant, denial.token, denial.module, denial.rule)
    assert seen == ALL


def test_days_before_one_are_forgotten(session: Session) -> None:
    filled(session)
    DenialTable(session).forget(DAY)
    assert len(rows(session)) == 5
    DenialTable(session).forget(DAY + timedelta(days=1))
    assert [day for day, _, _ in rows(session)] == [NEXT]
