"""Pages of lists that are in memory; what a cursor is: `app/core/cursor.py`."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from app.core.cursor import Key, cursor_of, key_of
from app.web.admin.models.base import Page

PAGE_MAX = 200
_CURSOR_MAX_CHARS = 1600  # a URL has 2048 bytes at most
T = TypeVar("T")
M = TypeVar("M")

Cursor = Annotated[
    str | None, Query(max_length=_CURSOR_MAX_CHARS, description="`next_cursor` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


def page_from(rows: Sequence[M], key: Callable[[M], Key], limit: int) -> Page[M]:
    """Return one page of a list that the database holds.

    Args:
        rows: those that follow the page before, in order; one more than a page has, if there is.
        key: what orders them.
        limit: how many items a page has.
    """
    page = list(rows[:limit])
    more = cursor_of(key(page[-1])) if len(rows) > limit else None
    return Page(items=page, next_cursor=more)


def page_of(
    items: Sequence[T],
    key: Callable[[T], Key],
    render: Callable[[T], M],
    *,
    kinds: tuple[type, ...],
    cursor: str | None,
    limit: int,
) -> Page[M]:
    """Return one page of a list that is in memory, in the order of its keys.

    Args:
        items: all of them, in any order.
        key: what orders them; unique, made of whole numbers and texts.
        render: what is shown of an item.
        kinds: `int` or `str` for each part of a key.
        cursor: where the page before ended; None for the first.
        limit: how many items a page has.

    Raises:
        BadInputError: the cursor is not one of this list.
    """
    ordered = sorted(items, key=key)
    if cursor is not None:
        after = key_of(cursor, *kinds)
        ordered = [item for item in ordered if key(item) > after]
    page = ordered[:limit]
    more = cursor_of(key(page[-1])) if len(ordered) > limit else None
    return Page(items=[render(item) for item in page], next_cursor=more)
