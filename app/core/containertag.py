"""Paths, digests and tags of the container registry, by the grammar of OCI distribution-spec 1.1.

Not here: what the documents hold (`containerimage`), what a channel is at (`channel`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.core import goversion
from app.core.digest import Digest
from app.core.gorelease import Release, newest_first

NAME = "go"
"""The only repository."""

ROOT = "/v2/"
TOKEN_PATH = "/v2/token"  # noqa: S105 (a path)

_PATH = re.compile(
    r"/v2/(?P<name>.+?)/(?:(?P<kind>manifests|blobs|referrers)/(?P<rest>[^/]*)|tags/(?P<list>list))"
)
_UPLOAD = re.compile(r"/v2/.+?/blobs/uploads/.*")
_NAME = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


class RegistryCode(StrEnum):
    """Codes of errors in the registry's JSON."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    DENIED = "DENIED"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    TOO_MANY_REQUESTS = "TOOMANYREQUESTS"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"
    UNSUPPORTED = "UNSUPPORTED"


class RegistryError(Exception):
    """A request that the registry refuses, with the code for programs."""

    def __init__(self, status: int, code: RegistryCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class RegistryKind(StrEnum):
    """What a request is about."""

    PING = "ping"
    TOKEN = "token"  # noqa: S105 (a word)
    MANIFEST = "manifests"
    BLOB = "blobs"
    REFERRERS = "referrers"
    TAGS = "tags"


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """A parsed path: `digest` or `tag` is set where the kind has one."""

    kind: RegistryKind
    digest: Digest | None = None
    tag: str = ""


def parse_path(path: str) -> RegistryRequest:
    """Return what a path below /v2 asks for.

    Args:
        path: decoded.

    Raises:
        RegistryError: the path is malformed, or about what this registry does not have.
    """
    if path in ("/v2", ROOT):
        return RegistryRequest(RegistryKind.PING)
    if path == TOKEN_PATH:
        return RegistryRequest(RegistryKind.TOKEN)
    if _UPLOAD.fullmatch(path):
        raise RegistryError(405, RegistryCode.UNSUPPORTED, "this registry is for pulling only")
    match = _PATH.fullmatch(path)
    if match is None:
        raise RegistryError(
            404, RegistryCode.NAME_UNKNOWN, f"there is nothing here; pull {NAME}:<version>"
        )
    name = match["name"]
    if not _NAME.fullmatch(name):
        raise RegistryError(
            400, RegistryCode.NAME_INVALID, f"{name[:80]!a} can't be a repository's name"
        )
    if name != NAME:
        message = f"there is no repository {name[:80]}; the only one is {NAME}"
        raise RegistryError(404, RegistryCode.NAME_UNKNOWN, message)
    if match["list"]:
        return RegistryRequest(RegistryKind.TAGS)
    kind, rest = RegistryKind(match["kind"]), match["rest"]
    if kind is RegistryKind.MANIFEST and ":" not in rest:
        if not _TAG.fullmatch(rest):
            raise RegistryError(404, RegistryCode.MANIFEST_UNKNOWN, f"{rest[:80]!a} can't be a tag")
        return RegistryRequest(kind, tag=rest)
    return RegistryRequest(kind, digest=_parse_digest(rest, kind))


def _parse_digest(text: str, kind: RegistryKind) -> Digest:
    match = _SHA256.fullmatch(text)
    if match is not None:
        return Digest(match[1])
    if _DIGEST.fullmatch(text) and not text.startswith("sha256:"):
        is_blob = kind is RegistryKind.BLOB
        code = RegistryCode.BLOB_UNKNOWN if is_blob else RegistryCode.MANIFEST_UNKNOWN
        raise RegistryError(404, code, "digests here are of the algorithm sha256")
    message = f"{text[:80]!a} is not a digest: sha256:<64 hex>"
    raise RegistryError(400, RegistryCode.DIGEST_INVALID, message)


def release_tags(releases: Iterable[Release]) -> Mapping[str, str]:
    """Return releases by their tags: versions, and minors for the newest final release of each.

    ("go1.27.1", "go1.27.0") gives {"1.27.1": "go1.27.1", "1.27.0": "go1.27.0", "1.27": "go1.27.1"}.
    A release of before Go 1.21 that is named as its minor ("go1.20") gives the minor to "go1.20.1".
    """
    tags: dict[str, str] = {}
    ordered = newest_first(releases)
    for release in ordered:
        tags.setdefault(release.version.removeprefix("go"), release.version)
    minors: dict[str, str] = {}
    for release in ordered:
        if release.is_final:
            minors.setdefault(goversion.minor_of(release.version), release.version)
    return tags | minors
