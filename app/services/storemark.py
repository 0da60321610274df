"""The bond between a database and the store of its blobs, proven before anything is stored there.

Each side carries an id: the store that of its database (`database.id`) and one of its own
(`store.id`), which the database keeps. A wrong store is refused before anything is written into it.

A data folder remembers the proof in `store.proven`. While the store is away, a start that finds
it goes on: what the folder's cache holds is right by its digest, and nothing else is asked of the
store until the proof is made again. A folder without it belongs to nothing known, and has to wait.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from app import logs
from app.core.errors import (
    ConflictError,
    StorageError,
    StoreAwayError,
    UnfitDatabaseError,
)
from app.db.blobs import Blobs, RecordedBlob
from app.db.engine import Database, Session
from app.db.installation import bind_store, bound_store, database_uid, first_store
from app.storage import durable
from app.storage.blobstore import BlobCondition, BlobStore
from app.storage.objects import ANY, ObjectStore

PROOF = "store.proven"
UNPROVEN = (
    "S3 did not answer at the start, so that nothing is known of the bucket; it is asked again"
)
_DATABASE = "database.id"
_STORE = "store.id"
_SAMPLE = 8  # blobs that a store is asked for before it is bound
_log = logs.get("store")


class StoreMark:
    """Binds a store of blobs and a database to each other.

    Args:
        objects: kept in the store itself; asks the store although nothing is proven.
        folder: the data folder, which remembers the proof.
        place: of the store, as the settings name it.
    """

    def __init__(self, objects: ObjectStore, folder: Path, place: str) -> None:
        self._objects = objects
        self._proof = folder / PROOF
        self._place = hashlib.sha256(place.encode()).hexdigest()
        self._proven = False
        self.trouble: str | None = None
        """Why the store may not be used; None if it may, or if it did not answer yet."""

    def obstacle(self) -> str | None:
        """Return why the store must not be asked for anything; None once it is proven."""
        return None if self._proven else self.trouble or UNPROVEN

    async def start(self, db: Database, store: BlobStore) -> None:
        """Prove the store; return without a proof if the store is away and was proven before.

        Raises:
            UnfitDatabaseError: store and database do not belong together.
            StoreAwayError: the store does not answer, and was not proven in this data folder.
        """
        try:
            await self.require(db, store)
        except StorageError as error:
            if not await self._was_proven(db):
                raise StoreAwayError(
                    f"{error}; this data directory was not used with this store before, so that "
                    "nothing in it can be served until the store answers"
                ) from error
            _log.warning("the store is away; what is cached is served", error=str(error))

    async def prove_again(self, db: Database, store: BlobStore) -> None:
        """Prove the store unless that is done; a store that is another one stays closed.

        Raises:
            UnfitDatabaseError: store and database do not belong together.
            StorageError: the store does not answer.
        """
        if self._proven:
            return
        await self.require(db, store)
        _log.info("the store is proven")

    async def require(self, db: Database, store: BlobStore) -> None:
        """Return if store and database belong together; two that are both new do from now on.

        Both sides are read before anything is written.

        Args:
            db: the database.
            store: the blobs; it must have some of those that the database records, if the two
                were not bound before.

        Raises:
            UnfitDatabaseError: one of them belongs to another, or the store has none of the blobs.
            StorageError: the store does not answer.
        """
        self.trouble = None
        try:
            await self._require(db, store)
        except UnfitDatabaseError as error:
            self.trouble = str(error)
            raise

    async def _require(self, db: Database, store: BlobStore) -> None:
        uid, bound = await db.read(_sides)
        owner, store_id = await asyncio.to_thread(self._read_both)
        if owner not in (None, uid):
            raise UnfitDatabaseError(_foreign(owner or "", uid))
        if bound not in (None, store_id):
            raise UnfitDatabaseError(
                "the blobs of this database are in another store than the one of "
                "MOORAGE_STORAGE__URL: all replicas need one and the same; if this one has all "
                "blobs from now on, run `moorage migrate --bind-store`"
            )
        self._proven = True  # the question about blobs goes to the store
        try:
            if bound is None:
                await require_recorded_blobs(db, store, "the store of MOORAGE_STORAGE__URL")
            await self._bind_new(db, uid)
        except BaseException:
            self._proven = False
            raise

    async def _bind_new(self, db: Database, uid: str) -> None:
        """Write what is missing on each side; another replica may do the same at this moment."""
        owner = await asyncio.to_thread(self._first, _DATABASE, uid)
        if owner != uid:
            raise UnfitDatabaseError(_foreign(owner, uid))
        store_id = await asyncio.to_thread(self._first, _STORE, secrets.token_hex(16))
        if await db.read(bound_store) is None:
            bound = await db.write(lambda s: first_store(s, store_id))
            if bound != store_id:
                raise UnfitDatabaseError("another replica has bound another store just now")
        await asyncio.to_thread(self._remember, uid, store_id)

    async def bind(self, db: Database) -> None:
        """Bind store and database to each other, whatever they are bound to.

        Raises:
            StorageError: the store does not answer.
        """
        uid = await db.read(database_uid)
        await asyncio.to_thread(self.claim, uid)
        store_id = await asyncio.to_thread(self._first, _STORE, secrets.token_hex(16))
        await db.write(lambda s: bind_store(s, store_id))
        await asyncio.to_thread(self._remember, uid, store_id)

    def claim(self, uid: str) -> None:
        """Say that the store has the blobs of a database, whosever they were. Blocks."""
        self._objects.put(_DATABASE, f"{uid}\n".encode(), expected=ANY)

    def owner(self) -> str | None:
        """Return the identity of the database whose store it is; None for nobody's. Blocks."""
        return self._read(_DATABASE)

    async def _was_proven(self, db: Database) -> bool:
        """Whether this folder was used with this very store and database before."""
        uid, bound = await db.read(_sides)
        with durable.storage_errors(f"read {PROOF}"):
            return bound is not None and self._proof_of(uid, bound) == self._remembered()

    def _remembered(self) -> str:
        return self._proof.read_text("ascii", "replace") if self._proof.exists() else ""

    def _remember(self, uid: str, store_id: str) -> None:
        proof = self._proof_of(uid, store_id)
        with durable.storage_errors(f"write {PROOF}"):
            if self._remembered() != proof:
                durable.replace_file(self._proof, proof.encode())

    def _proof_of(self, uid: str, store_id: str) -> str:
        return f"{uid} {store_id} {self._place}\n"

    def _read_both(self) -> tuple[str | None, str | None]:
        return self._read(_DATABASE), self._read(_STORE)

    def _read(self, name: str) -> str | None:
        mark = self._objects.get(name)
        return None if mark is None else mark.data.decode("ascii", "replace").strip()

    def _first(self, name: str, text: str) -> str:
        """Return what a mark says; a missing one says this text from now on."""
        if self._objects.get(name) is None:
            with suppress(ConflictError):  # another replica was first
                self._objects.put(name, f"{text}\n".encode(), expected=None)
        return self._read(name) or text


async def require_recorded_blobs(db: Database, store: BlobStore, name: str) -> None:
    """Return if a store that is bound for the first time has blobs that the database records.

    A wrong name leads to an empty store, in which every blob would be missing.

    Raises:
        UnfitDatabaseError: it has none of those that were looked for.
        StorageError: the store does not answer.
    """
    sample = await db.read(lambda s: Blobs(s).some(_SAMPLE))
    for blob in sample:
        if await store.check(blob.digest, blob.size_bytes, deep=False) is BlobCondition.OK:
            return
    if sample:
        raise UnfitDatabaseError(
            f"this database has blobs, and {name} has none of {len(sample)} that were looked for: "
            "name the place that has them, or copy them there; if they are lost, run `moorage "
            "migrate --bind --bind-store`"
        )


async def absent(store: BlobStore, blobs: Sequence[RecordedBlob]) -> list[RecordedBlob]:
    """Return those blobs whose bytes the store has not, or not all of; nothing is hashed.

    Raises:
        StorageError: the store does not answer.
    """
    gone = (BlobCondition.MISSING, BlobCondition.SHORT)
    return [
        blob
        for blob in blobs
        if await store.check(blob.digest, blob.size_bytes, deep=False) in gone
    ]


def _sides(session: Session) -> tuple[str, str | None]:
    return database_uid(session), bound_store(session)


def _foreign(owner: str, uid: str) -> str:
    return (
        f"the store of MOORAGE_STORAGE__URL belongs to another database ({_DATABASE} has "
        f"{owner[:40]!a}, this database is {uid!a}): name the store and the database that belong "
        "together; if these do from now on, run `moorage migrate --bind-store`"
    )
