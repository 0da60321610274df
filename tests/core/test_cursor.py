"""Cursors: what is not one that we gave is refused."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.cursor import Key, cursor_of, key_of
from app.core.errors import BadInputError


def encoded(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(st.integers(0, 2**63 - 1), st.text(st.characters(exclude_categories=("C", "Z"))))
def test_a_cursor_gives_back_its_key(number: int, text: str) -> None:
    cursor = cursor_of((number, text))
    assert key_of(cursor, int, str) == (number, text)
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "WzNd=",
        "WzNd\n",
        " WzNd",
        "WzNe",  # the bits that base64 leaves over are not zero
        encoded(3),
        encoded([]),
        encoded([3, 3]),
        encoded(["3"]),
        encoded([3.0]),
        encoded([True]),
        encoded([None]),
        encoded([-1]),
        encoded([2**63]),
        encoded({"a": 1}),
        base64.urlsafe_b64encode(b"[ 3 ]").decode().rstrip("="),
        base64.urlsafe_b64encode(b"[" * 2000).decode().rstrip("="),
        base64.urlsafe_b64encode(b"[NaN]").decode().rstrip("="),
        base64.urlsafe_b64encode(b"[" + b"9" * 1500 + b"]").decode().rstrip("="),
        base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("="),
        "é",
        "\ud800",
    ],
)
def test_F98_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadInputError):
        key_of(cursor, int)


@pytest.mark.parametrize("text", ["\0", "a\nb", "\ud800"])
def test_F98_a_cursor_holds_nothing_that_a_database_chokes_on(text: str) -> None:
    with pytest.raises(BadInputError):
        key_of(encoded([text]), str)


@given(st.data())
def test_every_changed_character_of_a_cursor_is_another_key_or_refused(data: Any) -> None:
    cursor = cursor_of((12345, "corp.example/x"))
    at = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:at] + data.draw(st.characters(codec="ascii")) + cursor[at + 1 :]
    try:
        key: Key | None = key_of(changed, int, str)
    except BadInputError:
        key = None
    assert changed == cursor or key != (12345, "corp.example/x")
