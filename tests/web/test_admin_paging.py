"""Pages of lists, and revisions: an If-Match that is no ETag of ours is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadInputError
from app.web.admin.models.base import Out, Page
from app.web.admin.paging import page_of
from app.web.admin.revisions import parse_if_match


class Word(Out):
    word: str


def page(words: list[str], cursor: str | None, limit: int) -> Page[Word]:
    return page_of(
        words, lambda w: (w,), lambda w: Word(word=w), kinds=(str,), cursor=cursor, limit=limit
    )


@given(st.sets(st.text("abc", max_size=3)), st.integers(1, 5))
def test_pages_together_are_the_list_in_its_order(words: set[str], limit: int) -> None:
    collected: list[str] = []
    cursor = None
    while True:
        one = page(list(words), cursor, limit)
        assert len(one.items) <= limit
        collected += [item.word for item in one.items]
        cursor = one.next_cursor
        if cursor is None:
            break
        assert len(one.items) == limit
    assert collected == sorted(words)


def test_a_page_begins_after_the_last_even_if_that_one_is_gone() -> None:
    first = page(["a", "b", "c", "d"], None, 2)
    then = page(["a", "bb", "c", "d"], first.next_cursor, 2)
    assert [item.word for item in then.items] == ["bb", "c"]
    with pytest.raises(BadInputError):
        page([], "nonsense", 2)


@pytest.mark.parametrize(
    ("value", "revision"), [(None, None), ("*", None), ('"3"', 3), (' "3" ', 3)]
)
def test_an_if_match_is_a_revision(value: str | None, revision: int | None) -> None:
    assert parse_if_match(value) == revision


@pytest.mark.parametrize(
    "value", ["", "3", '"3', '""', '"-3"', '"3", "4"', 'W/"3"', '"٣"', '"a"', f'"{"9" * 19}"', "**"]
)
def test_F98_an_if_match_that_is_no_etag_of_ours_is_refused(value: str) -> None:
    with pytest.raises(BadInputError):
        parse_if_match(value)
