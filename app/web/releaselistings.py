"""Answers about every offered release: sums, VERSION, history, git's refs, JSON, the page.

While no release index was ever read, own releases are all that can be offered. The page shows them
and says what is missing. What programs read has no place for that, and a list without the releases
of go.dev says to them that there are none: it is an error, except the JSON of own releases alone.
Rendering is work for a thread: an index may have many files.
"""

from app.core.channel import Revision
from app.core.errors import MoorageError, UnknownError
from app.core.gorelease import newest_supported
from app.core.goversion import minor_of
from app.core.releaseindex import render_index
from app.core.releaselist import render_history, render_refs, render_version
from app.services.releases.catalog import Catalog
from app.web.channelfiles import (
    introduction,
)
from app.web.downloadrequest import HISTORY, REFS, SUMS, VERSION, DownloadRequest
from app.web.pages import downloads_page
from app.web.pageshell import page_answer
from app.web.responses import (
    LISTING,
    NO_STORE,
    TEXT,
    Answer,
    error_answer,
    text_answer,
)

_SMART_TYPE = b"application/x-git-upload-pack-advertisement"
_OWN_ADVICE = (
    "public releases can't be listed, since their index was never read; own releases alone: "
    "/dl/?mode=json&include=own; the reason: "
)


def needs_index(catalog: Catalog, request: DownloadRequest, revision: Revision | None) -> bool:
    """Whether a request for a list has to wait until the first index is read.

    People who look at own releases do not wait for an upstream that was away a moment ago, perhaps
    for the time that a firewall lets it take: the leader tries again every minute.
    """
    if revision is not None or request.only_own:
        return False
    return not (request.is_page and catalog.own_releases and catalog.status.error)


def unread_answer(request: DownloadRequest, error: MoorageError, catalog: Catalog) -> Answer | None:
    """Return the answer to a request for a list while the release index can't be read.

    None if own releases are an honest answer: to the page, which says that the others are missing.

    Args:
        request: for a list of all releases.
        error: why the index, which was never read, can't be read now.
        catalog: has own releases at most.
    """
    if not catalog.own_releases:
        return error_answer(error, with_upstream_text=False)
    if request.is_page:
        return None
    return error_answer(error, with_upstream_text=False, advice=_OWN_ADVICE)


def listing_answer(catalog: Catalog, request: DownloadRequest, revision: Revision | None) -> Answer:
    """Return the answer about every offered file, of a channel's revision or of all releases.

    Raises:
        UnknownError: VERSION is asked for, and no stable release is offered.
    """
    if revision is not None:
        catalog = catalog.restricted(revision.versions)
    if request.name == SUMS:
        lines = [f"{r.file.sha256}  {r.file.filename}\n" for r in catalog.offered]
        return text_answer("".join(lines).encode(), TEXT, LISTING)
    if request.name == VERSION:
        is_meant = (
            r for r in catalog.releases if revision is None or r.version == revision.current
        )
        version = render_version(tuple(is_meant), _times(catalog))
        if version is None:
            raise UnknownError("no stable release is offered here; see /dl/")
        return text_answer(version, TEXT, LISTING)
    if request.name == HISTORY:
        seen = sorted(catalog.offered, key=lambda r: r.first_seen_at, reverse=True)
        dates = {r.file.version: r.first_seen_at.date() for r in seen}  # the earliest stays
        return text_answer(render_history(catalog.releases, dates), TEXT, LISTING)
    if request.name == REFS:
        refs = render_refs(catalog.releases, smart=request.smart)
        return text_answer(refs, _SMART_TYPE if request.smart else TEXT, LISTING)
    if not request.as_json:
        if revision is None and catalog.status.read_at is None:
            return page_answer(downloads_page(catalog, is_partial=True), NO_STORE)
        intro = "" if revision is None else introduction(revision)
        return page_answer(downloads_page(catalog, intro), LISTING)
    releases = catalog.own_releases if request.only_own else catalog.releases
    # A channel is short, and somebody chose each of its releases.
    if not (request.include_all or request.only_own or revision is not None):
        supported = (r for r in releases if minor_of(r.version) in catalog.minors)
        releases = newest_supported(supported)
    cors = (b"access-control-allow-origin", b"*")
    return text_answer(render_index(releases), b"application/json", LISTING, cors)


def _times(catalog: Catalog) -> dict[str, str]:
    """Return the times of releases of which an archive is stored."""
    toolchains = ((r.file.version, r.toolchain) for r in catalog.offered)
    return {version: t.time for version, t in toolchains if t is not None and t.time}
