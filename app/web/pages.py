"""The page for people at `/dl/`: what most people want first, then everything by release.

Everything from outside is escaped. The frame and the stylesheet are in `pageshell`.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape

from app.core.gorelease import ReleaseFile, ReleaseFileKind, Support, newest_supported
from app.core.goversion import is_prerelease, minor_of
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord, FileState, IndexStatus
from app.core.size import human_bytes
from app.services.releases.catalog import Catalog
from app.web.pageshell import page

_USUAL = {
    ("linux", "amd64"): "Linux, x86-64",
    ("linux", "arm64"): "Linux, ARM64",
    ("darwin", "arm64"): "macOS, Apple silicon",
    ("darwin", "amd64"): "macOS, Intel",
    ("windows", "amd64"): "Windows, x86-64",
    ("windows", "arm64"): "Windows, ARM64",
    ("", ""): "Source",
}
_BADGES = {
    FileState.VERIFIED: (
        "ok",
        "verified",
        "size, SHA-256 and signature were checked: Google's, or that of an own release",
    ),
    FileState.SHA256_ONLY: (
        "ok",
        "sha256-only",
        "size and SHA-256 were checked; it has no signature",
    ),
    FileState.KNOWN: ("warn", "on demand", "fetched and checked when first asked for"),
    FileState.FETCHING: ("warn", "fetching", "being fetched and checked now"),
    FileState.PENDING_SIGNATURE: ("warn", "pending-signature", "held back until it is signed"),
    FileState.QUARANTINED: ("bad", "quarantined", "refused"),
}
_SUPPORT = {
    Support.SUPPORTED: "ok",
    Support.END_OF_LIFE: "bad",
    Support.PRERELEASE: "warn",
    Support.OWN: "warn",
}
_Groups = dict[str, list[FileRecord]]


def downloads_page(catalog: Catalog, intro: str = "", *, is_partial: bool = False) -> str:
    """Return the page as HTML.

    Args:
        catalog: what the page shows; links are relative to the page's own URL.
        intro: HTML before all else.
        is_partial: no release index was ever read: there are own releases at most.
    """
    return page("Go downloads", "/dl/", [intro, *_body(catalog, is_partial=is_partial)])


def index_state(status: IndexStatus) -> str:
    """Return HTML that says when the release index was read, and why the last attempt failed."""
    text = f"read {_time(status.read_at)}" if status.read_at else "not read yet"
    if status.error:
        text += f'. <span class="bad">Last attempt failed: {escape(status.error)}</span>'
    return text


def _body(catalog: Catalog, *, is_partial: bool) -> Iterator[str]:
    yield from _missing(catalog.status) if is_partial else _head(catalog)
    shown = _groups(catalog)
    own = {version: shown.pop(version) for version in list(shown) if is_own(version)}
    yield from _newest(catalog, shown)
    early = {version: shown.pop(version) for version in list(shown) if is_prerelease(version)}
    yield from _matrix(catalog, shown, early)
    if shown:
        yield '<h2 id="releases">Releases</h2>'
        yield from _releases(catalog, shown)
    if early:
        yield '<h2 id="candidates">Release candidates and betas</h2>'
        yield from _releases(catalog, early)
    if own:
        yield (
            '<h2 id="own">Own releases</h2><p>Published here, and not by the Go project: checked '
            "against keys of this company's own. No public checksum database knows them. For "
            'programs: <a href="?mode=json&amp;include=own">these as JSON</a>.</p>'
        )
        yield from _releases(catalog, own)
    if shown or early or own:
        yield '<h2 id="words">What the words mean</h2><dl class="facts">'
        for tone, label, meaning in _BADGES.values():
            yield f"<dt>{_badge(tone, label)}</dt><dd>{meaning}</dd>"
        yield "</dl>"


def _missing(status: IndexStatus) -> Iterator[str]:
    yield (
        '<p class="bad"><strong>The releases of the Go project are missing on this page.</strong> '
        "Their index was never read here; which of them there are is not known. This page shows "
        "what this company has published itself.</p>"
        f'<p class="dim">Release index: {index_state(status)}</p>'
        "<p>Lists of all releases, which programs read, are an error until the index is read.</p>"
    )


def _head(catalog: Catalog) -> Iterator[str]:
    offered = catalog.offered
    stored = sum(1 for r in offered if r.has_bytes)
    yield (
        f"<p>{_count(len(offered), 'file')} offered, {stored} of them stored here. Each is checked "
        "once, when it comes in: its size and SHA-256 against the release index and, where "
        "upstream signs it, Google's signature. Nothing goes out before that.</p>"
        f'<p class="dim">Release index: {index_state(catalog.status)}</p>'
    )
    if not offered:
        yield (
            "<p><strong>Nothing is offered yet.</strong> An administrator can run "
            "<code>moorage releases plan</code> to see what would be mirrored and "
            "<code>moorage releases sync</code> to fetch it.</p>"
        )
        return
    yield (
        '<p><a href="/#toolchains">Set me up</a> has the commands that fetch, check and install. '
        'For programs: the <a href="?mode=json&amp;include=all">index as JSON</a>, '
        '<a href="SHA256SUMS">SHA256SUMS</a>; each file also by its hash at '
        "<code>/dl/&lt;sha256&gt;</code>.</p>"
    )


def _newest(catalog: Catalog, shown: _Groups) -> Iterator[str]:
    """Return the files of the newest stable release that most people want."""
    release = next(iter(newest_supported(catalog.releases)), None)
    if release is None:
        return
    by_platform = {
        (r.file.os, r.file.arch): r for r in reversed(shown[release.version]) if _is_usual(r.file)
    }
    usual = [(name, by_platform[p]) for p, name in _USUAL.items() if p in by_platform]
    if usual:
        yield f'<h2 id="newest">{escape(release.version)}, the newest stable release</h2>'
        yield '<ul class="files usual">'
        for name, record in usual:
            yield _item(catalog, record, f"<b>{name}</b> ", has_platform=False)
        yield "</ul>"


def _is_usual(file: ReleaseFile) -> bool:
    return file.kind is not ReleaseFileKind.INSTALLER


def _matrix(catalog: Catalog, stable: _Groups, early: _Groups) -> Iterator[str]:
    """Return platform by version, of the archives of the newest patch of each supported minor."""
    groups = [(v, r) for g in (stable, early) for v, r in g.items()]
    current = [(v, r) for v, r in groups if catalog.support(v) is not Support.END_OF_LIFE]
    newest = {minor_of(v): (v, r) for v, r in reversed(current)}
    columns = list(reversed(newest.values()))
    cells = {
        (f"{r.file.os}-{r.file.arch}", version): r
        for version, records in columns
        for r in records
        if r.file.kind is ReleaseFileKind.ARCHIVE
    }
    platforms = sorted({platform for platform, _ in cells})
    if not platforms:
        return
    yield '<h2 id="platforms">By platform</h2><div class="scroll" tabindex="0"><table><thead><tr>'
    yield '<th scope="col">Platform</th>'
    for version, _ in columns:
        name = escape(version)
        yield f'<th scope="col"><a href="#{name}">{name}</a></th>'
    yield "</tr></thead><tbody>"
    for platform in platforms:
        yield f'<tr><th scope="row">{escape(platform)}</th>'
        yield "".join(f"<td>{_cell(catalog, cells.get((platform, v)))}</td>" for v, _ in columns)
        yield "</tr>"
    yield "</tbody></table></div>"


def _cell(catalog: Catalog, record: FileRecord | None) -> str:
    if record is None:
        return '<span class="dim">–</span>'
    tone, label, _ = _BADGES[record.state]
    if not catalog.offers(record):
        return _badge(tone, label)
    return f'<a href="{escape(record.file.filename)}">{label}</a>'


def _groups(catalog: Catalog) -> _Groups:
    groups: _Groups = {}
    for record in catalog.records.values():
        quarantined = record.state is FileState.QUARANTINED  # perhaps without its bytes
        is_shown = record.has_bytes or quarantined or catalog.offers(record)
        if is_shown and record.withdrawal is None:
            groups.setdefault(record.file.version, []).append(record)
    return groups


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _badge(tone: str, label: str) -> str:
    return f'<span class="badge {tone}">{label}</span>'


def _releases(catalog: Catalog, groups: _Groups) -> Iterator[str]:
    for version, records in groups.items():
        yield from _release(catalog, version, records)


def _release(catalog: Catalog, version: str, records: Sequence[FileRecord]) -> Iterator[str]:
    """Return a folded release; a link to its name unfolds it, since the name is inside."""
    support = catalog.support(version)
    name = escape(version)
    yield f"<details><summary><strong>{name}</strong> {_badge(_SUPPORT[support], support)} "
    yield f'<span class="dim">{_count(len(records), "file")}</span></summary>'
    yield f'<ul class="files" id="{name}">'
    yield from _items(catalog, records)
    yield "</ul></details>"


def _items(catalog: Catalog, records: Iterable[FileRecord]) -> Iterator[str]:
    for record in records:
        yield _item(catalog, record, "", has_platform=True)


def _item(catalog: Catalog, record: FileRecord, label: str, *, has_platform: bool) -> str:
    file = record.file
    name = escape(file.filename)
    link = f'<a href="{name}">{name}</a>' if catalog.offers(record) else f"<b>{name}</b>"
    about = human_bytes(file.size_bytes)
    if has_platform:
        kind = "" if file.kind is ReleaseFileKind.ARCHIVE else str(file.kind)
        platform = escape(f"{file.os}/{file.arch}".strip("/"))
        about = " · ".join(filter(None, (kind, platform, about)))
    tone, state, _ = _BADGES[record.state]
    reason = f' <span class="dim">{escape(record.reason)}</span>' if record.reason else ""
    sums = ""
    if catalog.policy.serves(record):
        sums = f' <span class="sums"><a href="{name}.sha256sum">.sha256sum</a>'
        if record.verdict is not None and record.verdict.accepted:
            sums += f'<a href="{name}.asc">.asc</a>'
        sums += "</span>"
    return (
        f'<li>{label}{link} <span class="dim">{about}</span> {_badge(tone, state)}{reason}{sums}'
        f'<code class="hash">{file.sha256 or "no SHA-256 in the index"}</code></li>'
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
