"""What a path below `/dl/` or `/go/` asks for: a listing, a file, or what stands beside a file.

Not here: the answers (`downloads.py`, `releaselistings.py`).
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from app.core.errors import BadInputError, UnknownError
from app.core.gorelease import parse_filename
from app.core.urlpath import decode
from app.web.channelfiles import (
    TEXTS,
    split_path,
)
from app.web.derivedfiles import KINDS

SUMS = "SHA256SUMS"
VERSION = "VERSION"
HISTORY = "HEAD/internal/history/release.go"
REFS = "go.git/info/refs"
ROOT_LISTS = (b"/VERSION", b"/HEAD/internal/history/release.go")
"""Lists that are also at the root, as on go.dev and for Renovate."""

_LISTS = {name.encode(): name for name in (SUMS, VERSION, HISTORY, REFS)}
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ROOT = re.compile(rb"/(?:(?:dl|go)/+)?")
_NAME = re.compile(rb"/(?:dl|go)/+([0-9A-Za-z._-]*)")
_EXTRAS = (".sha256sum", ".sha256", ".asc", *sorted(KINDS, key=len, reverse=True))
SMART_QUERY = b"service=git-upload-pack"


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """A parsed request.

    Attributes:
        channel: the channel that the answer is restricted to; "" for none.
        name: "" for the listing, else what follows `/dl/`, without the extra.
        extra: "", ".sha256", ".sha256sum", ".asc", or that of a derived file: ".tree".
        as_json: the listing in go.dev's format.
        include_all: all releases, not only the newest of each supported minor.
        only_own: the JSON of own releases alone, which needs no release index.
        smart: the tags in the form of git's smart protocol.
    """

    name: str
    extra: str = ""
    as_json: bool = False
    include_all: bool = False
    only_own: bool = False
    smart: bool = False
    channel: str = ""

    @property
    def is_listing(self) -> bool:
        """Whether it is about every offered file."""
        return not self.name or self.name in _LISTS.values()

    @property
    def is_page(self) -> bool:
        """Whether it is about the page for people."""
        return not self.name and not self.as_json

    @property
    def is_text_of_channel(self) -> bool:
        """Whether it is about the channel itself."""
        return bool(self.channel) and self.name in TEXTS


def parse_request(path: bytes, query: bytes) -> DownloadRequest | None:
    """Return the request that a path below /dl/ or /go/ makes.

    None stands for `/dl/channels/<channel>`, which lacks its last slash.

    Raises:
        BadInputError: the path holds what no name here can hold.
        UnknownError: the name is outside the grammar of Go's file names.
    """
    path = decode(path)
    of_channel = split_path(path)
    if of_channel is None:
        return _parse(path, query)
    channel, rest = of_channel
    if not rest:
        return None
    name = rest.rpartition(b"/")[2].decode("ascii", "ignore")
    if name in TEXTS and rest.count(b"/") == 2:
        return DownloadRequest(name, channel=channel)
    return replace(_parse(rest, query), channel=channel)


def _parse(path: bytes, query: bytes) -> DownloadRequest:
    root = _ROOT.match(path)
    name = _LISTS.get(path[root.end() :]) if root else None
    if name is not None:
        return DownloadRequest(name, smart=name == REFS and query == SMART_QUERY)
    match = _NAME.fullmatch(path)
    if match is None:
        if b"\\" in path or b"//" in path or b"/../" in path + b"/":
            raise BadInputError(
                "malformed path; names are plain, for example /dl/go1.27.1.src.tar.gz"
            )
        raise UnknownError("there is nothing of that name here; see /dl/ for what there is")
    name = match.group(1).decode("ascii")
    if not name:
        return _listing_request(query)
    extra = next((e for e in _EXTRAS if name.endswith(e)), "")
    base = name.removesuffix(extra)
    if base in _LISTS.values() or SHA256.fullmatch(base):
        if extra:
            raise UnknownError(f"there is no {name}; see /dl/ for what there is")
        return DownloadRequest(base)
    try:
        parse_filename(base)
    except BadInputError as error:
        raise UnknownError(
            f"{name[:100]} is not the name of a Go release file; see /dl/ for the names there are"
        ) from error
    return DownloadRequest(base, extra)


def _listing_request(query: bytes) -> DownloadRequest:
    try:
        fields = parse_qs(query.decode("ascii", "ignore"), max_num_fields=16)
    except ValueError as error:
        raise BadInputError("the query has more than 16 fields") from error
    as_json, include = fields.get("mode") == ["json"], fields.get("include")
    return DownloadRequest(
        "",
        as_json=as_json,
        include_all=include == ["all"],
        only_own=as_json and include == ["own"],
    )
