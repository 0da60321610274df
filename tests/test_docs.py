"""The pages: every link in them that names a file of the repository, or a heading, leads to it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    *ROOT.glob("*.md"),
    *(page for folder in ("docs", "ansible", "charts") for page in (ROOT / folder).rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub forms them: "A full disk" is a-full-disk."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in page.read_text().splitlines()
        if line.startswith("#")
    }


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links in `text`, read as the text of `page`, that lead nowhere."""
    broken = []
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_every_link_between_pages_leads_to_a_page_and_a_heading() -> None:
    broken = {str(page): broken_links(page, page.read_text()) for page in PAGES}
    assert {page: links for page, links in broken.items() if links} == {}


def test_a_link_to_no_page_or_to_no_heading_is_noticed() -> None:
    page = ROOT / "README.md"
    text = "[a](docs/nothing.md) [b](docs/settings.md#nothing) [c](docs/settings.md) [d](#licence)"
    assert broken_links(page, text) == ["docs/nothing.md", "docs/settings.md#nothing"]
