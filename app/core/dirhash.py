"""Go's directory hash "h1:". Follows golang.org/x/mod/sumdb/dirhash.

Only names and digests come in; the caller reads the files. So the hash of gigabytes needs memory
for one short line per file.
"""

import base64
import hashlib
from collections.abc import Iterable

from app.core.errors import BadInputError

_SHA256_BYTES = 32


def hash1(lines: Iterable[tuple[str, bytes]]) -> str:
    """Return the h1 of (name, SHA-256 digest of the content, 32 bytes), in any order.

    It is "h1:" and the padded base64 of the SHA-256 over one line per file, sorted by the names'
    UTF-8 bytes: hex digest, two spaces, name, newline. The names of a module zip include the
    prefix "<module>@<version>/"; the h1 of a go.mod is that of the single name "go.mod". No file
    at all gives "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".

    Raises:
        BadInputError: a name comes twice, has a newline, or is not Unicode text; a digest does
            not have 32 bytes.
    """
    whole = hashlib.sha256()
    previous: bytes | None = None
    for name, digest in sorted((_encode_name(name), digest) for name, digest in lines):
        if name == previous:
            raise BadInputError(f"h1: the name {_quoted(name)} comes twice")
        if len(digest) != _SHA256_BYTES:
            raise BadInputError(f"h1: the digest of {_quoted(name)} is not a SHA-256")
        whole.update(b"%b  %b\n" % (digest.hex().encode(), name))
        previous = name
    return "h1:" + base64.b64encode(whole.digest()).decode()


def _encode_name(name: str) -> bytes:
    if "\n" in name:
        raise BadInputError(f"h1: the name {name[:60]!a} has a newline")
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise BadInputError(f"h1: the name {name[:60]!a} is not Unicode text") from error


def _quoted(name: bytes) -> str:
    return ascii(name[:60].decode(errors="replace"))
