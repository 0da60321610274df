"""Module paths and versions, plain and escaped. Follows golang.org/x/mod/module/module.go.

Plain form everywhere; the escaped form exists only in URLs, and only this file converts. Not here:
patterns over paths (`modulepattern`), pseudo-versions (`pseudo`), the order of versions (`semver`).
"""

import re
from enum import StrEnum

from app.core import semver
from app.core.errors import BadInputError

_SHOWN_CHARS = 100

_DIGITS = "0123456789"
_FIRST_ELEMENT_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz-." + _DIGITS)
_PATH_CHARS = _FIRST_ELEMENT_CHARS | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_~")
_FILE_CHARS = _PATH_CHARS | frozenset("!#$%&()+,=@[]^{} ")

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)

_CAPITAL = re.compile("[A-Z]")
_ESCAPED_CAPITAL = re.compile("!([a-z])")
_INCOMPATIBLE = "+incompatible"


class _PathKind(StrEnum):
    MODULE = "module path"
    FILE = "file path"
    VERSION = "version"


def _malformed(kind: str, text: str, reason: str) -> BadInputError:
    shown = ascii(text) if len(text) <= _SHOWN_CHARS else ascii(text[:_SHOWN_CHARS]) + "..."
    return BadInputError(f"malformed {kind} {shown}: {reason}")


def _windows_trouble(element: str, kind: _PathKind) -> str | None:
    short = element.partition(".")[0]
    if short.lower() in _WINDOWS_DEVICES:
        return f"{short!a} is a device name on Windows"
    tail = short.rpartition("~")[2]
    if kind is _PathKind.MODULE and "~" in short and tail and not tail.strip(_DIGITS):
        return "an element ends in a tilde and digits"
    return None


def _odd_character(element: str, kind: _PathKind) -> str | None:
    allowed = _PATH_CHARS if kind is _PathKind.MODULE else _FILE_CHARS
    if allowed.issuperset(element):
        return None
    for char in element:
        # Letters beyond ASCII are those of Python's Unicode tables; Go's tables may be newer.
        letter = kind is not _PathKind.MODULE and not char.isascii() and char.isalpha()
        if char not in allowed and not letter:
            return char
    return None


def _element_trouble(element: str, kind: _PathKind) -> str | None:
    """Return why an element is refused, None if it is accepted (x/mod's checkElem)."""
    if not element:
        return "empty element"
    if not element.strip("."):
        return f"an element is {element[:3]!a}"
    if element[0] == "." and kind is _PathKind.MODULE:
        return "an element begins with a dot"
    if element[-1] == ".":
        return "an element ends with a dot"
    if odd := _odd_character(element, kind):
        return f"invalid character {odd!a}"
    return _windows_trouble(element, kind)


def _path_trouble(path: str, kind: _PathKind) -> str | None:
    """Return why a path is refused, None if it is accepted (x/mod's checkPath)."""
    if not path:
        return "empty"
    if path[0] == "-" and kind is not _PathKind.FILE:
        return "begins with a hyphen"
    for element in path.split("/"):
        if trouble := _element_trouble(element, kind):
            return trouble
    return None


def check_path(path: str) -> None:
    """Accept a plain module path such as "github.com/BurntSushi/toml" or "x.io/y/v2".

    Elements have ASCII letters, digits and "-._~". The first element is lower case and has a dot.
    In a last element /vN, N is 2 or more. Paths under gopkg.in end in .vN.

    Raises:
        BadInputError: path is not a module path; the message has the reason, in ASCII.
    """
    if trouble := _path_trouble(path, _PathKind.MODULE):
        raise _malformed(_PathKind.MODULE, path, trouble)
    first = path.partition("/")[0]
    if "." not in first:
        raise _malformed(_PathKind.MODULE, path, "the first element has no dot")
    if odd := frozenset(first) - _FIRST_ELEMENT_CHARS:
        reason = f"invalid character {min(odd)!a} in the first element"
        raise _malformed(_PathKind.MODULE, path, reason)
    if not split_path_version(path)[2]:
        reason = "its major version suffix is not allowed (/v2 and up; .vN for gopkg.in)"
        raise _malformed(_PathKind.MODULE, path, reason)


def check_file_path(name: str) -> None:
    """Accept a slash-separated path that a module zip may have below its prefix.

    More characters are allowed than in a module path: any letter, the space and
    "!#$%&()+,=@[]^{}". Letters newer than Python's Unicode tables are refused, though Go may know
    them.

    Raises:
        BadInputError: name is refused, for example "a//b", "../x", "aux.go" or "dir/".
    """
    if trouble := _path_trouble(name, _PathKind.FILE):
        raise _malformed(_PathKind.FILE, name, trouble)


def check_version_element(version: str) -> None:
    """Accept a version, branch, tag or hash that a URL of the protocol may have.

    Any accepted file name without "!" and "/": "v1.2.3", "master", "V1". Stricter than x/mod in two
    ways that no ref of Git needs: only ASCII, as the escaped form demands, and no hyphen at the
    beginning, so that no program takes the version for an option.

    Raises:
        BadInputError: version is refused, for example "feature/x", "-rf" or "v1.0.0" and a newline.
    """
    if not version.isascii():
        raise _malformed(_PathKind.VERSION, version, "not ASCII")
    if "!" in version:
        raise _malformed(_PathKind.VERSION, version, "has an exclamation mark")
    if version.startswith("-"):
        raise _malformed(_PathKind.VERSION, version, "begins with a hyphen")
    if trouble := _element_trouble(version, _PathKind.VERSION):
        raise _malformed(_PathKind.VERSION, version, trouble)


def _escape(plain: str) -> str:
    return _CAPITAL.sub(lambda match: "!" + match[0].lower(), plain)


def _unescape(escaped: str, kind: _PathKind) -> str:
    """Return the plain form; strict by printing back, so that each text has one escaped form."""
    plain = _ESCAPED_CAPITAL.sub(lambda match: match[1].upper(), escaped)
    if not escaped.isascii() or "!" in plain or _escape(plain) != escaped:
        reason = 'a capital is written as "!" and its lower-case letter'
        raise _malformed(f"escaped {kind}", escaped, reason if escaped.isascii() else "not ASCII")
    return plain


def escape_path(path: str) -> str:
    """Return the escaped form of a plain module path.

    Each ASCII capital becomes "!" and its lower-case letter:
    "github.com/BurntSushi/toml" gives "github.com/!burnt!sushi/toml".

    Raises:
        BadInputError: path is not a module path.
    """
    check_path(path)
    return _escape(path)


def unescape_path(escaped_path: str) -> str:
    """Return the plain module path: "github.com/!azure/x" gives "github.com/Azure/x".

    Raises:
        BadInputError: a bare capital, "!" without a lower-case letter after it, a character that
            is not ASCII, or the result is not a module path.
    """
    path = _unescape(escaped_path, _PathKind.MODULE)
    check_path(path)
    return path


def escape_version(version: str) -> str:
    """Return the escaped form of a version or query: "v1.0.0-RC1" gives "v1.0.0-!r!c1".

    Raises:
        BadInputError: `check_version_element` refuses version.
    """
    check_version_element(version)
    return _escape(version)


def unescape_version(escaped_version: str) -> str:
    """Return the plain version or query: "v1.0.0-!r!c1" gives "v1.0.0-RC1".

    Raises:
        BadInputError: the escaped form is malformed, as in `unescape_path`, or
            `check_version_element` refuses the result.
    """
    version = _unescape(escaped_version, _PathKind.VERSION)
    check_version_element(version)
    return version


def split_path_version(path: str) -> tuple[str, str, bool]:
    """Return prefix, path major, and whether the major is allowed; prefix + path major == path.

    "x.y/z/v2" gives ("x.y/z", "/v2", True), "gopkg.in/yaml.v0" ("gopkg.in/yaml", ".v0", True),
    "x.y/z" ("x.y/z", "", True), and "x.y/z/v1" or "gopkg.in/yaml" (path, "", False).
    """
    if path.startswith("gopkg.in/"):
        return _split_gopkg_in(path)
    stem = path.rstrip(_DIGITS + ".")
    if stem == path or not stem.endswith("/v"):
        return path, "", True
    prefix, path_major = path[: len(stem) - 2], path[len(stem) - 2 :]
    if "." in path_major or path_major[2] == "0" or path_major == "/v1":
        return path, "", False
    return prefix, path_major, True


def _split_gopkg_in(path: str) -> tuple[str, str, bool]:
    stem = path.removesuffix("-unstable").rstrip(_DIGITS)
    prefix, path_major = path[: len(stem) - 2], path[len(stem) - 2 :]
    if not stem.endswith(".v") or path_major == ".v":
        return path, "", False
    if path_major[2] == "0" and path_major != ".v0":
        return path, "", False
    return prefix, path_major, True


def matches_path_major(version: str, path_major: str) -> bool:
    """Whether a semantic version fits a path major: "", "/v2" or ".v2" (x/mod's MatchPathMajor).

    "" fits v0, v1 and every "+incompatible" version. ".v1" also fits "v0.0.0-…", which early Go
    wrote for gopkg.in; old go.mod files still have it.
    """
    if path_major.startswith(".v"):
        path_major = path_major.removesuffix("-unstable")
    if path_major == ".v1" and version.startswith("v0.0.0-"):
        return True
    major = semver.major(version)
    if not path_major:
        return major in {"v0", "v1"} or semver.build(version) == _INCOMPATIBLE
    return path_major[0] in "/." and major == path_major[1:]


def canonical_version(v: str) -> str:
    """Return v in canonical form, "" where v is not valid. Only "+incompatible" stays as build.

    "v1.2" gives "v1.2.0", "v1.2.3+meta" gives "v1.2.3", "v2.0.0+incompatible" stays as it is.
    """
    canonical = semver.canonical(v)
    return canonical + _INCOMPATIBLE if semver.build(v) == _INCOMPATIBLE else canonical


def is_canonical_for(path: str, version: str) -> bool:
    """Whether version is canonical and its major fits path; path must be a module path.

    True for ("x.y/z/v2", "v2.0.0") and ("x.y/z", "v2.0.0+incompatible"), false for
    ("x.y/z", "v2.0.0"), ("x.y/z", "v1.0") and ("x.y/z", "v1.0.0+meta").
    """
    if not version or canonical_version(version) != version:
        return False
    return matches_path_major(version, split_path_version(path)[1])


def check(path: str, version: str) -> None:
    """Accept a module path and a semantic version whose major fits the path.

    As in x/mod's Check, version need not be canonical; `is_canonical_for` demands that too.

    Raises:
        BadInputError: path or version is malformed, or they don't fit: ("x.y/z", "v2.0.0").
    """
    check_path(path)
    if not semver.is_valid(version):
        raise _malformed(_PathKind.VERSION, version, "not a semantic version such as v1.2.3")
    path_major = split_path_version(path)[1]
    if not matches_path_major(version, path_major):
        needed_major = path_major[1:].removesuffix("-unstable")[:20] or "v0 or v1"
        reason = f"{path[:_SHOWN_CHARS]!a} wants {needed_major}, not {semver.major(version)[:20]}"
        raise _malformed(_PathKind.VERSION, version, reason)
