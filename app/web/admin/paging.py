"""Pages of lists: a cursor says where the page before ended, and means nothing else to clients.

A cursor is URL-safe base64, without padding, of the JSON array that is the last item's key. It
stays good while items come and go: the next page begins after that key, wherever it would be now.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from app.core.errors import BadInputError
from app.web.admin.models.base import Page

PAGE_MAX = 200
_CURSOR_MAX_CHARS = 1600  # a URL has 2048 bytes at most
T = TypeVar("T")
M = TypeVar("M")
Key = tuple[int | str, ...]

Cursor = Annotated[
    str | None, Query(max_length=_CURSOR_MAX_CHARS, description="`next_cursor` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


def cursor_of(key: Key) -> str:
    """Return the cursor that stands for a key: (3,) gives "WzNd"."""
    text = json.dumps(key, separators=(",", ":"), ensure_ascii=True)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def key_of(cursor: str, *kinds: type) -> Key:
    """Return the key that a cursor stands for.

    Args:
        cursor: as a client sent it.
        *kinds: `int` or `str` for each part of the key.

    Raises:
        BadInputError: it is no cursor of a list with such keys.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found: Any = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _not_a_cursor() from error
    if not isinstance(found, list) or [type(part) for part in found] != list(kinds):
        raise _not_a_cursor()
    if not all(_is_fit(part) for part in found) or cursor_of(tuple(found)) != cursor:
        raise _not_a_cursor()
    return tuple(found)


def _is_fit(part: int | str) -> bool:
    """Whether a database takes it: no lone surrogate, no NUL, no number beyond 63 bits."""
    return part.isprintable() if isinstance(part, str) else 0 <= part < 1 << 63


def _not_a_cursor() -> BadInputError:
    return BadInputError("that is not a cursor of this list; take `next_cursor` as it was given")


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
