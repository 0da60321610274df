"""Which files of the release index a mirror keeps, and why.

A file is kept if its release is selected (newest patches of the newest minors, a pin, a
pre-release that is newer than all of them), its platform is selected, and its kind is. Not here:
the index (`gorelease`), fetching (`services/releases`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from app.core import goversion
from app.core.errors import BadInputError, UnknownError
from app.core.gorelease import ARM_NAMES, Release, ReleaseFile, ReleaseFileKind, ReleaseIndex
from app.core.goversion import GoVersion
from app.core.releasename import is_filename, near_file, near_release

_MINOR = re.compile(r"[0-9]+\.[0-9]+")

_PRERELEASE_WORDS = {"rc": "release candidate", "beta": "beta", "alpha": "alpha"}


@dataclass(frozen=True, slots=True)
class Selection:
    """What to keep.

    Attributes:
        stable_only: False also keeps the newest pre-release, if it is newer than every minor.
        minors: number of newest minors, 0 or more.
        patches: number of newest releases of each of these minors, 0 or more.
        os: go.dev's names of operating systems.
        arch: go.dev's names of architectures; "arm" also means "armv6l".
        kinds: kinds of files.
        pins: releases kept at any age: a minor ("1.21", "go1.21": its newest patch) or an exact
            version ("1.21.5", "go1.28rc1").
        channel_pins: names of releases that channels name, each with the name of a channel.

    Raises:
        BadInputError: a number is negative or a pin is malformed.
    """

    stable_only: bool
    minors: int
    patches: int
    os: frozenset[str]
    arch: frozenset[str]
    kinds: frozenset[ReleaseFileKind]
    pins: tuple[str, ...]
    channel_pins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.minors < 0 or self.patches < 0:
            raise BadInputError("a selection's minors and patches must be 0 or more")
        for pin in self.pins:
            check_pin(pin)


@dataclass(frozen=True, slots=True)
class SelectedRelease:
    """A file to keep; `reason` completes a sentence: "newest patch of 1.27, the newest minor"."""

    file: ReleaseFile
    reason: str


def select(index: ReleaseIndex, selection: Selection) -> tuple[SelectedRelease, ...]:
    """Return the files to keep, newest release first, a release's files in the index's order.

    If several reasons hold for a release, the first of these is stated: its rank, pre-release, a
    pin. Files that can't be verified are never selected.
    """
    reasons = _reasons(index, selection)
    return tuple(
        SelectedRelease(file, reasons[release.version])
        for release in index.releases
        if release.version in reasons
        for file in release.files
        if is_selected(file, selection)
    )


def select_named(
    index: ReleaseIndex, selection: Selection, names: Iterable[str]
) -> tuple[SelectedRelease, ...]:
    """Return the files that people name, in the order of the names.

    Args:
        index: has all of them.
        selection: of a release, its platforms and kinds are taken.
        names: of files ("go1.27.1.linux-amd64.tar.gz"), which are taken whatever the selection
            says, and of releases as in pins: "1.21" is its newest patch, "go1.21.5" itself.

    Raises:
        UnknownError: the index has no such file or release, or the release has no file of the
            selection; the message says what may be meant.
    """
    chosen: dict[str, SelectedRelease] = {}
    for name in names:
        files = (
            [_file_named(index, name)] if is_filename(name) else _of_release(index, selection, name)
        )
        for file in files:
            chosen.setdefault(file.filename, SelectedRelease(file, f"named by {name}"))
    return tuple(chosen.values())


def _file_named(index: ReleaseIndex, name: str) -> ReleaseFile:
    files = (file for release in index.releases for file in release.files)
    file = next((file for file in files if file.filename == name), None)
    if file is not None:
        return file
    try:
        nearest = near_file(index.releases, name)
    except BadInputError:
        nearest = None
    raise _unknown("file", name, nearest)


def _of_release(index: ReleaseIndex, selection: Selection, name: str) -> list[ReleaseFile]:
    try:
        release = _pinned_release(index, name)
    except BadInputError:
        release = None
    if release is None:
        raise _unknown("release", name, near_release(index.releases, name))
    files = [file for file in release.files if is_selected(file, selection)]
    if not files:
        raise UnknownError(
            f"{release.version} has no file of the selected platforms and kinds "
            "(MOORAGE_RELEASES__SELECT__…); name a file, "
            f"`moorage releases show {release.version}` lists them"
        )
    return files


def _unknown(kind: str, name: str, nearest: str | None) -> UnknownError:
    meant = f"; did you mean {nearest}?" if nearest else "; see `moorage releases list --all`"
    return UnknownError(f"no {kind} {name[:100]!a} in the release index{meant}")


def unmatched_pins(index: ReleaseIndex, selection: Selection) -> tuple[str, ...]:
    """Return the pins that add no file: no release matches, or none of its files is selected."""
    return tuple(
        pin
        for pin in selection.pins
        if not (release := _pinned_release(index, pin))
        or not any(is_selected(file, selection) for file in release.files)
    )


def check_pin(pin: str) -> str:
    """Return a pin without its "go": "go1.21" gives "1.21".

    Raises:
        BadInputError: pin is neither a minor nor a Go version: "1", "1.21.x", "v1.21", "latest".
    """
    version = pin.removeprefix("go")
    if not goversion.is_valid(version) or "." not in version:
        raise BadInputError(
            f"pin {pin[:60]!a} is neither a minor such as 1.21 nor a version such as 1.21.5"
        )
    return version


def _reasons(index: ReleaseIndex, selection: Selection) -> dict[str, str]:
    """Return release name → reason for every selected release."""
    reasons: dict[str, str] = {}
    for version, reason in chain(
        _by_rank(index, selection), _ahead(index, selection), _by_pin(index, selection)
    ):
        reasons.setdefault(version, reason)
    return reasons


def _by_rank(index: ReleaseIndex, selection: Selection) -> Iterator[tuple[str, str]]:
    families: dict[str, list[Release]] = {}
    for release in index.releases:
        if release.is_final:
            families.setdefault(goversion.minor_of(release.version), []).append(release)
    newest_families = list(families.items())[: selection.minors]
    for place, (minor, releases) in enumerate(newest_families, start=1):
        rank = "the newest minor" if place == 1 else f"minor {place} of {len(newest_families)}"
        patches = releases[: selection.patches]
        for number, release in enumerate(patches, start=1):
            patch = "newest patch" if number == 1 else f"patch {number} of {len(patches)}"
            yield release.version, f"{patch} of {minor}, {rank}"


def _ahead(index: ReleaseIndex, selection: Selection) -> Iterator[tuple[str, str]]:
    """Yield the newest pre-release, unless its minor or a newer one has a final release."""
    if selection.stable_only:
        return
    newest = next((r for r in index.releases if goversion.is_prerelease(r.version)), None)
    final = next((r for r in index.releases if r.is_final), None)
    if newest is None:
        return
    minor = goversion.minor_of(newest.version)
    if final is None or goversion.compare(minor, goversion.minor_of(final.version)) > 0:
        kind = GoVersion.parse(goversion.from_name(newest.version)).kind
        yield newest.version, f"{_PRERELEASE_WORDS.get(kind, 'pre-release')} of {minor}"


def _by_pin(index: ReleaseIndex, selection: Selection) -> Iterator[tuple[str, str]]:
    for pin in selection.pins:
        if release := _pinned_release(index, pin):
            yield release.version, f"pinned by {pin}"
    for release in index.releases:
        if release.version in selection.channel_pins:
            yield release.version, f"named by channel {selection.channel_pins[release.version]}"


def _pinned_release(index: ReleaseIndex, pin: str) -> Release | None:
    version = check_pin(pin)
    if _MINOR.fullmatch(version):
        minor = goversion.minor_of("go" + version)
        matching = (
            r for r in index.releases if r.is_final and goversion.minor_of(r.version) == minor
        )
    else:
        # Compare versions, not texts: the first release of a minor is "go1.20", but "go1.21.0".
        matching = (
            r
            for r in index.releases
            if goversion.compare(r.version.removeprefix("go"), version) == 0
        )
    return next(matching, None)


def is_selected(file: ReleaseFile, selection: Selection) -> bool:
    """Whether a file's kind and platform are selected, and it can be verified."""
    if not file.verifiable or file.kind not in selection.kinds:
        return False
    if file.kind is ReleaseFileKind.SOURCE:
        return True
    is_selected_arch = file.arch in selection.arch or (
        "arm" in selection.arch and file.arch in ARM_NAMES
    )
    return file.os in selection.os and is_selected_arch
