"""docs/architecture.md: every file that it names exists, and every type is in its file."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
FILES = {path.name for part in ("app", "tests", "ansible") for path in (ROOT / part).rglob("*.py")}
GLOSSARY = PAGE.partition("## Glossary\n")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GLOSSARY.splitlines()
    if line.startswith("| ") and not line.startswith(("| word |", "| type |"))
]
TYPES = [row for row in ROWS if row[0].startswith("`")]


def test_the_glossary_has_words_and_types() -> None:
    assert len(ROWS) - len(TYPES) > 30
    assert len(TYPES) > 15


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_/]+\.py)`", GLOSSARY))))
def test_a_file_of_the_glossary_exists(path: str) -> None:
    assert (ROOT / "app" / path).is_file()


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row[0])
def test_a_type_of_the_glossary_is_defined_in_its_file(row: list[str]) -> None:
    [path] = re.findall(r"`([a-z_/]+\.py)`", row[2])
    source = (ROOT / "app" / path).read_text()
    for name in re.findall(r"`(\w+)`", row[0]):
        assert re.search(rf"^class {name}\b", source, re.MULTILINE), name


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b([a-z_]+\.py)\b", PAGE))))
def test_a_file_that_the_page_names_exists(name: str) -> None:
    assert name in FILES
