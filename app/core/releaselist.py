"""The list of releases in the forms of other places: Go's VERSION, its history, its repository.

Sources: go.dev/VERSION, golang.org/x/website internal/history/release.go as Renovate's datasource
golang-version reads it, git's Documentation/gitprotocol-http. Not here: go.dev's JSON
(`releaseindex`).
"""

from collections.abc import Iterable, Mapping
from datetime import date
from hashlib import sha256

from app.core.gorelease import Release, newest_first, newest_supported
from app.core.goversion import GoVersion, from_name
from app.core.ownrelease import is_own

_ID_CHARS = 40
_CAPABILITIES = b"object-format=sha1 agent=moorage"


def render_version(releases: Iterable[Release], times: Mapping[str, str]) -> bytes | None:
    """Return the newest stable release as go.dev/VERSION?m=text has it, or None without a release.

    "go1.27.1", then "time 2026-09-02T16:08:31Z" if times has the release; each on a line.

    Args:
        releases: in any order.
        times: by release, the time in the VERSION file of its archives, RFC 3339.
    """
    newest = newest_supported(releases)
    if not newest:
        return None
    version = newest[0].version
    lines = [version, *([f"time {times[version]}"] if version in times else [])]
    return "".join(f"{line}\n" for line in lines).encode()


def render_history(releases: Iterable[Release], dates: Mapping[str, date]) -> bytes:
    """Return the final releases as a Go file in the form of internal/history/release.go.

    Each is four lines, with tabs: "{", "Date: Date{2026, 9, 2},", "Version: Version{1, 27, 1},"
    and "},". Renovate compares the first and the last line exactly.

    Args:
        releases: in any order; the result has the newest first.
        dates: by release.
    """
    lines = ["package history\n\n", "var Releases = []*Release{\n"]
    for release in newest_first(releases):
        version = GoVersion.parse(from_name(release.version)) if release.is_final else None
        if version is None or not version.patch:
            continue
        day = dates[release.version]
        lines.append(
            f"\t{{\n\t\tDate: Date{{{day.year}, {day.month}, {day.day}}},\n"
            f"\t\tVersion: Version{{{version.major}, {version.minor}, {version.patch}}},\n\t}},\n"
        )
    return "".join([*lines, "}\n"]).encode()


def render_refs(releases: Iterable[Release], *, smart: bool) -> bytes:
    """Return the releases as tags of a git repository, the answer to GET …/info/refs.

    `git ls-remote` reads either form. The object ids are no ids of Go's repository: an index does
    not have these. A release has the same id always, and nothing can be fetched by an id.

    Args:
        releases: in any order; the result is sorted by tag. Own releases are left out: programs
            that look for the newest tag of Go read this.
        smart: the form for `?service=git-upload-pack`, protocol version 0, else the plain form.
    """
    tags = sorted(r.version.encode() for r in releases if not is_own(r.version))
    refs = [_object_id(tag) + (b" " if smart else b"\t") + b"refs/tags/" + tag for tag in tags]
    if not smart:
        return b"".join(ref + b"\n" for ref in refs)
    if not refs:
        refs = [b"0" * _ID_CHARS + b" capabilities^{}"]
    refs[0] += b"\0" + _CAPABILITIES
    packets = b"".join(_packet(ref + b"\n") for ref in refs)
    return _packet(b"# service=git-upload-pack\n") + b"0000" + packets + b"0000"


def _object_id(tag: bytes) -> bytes:
    return sha256(b"moorage release " + tag).hexdigest()[:_ID_CHARS].encode()


def _packet(line: bytes) -> bytes:
    """Return a pkt-line: four hexadecimal digits of the whole length, then the line."""
    return b"%04x" % (len(line) + 4) + line
