"""The pages of docs/operations: every message that a table quotes is made of the program's texts.

A page writes "…" where the program puts a value in, or where the rest does not matter.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "operations").glob("*.md"))
QUOTED = re.compile(r'"([^"|]{12,})"')
VALUE = "…"
VALUES = re.compile(r"moorage\.db|a private address|\b00\d\d\b")
"""Values that a page writes out, since they are the usual ones."""
SERVERS = "canceling statement due to lock timeout"
"""What PostgreSQL says, and the program passes on."""


@cache
def texts() -> str:
    """Return all texts of the program, one a line, with "…" for the values in them."""
    lines = [
        _text_of(node)
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant | ast.JoinedStr)
    ]
    return "\n".join([*lines, SERVERS]).replace("`", "")


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    assert isinstance(node, ast.JoinedStr)
    return "".join(_text_of(p) if isinstance(p, ast.Constant) else VALUE for p in node.values)


def quotes(page: str) -> Iterator[str]:
    """Yield what the first cells of a page's tables quote."""
    for line in page.splitlines():
        if line.startswith("| "):
            yield from QUOTED.findall(line.split(" | ")[0])


def foreign_pieces(quote: str) -> list[str]:
    """Return the pieces of a quote, between values and colons, that no text of the program has."""
    pieces = [
        piece.strip(" .") for piece in re.split(r"…|: ", VALUES.sub(VALUE, quote).replace("`", ""))
    ]
    return [piece for piece in pieces if piece and piece not in texts()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_quoted_message_is_the_programs(page: Path) -> None:
    foreign = {quote: foreign_pieces(quote) for quote in quotes(page.read_text())}
    assert {quote: pieces for quote, pieces in foreign.items() if pieces} == {}


def test_a_message_that_the_program_does_not_have_is_noticed() -> None:
    page = '| 503 "the stored file was found broken …" | a | b |\n'
    assert [foreign_pieces(quote) for quote in quotes(page)] == [
        ["the stored file was found broken"]
    ]


def test_many_messages_are_looked_at() -> None:
    assert sum(len(list(quotes(page.read_text()))) for page in PAGES) > 25
