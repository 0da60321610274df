"""Rows of usage: counts add up, and outlive what they name."""

from datetime import date

import pytest

from app.db.engine import Database, Session
from app.db.usage import Download, Usage
from tests.statements import watched

pytestmark = pytest.mark.both_shapes

DAY, NEXT = date(2026, 11, 23), date(2026, 11, 24)
X = Download(DAY, "acme", "t1", "example.com/x", "v1.0.0")
ALL = {
    X: 1,
    Download(DAY, "acme", "", "example.com/x", "v1.0.0"): 2,
    Download(DAY, "globex", "t2", "example.com/x", "v1.1.0"): 4,
    Download(NEXT, "acme", "t1", "example.com/y", "v1.0.0"): 8,
}


def of(session: Session, limit: int = 100, after: object = None, **by: object) -> list[int]:
    asked = {"module": None, "tenant": None, "version": None, "since": None, **by}
    return [n for _, n in Usage(session).of(limit=limit, after=after, **asked)]


def test_counts_of_the_same_key_add_up(session: Session) -> None:
    usage = Usage(session)
    usage.add({X: 2})
    usage.add({X: 3})
    assert of(session) == [5]
    assert usage.total() == 5


def test_counts_go_out_by_one_statement_however_many_there_are(
    database: Database, session: Session
) -> None:
    usage = Usage(session)
    with watched(database) as one:
        usage.add({X: 1})
    with watched(database) as many:
        usage.add(ALL)
    assert one.count == many.count == 1


def test_nothing_downloaded_is_0(session: Session) -> None:
    Usage(session).add({})
    assert (Usage(session).total(), of(session)) == (0, [])


@pytest.mark.parametrize(
    ("by", "counts"),
    [
        ({}, [2, 1, 4, 8]),
        ({"tenant": "acme"}, [2, 1, 8]),
        ({"module": "example.com/x"}, [2, 1, 4]),
        ({"module": "example.com"}, []),
        ({"version": "v1.0.0"}, [2, 1, 8]),
        ({"since": NEXT}, [8]),
        ({"tenant": "acme", "module": "example.com/x", "since": NEXT}, []),
    ],
    ids=str,
)
def test_counts_are_found_by_what_is_asked(
    session: Session, by: dict[str, object], counts: list[int]
) -> None:
    Usage(session).add(ALL)
    assert of(session, **by) == counts


def test_counts_are_pages_in_the_order_of_their_whole_key(session: Session) -> None:
    usage = Usage(session)
    usage.add(ALL)
    seen, after = [], None
    while page := usage.of(
        module=None, tenant=None, version=None, since=None, limit=1, after=after
    ):
        [(download, count)] = page
        seen.append(count)
        after = (download.day, download.tenant, download.token, download.module, download.version)
    assert seen == [2, 1, 4, 8]


def test_a_token_that_is_gone_is_not_marked(session: Session) -> None:
    Usage(session).mark_used({"0123456789abcdef": DAY})
