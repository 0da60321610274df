"""What people may have meant by the name of a release or a file."""

import pytest

from app.core.errors import BadInputError
from app.core.gorelease import Release, ReleaseFile, ReleaseFileKind
from app.core.releasename import is_filename, near_file, near_release


def release(version: str, *platforms: str) -> Release:
    files = tuple(
        ReleaseFile(
            f"{version}.{p}.tar.gz", *p.split("-"), version, None, 0, ReleaseFileKind.ARCHIVE
        )
        for p in platforms
    )
    return Release(version, stable=True, files=files)


RELEASES = [
    release("go1.23.4", "linux-amd64", "linux-arm64"),
    release("go1.23.1"),
    release("go1.21.0", "linux-amd64"),
    release("go1.20", "linux-amd64"),
    release("go1.20rc1"),
]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("1.23", "go1.23.4"),
        ("go1.23.9", "go1.23.4"),
        ("v1.23.1", "go1.23.1"),
        ("1.21", "go1.21.0"),
        ("1.20.0", "go1.20"),
        ("go1.20rc1", "go1.20rc1"),
        ("1.22", None),
        ("latest", None),
        ("", None),
        ("gogo1.23.1", None),
    ],
)
def test_a_release_is_near_by_version_or_minor(name: str, near: str | None) -> None:
    assert near_release(RELEASES, name) == near


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("go1.21.linux-amd64.tar.gz", "go1.21.0.linux-amd64.tar.gz"),
        ("go1.20.0.linux-amd64.tar.gz", "go1.20.linux-amd64.tar.gz"),
        ("go1.23.4.linux-amd46.tar.gz", "go1.23.4.linux-amd64.tar.gz"),
        ("go1.23.5.linux-arm64.tar.gz", "go1.23.4.linux-arm64.tar.gz"),
        ("go1.23.4.windows-amd64.msi", None),
        ("go1.22.linux-amd64.tar.gz", None),
    ],
)
def test_a_file_is_near_within_the_nearest_release(name: str, near: str | None) -> None:
    assert near_file(RELEASES, name) == near


def test_what_is_no_file_name_at_all_is_refused() -> None:
    with pytest.raises(BadInputError):
        near_file(RELEASES, "nonsense.zip")


def test_a_suffix_makes_a_file_name() -> None:
    assert is_filename("go1.23.4.src.tar.gz")
    assert not is_filename("go1.23.4")
