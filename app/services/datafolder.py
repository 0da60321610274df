"""What belongs together: a data folder, a database, a store of blobs, and the key of secrets.

A data folder carries the identity of its database in `database.id`. With another database each blob
would be missing or an orphan, and a repair would delete them. Where several hosts can use one
database, the store and the key are proven too: `StoreMark` and `require_key`.
"""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path

from app.core.errors import ConflictError, StorageError, UnfitDatabaseError
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.installation import bind_store, database_uid, first_key_canary, first_store
from app.services.clock import Now
from app.services.secrets import SecretBox
from app.storage import durable
from app.storage.objects import ANY, ObjectStore

_NAME = "database.id"
_STORE = "store.id"
CANARY_PLACE = "canary"
_CANARY = "moorage"


class DataFolder:
    """The mark of one data folder."""

    def __init__(self, folder: Path, now: Now) -> None:
        self._path = folder / _NAME
        self._now = now

    def require(self, uid: str) -> None:
        """Return if the folder belongs to the database; a folder without a mark gets this one.

        Args:
            uid: of the database, from `database_uid`.

        Raises:
            UnfitDatabaseError: the folder belongs to another database.
            StorageError: the mark can't be read or made.
        """
        with durable.storage_errors(f"mark the data folder ({_NAME})"):
            durable.create_once(self._path, f"{uid}\n".encode())
            owner = self._path.read_text("ascii", "replace").strip()
        if owner != uid:
            raise UnfitDatabaseError(
                f"MOORAGE_DATA_DIR belongs to another database ({_NAME} has {owner[:40]!a}, this "
                f"database is {uid!a}): name the folder and the database that belong together; if "
                "these do from now on, run `moorage migrate --bind`"
            )

    def bind(self, session: Session) -> bool:
        """Mark the folder as the database's, whatever mark it has; return False if it has that.

        The mark is replaced before the transaction is committed; a second call repairs what a kill
        leaves.
        """
        uid = database_uid(session)
        with durable.storage_errors(f"mark the data folder ({_NAME})"):
            owner = self._path.read_text("ascii", "replace").strip() if self._path.exists() else ""
            if owner == uid:
                return False
            durable.replace_file(self._path, f"{uid}\n".encode())
        AuditLog(session).append(
            self._now(), "cli", "database.bind", f"database:{uid}", f"the folder had {owner!a}"
        )
        return True


class StoreMark:
    """Binds a store of blobs and a database to each other, by an id on each side.

    Args:
        objects: kept in the store itself.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def require(self, db: Database) -> None:
        """Return if store and database belong together; two that are both new do from now on.

        Raises:
            UnfitDatabaseError: one of them belongs to another.
            StorageError: the store does not answer.
        """
        uid = await db.read(database_uid)
        owner = await asyncio.to_thread(self._first, _NAME, uid)
        if owner != uid:
            raise UnfitDatabaseError(
                f"the store of MOORAGE_STORAGE__URL belongs to another database ({_NAME} has "
                f"{owner[:40]!a}, this database is {uid!a}): name the store and the database that "
                "belong together; if these do from now on, run `moorage migrate --bind`"
            )
        store = await asyncio.to_thread(self._first, _STORE, secrets.token_hex(16))
        bound = await db.write(lambda s: first_store(s, store))
        if bound != store:
            raise UnfitDatabaseError(
                "the blobs of this database are in another store than the one of "
                "MOORAGE_STORAGE__URL: all replicas need one and the same; if this one has all "
                "blobs from now on, run `moorage migrate --bind`"
            )

    async def bind(self, db: Database) -> None:
        """Bind store and database to each other, whatever they are bound to.

        Raises:
            StorageError: the store does not answer.
        """
        uid = await db.read(database_uid)
        await asyncio.to_thread(self._put, _NAME, uid)
        store = await asyncio.to_thread(self._first, _STORE, secrets.token_hex(16))
        await db.write(lambda s: bind_store(s, store))

    def _first(self, name: str, text: str) -> str:
        """Return what a mark says; a missing one says this text from now on."""
        if self._objects.get(name) is None:
            with suppress(ConflictError):  # another replica was first
                self._objects.put(name, f"{text}\n".encode(), expected=None)
        mark = self._objects.get(name)
        return text if mark is None else mark.data.decode("ascii", "replace").strip()

    def _put(self, name: str, text: str) -> None:
        self._objects.put(name, f"{text}\n".encode(), expected=ANY)


async def require_key(db: Database, box: SecretBox) -> None:
    """Return if the key is that of the database's secrets; the first one that comes is.

    Raises:
        UnfitDatabaseError: another replica, or an earlier start, had another key.
    """
    sealed = box.seal(_CANARY, CANARY_PLACE)
    canary = await db.write(lambda s: first_key_canary(s, sealed))
    try:
        box.open(canary, CANARY_PLACE)
    except StorageError as error:
        raise UnfitDatabaseError(
            "MOORAGE_SECRETS_KEY is not the key of this database's secrets: give every replica the "
            "key that the first one had"
        ) from error
