"""Cursors of lists: where a page ended. A cursor means nothing else to clients.

A cursor is URL-safe base64, without padding, of the JSON array that is the last item's key. It
stays good while items come and go: the next page begins after that key, wherever it would be now.
"""

import base64
import binascii
import json
from typing import Any

from app.core.errors import BadInputError

Key = tuple[int | str, ...]


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
        key: Any = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _not_a_cursor() from error
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise _not_a_cursor()
    if not all(_is_fit(part) for part in key) or cursor_of(tuple(key)) != cursor:
        raise _not_a_cursor()
    return tuple(key)


def _is_fit(part: int | str) -> bool:
    """Whether a database takes it: no lone surrogate, no NUL, no number beyond 63 bits."""
    return part.isprintable() if isinstance(part, str) else 0 <= part < 1 << 63


def _not_a_cursor() -> BadInputError:
    return BadInputError("that is not a cursor of this list; take `next_cursor` as it was given")
