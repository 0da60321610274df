"""What belongs together: a data folder and a database.

A data folder carries the identity of its database in `database.id`. With another database each blob
would be missing or an orphan, and a repair would delete them. The key of secrets: `keyproof.py`.
The store of blobs: `storemark.py`.
"""

from pathlib import Path

from app.core.errors import UnfitDatabaseError
from app.db.audit import AuditLog
from app.db.engine import Session
from app.db.installation import database_uid
from app.services.clock import Now
from app.storage import durable

_NAME = "database.id"


class DataFolder:
    """The mark of one data folder."""

    def __init__(self, folder: Path, now: Now) -> None:
        self._path = folder / _NAME
        self._now = now

    @property
    def is_marked(self) -> bool:
        """Whether the folder belongs to a database already."""
        return self._path.exists()

    def require_before_migration(self, uid: str | None) -> None:
        """Return if a database may be migrated beside this folder; nothing is written.

        Args:
            uid: of the database; None for an empty one.

        Raises:
            UnfitDatabaseError: the folder belongs to another database, or the database is empty.
            StorageError: the mark can't be read.
        """
        with durable.storage_errors(f"read {_NAME}"):
            owner = self._path.read_text("ascii", "replace").strip() if self.is_marked else None
        if owner is None or owner == uid:
            return
        if uid is not None:
            raise UnfitDatabaseError(_foreign(owner, uid))
        raise UnfitDatabaseError(
            f"MOORAGE_DATA_DIR belongs to a database ({_NAME} has {owner[:40]!a}), and the one of "
            "the settings is empty: name that database or restore it (docs/operations/backup.md); "
            "if a new one is meant, run `moorage migrate --bind`"
        )

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
            raise UnfitDatabaseError(_foreign(owner, uid))

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


def _foreign(owner: str, uid: str) -> str:
    return (
        f"MOORAGE_DATA_DIR belongs to another database ({_NAME} has {owner[:40]!a}, this database "
        f"is {uid!a}): name the folder and the database that belong together; if these do from now "
        "on, run `moorage migrate --bind`"
    )
