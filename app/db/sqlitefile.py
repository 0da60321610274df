"""The file of an SQLite database: checked at a start that may need it, noted at a clean end.

SQLite survives a kill and a power cut. What it does not notice: a file that was put back while the
write-ahead log (-wal) of its predecessor was left beside it. SQLite writes the pages of that log
into the restored file. So the file is looked at before SQLite gets it.

    moorage.db.state    locked with flock(2) by each process that uses the database; holds
                        "open <inode>" during use, "closed <inode> <size> <mtime>" after a clean end

After a clean end there is no -wal, and the file is as the note says: nothing is checked. Every
other file is checked by the first process that opens it; the others find the lock taken.

Not here: whether the database belongs to the data folder (`app/services/datafolder.py`).
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app import logs
from app.core.errors import DatabaseBusyError, StorageError, UnfitDatabaseError

_DOCS = "see docs/operations/backup.md"
_TOUCHED_S = 2.0
"""A checkpoint writes the file at most this long after the -wal, or so. A file that was written
later was probably restored."""

_log = logs.get("database")


@dataclass(frozen=True, slots=True)
class _Note:
    """What the state file says of the database's file: which file it was, and how it was left."""

    inode: int = 0
    closed: tuple[int, int] | None = None  # size in bytes, mtime in ns

    def matches(self, status: os.stat_result) -> bool:
        return (self.inode, self.closed) == (status.st_ino, (status.st_size, status.st_mtime_ns))


class SqliteFile:
    """The database's file, for one process. Blocks: call it from a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._state: int | None = None

    def open(self, *, is_trusted: bool = False) -> None:
        """Take part in the use of the file, which is checked if this process is the first.

        A second call does nothing: a start that waited is done again.

        Args:
            is_trusted: an operator says that the file and the -wal beside it belong together.

        Raises:
            UnfitDatabaseError: the file is malformed, or the -wal is another file's.
            DatabaseBusyError: the file can't be opened.
            StorageError: the state file can't be opened.
        """
        if self._state is not None:
            return
        state = self._open_state()
        try:
            with self._gate():
                if _try_lock(state):
                    self._check(_read_note(state), is_trusted=is_trusted)
                    _write_note(state, f"open {self._inode()}\n")
                # Whoever uses the file has checked it. Behind the gate nobody can come in between.
                fcntl.flock(state, fcntl.LOCK_SH)
        except BaseException:
            os.close(state)
            raise
        self._state = state

    def close(self) -> None:
        """End the use; the last process notes how it left the file. May be called twice.

        The caller has closed every connection before.
        """
        state, self._state = self._state, None
        if state is None:
            return
        try:
            with self._gate():
                fcntl.flock(state, fcntl.LOCK_UN)
                if _try_lock(state) and self._path.exists() and not self._wal_bytes():
                    status = self._path.stat()
                    left = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
                    _write_note(state, f"closed {left}\n")
        except OSError as error:  # the next start checks the file
            _log.warning("end of use not noted", error=str(error))
        finally:
            os.close(state)

    def _check(self, note: _Note, *, is_trusted: bool) -> None:
        """Return if the file may be used."""
        if not self._path.exists() or not self._path.stat().st_size:
            return
        status, wal_bytes = self._path.stat(), self._wal_bytes()
        if note.matches(status) and not wal_bytes:
            return
        is_other = note.inode not in (0, status.st_ino)
        name = self._path.name
        if is_other and wal_bytes and not is_trusted:
            raise UnfitDatabaseError(
                f"{name} is another file than the one that {name}-wal was written for: if {name} "
                f"was restored, remove {name}-wal and {name}-shm; if all of them were copied "
                f"together, run `moorage migrate --bind`; {_DOCS}"
            )
        # The indexes are compared only where there is a reason, which takes ten times as long.
        deep = wal_bytes > 0 and (is_other or not note.inode or self._is_touched(status))
        started = time.monotonic()
        problem = self._problem(deep=deep)
        if problem is not None:
            raise UnfitDatabaseError(
                f"{name} is malformed ({problem}): if it was restored beside an earlier {name}-wal,"
                f" remove {name}-wal and {name}-shm, else restore a backup; {_DOCS}"
            )
        seconds = round(time.monotonic() - started, 3)
        _log.info("database checked", deep=deep, wal_bytes=wal_bytes, seconds=seconds)

    def _problem(self, *, deep: bool) -> str | None:
        """Return what SQLite finds wrong, read-only: neither the file nor the -wal is changed."""
        uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                return problem_of(connection, deep=deep)
        except sqlite3.OperationalError as error:
            raise DatabaseBusyError(f"the database can't be opened: {error}") from error

    def _is_touched(self, status: os.stat_result) -> bool:
        """Whether the file was changed after its -wal was written for the last time."""
        return status.st_ctime > self._wal.stat().st_mtime + _TOUCHED_S

    def _inode(self) -> int:
        return self._path.stat().st_ino if self._path.exists() else 0

    def _wal_bytes(self) -> int:
        return self._wal.stat().st_size if self._wal.exists() else 0

    def _open_state(self) -> int:
        path = self._path.with_name(f"{self._path.name}.state")
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"open {path.name}: {error.strerror}") from error

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Return a context that one process at a time is in."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def problem_of(connection: sqlite3.Connection, *, deep: bool) -> str | None:
    """Return the first thing that SQLite's own check finds wrong, on one line; None if all is well.

    Args:
        connection: to the database.
        deep: also compare every index with its table.

    Raises:
        sqlite3.OperationalError: the database can't be read now.
    """
    check = "integrity_check" if deep else "quick_check"
    try:
        [(answer,)] = connection.execute(f"PRAGMA {check}(1)").fetchall()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else " ".join(answer.replace("*", "").split())[:200]


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_note(state: int) -> _Note:
    words = os.pread(state, 200, 0).decode("ascii", "replace").partition("\n")[0].split()
    numbers = [int(word) for word in words[1:] if word.isdigit()]
    if words[:1] == ["open"] and len(numbers) == 1:
        return _Note(numbers[0])
    if words[:1] == ["closed"] and len(numbers) == 3:
        return _Note(numbers[0], (numbers[1], numbers[2]))
    return _Note()  # of a kill between two steps: unknown, so the file is checked


def _write_note(state: int, text: str) -> None:
    """Write the first line of the state file; on a full disk the old note may stay.

    Without a note the next start checks the file. So a full disk keeps nobody from starting, and
    the line is written over the old one, which needs no new space.
    """
    try:
        os.pwrite(state, text.encode(), 0)
        os.ftruncate(state, len(text))
    except OSError as error:
        _log.warning("state of the database not noted", error=error.strerror)
