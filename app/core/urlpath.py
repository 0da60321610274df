"""Percent-encoding in the paths of URLs, taken away once and strictly (RFC 3986, section 2).

Clients differ in what they encode: `go` sends "%21" for "!", others "%7E", "%40" or "%2B". All of
these mean the same path. What an encoding could hide from a check is refused.
"""

import re
from urllib.parse import unquote_to_bytes

from app.core.errors import BadInputError

_VISIBLE = re.compile(rb"[\x21-\x7e]*")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})?")
_HIDDEN = re.compile(rb"%(?:2[Ff]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")


def decode(path: bytes) -> bytes:
    """Return a path with each "%XX" replaced by its byte: b"a/%7Eb" gives b"a/~b".

    The result is UTF-8 without control characters, and has the slashes of path alone.

    Raises:
        BadInputError: path has a byte that is not visible ASCII, a malformed "%", an encoded slash,
            backslash or control character, is not UTF-8 once decoded, or is encoded twice.
    """
    if not _VISIBLE.fullmatch(path):
        raise BadInputError("the path has a byte that is not visible ASCII; percent-encode it")
    if b"%" not in path:
        return path
    if not all(match[1] for match in _ENCODED.finditer(path)):
        raise BadInputError("the path has a % without two hexadecimal digits after it")
    if _HIDDEN.search(path):
        raise BadInputError("the path has an encoded slash, backslash or control character")
    decoded = unquote_to_bytes(path)
    try:
        decoded.decode()
    except UnicodeDecodeError as error:
        raise BadInputError("the path is not UTF-8 once it is decoded") from error
    if any(match[1] for match in _ENCODED.finditer(decoded)):
        raise BadInputError("the path is percent-encoded twice")
    return decoded
