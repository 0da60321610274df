"""A log's newest head outside the database, to notice that an older database was restored.

A restored database may lack records whose proof clients have seen. If the log grew from there, it
would sign a second timeline, and every such client would refuse the log for ever. So nothing is
appended to a log whose database is behind this file, or that has records and no file.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from app.core import tlog
from app.core.errors import BadInputError, StorageError
from app.core.note import parse_note
from app.core.tlog import Tree
from app.storage.durable import replace_file, storage_errors
from app.storage.private import make_private_file


class HeadFiles:
    """The head files of all logs, in one folder; a missing folder is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors("make keys/logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of a log's file; slashes in the log's name are escaped."""
        return self._folder / f"{quote(name, safe='')}.head"

    def knows(self, name: str) -> bool:
        """Return whether a log of that name has a head file."""
        with storage_errors(f"look for keys/logs/{name}.head"):
            return self.path(name).exists()

    def read(self, name: str) -> Tree | None:
        """Return the tree of a log's newest head; None without a file.

        Raises:
            StorageError: the file can't be read, or holds no head.
        """
        with storage_errors(f"read keys/logs/{name}.head"):
            try:
                raw = self.path(name).read_bytes()
            except FileNotFoundError:
                return None
        try:
            return tlog.parse_tree(parse_note(raw).text)
        except BadInputError as error:
            raise StorageError(f"keys/logs/{name}.head holds no tree head; restore it") from error

    def keep(self, name: str, note: bytes) -> None:
        """Replace an older head by this one, durably; a newer head stays.

        The first head that a log's file holds is that of the empty log. So a missing file was lost,
        and only `replace` makes another one: nobody knows how large the newest head was.

        Raises:
            StorageError: the file can't be written.
        """
        size = tlog.parse_tree(parse_note(note).text).size
        with storage_errors(f"lock keys/logs/{name}.head"), self._lock(name):
            filed = self.read(name)
            is_newer = size == 0 if filed is None else filed.size < size
            if is_newer:
                self._write(name, note)

    def replace(self, name: str, note: bytes) -> None:
        """Replace any head by this one, durably.

        Raises:
            StorageError: the file can't be written.
        """
        with storage_errors(f"lock keys/logs/{name}.head"), self._lock(name):
            self._write(name, note)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Return a context that holds a lock between processes; a kill releases the lock too."""
        path = self.path(name).with_suffix(".lock")
        make_private_file(path)
        with path.open("ab") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield

    def _write(self, name: str, note: bytes) -> None:
        with storage_errors(f"write keys/logs/{name}.head"):
            replace_file(self.path(name), note)
