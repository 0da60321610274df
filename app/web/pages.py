"""The page for people at `/dl/`: version by platform, usable without JavaScript.

Everything from outside is escaped; the page loads nothing.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape

from app import __version__
from app.core.gorelease import ReleaseFileKind, Support
from app.core.releasefile import FileRecord, FileState
from app.core.size import human_bytes
from app.services.releases.catalog import Catalog

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--ok:#1a7f4b;--warn:#9a6700;--bad:#b42318}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:76rem;padding:1.5rem}
h1{margin:0 0 .2rem}h2{margin:2rem 0 .4rem}code,pre,.hash{font-family:ui-monospace,monospace}
pre{background:var(--soft);padding:.8rem 1rem;overflow-x:auto;border-radius:.4rem}
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;padding:.6rem 0}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);
vertical-align:top}td.n{text-align:right;white-space:nowrap}.hash{font-size:.78em;word-break:break-all}
.badge{border:1px solid;border-radius:1em;padding:0 .6em;font-size:.8em;white-space:nowrap}
.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}.dim{opacity:.7}
details{margin:.5rem 0}summary{cursor:pointer}.scroll{overflow-x:auto}footer{margin-top:3rem}
"""

_BADGES = {
    FileState.VERIFIED: ("ok", "verified", "size, SHA-256 and Google's signature were checked"),
    FileState.SHA256_ONLY: (
        "ok",
        "sha256-only",
        "size and SHA-256 were checked; not signed upstream",
    ),
    FileState.KNOWN: ("warn", "on demand", "fetched and checked when first asked for"),
    FileState.FETCHING: ("warn", "fetching", "being fetched and checked now"),
    FileState.PENDING_SIGNATURE: ("warn", "pending-signature", "held back until it is signed"),
    FileState.QUARANTINED: ("bad", "quarantined", "refused"),
}
_SUPPORT = {Support.SUPPORTED: "ok", Support.END_OF_LIFE: "bad", Support.PRERELEASE: "warn"}


def downloads_page(catalog: Catalog) -> bytes:
    """Return the page as UTF-8 HTML."""
    return "".join(_page(catalog)).encode()


def _page(catalog: Catalog) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Go downloads</title>'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield from _head(catalog)
    shown = dict(_groups(catalog))
    current = [v for v in shown if catalog.support(v) is not Support.END_OF_LIFE]
    newest = {_minor(v): v for v in reversed(current)}
    yield from _matrix(catalog, {v: r for v, r in shown.items() if v in newest.values()})
    for version in reversed(newest.values()):
        yield from _release(catalog, version, shown.pop(version), opened=True)
    if shown:
        yield "<h2>Other releases</h2>"
    for version, records in shown.items():
        yield from _release(catalog, version, records, opened=False)
    yield f'<footer class="dim">Moorage {escape(__version__)}</footer></body></html>\n'


def _head(catalog: Catalog) -> Iterator[str]:
    offered = catalog.offered
    here = sum(1 for r in offered if r.has_bytes)
    yield "<h1>Go downloads</h1>"
    yield (
        f"<p>{_count(len(offered), 'file')} offered, {here} of them stored here. Each is checked "
        "once, when it comes in: its size and SHA-256 against the release index and, where "
        "upstream signs it, Google's signature. Nothing goes out before that.</p>"
    )
    status = catalog.status
    read = f"read {_time(status.read_at)}" if status.read_at else "not read yet"
    yield f'<p class="dim">Release index: {read}.'
    if status.error:
        yield f' <span class="bad">Last attempt failed: {escape(status.error)}</span>'
    yield "</p>"
    if not offered:
        yield (
            "<p><strong>Nothing is offered yet.</strong> An administrator can run "
            "<code>moorage releases plan</code> to see what would be mirrored and "
            "<code>moorage releases sync</code> to fetch it.</p>"
        )
        return
    name = escape(next((r for r in offered if r.served), offered[0]).file.filename)
    yield (
        "<h2>Fetch and check</h2><pre>"
        "MIRROR=…   # the address of this page, up to and including /dl\n"
        f"curl -fO $MIRROR/{name}\n"
        f"curl -fO $MIRROR/{name}.sha256sum\n"
        f"sha256sum -c {name}.sha256sum</pre>"
        '<p>For programs: <a href="/dl/?mode=json&amp;include=all">index as JSON</a>, '
        '<a href="/dl/SHA256SUMS">SHA256SUMS</a>; each file also by its hash at '
        "<code>/dl/&lt;sha256&gt;</code>.</p>"
    )


def _matrix(catalog: Catalog, shown: dict[str, list[FileRecord]]) -> Iterator[str]:
    """Return version by platform, of the archives of the newest patches."""
    cells = {
        (version, f"{r.file.os}-{r.file.arch}"): r
        for version, records in shown.items()
        for r in records
        if r.file.kind is ReleaseFileKind.ARCHIVE
    }
    platforms = sorted({platform for _, platform in cells})
    if not platforms:
        return
    yield '<h2>At a glance</h2><div class="scroll"><table><thead><tr><th>'
    yield "".join(f"<th>{escape(platform)}" for platform in platforms) + "</tr></thead><tbody>"
    for version in shown:
        yield f'<tr><th><a href="#{escape(version)}">{escape(version)}</a>'
        yield "".join(f"<td>{_cell(catalog, cells.get((version, p)))}" for p in platforms)
        yield "</tr>"
    yield "</tbody></table></div>"


def _cell(catalog: Catalog, record: FileRecord | None) -> str:
    if record is None:
        return '<span class="dim">–</span>'
    tone, label, _ = _BADGES[record.state]
    if not catalog.offers(record):
        return f'<span class="badge {tone}">{label}</span>'
    name = escape(record.file.filename)
    return f'<a class="badge {tone}" href="/dl/{name}" title="{name}">{label}</a>'


def _groups(catalog: Catalog) -> Iterable[tuple[str, list[FileRecord]]]:
    groups: dict[str, list[FileRecord]] = {}
    for record in catalog.records.values():
        quarantined = record.state is FileState.QUARANTINED  # perhaps without its bytes
        if record.has_bytes or quarantined or catalog.offers(record):
            groups.setdefault(record.file.version, []).append(record)
    return groups.items()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2]).split("rc")[0].split("beta")[0]


def _release(
    catalog: Catalog, version: str, records: list[FileRecord], *, opened: bool
) -> Iterator[str]:
    support = catalog.support(version)
    badge = f'<span class="badge {_SUPPORT[support]}">{support}</span>'
    anchor = escape(version)
    yield f'<details id="{anchor}"{" open" if opened else ""}><summary><strong>{anchor}</strong> '
    yield f"{badge} <span class=dim>{_count(len(records), 'file')}</span></summary>"
    yield '<div class="scroll"><table><thead><tr><th>File<th>Kind<th>OS<th>Arch<th>Size'
    yield "<th>State<th>SHA-256</tr></thead><tbody>"
    for record in records:
        yield _row(catalog, record)
    yield "</tbody></table></div></details>"


def _row(catalog: Catalog, record: FileRecord) -> str:
    file = record.file
    name = escape(file.filename)
    link = f'<a href="/dl/{name}">{name}</a>' if catalog.offers(record) else name
    tone, label, meaning = _BADGES[record.state]
    state = f'<span class="badge {tone}" title="{meaning}">{label}</span>'
    if record.reason:
        state += f' <span class="dim">{escape(record.reason)}</span>'
    sums = ""
    if catalog.policy.serves(record):
        sums = f' <a href="/dl/{name}.sha256sum">sum</a>'
        if record.verdict is not None and record.verdict.accepted:
            sums += f' <a href="/dl/{name}.asc">signature</a>'
    return (
        f"<tr><td>{link}{sums}<td>{file.kind}<td>{escape(file.os)}<td>{escape(file.arch)}"
        f'<td class="n">{human_bytes(file.size_bytes)}<td>{state}'
        f'<td class="hash">{file.sha256 or "none in the index"}</tr>'
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
