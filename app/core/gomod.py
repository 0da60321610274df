"""A go.mod: the module that it names, its h1, and the go.mod that a module without one gets.

Follows golang.org/x/mod/modfile (ModulePath, MustQuote, AutoQuote) and cmd/go's legacyGoMod. Only
`go` reads the other lines (requirements, retractions).
"""

import hashlib
import io
import re

from app.core.archiverules import shown
from app.core.dirhash import hash1
from app.core.errors import BadInputError

MAX_BYTES = 16 << 20  # MaxGoMod of golang.org/x/mod/zip

# Go's unicode.IsSpace. str.strip() would also remove U+001C to U+001F.
_SPACE = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Linear in time even over 16 MiB of line ends: `^` is followed by blanks, not by any space.
_BLOCK = re.compile(r"^[ \t]*+module[ \t]+\((?:\s|//.*$)*+([^\s)].*)$", re.MULTILINE)
_SLICE_BYTES = 64 * 1024
_COMMENT = re.compile(rb"//[^\n]*")
_BACKQUOTED = re.compile(r"`([^`]*)`")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"
    r"|\\"
)
_LETTERS = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))


def module_path(text: bytes) -> str | None:
    """Return the module path that a go.mod names, or None: exactly modfile.ModulePath.

    The first line `module <path>` counts, bare or quoted; the other lines are not read. For the
    block form `module (` the result is "(", as in `go`.
    """
    for line in io.BytesIO(text):
        code = line.partition(b"//")[0].decode(errors="replace").strip(_SPACE)
        after = code.removeprefix("module")
        path = after.strip(_SPACE)
        if after in (code, path):  # the line begins with another word, such as "modules"
            continue
        return (_unquote(path) if path[0] in '"`' else path) or None
    return None


def synthetic(path: str) -> bytes:
    r"""Return the go.mod for a module that has none: b"module example.com/m\n".

    Raises:
        BadInputError: path is empty or not printable.
    """
    if not path or not path.isprintable():
        raise BadInputError(f"{shown(path)} is not a module path")
    if re.search(r"[ \"'`]|//|/\*", path) or (len(path) > 1 and re.search(r"[()\[\]{},]", path)):
        path = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"module {path}\n".encode()


def h1(text: bytes) -> str:
    """Return the h1 of a go.mod, which is hashed under the name "go.mod"."""
    return hash1([("go.mod", hashlib.sha256(text).digest())])


def check(text: bytes, path: str) -> None:
    """Accept the go.mod of the module `path` (plain).

    Raises:
        BadInputError: `check_form` refuses it; or it names no module or another module.
    """
    check_form(text)
    declared = _declared_path(text)
    if declared is None:
        raise BadInputError(f"the go.mod of {shown(path)} has no module line")
    if declared != path:
        raise BadInputError(f"the go.mod of {shown(path)} names the module {shown(declared)}")


def check_form(text: bytes) -> None:
    """Accept bytes that can be a go.mod, whichever module it names.

    Raises:
        BadInputError: it has more than MAX_BYTES or a NUL, is HTML, or is not UTF-8 outside of
            comments, where `go` takes any bytes.
    """
    if len(text) > MAX_BYTES:
        raise BadInputError(f"the go.mod has more than {MAX_BYTES} bytes")
    if b"\0" in text:
        raise BadInputError("the go.mod has a NUL byte")
    try:
        text.decode()
    except UnicodeDecodeError:
        _check_uncommented(text)
    head = _COMMENT.sub(b"", text[:_SLICE_BYTES]).decode(errors="replace")
    if head.lstrip(_SPACE + "\ufeff").startswith("<"):
        raise BadInputError("the go.mod is an HTML or XML page")


def _check_uncommented(text: bytes) -> None:
    """Accept UTF-8 with any bytes in its comments. In slices: one long call would stop all threads.

    Raises:
        BadInputError: there is something else outside of the comments.
    """
    start = 0
    while start < len(text):
        # A slice ends with a line, however long that is.
        line_end = text.find(b"\n", start + _SLICE_BYTES)
        end = len(text) if line_end < 0 else line_end + 1
        try:
            _COMMENT.sub(b"", text[start:end]).decode()
        except UnicodeDecodeError as error:
            raise BadInputError("the go.mod is not UTF-8") from error
        start = end


def _declared_path(text: bytes) -> str | None:
    """Return the declared path, also from the block form, which `go` reads in requirements."""
    declared = module_path(text)
    if declared != "(":
        return declared
    block = _BLOCK.search(text.decode(errors="replace"))
    return module_path(b"module " + block[1].encode()) if block else None


def _unquote(text: str) -> str | None:
    """Return the value of a Go string literal: strconv.Unquote; None where it is malformed."""
    if raw := _BACKQUOTED.fullmatch(text):
        return raw[1].replace("\r", "")
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        return None
    try:
        return _ESCAPE.sub(_unescape, quoted[1])
    except ValueError:
        return None


def _unescape(escape: re.Match[str]) -> str:
    letter, hexadecimal, octal, short, long = escape.groups()
    if letter:
        return _LETTERS[letter]
    number = int(octal, 8) if octal else int(hexadecimal or short or long or "", 16)
    if 0xD800 <= number < 0xE000:
        raise ValueError("a surrogate is no character")
    # \x and octal escapes are bytes; a byte beyond ASCII is in no module path.
    return chr(number) if number < 0x80 or short or long else "\ufffd"
