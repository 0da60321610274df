"""Names of a company's own Go releases: "go1.25.9-corp1" is its work on go1.25.9.

The name alone says that a release is not one of go.dev. There a name has a "-" only in
"go1.4-bootstrap-…", and numbers and words are not separated otherwise; so no index has such a name,
and `releaseindex` takes none that an index may come to have. To `go`, what follows the "-" is a
name of a custom toolchain (cmd/go, internal/gover.FromToolchain).

Not here: who publishes, and what is checked (`services/releases/publishing`).
"""

import re

from app.core import goversion
from app.core.errors import BadInputError

_NAME = re.compile(r"go([0-9]+\.[0-9]+(?:\.[0-9]+)?)-([a-z][a-z0-9]*)((?:-[a-z0-9]+)*)", re.ASCII)
_MAX_CHARS = 40
# Words that go.dev uses for its own, with or without numbers.
_TAKEN = re.compile(r"(?:bootstrap|rc|beta|alpha|dev|devel|pre|src|latest|security)[0-9]*")


def is_own(version: str) -> bool:
    """Whether a release's name is that of an own release."""
    match = _NAME.fullmatch(version)
    return (
        match is not None
        and len(version) <= _MAX_CHARS
        and goversion.is_valid(match[1])
        and not _TAKEN.fullmatch(match[2])
    )


def own_name(version: str) -> str:
    """Return the name of an own release: "1.25.9-corp1" and "go1.25.9-corp1" give the latter.

    Raises:
        BadInputError: a release of one's own can't have the name.
    """
    name = version if version.startswith("go") else f"go{version}"
    if not is_own(name):
        raise BadInputError(
            f"{version[:60]!a} can't be the name of an own release, which is a release of Go, a "
            "dash and a name, such as go1.25.9-corp1: lower-case letters and digits, no word that "
            f"go.dev uses (rc, beta, bootstrap …), at most {_MAX_CHARS} characters"
        )
    return name
