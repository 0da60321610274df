"""The data folder belongs to one database, whose identity it carries in `database.id`.

With another database each blob would be missing or an orphan, and a repair would delete them.
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
