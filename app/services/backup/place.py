"""Where backups are: a place with the manifests, pieces and blobs of all backups.

A place belongs to one database. Every method blocks: call it from a thread.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.core.backup import (
    Manifest,
    Piece,
    Stream,
    blob_key,
    decode,
    encode,
    id_of_key,
    made_at_of,
    manifest_key,
    pack,
    parse_blobs,
    unpack,
)
from app.core.digest import Digest
from app.core.errors import BadInputError, ConflictError, UnknownError
from app.storage.durable import storage_errors
from app.storage.objects import ObjectStore

_OWNER_KEY = "installation"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """A complete backup."""

    id: str
    manifest: Manifest


class BackupPlace:
    """The backups of one place."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def bind(self, uid: str) -> None:
        """Return if the place is the database's; an empty place without a mark becomes it.

        Raises:
            ConflictError: it holds the backups of another database, or something else.
        """
        if self._objects.get(_OWNER_KEY) is None:
            for prefix in ("backups/", "blobs/", "pieces/"):
                if next(self._objects.walk(prefix), None) is not None:  # a prune would remove it
                    raise ConflictError(
                        f"this place has {prefix} and is no place of backups: name an empty one"
                    )
        with suppress(ConflictError):
            self._objects.put(_OWNER_KEY, f"{uid}\n".encode(), expected=None)
        owner = self._objects.get(_OWNER_KEY)
        if owner is None or owner.data.decode("ascii", "replace").strip() != uid:
            raise ConflictError(
                "this place holds the backups of another Moorage: name a place of its own"
            )

    def stored(self, prefix: str) -> dict[str, int]:
        """Return the size of every object below a prefix."""
        return {info.key: info.size_bytes for info in self._objects.walk(prefix)}

    def put_stream(self, parts: Iterable[bytes], stored: dict[str, int]) -> tuple[Stream, int]:
        """Store the pieces that are not stored yet; return the stream and how much was written.

        Args:
            parts: the stream, cut.
            stored: sizes of stored pieces, by key; what is written is added.
        """
        whole, size_bytes, written, pieces = hashlib.sha256(), 0, 0, []
        for part in parts:
            whole.update(part)
            size_bytes += len(part)
            piece = Piece(Digest.of(part), len(part))
            pieces.append(piece)
            if piece.key not in stored:
                packed = pack(part)
                self._put_once(piece.key, packed)
                stored[piece.key] = len(packed)
                written += len(packed)
        return Stream(Digest(whole.hexdigest()), size_bytes, tuple(pieces)), written

    def _put_once(self, key: str, data: bytes) -> None:
        with suppress(ConflictError):  # a killed backup left the same bytes
            self._objects.put(key, data, expected=None)

    def put_blob(self, digest: Digest, path: Path) -> None:
        """Store a blob from a local file."""
        self._objects.put_file(blob_key(digest), path)

    def add(self, manifest: Manifest) -> Backup:
        """Store the manifest: from here on the backup is complete."""
        backup_id, raw = encode(manifest)
        self._objects.put(manifest_key(backup_id), raw, expected=None)
        return Backup(backup_id, manifest)

    def all(self) -> list[Backup]:
        """Return the complete backups, oldest first.

        Raises:
            BadInputError: a manifest is damaged.
        """
        ids = [id_of_key(info.key) for info in self._objects.walk("backups/")]
        return [self.get(backup_id) for backup_id in sorted(filter(None, ids))]

    def newest_at(self) -> datetime | None:
        """Return when the newest complete backup was made, UTC; None without one. Reads names."""
        ids = [id_of_key(info.key) for info in self._objects.walk("backups/")]
        newest = max(filter(None, ids), default=None)
        return None if newest is None else made_at_of(newest)

    def get(self, backup_id: str) -> Backup:
        """Return one backup; "latest" is the newest one.

        Raises:
            UnknownError: there is none.
            BadInputError: its manifest is damaged.
        """
        if backup_id == "latest":
            ids = [id_of_key(info.key) for info in self._objects.walk("backups/")]
            backup_id = max(filter(None, ids), default="")
            if not backup_id:
                raise UnknownError("there is no backup in this place")
        stored = self._objects.get(manifest_key(backup_id))
        if stored is None:
            raise UnknownError(f"there is no backup {backup_id}; see `moorage backup list`")
        return Backup(backup_id, decode(backup_id, stored.data))

    def remove(self, backup_id: str) -> None:
        """Remove a manifest; what only that backup had is superfluous from here on."""
        self._objects.delete(manifest_key(backup_id))

    def delete(self, key: str) -> None:
        """Remove a piece or blob that no backup has."""
        self._objects.delete(key)

    def parts(self, stream: Stream) -> Iterator[bytes]:
        """Yield the bytes of a stream, each piece verified.

        Raises:
            BadInputError: a piece is missing or damaged.
        """
        whole = hashlib.sha256()
        for piece in stream.pieces:
            stored = self._objects.get(piece.key)
            if stored is None:
                raise BadInputError(f"piece {piece.sha256} is missing")
            part = unpack(stored.data, piece)
            whole.update(part)
            yield part
        if whole.hexdigest() != stream.sha256.hex:
            raise BadInputError("the pieces together are not the bytes that the manifest names")

    def blobs(self, manifest: Manifest) -> list[tuple[Digest, int]]:
        """Return digest and size of the blobs of a backup.

        Raises:
            BadInputError: the list is missing or damaged.
        """
        return parse_blobs(b"".join(self.parts(manifest.blobs)))

    def get_blob(self, digest: Digest, path: Path) -> bool:
        """Write a blob's bytes to path; return False unless these are the digest's bytes."""
        return self._objects.get_file(blob_key(digest), path) and hash_of(path) == digest

    def problems(
        self,
        backup: Backup,
        *,
        deep: bool,
        discard: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[str]:
        """Return what is wrong with a backup, one line each.

        Args:
            backup: which.
            deep: read and hash all blobs; else only their sizes are compared.
            discard: remove what is damaged, so that the next backup stores it again.
            progress: is called with (blobs checked, blobs in all).
        """
        problems = self._bad_pieces(backup.manifest, discard=discard)
        try:
            blobs = self.blobs(backup.manifest)
        except BadInputError as error:
            return [*problems, f"list of blobs: {error}"]
        sizes = self.stored("blobs/")
        with tempfile.TemporaryDirectory(prefix="moorage-verify-") as folder:
            for index, (digest, size_bytes) in enumerate(blobs):
                size = sizes.get(blob_key(digest))
                is_whole = size == size_bytes and (
                    not deep or self.get_blob(digest, Path(folder) / "blob")
                )
                if not is_whole:
                    problems.append(f"blob {digest} is {'missing' if size is None else 'damaged'}")
                    if discard:
                        self.delete(blob_key(digest))
                progress(index + 1, len(blobs))
        return problems

    def _bad_pieces(self, manifest: Manifest, *, discard: bool) -> list[str]:
        problems = []
        for piece in {*manifest.database.pieces, *manifest.blobs.pieces}:
            stored = self._objects.get(piece.key)
            try:
                if stored is None:
                    raise BadInputError(f"piece {piece.sha256} is missing")
                unpack(stored.data, piece)
            except BadInputError as error:
                problems.append(str(error))
                if discard:
                    self.delete(piece.key)
        return sorted(problems)


def hash_of(path: Path) -> Digest:
    """Return the digest of a file's bytes."""
    with storage_errors(f"read {path.name}"), path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())
