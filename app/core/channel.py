"""Channels: names under which nodes and CI follow a choice of releases, and their manifests.

A channel's choice is a revision, which never changes; its number only grows. A manifest is a
revision with the files of its releases, in the text that is signed:

    moorage channel 1
    {"channel":"stable","current":"go1.23.1","expires_at":"2026-12-11T00:00:00Z",…}

The second line is canonical JSON (sorted keys, no spaces, UTF-8). Parsing is strict by printing
back: each manifest has one text.

Not here: signed notes (`note`), the archives' trees and chunks (`tree`, `chunks`), which revision
is offered to whom (`services/fleet`).
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from app.core import goversion
from app.core.errors import BadInputError
from app.core.noun import AfterValidator, Field, Noun, Words, line, passes, refuse
from app.core.ownrelease import is_own
from app.core.tenantname import is_plain_name

MAX_ALSO = 11
"""Releases of a revision besides the current one: a manifest of twelve fits into a note."""

MANIFEST_LIFE = timedelta(days=14)
"""How long a manifest is valid."""

SIGN_AGAIN_AFTER = timedelta(days=1)
"""The age at which a manifest is signed anew."""

MANIFEST_HEADING = "moorage channel 1"

_MAX_TITLE_CHARS = 200
MAX_REASON_CHARS = 500
_MAX_TENANTS = 1000
_MAX_RELEASE_CHARS = 40
T = TypeVar("T")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def release_name(version: str) -> str:
    """Return the name of a release: "1.27.1" and "go1.27.1" give "go1.27.1".

    Raises:
        BadInputError: version is not that of one release: "1.27.x", "latest", "v1.27.1".
    """
    bare = version.removeprefix("go")
    if is_own(f"go{bare}"):
        return f"go{bare}"
    if not goversion.is_valid(bare) or "." not in bare or len(version) > _MAX_RELEASE_CHARS:
        raise BadInputError(f"{version[:60]!a} is not the version of one release, such as go1.27.1")
    return f"go{bare}"


def newest_first(versions: Iterable[str]) -> tuple[str, ...]:
    """Return names of releases in Go's order, the newest first, each once."""
    return tuple(sorted(set(versions), key=goversion.sort_key, reverse=True))


def _check_channel_name(name: str) -> None:
    if not is_plain_name(name):
        raise BadInputError(
            f"{name[:80]!a} can't be a channel's name: 1 to 63 lower-case letters, digits and "
            "dashes, no dash at either end"
        )


def _release_or_refusal(version: str) -> str:
    try:
        return release_name(version)
    except BadInputError as error:
        raise refuse(str(error)) from error


ChannelName = Annotated[str, Field(max_length=63), AfterValidator(passes(_check_channel_name))]
ReleaseName = Annotated[
    str, Field(max_length=_MAX_RELEASE_CHARS), AfterValidator(_release_or_refusal)
]


class ChannelSettings(Noun):
    """All that an admin decides about a channel, besides its name and its revisions.

    tenants: who may follow it: their tokens read its files, and their `toolchains` may name it.
        null opens it to everybody.
    """

    title: Annotated[str, *line("title", _MAX_TITLE_CHARS)] = ""
    tenants: Annotated[frozenset[str], Words(max_words=_MAX_TENANTS, max_chars=63)] | None = None


class Channel(ChannelSettings):
    """A channel: its name, and what an admin decides about it."""

    name: ChannelName


class RecordedChannel(Channel):
    """One channel with what it offers.

    Attributes:
        edits: grows by one with each change of the channel and each revision; what an ETag shows.
        revision: the number of the current revision; null before the first.
        current: the release that its nodes run; null before the first revision.
        also: further releases on offer, newest first.
        candidate: the number of the revision that a rollout is bringing to the nodes; or null.
    """

    id: int = Field(exclude=True)
    edits: int = Field(exclude=True)
    created_at: datetime
    revision: int | None = None
    current: str | None = None
    also: tuple[str, ...] = ()
    candidate: int | None = None

    def admits(self, tenant: str) -> bool:
        """Whether a tenant may follow the channel."""
        return self.tenants is None or tenant in self.tenants


class RevisionState(StrEnum):
    """The state of a revision; a channel has one current revision and one candidate at most."""

    CANDIDATE = "candidate"  # a rollout is bringing it to the nodes; others don't see it yet
    CURRENT = "current"  # offered to everybody
    PAST = "past"  # was current once; or was a candidate that never became current


class Choice(Noun):
    """What a revision offers.

    current: the release that nodes run.
    also: further releases, newest first.
    reason: one line for people.
    """

    current: ReleaseName
    also: Annotated[tuple[ReleaseName, ...], Field(max_length=MAX_ALSO)] = ()
    reason: Annotated[str, *line("reason", MAX_REASON_CHARS)] = ""

    @property
    def versions(self) -> tuple[str, ...]:
        """The names of all its releases, newest first."""
        return newest_first((self.current, *self.also))

    def normal(self) -> "Choice":
        """Return the same choice with `also` in order, and without the current release."""
        return self.model_copy(update={"also": newest_first({*self.also} - {self.current})})

    def offers_as(self, other: "Choice") -> bool:
        """Whether another choice has the same releases, whatever the reasons are."""
        return (self.current, self.versions) == (other.current, other.versions)


class Revision(Choice):
    """One revision of a channel.

    revision: 1, 2, 3 …; of a channel that was removed and made again, the numbers go on.
    restores: the number of the revision whose content a rollback brought back.
    actor: who made it, as in the audit log.
    offered_at: when it became current; null if it never was.
    """

    channel: str
    revision: int
    state: RevisionState
    restores: int | None = None
    actor: str
    created_at: datetime
    offered_at: datetime | None = None

    def __contains__(self, version: str) -> bool:
        return version == self.current or version in self.also

    def __str__(self) -> str:
        also = f", also {' '.join(self.also)}" if self.also else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"revision {self.revision}: {self.current}{also}{reason}"


@dataclass(frozen=True, slots=True)
class RevisionDiff:
    """What differs between two revisions.

    Attributes:
        before: the older one's number; null stands for no revision at all.
        added: releases that only the newer one offers, newest first.
        removed: releases that only the older one offers.
    """

    channel: str
    before: int | None
    after: int
    current_before: str | None
    current_after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


def difference(before: Revision | None, after: Revision) -> RevisionDiff:
    """Return what differs between two revisions of a channel; None is a channel without one."""
    was = set(before.versions) if before else set()
    return RevisionDiff(
        channel=after.channel,
        before=before.revision if before else None,
        after=after.revision,
        current_before=before.current if before else None,
        current_after=after.current,
        added=newest_first(set(after.versions) - was),
        removed=newest_first(was - set(after.versions)),
    )


@dataclass(frozen=True, slots=True)
class ToolchainOffer:
    """The releases that a channel offers to a tenant as toolchains.

    Attributes:
        current: the release to use; "" before the channel's first revision.
        versions: names of releases.
    """

    channel: str
    current: str = ""
    versions: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class ZstdForm:
    """An archive's tar, compressed with zstd: size and digests in hex."""

    size: int
    sha256: str
    chunks: str


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One verified file of a release.

    Attributes:
        os: as in the release index; "" for source.
        h1: of the toolchain module; "" where the file makes none.
        tree: SHA-256 of the file's .tree in hex; "" where there is none (source, installers).
        chunks: SHA-256 of the file's .chunks; "" in the same case.
        zst: the zstd form; None while it does not exist.
    """

    filename: str
    os: str
    arch: str
    kind: str
    size: int
    sha256: str
    h1: str = ""
    tree: str = ""
    chunks: str = ""
    zst: ZstdForm | None = None


@dataclass(frozen=True, slots=True)
class ManifestRelease:
    """One release with its verified files."""

    version: str
    files: tuple[ManifestFile, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A revision with its files, for a time.

    Attributes:
        releases: newest first.
        issued_at: UTC, whole seconds.
        expires_at: UTC, whole seconds; from then on the manifest says nothing.
    """

    channel: str
    revision: int
    current: str
    releases: tuple[ManifestRelease, ...]
    issued_at: datetime = field(compare=False)
    expires_at: datetime = field(compare=False)

    def issued(self, at: datetime) -> "Manifest":
        """Return the same manifest, valid for MANIFEST_LIFE from a time on."""
        at = at.astimezone(UTC).replace(microsecond=0)
        return replace(self, issued_at=at, expires_at=at + MANIFEST_LIFE)


def canonical_json(value: object) -> str:
    """Return a value as JSON with sorted keys, without spaces, with characters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def manifest_text(manifest: Manifest) -> str:
    """Return the text of a manifest, which is signed."""
    releases = [
        {"version": release.version, "files": [_written(file) for file in release.files]}
        | ({"own": True} if is_own(release.version) else {})
        for release in manifest.releases
    ]
    body = {
        "channel": manifest.channel,
        "revision": manifest.revision,
        "issued_at": f"{manifest.issued_at.astimezone(UTC):{_TIME}}",
        "expires_at": f"{manifest.expires_at.astimezone(UTC):{_TIME}}",
        "current": manifest.current,
        "releases": releases,
    }
    return f"{MANIFEST_HEADING}\n{canonical_json(body)}\n"


def parse_manifest(text: str) -> Manifest:
    """Return the manifest that a text is; nothing is said of who signed it, nor of its expiry.

    Raises:
        BadInputError: the text is not exactly what `manifest_text` writes.
    """
    heading, _, rest = text.partition("\n")
    if heading != MANIFEST_HEADING:
        raise BadInputError(f"malformed manifest: it begins with {heading[:60]!a}")
    try:
        manifest = _read(json.loads(rest))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadInputError(f"malformed manifest: {type(error).__name__} {error!s:.100}") from error
    if manifest_text(manifest) != text:
        raise BadInputError("malformed manifest: it is not in its one spelling")
    return manifest


def _written(file: ManifestFile) -> dict[str, Any]:
    """Return a file as JSON has it; what does not exist is left out."""
    facts: dict[str, Any] = {
        "filename": file.filename,
        "os": file.os,
        "arch": file.arch,
        "kind": file.kind,
        "size": file.size,
        "sha256": file.sha256,
    }
    facts |= {name: getattr(file, name) for name in ("h1", "tree", "chunks") if getattr(file, name)}
    if file.zst is not None:
        zst = file.zst
        facts["zst"] = {"size": zst.size, "sha256": zst.sha256, "chunks": zst.chunks}
    return facts


def _read(body: Mapping[str, Any]) -> Manifest:
    return Manifest(
        channel=_typed(body["channel"], str),
        revision=_typed(body["revision"], int),
        current=_typed(body["current"], str),
        releases=tuple(
            ManifestRelease(_typed(r["version"], str), tuple(_read_file(f) for f in r["files"]))
            for r in body["releases"]
        ),
        issued_at=_read_time(body["issued_at"]),
        expires_at=_read_time(body["expires_at"]),
    )


def _read_file(facts: Mapping[str, Any]) -> ManifestFile:
    rest = {name: value for name, value in facts.items() if name != "zst"}
    zst = ZstdForm(**_of_types(facts["zst"])) if "zst" in facts else None
    return ManifestFile(**_of_types(rest), zst=zst)


def _of_types(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts of which the size is a whole number, and all others are texts."""
    return {name: _typed(value, int if name == "size" else str) for name, value in facts.items()}


def _typed(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:  # a bool is an int to isinstance
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


def _read_time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
