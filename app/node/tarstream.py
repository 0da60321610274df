"""The regular files of a tar stream, read without copies. Formats: POSIX ustar and pax, GNU names.

Every byte was checked against a signed sum before it came here, so the headers' own checksums are
passed over. Types other than files, folders, symbolic links and long names are refused: hard
links, devices and sparse files have no place in a release.

Not here: which names are allowed (the reader's tree says).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .errors import RefusedError
from .tree import FILE, FOLDER, LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .decompress import TarBytes

_BLOCK = 512
_BUFFER_BYTES = 4 << 20
SMALL_BYTES = 256 << 10
"""A file up to this size comes as one view, a larger one in parts."""
_MAX_EXTENDED_BYTES = 1 << 20
_MAX_END_BYTES = 8 << 20
_EMPTY = bytes(_BLOCK)
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": FOLDER, b"2": LINK}


class Member(NamedTuple):
    """One entry of the tar.

    Attributes:
        path: as in the tar, without a final slash: "go/bin/go".
        kind: of `tree`.
        size: bytes of content.
        target: of a link.
        content: views of the content, together size bytes; each is valid until the next one.
    """

    path: str
    kind: str
    size: int
    target: str
    content: Iterator[memoryview]


class _Window:
    """A part of the stream in one buffer."""

    def __init__(self, source: TarBytes) -> None:
        self._source = source
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0

    def take(self, count: int) -> memoryview:
        """Return the next count bytes, at most SMALL_BYTES and a block; valid until the next take.

        Raises:
            RefusedError: the stream ends before.
        """
        if self._end - self._start < count:
            self._fill(count)
        start = self._start
        self._start += count
        return self._view[start : self._start]

    def _fill(self, count: int) -> None:
        rest = self._end - self._start
        self._view[:rest] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, rest
        while self._end < count:
            came = self._source.read_into(self._view[self._end :])
            if not came:
                raise RefusedError("the archive's tar ends in the middle")
            self._end += came

    def drain(self) -> None:
        """Read to the end of the stream, where only zeros may be, and not many."""
        rest, size = self._view[self._start : self._end], 0
        while True:
            size += len(rest)
            if size > _MAX_END_BYTES or bytes(rest).strip(b"\0"):
                raise RefusedError("the archive's tar has bytes after its end")
            count = self._source.read_into(self._view)
            if not count:
                return
            rest = self._view[:count]


def members(source: TarBytes) -> Iterator[Member]:
    """Yield the entries in order, and read the stream to its end.

    Raises:
        RefusedError: the tar is malformed or cut off, or has an entry of another type.
    """
    window = _Window(source)
    extended: dict[str, str] = {}
    while True:
        header = bytes(window.take(_BLOCK))
        if header == _EMPTY:
            window.drain()
            return
        flag, size = header[156:157], _number(header[124:136])
        if flag in (b"x", b"g", b"L", b"K"):
            if size > _MAX_EXTENDED_BYTES:
                raise RefusedError("the archive's tar has a too long extended header")
            content = b"".join(map(bytes, _content(window, size)))
            if flag == b"x":
                extended.update(_pax(content))
            elif flag != b"g":
                extended["path" if flag == b"L" else "linkpath"] = _text(content)
            elif {"path", "linkpath", "size"} & _pax(content).keys():
                raise RefusedError("the archive's tar gives all its entries one name or size")
            continue
        kind = _KINDS.get(flag)
        path = extended.get("path") or _name(header)
        if kind is None:
            raise RefusedError(
                f"the archive has {path[:80]!a}, which is no file, folder or symbolic link"
            )
        if "size" in extended:
            size = _decimal(extended["size"])
        if kind != FILE:
            size = 0
        target = extended.get("linkpath") or _text(header[157:257]) if kind == LINK else ""
        content_views = _content(window, size)
        yield Member(path.rstrip("/"), kind, size, target, content_views)
        for _ in content_views:  # what the consumer left
            pass
        extended = {}


def _content(window: _Window, size: int) -> Iterator[memoryview]:
    while size > SMALL_BYTES:
        yield window.take(SMALL_BYTES)
        size -= SMALL_BYTES
    # Content and padding in one take: most files end here.
    yield window.take(size + -size % _BLOCK)[:size]


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError as error:
        raise RefusedError("the archive has a name that is not UTF-8") from error


def _number(field: bytes) -> int:
    """Return an octal field; GNU's binary form is for sizes that no release has."""
    try:
        number = int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise RefusedError("the archive's tar has a size that is no number")
    return number


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise RefusedError("the archive's tar has a size that is no number")
    return int(text)


def _pax(content: bytes) -> dict[str, str]:
    r"""Return the records of a pax header that matter: "29 path=go/a/very/long/name\n"."""
    records: dict[str, str] = {}
    while content:
        length, space, _ = content.partition(b" ")
        count = int(length) if space and length.isdigit() and len(length) < 8 else 0
        record, content = content[len(length) + 1 : count], content[count:]
        if count <= len(length) + 1 or not record.endswith(b"\n"):
            raise RefusedError("the archive's tar has a malformed extended header")
        key, _, value = record[:-1].partition(b"=")
        if key in (b"path", b"linkpath", b"size"):
            records[key.decode()] = _text(value)
        elif key.startswith(b"GNU.sparse"):
            raise RefusedError("the archive has a sparse file")
    return records
