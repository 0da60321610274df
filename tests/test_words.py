"""Names of local variables: a variable says what it holds.

The six words below say how a value was obtained, not what it is. The check reads every local
variable, loop variable, `as` target and argument in app/, ansible/, tests/ and bench/. Functions,
methods and attributes may have these names, and so may what `from ... import` brings: hypothesis
has a decorator `given`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("app", "ansible", "tests", "bench")
VAGUE = {"found", "there", "told", "given", "wanted", "judged"}


_MENTIONED = re.compile("|".join(VAGUE))  # most files name none, and need no parsing


def vague_names(source: str) -> list[tuple[int, str]]:
    """Return (line number, name) of each vague name that the source binds, in line order."""
    if not _MENTIONED.search(source):
        return []
    return sorted(
        (node.lineno, name)
        for node in ast.walk(ast.parse(source))
        for name in _bound_by(node)
        if name in VAGUE
    )


def _bound_by(node: ast.AST) -> Iterator[str | None]:
    """Yield the variable names that one node of the syntax tree binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.arg(arg=name):
            yield name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            yield name
        case ast.MatchMapping(rest=name) | ast.alias(asname=name):
            yield name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_variable_has_a_vague_name(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in files
        for line, name in vague_names(file.read_text())
    ] == []


@pytest.mark.parametrize("name", sorted(VAGUE))
@pytest.mark.parametrize(
    "planted",
    [
        "{} = 1",
        "{}: int = 1",
        "{} += 1",
        "one, (*{}, two) = values",
        "if ({} := 1): pass",
        "for {} in (): pass",
        "[1 for {} in ()]",
        "with manager as {}: pass",
        "try: pass\nexcept ValueError as {}: pass",
        "def function({}): pass",
        "def function(*, {}=1): pass",
        "def function(*{}): pass",
        "async def function(**{}): pass",
        "lambda {}: 1",
        "import module as {}",
        "from module import name as {}",
        "match 1:\n case {}: pass",
        "match 1:\n case int() as {}: pass",
        "match 1:\n case [*{}]: pass",
        "match 1:\n case {{**{}}}: pass",
    ],
)
def test_the_check_sees_a_planted_name(planted: str, name: str) -> None:
    source = "import module\n" + planted.format(name)
    assert [seen for _, seen in vague_names(source)] == [name]


def test_the_check_names_the_line() -> None:
    assert vague_names("def function():\n\n    told = 1\n") == [(3, "told")]


@pytest.mark.parametrize(
    "source",
    [
        "from hypothesis import given",
        "@given(1)\ndef function(): pass",
        "class Port:\n def there(self): pass",
        "error.told = 1",
        "print(found)",
        "text = 'wanted'",
    ],
)
def test_what_binds_no_variable_may_have_any_name(source: str) -> None:
    assert vague_names(source) == []
