"""The GOPROXY protocol's texts: request paths and lists. Follows golang.org/ref/mod and cmd/go.

Each request has one accepted path, once its percent-encoding is taken away (`urlpath`). Not here:
which versions a tenant may see (`acl`), the .info (`moduleinfo`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from app.core import module as modules
from app.core import pseudo, semver, urlpath
from app.core.errors import BadInputError, UnknownError
from app.core.moduleinfo import parse_time
from app.core.slices import sorted_in_slices

MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_GO_MOD_BYTES = 16 * 1024 * 1024
MAX_ELEMENTS = 100

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VERSION_LINE = re.compile(rb"^[ \t]*v[0-9]+(?:[.+-]\S*)?(?=\s|\Z)", re.MULTILINE)
_SLASH_IN_QUERY = re.compile(rb".*/@v/[^/]*%2f[^/]*\.info", re.IGNORECASE)


class RequestKind(StrEnum):
    """The kind of a request: its endpoint, and its form of answer."""

    LIST = "list"
    LATEST = "latest"
    INFO = "info"
    MOD = "mod"
    ZIP = "zip"


CONTENT_TYPES = {
    RequestKind.LIST: b"text/plain; charset=utf-8",
    RequestKind.LATEST: b"application/json",
    RequestKind.INFO: b"application/json",
    RequestKind.MOD: b"text/plain; charset=utf-8",
    RequestKind.ZIP: b"application/zip",
}


@dataclass(frozen=True, slots=True)
class GoproxyRequest:
    """A parsed request; module and version are in plain form.

    Attributes:
        version: for INFO a canonical version or a query ("master"), for MOD and ZIP a canonical
            version, else "".
    """

    module: str
    kind: RequestKind
    version: str = ""

    @property
    def is_query(self) -> bool:
        """Whether the version is a query, which upstream has to resolve."""
        return self.kind is RequestKind.INFO and not modules.is_canonical_for(
            self.module, self.version
        )

    def __str__(self) -> str:
        return f"{self.module}@{self.version}" if self.version else self.module


def decode_path(path: bytes) -> bytes:
    """Return the path of a URL with its percent-encoding taken away, once.

    Raises:
        BadInputError: it is malformed, or hides what must be plain; see `urlpath.decode`.
        UnknownError: it asks for a branch or tag with a slash.
    """
    if _SLASH_IN_QUERY.fullmatch(path):
        raise _slash_in_query()
    return urlpath.decode(path)


def parse_path(path: bytes) -> GoproxyRequest:
    """Return the request of a decoded path, the part of the URL after the proxy's base.

    b"github.com/!burnt!sushi/toml/@v/v1.4.0.zip" is the zip of github.com/BurntSushi/toml v1.4.0.

    Raises:
        BadInputError: the path is malformed; the message says what would be right.
        UnknownError: the path is well formed, but names no endpoint of the protocol.
    """
    text = _text(path)
    if text in ("@latest", "@v/list") or text.startswith("@v/"):
        raise UnknownError("there is no module path before the @; ask for <module>/@v/list")
    if text.count("/@v/") > 1:
        raise BadInputError("the path has more than one /@v/")
    if text.endswith("/@latest"):
        return GoproxyRequest(_module(text.removesuffix("/@latest")), RequestKind.LATEST)
    escaped_module, separator, rest = text.rpartition("/@v/")
    if not separator:
        raise UnknownError(
            "that is not a GOPROXY path; it ends in /@latest, /@v/list or /@v/<version>.info"
        )
    if rest == "list":
        return GoproxyRequest(_module(escaped_module), RequestKind.LIST)
    return _file(escaped_module, rest)


def _text(path: bytes) -> str:
    try:
        text = path.decode()
    except UnicodeDecodeError as error:
        raise BadInputError("the path is not UTF-8") from error
    if _CONTROL.search(text):
        raise BadInputError("the path has a control character")
    return text


def _slash_in_query() -> UnknownError:
    return UnknownError(
        "a branch or tag with a slash can't be asked for through a proxy; use its commit hash"
    )


def _module(escaped: str) -> str:
    if escaped.count("/") >= MAX_ELEMENTS:
        raise BadInputError(f"the module path has more than {MAX_ELEMENTS} elements")
    path = modules.unescape_path(escaped)
    modules.check_path(path)
    return path


def _file(escaped_module: str, rest: str) -> GoproxyRequest:
    escaped_version, dot, extension = rest.rpartition(".")
    if rest.endswith("/") and rest.rstrip("/") == "list":
        raise BadInputError("the path ends with a slash")
    if not dot or extension not in ("info", "mod", "zip"):
        raise UnknownError(f"there is no .{extension[:20]} of a version; ask for .info, .mod, .zip")
    if "/" in rest:
        if extension == "info" and not rest.startswith("/"):
            raise _slash_in_query()
        raise BadInputError("the version has a slash")
    path, kind = _module(escaped_module), RequestKind(extension)
    version = modules.unescape_version(escaped_version)
    if version.startswith("-"):
        raise BadInputError("a version can't begin with a dash")
    if kind is not RequestKind.INFO and not modules.is_canonical_for(path, version):
        raise BadInputError(
            f"{version[:80]} is not a canonical version of {path[:200]}; ask for its .info first"
        )
    return GoproxyRequest(path, kind, version)


def check_list(body: bytes) -> None:
    """Accept a body that is a list of versions, even if no version of it is canonical.

    An empty list is one: every tag may be gone.

    Raises:
        BadInputError: the body has bytes, but no line that begins with a version ("v1", "v1.0.0"):
            an error text, JSON, a login page.
    """
    if b"\0" in body or (body.strip() and not _VERSION_LINE.search(body)):
        raise BadInputError("it is not a list of versions")


def versions_of(body: bytes, module: str) -> list[str]:
    """Return the versions of a list that every client accepts, ascending and each once.

    These are canonical, fit the module path, and are not pseudo-versions. Others are dropped: `go`
    fails on "v9" or "v1.0.0+meta".

    Raises:
        BadInputError: the body is not a list, for example a login page.
    """
    if b"\0" in body or body.lstrip()[:1] == b"<":
        raise BadInputError("it is not a list of versions")
    versions = set()
    for line in body.decode("utf-8", "replace").splitlines():
        word = line.split(None, 1)[:1]
        if word and _is_listed(module, word[0]):
            versions.add(word[0])
    keyed = [(semver.sort_key(version), version) for version in versions]
    return [version for _, version in sorted_in_slices(keyed)]


def commits_of(body: bytes, module: str) -> list[str]:
    """Return the pseudo-versions of a list, the newest last, for a module without any tag.

    As in `go`, the second field of a line is the time ("v0.0.0-… 2024-01-02T03:04:05Z"). Without a
    second field, the time in the version counts.
    """
    times: dict[str, datetime] = {}
    for line in body.decode("utf-8", "replace").splitlines():
        version, *more = line.split(None, 2)[:2] or [""]
        if pseudo.is_pseudo(version) and modules.is_canonical_for(module, version):
            time = parse_time(more[0]) if more else pseudo.time_of(version)
            if time is not None:
                times[version] = time
    return sorted(times, key=lambda version: (times[version], version))


@lru_cache(4096)
def _is_listed(module: str, version: str) -> bool:
    return modules.is_canonical_for(module, version) and not pseudo.is_pseudo(version)


def render_list(versions: Iterable[str]) -> bytes:
    """Return the body of a list."""
    return "".join(f"{version}\n" for version in versions).encode()


def newest(versions: Iterable[str]) -> str | None:
    """Return the version that `go` calls latest: the highest release, else pre-release."""
    every = list(versions)
    releases = [v for v in every if not semver.prerelease(v)]
    return max(releases or every, key=semver.sort_key, default=None)
