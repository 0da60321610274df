"""The page for people: pure, from a catalogue made by hand."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest

from app.core.digest import Digest
from app.core.gorelease import ReleaseFile, ReleaseFileKind
from app.core.releasefile import FileRecord, FileState, IndexStatus, RecordedVerdict
from app.services.releases.catalog import Catalog
from app.services.releases.policy import IngestionPolicy
from app.web.pages import downloads_page

AT = datetime(2026, 8, 28, 17, 1, 22, tzinfo=UTC)
DIGEST = Digest("ab" * 32)
VERDICT = RecordedVerdict(True, "good", "", None, None, AT, DIGEST, "2.2.40", AT)
STATUS = IndexStatus(AT, AT, "", DIGEST)
HOSTILE = "\"><script>alert(1)</script><img src=x onerror='x'>&amp;"


def record(
    filename: str, state: FileState, *, reason: str = "", signed: bool = False, listed: bool = True
) -> FileRecord:
    version = re.match(r"go[0-9]+(?:\.[0-9]+)*(?:rc[0-9]+)?", filename)
    assert version is not None
    file = ReleaseFile(
        filename, "linux", "amd64", version[0], DIGEST, 5_000_000, ReleaseFileKind.ARCHIVE
    )
    has_bytes = state not in (FileState.KNOWN, FileState.FETCHING)
    return FileRecord(
        file=file,
        stable="rc" not in version[0],
        listed=listed,
        state=state,
        reason=reason,
        has_bytes=has_bytes,
        damaged=False,
        index=DIGEST,
        first_seen_at=AT,
        ingested_at=AT if has_bytes else None,
        source_url=None,
        signature=b"signature" if signed else None,
        verdict=VERDICT if signed else None,
        toolchain=None,
    )


def page(
    *records: FileRecord,
    status: IndexStatus = STATUS,
    minors: tuple[str, ...] = ("1.99", "1.98"),
    on_demand: bool = True,
) -> str:
    policy = IngestionPolicy(frozenset({"zip", "tar.gz"}), on_demand=on_demand)
    by_name = {r.file.filename: r for r in records}
    return downloads_page(Catalog(1, by_name, status, policy, minors))


def row(html: str, name: str) -> str:
    """Return the item of a file in the list of its release, the last of its items."""
    items = [item for item in html.split("<li>") if re.search(rf">{re.escape(name)}<", item)]
    assert items
    return items[-1].split("</li>")[0]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


NAME = "go1.99.2.linux-amd64.tar.gz"
BADGES = [
    (FileState.VERIFIED, "verified", True),
    (FileState.SHA256_ONLY, "sha256-only", True),
    (FileState.KNOWN, "on demand", True),
    (FileState.FETCHING, "fetching", True),
    (FileState.PENDING_SIGNATURE, "pending-signature", False),
    (FileState.QUARANTINED, "quarantined", False),
]


def test_there_is_a_badge_for_every_state() -> None:
    assert {state for state, _, _ in BADGES} == set(FileState)


@pytest.mark.parametrize(("state", "badge", "linked"), BADGES)
def test_a_file_shows_its_state_and_is_linked_only_if_offered(
    state: FileState, badge: str, linked: bool
) -> None:
    shown = row(page(record(NAME, state)), NAME)
    assert f">{badge}</span>" in shown
    assert (f'href="{NAME}"' in shown) is linked
    assert DIGEST.hex in shown
    assert "4.8 MiB" in shown


def test_a_quarantined_file_shows_its_reason_and_no_link_at_all() -> None:
    shown = row(page(record(NAME, FileState.QUARANTINED, reason="unknown signing subkey")), NAME)
    assert "unknown signing subkey" in shown
    assert "href" not in shown


def test_a_file_that_is_not_fetched_on_demand_is_not_shown() -> None:
    known = record(NAME, FileState.KNOWN)
    assert NAME in page(known)
    assert NAME not in page(known, on_demand=False)
    assert NAME not in page(replace(known, listed=False))


def test_only_a_signed_file_links_to_a_signature() -> None:
    assert f'"{NAME}.asc"' in page(record(NAME, FileState.VERIFIED, signed=True))
    assert f'"{NAME}.asc"' not in page(record(NAME, FileState.SHA256_ONLY))


def test_what_comes_from_outside_is_escaped() -> None:
    broken = replace(STATUS, error=HOSTILE)
    html = page(record(NAME, FileState.QUARANTINED, reason=HOSTILE), status=broken)
    tags = Tags(html)
    assert not {"script", "img", "iframe", "object", "embed", "link"} & set(tags.names)
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert "<script" not in html


def test_the_page_works_without_javascript_and_loads_nothing() -> None:
    html = page(*(record(f"go1.99.{n}.linux-amd64.tar.gz", s) for n, s in enumerate(FileState)))
    tags = Tags(html)
    assert "script" not in tags.names
    values = [v or "" for name, v in tags.attributes if name in ("href", "src", "action")]
    assert values
    assert all(urlsplit(v).scheme == urlsplit(v).netloc == "" for v in values)


VERSIONS = ("go1.100rc1", "go1.99.2", "go1.99.1", "go1.98.5", "go1.97.9", "go1.9rc2")


def test_every_release_is_shown_once_and_release_candidates_come_last() -> None:
    html = page(*(record(f"{v}.linux-amd64.tar.gz", FileState.KNOWN) for v in VERSIONS))
    stable, _, early = html.partition('<h2 id="candidates">')
    releases = [re.findall(r'<ul class="files" id="([^"]+)">', part) for part in (stable, early)]
    assert releases == [list(VERSIONS[1:5]), ["go1.100rc1", "go1.9rc2"]]


def test_the_matrix_has_the_newest_patch_of_each_supported_minor_and_a_candidate_last() -> None:
    html = page(*(record(f"{v}.linux-amd64.tar.gz", FileState.KNOWN) for v in VERSIONS))
    columns = re.findall(r'<th scope="col"><a href="#([^"]+)">', html)
    assert columns == ["go1.99.2", "go1.98.5", "go1.100rc1"]


def of_platform(version: str, platform: str, kind: ReleaseFileKind, suffix: str) -> FileRecord:
    made = record(f"{version}.linux-amd64.tar.gz", FileState.VERIFIED)
    os, _, arch = ("", "", "") if platform == "src" else platform.partition("-")
    name = f"{version}.{platform}.{suffix}"
    return replace(made, file=replace(made.file, filename=name, os=os, arch=arch, kind=kind))


def test_the_newest_stable_release_for_the_usual_platforms_comes_first() -> None:
    archive, installer = ReleaseFileKind.ARCHIVE, ReleaseFileKind.INSTALLER
    html = page(
        record("go1.100rc1.linux-amd64.tar.gz", FileState.KNOWN),
        of_platform("go1.99.2", "aix-ppc64", archive, "tar.gz"),
        of_platform("go1.99.2", "src", ReleaseFileKind.SOURCE, "tar.gz"),
        of_platform("go1.99.2", "windows-amd64", installer, "msi"),
        of_platform("go1.99.2", "windows-amd64", archive, "zip"),
        of_platform("go1.99.2", "linux-amd64", archive, "tar.gz"),
        record("go1.99.1.linux-amd64.tar.gz", FileState.KNOWN),
    )
    first = html[html.index("<h2") : html.index('<h2 id="platforms">')]
    assert "go1.99.2, the newest stable release" in first
    assert re.findall(r"<b>([^<]+)</b> <a href=\"([^\"]+)", first) == [
        ("Linux, x86-64", "go1.99.2.linux-amd64.tar.gz"),
        ("Windows, x86-64", "go1.99.2.windows-amd64.zip"),
        ("Source", "go1.99.2.src.tar.gz"),
    ]


def test_without_a_stable_release_nothing_is_called_the_newest() -> None:
    html = page(record("go1.100rc1.linux-amd64.tar.gz", FileState.KNOWN))
    assert "newest stable" not in html
    assert 'id="candidates"' in html


SUPPORT = [("go1.99.2", "supported"), ("go1.97.9", "end-of-life"), ("go1.100rc1", "pre-release")]


@pytest.mark.parametrize(("version", "support"), SUPPORT)
def test_a_release_shows_its_support_status(version: str, support: str) -> None:
    html = page(record(f"{version}.linux-amd64.tar.gz", FileState.KNOWN))
    summary = re.search(r"<summary><strong>go.*?</summary>", html)
    assert summary is not None
    assert f">{support}</span>" in summary[0]


def test_an_empty_mirror_says_what_to_do() -> None:
    html = page(record(NAME, FileState.KNOWN), on_demand=False)
    assert "Nothing is offered yet" in html
    assert "moorage releases sync" in html
    assert 'href="go' not in html


def test_the_page_says_when_the_index_was_read_and_what_went_wrong_since() -> None:
    assert "read 2026-08-28 17:01 UTC" in page()
    assert "not read yet" in page(status=IndexStatus(None, None, "", None))
    assert "Last attempt failed: no route" in page(status=replace(STATUS, error="no route"))
