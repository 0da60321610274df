"""What people may have meant by the name of a release or a file that no index has.

"1.23", "go1.23.1", "v1.23.1" and "go1.21.linux-amd64.tar.gz" are what people write. Not here: the
grammar of the names (`gorelease`), the order of versions (`goversion`).
"""

import difflib
from collections.abc import Iterable

from app.core.gorelease import FileName, Release, parse_filename
from app.core.goversion import is_valid, minor_of

FILE_SUFFIXES = (".tar.gz", ".zip", ".msi", ".pkg")


def is_filename(name: str) -> bool:
    """Whether a name is meant as a file's and not as a release's."""
    return name.endswith(FILE_SUFFIXES)


def near_release(releases: Iterable[Release], name: str) -> str | None:
    """Return the release that a name means: of the same version, or the newest of its minor.

    "v1.23.1" and "1.23" mean "go1.23.4", where that is the newest release of 1.23. None where no
    release is near.

    Args:
        releases: newest first.
        name: with or without "go" or "v".
    """
    version = name.removeprefix("go").removeprefix("v")
    if not is_valid(version):
        return None
    minor, nearest = minor_of(f"go{version}"), None
    for release in releases:
        if release.version in (f"go{version}", f"go{version}.0"):
            return release.version
        if nearest is None and minor_of(release.version) == minor:
            nearest = release.version
    return nearest


def near_names(name: FileName) -> list[str]:
    """Return names of the same file for people who leave ".0" out, or add it.

    From Go 1.21 on the first release of a minor is "go1.21.0", before it was "go1.20".
    """
    versions = [f"{name.version}.0", name.version.removesuffix(".0")]
    return [f"{version}.{name.platform}.{name.suffix}" for version in versions]


def near_file(releases: Iterable[Release], filename: str) -> str | None:
    """Return the file whose name is nearest to one that no release has; None where none is near.

    Only files of the nearest release are compared.

    Raises:
        BadInputError: the name is outside the grammar of file names.
    """
    listed = list(releases)
    release = near_release(listed, parse_filename(filename).version)
    names = [f.filename for r in listed if r.version == release for f in r.files]
    same = next((name for name in near_names(parse_filename(filename)) if name in names), None)
    return same or next(iter(difflib.get_close_matches(filename, names, n=1, cutoff=0.8)), None)
