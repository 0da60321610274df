from dataclasses import replace

import pytest

from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.gorelease import Release, ReleaseFile, ReleaseFileKind, ReleaseIndex
from app.core.selection import Selection, check_pin, select, unmatched_pins

VERSIONS = [
    "go1.28rc2",
    "go1.28rc1",
    "go1.28beta1",
    "go1.27.1",
    "go1.27.0",
    "go1.27rc1",
    "go1.26.4",
    "go1.26.3",
    "go1.26.0",
    "go1.25.9",
    "go1.21.13",
    "go1.21.5",
    "go1.20.14",
    "go1.20",
    "go1.9.2rc2",
    "go1.4",
]

PLATFORMS = ("linux-amd64", "linux-arm64", "linux-armv6l", "darwin-arm64", "windows-amd64")


def a_file(version: str, platform: str, kind: ReleaseFileKind) -> ReleaseFile:
    os, _, arch = platform.partition("-")
    suffix = (
        {"windows": "zip"}.get(os, "tar.gz") if kind is not ReleaseFileKind.INSTALLER else "pkg"
    )
    name = f"{version}.{platform or 'src'}.{suffix}"
    return ReleaseFile(name, os, arch, version, Digest.of(name.encode()), 1000, kind)


def a_release(version: str) -> Release:
    files = [a_file(version, "", ReleaseFileKind.SOURCE)]
    files += [a_file(version, platform, ReleaseFileKind.ARCHIVE) for platform in PLATFORMS]
    files += [a_file(version, "darwin-arm64", ReleaseFileKind.INSTALLER)]
    return Release(version, "rc" not in version and "beta" not in version, tuple(files))


INDEX = ReleaseIndex(tuple(a_release(version) for version in VERSIONS))

DEFAULT = Selection(
    stable_only=True,
    minors=2,
    patches=1,
    os=frozenset({"linux"}),
    arch=frozenset({"amd64"}),
    kinds=frozenset({ReleaseFileKind.ARCHIVE}),
    pins=(),
)


def reasons(selection: Selection, index: ReleaseIndex = INDEX) -> list[tuple[str, str]]:
    return [(chosen.file.version, chosen.reason) for chosen in select(index, selection)]


def filenames(selection: Selection) -> list[str]:
    return [chosen.file.filename for chosen in select(INDEX, selection)]


def test_the_newest_patch_of_the_newest_minors_is_kept() -> None:
    assert reasons(DEFAULT) == [
        ("go1.27.1", "newest patch of 1.27, the newest minor"),
        ("go1.26.4", "newest patch of 1.26, minor 2 of 2"),
    ]


def test_more_patches_say_which_they_are() -> None:
    assert reasons(replace(DEFAULT, patches=2)) == [
        ("go1.27.1", "newest patch of 1.27, the newest minor"),
        ("go1.27.0", "patch 2 of 2 of 1.27, the newest minor"),
        ("go1.26.4", "newest patch of 1.26, minor 2 of 2"),
        ("go1.26.3", "patch 2 of 2 of 1.26, minor 2 of 2"),
    ]


def test_more_minors_or_patches_than_there_are_take_what_is_there() -> None:
    everything = reasons(replace(DEFAULT, minors=99, patches=99))
    assert [version for version, _ in everything] == [
        release.version for release in INDEX.releases if release.is_final
    ]
    assert everything[-1] == ("go1.4", "newest patch of 1.4, minor 6 of 6")


@pytest.mark.parametrize("change", [{"minors": 0}, {"patches": 0}])
def test_zero_minors_or_patches_keep_only_pins(change: dict[str, int]) -> None:
    selection = replace(DEFAULT, pins=("1.21",), **change)
    assert reasons(selection) == [("go1.21.13", "pinned by 1.21")]


def test_without_stable_only_the_newest_prerelease_ahead_is_kept_too() -> None:
    assert reasons(replace(DEFAULT, stable_only=False, minors=1)) == [
        ("go1.28rc2", "release candidate of 1.28"),
        ("go1.27.1", "newest patch of 1.27, the newest minor"),
    ]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["go1.28.0", "go1.28rc2", "go1.27.1"], []),
        (["go1.27.1", "go1.26rc1"], []),
        (["go1.28beta1", "go1.27.1"], [("go1.28beta1", "beta of 1.28")]),
        (["go1.28rc1", "go1.9.2rc2"], [("go1.28rc1", "release candidate of 1.28")]),
        (["go1.9.2rc2"], []),
    ],
)
def test_a_prerelease_counts_only_ahead_of_every_stable_minor(
    versions: list[str], expected: list[tuple[str, str]]
) -> None:
    index = ReleaseIndex(tuple(a_release(version) for version in versions))
    assert reasons(replace(DEFAULT, stable_only=False, minors=0), index) == expected


@pytest.mark.parametrize(
    ("pin", "version"),
    [
        ("1.21", "go1.21.13"),
        ("go1.21", "go1.21.13"),
        ("1.21.5", "go1.21.5"),
        ("go1.21.5", "go1.21.5"),
        ("1.28rc1", "go1.28rc1"),
        ("go1.28beta1", "go1.28beta1"),
        ("1.20", "go1.20.14"),
        ("1.20.0", "go1.20"),
        ("1.4", "go1.4"),
    ],
)
def test_a_pin_is_a_minor_or_an_exact_version(pin: str, version: str) -> None:
    selection = replace(DEFAULT, minors=0, pins=(pin,))
    assert reasons(selection) == [(version, f"pinned by {pin}")]
    assert unmatched_pins(INDEX, selection) == ()


def test_a_pin_of_a_release_that_is_kept_anyway_changes_nothing() -> None:
    assert reasons(replace(DEFAULT, pins=("1.27",))) == reasons(DEFAULT)


def test_a_pin_that_adds_no_file_is_told() -> None:
    pins = ("1.22", "1.21", "1.28", "1.21.6", "1.99rc1")
    assert unmatched_pins(INDEX, replace(DEFAULT, pins=pins)) == (
        "1.22",
        "1.28",
        "1.21.6",
        "1.99rc1",
    )
    other_platform = replace(DEFAULT, pins=("1.21",), os=frozenset({"plan9"}))
    assert unmatched_pins(INDEX, other_platform) == ("1.21",)


@pytest.mark.parametrize(
    "pin",
    ["", "1", "go1", "go", "latest", "1.21.x", "1.x", "v1.21", "1.21 ", "1.21.3rc1", "1.02", ">=1"],
)
def test_a_malformed_pin_is_refused(pin: str) -> None:
    with pytest.raises(BadInputError, match="neither a minor"):
        check_pin(pin)
    with pytest.raises(BadInputError, match="neither a minor"):
        replace(DEFAULT, pins=(pin,))


@pytest.mark.parametrize("change", [{"minors": -1}, {"patches": -1}])
def test_a_negative_number_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(BadInputError, match="0 or more"):
        replace(DEFAULT, **change)


def test_files_come_newest_release_first_and_in_the_index_order() -> None:
    selection = replace(
        DEFAULT,
        arch=frozenset({"amd64", "arm64"}),
        kinds=frozenset({ReleaseFileKind.ARCHIVE, ReleaseFileKind.SOURCE}),
    )
    assert filenames(selection) == [
        "go1.27.1.src.tar.gz",
        "go1.27.1.linux-amd64.tar.gz",
        "go1.27.1.linux-arm64.tar.gz",
        "go1.26.4.src.tar.gz",
        "go1.26.4.linux-amd64.tar.gz",
        "go1.26.4.linux-arm64.tar.gz",
    ]


@pytest.mark.parametrize(
    ("os", "arch", "kinds", "expected"),
    [
        ({"linux"}, {"arm"}, {ReleaseFileKind.ARCHIVE}, ["linux-armv6l.tar.gz"]),
        ({"linux"}, {"armv6l"}, {ReleaseFileKind.ARCHIVE}, ["linux-armv6l.tar.gz"]),
        ({"linux"}, {"arm6"}, {ReleaseFileKind.ARCHIVE}, []),
        ({"darwin"}, {"arm64"}, {ReleaseFileKind.ARCHIVE}, ["darwin-arm64.tar.gz"]),
        ({"darwin"}, {"arm64"}, {ReleaseFileKind.INSTALLER}, ["darwin-arm64.pkg"]),
        ({"windows"}, {"amd64"}, {ReleaseFileKind.ARCHIVE}, ["windows-amd64.zip"]),
        (set(), set(), {ReleaseFileKind.SOURCE}, ["src.tar.gz"]),
        (set(), {"amd64"}, {ReleaseFileKind.ARCHIVE}, []),
        ({"linux"}, {"amd64"}, set(), []),
    ],
)
def test_platform_and_kind_filter_files_and_source_goes_by_kind_alone(
    os: set[str], arch: set[str], kinds: set[ReleaseFileKind], expected: list[str]
) -> None:
    selection = replace(
        DEFAULT, minors=1, os=frozenset(os), arch=frozenset(arch), kinds=frozenset(kinds)
    )
    assert filenames(selection) == [f"go1.27.1.{ending}" for ending in expected]


def test_arm_means_arm6_too() -> None:
    file = replace(a_file("go1.27.1", "linux-arm6", ReleaseFileKind.ARCHIVE), arch="arm6")
    index = ReleaseIndex((Release("go1.27.1", True, (file,)),))
    assert len(select(index, replace(DEFAULT, arch=frozenset({"arm"})))) == 1


@pytest.mark.parametrize("change", [{"sha256": None}, {"size_bytes": 0}])
def test_a_file_that_can_not_be_verified_is_never_chosen(change: dict[str, object]) -> None:
    files = tuple(replace(file, **change) for file in a_release("go1.27.1").files)  # type: ignore[arg-type]
    index = ReleaseIndex((Release("go1.27.1", True, files),))
    selection = replace(DEFAULT, pins=("1.27",))
    assert select(index, selection) == ()
    assert unmatched_pins(index, selection) == ("1.27",)


def test_an_index_without_releases_gives_nothing() -> None:
    selection = replace(DEFAULT, stable_only=False, pins=("1.21",))
    assert select(ReleaseIndex(()), selection) == ()
    assert unmatched_pins(ReleaseIndex(()), selection) == ("1.21",)
