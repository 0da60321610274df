"""The manifest of a backup: everything that it consists of, by digest.

    backups/<id>/manifest.json    written last: a backup without it is none
    pieces/ab/<sha256>.z          pieces of the database and of the list of blobs, zlib
    blobs/ab/<sha256>             blobs, as they are

Pieces and blobs belong to all backups of a place, so that what did not change is stored once. The
id ends in a digest of the manifest: "20261127T230107Z-90b1c5a7d2e4f608". Nothing here reads or
writes: `services/backup/`.
"""

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.core.digest import Digest
from app.core.errors import BadInputError

FORMAT = 1
PIECE_BYTES = 256 * 1024
"""A multiple of SQLite's page: a changed page changes one piece."""

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{16}", re.ASCII)
_MAX_LINES_BYTES = 1 << 20
_LINES = 1024  # lines of a piece, on average


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a stream; size and digest are those of the bytes before compression."""

    sha256: Digest
    size_bytes: int

    @property
    def key(self) -> str:
        """The name of the object that holds the piece."""
        return f"pieces/{self.sha256.hex[:2]}/{self.sha256.hex}.z"


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes in pieces, one behind the other, and the digest of all of them."""

    sha256: Digest
    size_bytes: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup.

    Attributes:
        made_at: when the copy of the database was taken, UTC.
        program: the version of Moorage that made it.
        kind: "sqlite": the file; "postgresql": a plain dump of pg_dump.
        uid: the database's identity.
        schema: the database's revision.
        database: the file or dump.
        blobs: lines "<sha256> <size>", in digest order.
        blob_count: number of those lines.
        blob_bytes: size of all blobs.
        new_bytes: what this backup wrote to its place, without the manifest.
        heads: the newest heads of the logs by name, read after everything else.
        behind: names in heads that are newer than the database: they grew meanwhile.
        lacking: blobs that the database names and the store did not have.
    """

    made_at: datetime
    program: str
    kind: str
    uid: str
    schema: str
    database: Stream
    blobs: Stream
    blob_count: int
    blob_bytes: int
    new_bytes: int
    heads: Mapping[str, bytes]
    behind: tuple[str, ...]
    lacking: tuple[Digest, ...]


def manifest_key(backup_id: str) -> str:
    """Return the name of the object that holds a manifest.

    Raises:
        BadInputError: this is not the id of a backup.
    """
    if not _ID.fullmatch(backup_id):
        raise BadInputError(f"{backup_id[:80]!a} is not the id of a backup; see `backup list`")
    return f"backups/{backup_id}/manifest.json"


def id_of_key(key: str) -> str | None:
    """Return the id of the backup whose manifest has this name; None for another object."""
    match = re.fullmatch(rf"backups/({_ID.pattern})/manifest\.json", key, re.ASCII)
    return match[1] if match else None


def made_at_of(backup_id: str) -> datetime:
    """Return when a backup was made, UTC, to the second: its id begins with that."""
    return datetime.strptime(backup_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def blob_key(digest: Digest) -> str:
    """Return the name of the object that holds a blob."""
    return f"blobs/{digest.hex[:2]}/{digest.hex}"


def encode(manifest: Manifest) -> tuple[str, bytes]:
    """Return the backup's id and the manifest's bytes."""
    value = {
        "format": FORMAT,
        "made_at": manifest.made_at.isoformat(),
        "program": manifest.program,
        "kind": manifest.kind,
        "uid": manifest.uid,
        "schema": manifest.schema,
        "database": _stream_value(manifest.database),
        "blobs": _stream_value(manifest.blobs),
        "blob_count": manifest.blob_count,
        "blob_bytes": manifest.blob_bytes,
        "new_bytes": manifest.new_bytes,
        "heads": {name: base64.b64encode(raw).decode() for name, raw in manifest.heads.items()},
        "behind": list(manifest.behind),
        "lacking": [digest.hex for digest in manifest.lacking],
    }
    raw = json.dumps(value, sort_keys=True).encode()
    return f"{manifest.made_at:%Y%m%dT%H%M%SZ}-{Digest.of(raw).hex[:16]}", raw


def decode(backup_id: str, raw: bytes) -> Manifest:
    """Return the manifest of a backup, after comparing the bytes with the id.

    Raises:
        BadInputError: the bytes are not those that the id names, or of a later format.
    """
    if Digest.of(raw).hex[:16] != backup_id.rpartition("-")[2]:
        raise BadInputError(f"the manifest of backup {backup_id} is damaged")
    try:
        value = json.loads(raw)
        if value["format"] != FORMAT:
            raise BadInputError(
                f"backup {backup_id} has format {value['format']}, this program reads {FORMAT}"
            )
        return Manifest(
            made_at=datetime.fromisoformat(value["made_at"]),
            program=value["program"],
            kind=value["kind"],
            uid=value["uid"],
            schema=value["schema"],
            database=_stream(value["database"]),
            blobs=_stream(value["blobs"]),
            blob_count=value["blob_count"],
            blob_bytes=value["blob_bytes"],
            new_bytes=value["new_bytes"],
            heads={n: base64.b64decode(raw) for n, raw in value["heads"].items()},
            behind=tuple(value["behind"]),
            lacking=tuple(map(Digest, value["lacking"])),
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise BadInputError(f"the manifest of backup {backup_id} can't be read") from error


def _stream_value(stream: Stream) -> dict[str, Any]:
    pieces = [[piece.sha256.hex, piece.size_bytes] for piece in stream.pieces]
    return {"sha256": stream.sha256.hex, "size_bytes": stream.size_bytes, "pieces": pieces}


def _stream(value: Any) -> Stream:
    pieces = tuple(Piece(Digest(hex_digest), size) for hex_digest, size in value["pieces"])
    return Stream(Digest(value["sha256"]), value["size_bytes"], pieces)


def pack(plain: bytes) -> bytes:
    """Return the compressed form of a piece."""
    return zlib.compress(plain, 1)


def unpack(packed: bytes, piece: Piece) -> bytes:
    """Return the bytes of a piece, verified.

    Raises:
        BadInputError: these are not the bytes of the piece.
    """
    try:
        decompressor = zlib.decompressobj()
        plain = decompressor.decompress(packed, piece.size_bytes + 1)
    except zlib.error as error:
        raise BadInputError(f"piece {piece.sha256} is damaged") from error
    if len(plain) != piece.size_bytes or Digest.of(plain) != piece.sha256:
        raise BadInputError(f"piece {piece.sha256} is damaged")
    return plain


def cut_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines in pieces of about a thousand; the content decides where a piece ends.

    So a line that is inserted or removed changes one piece, or two.
    """
    piece = bytearray()
    for line in lines:
        piece += line
        if zlib.crc32(line) % _LINES == 0 or len(piece) >= _MAX_LINES_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def blob_line(digest: Digest, size_bytes: int) -> bytes:
    """Return the line of a blob in the list."""
    return f"{digest.hex} {size_bytes}\n".encode()


def parse_blobs(text: bytes) -> list[tuple[Digest, int]]:
    """Return digest and size of each blob of a list.

    Raises:
        BadInputError: a line is malformed.
    """
    blobs = []
    for line in text.decode("ascii", "replace").splitlines():
        hex_digest, _, size = line.partition(" ")
        if not size.isdigit():
            raise BadInputError("the list of blobs has a malformed line")
        blobs.append((Digest(hex_digest), int(size)))
    return blobs
