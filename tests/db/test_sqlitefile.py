"""The start's look at an SQLite file: after a kill, after a restore, and beside others."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.core.errors import DatabaseBusyError, UnfitDatabaseError
from app.db import sqlitefile
from app.db.sqlitefile import SqliteFile, problem_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "moorage.db"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return a list that the checks are written down in: "quick" or "deep"."""
    made: list[str] = []

    def noted(connection: sqlite3.Connection, *, deep: bool) -> str | None:
        made.append("deep" if deep else "quick")
        return problem_of(connection, deep=deep)

    monkeypatch.setattr(sqlitefile, "problem_of", noted)
    yield made


def used(path: Path) -> SqliteFile:
    file = SqliteFile(path)
    file.open()
    return file


def connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


def fill(connection: sqlite3.Connection, start: int, count: int) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, k TEXT UNIQUE)")
    rows = [(n, f"{n * 7919 % 10007:05}" + "x" * 200) for n in range(start, start + count)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    connection.execute("COMMIT")


def wal_of(path: Path) -> Path:
    return path.with_name("moorage.db-wal")


def killed(path: Path, rows: int = 20) -> None:
    """Leave the files as a kill does: a -wal with pages that are not in the file yet."""
    with closing(connected(path)) as connection:
        fill(connection, 5000, rows)
        copies = [shutil.copy2(p, p.with_name(f"{p.name}.copy")) for p in (path, wal_of(path))]
    for copy, name in zip(copies, (path, wal_of(path)), strict=True):
        # In place: the file stays the same one.
        name.write_bytes(Path(copy).read_bytes())
    os.utime(wal_of(path))


@pytest.fixture
def ended(path: Path) -> Path:
    """A database after a clean end."""
    file = used(path)
    with closing(connected(path)) as connection:
        fill(connection, 0, 1000)
    file.close()
    return path


def test_a_start_after_a_clean_end_checks_nothing(ended: Path, looks: list[str]) -> None:
    for number in range(1000, 1003):
        file = used(ended)
        with closing(connected(ended)) as connection:
            fill(connection, number, 1)
        file.close()
    assert looks == []


def test_a_start_after_a_kill_checks_once(ended: Path, looks: list[str]) -> None:
    file = used(ended)
    killed(ended)
    os.close(file._state or -1)  # the kernel drops the lock of a killed process
    one, two = used(ended), used(ended)
    assert looks == ["quick"]
    with closing(connected(ended)):  # SQLite takes the pages over from the -wal
        pass
    two.close()
    assert used(ended) is not None
    one.close()


def test_only_the_last_of_several_notes_a_clean_end(ended: Path, looks: list[str]) -> None:
    one, two = used(ended), used(ended)
    one.close()
    with closing(connected(ended)) as connection:
        fill(connection, 2000, 10)
    two.close()
    used(ended).close()
    assert looks == []


def test_a_file_that_was_restored_after_a_clean_end_is_checked(
    ended: Path, looks: list[str], tmp_path: Path
) -> None:
    backup = shutil.copy(ended, tmp_path / "backup")
    ended.unlink()
    shutil.copy(backup, ended)
    used(ended).close()
    assert looks == ["quick"]


def backed_up_then_killed(path: Path, backup: Path) -> None:
    """Make a backup; then let the database grow and checkpoint, and be killed."""
    file = used(path)
    with closing(connected(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    with closing(connected(path)) as connection:
        fill(connection, 1000, 3000)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    killed(path)
    os.close(file._state or -1)


Put = Callable[[Path, Path], object]
in_place: Put = shutil.copyfile


def moved(backup: Path, path: Path) -> None:
    """Put a new file there; the old one lives on for the moment, so that its inode is not used."""
    with path.open("rb"):
        path.with_name("moorage.db-shm").unlink(missing_ok=True)
        shutil.copyfile(backup, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("put", "says"), [(in_place, "is malformed"), (moved, "is another file")], ids=["cp", "mv"]
)
def test_F80_a_database_that_was_restored_beside_an_old_wal_is_refused_untouched(
    put: Put, says: str, ended: Path, tmp_path: Path
) -> None:
    """SQLite would write the old pages into the restored file, and call it a success."""
    backup = tmp_path / "backup"
    backed_up_then_killed(ended, backup)
    put(backup, ended)
    before = ended.read_bytes(), wal_of(ended).read_bytes()
    for _ in range(2):
        with pytest.raises(UnfitDatabaseError, match=says) as refused:
            used(ended)
    assert (ended.read_bytes(), wal_of(ended).read_bytes()) == before
    message = str(refused.value)
    assert "remove moorage.db-wal and moorage.db-shm" in message
    assert "\n" not in message
    # The way out.
    for suffix in ("-wal", "-shm"):
        ended.with_name(f"moorage.db{suffix}").unlink(missing_ok=True)
    file = used(ended)
    with closing(connected(ended)) as connection:
        assert problem_of(connection, deep=True) is None
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    file.close()


def test_files_that_were_copied_together_are_taken_on_an_operators_word(
    ended: Path, looks: list[str]
) -> None:
    """A move to another disk after a crash: the -wal holds what was committed last."""
    file = used(ended)
    killed(ended)
    os.close(file._state or -1)
    moved(Path(shutil.copy(ended, ended.with_suffix(".moved"))), ended)
    with pytest.raises(UnfitDatabaseError, match="moorage migrate --bind"):
        used(ended)
    trusted = SqliteFile(ended)
    trusted.open(is_trusted=True)
    assert looks == ["deep"]
    with closing(connected(ended)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1020,)
    trusted.close()
    used(ended).close()
    assert looks == ["deep"]


def test_a_file_that_was_touched_after_its_wal_is_checked_with_its_indexes(
    ended: Path, looks: list[str]
) -> None:
    file = used(ended)
    killed(ended)
    os.close(file._state or -1)
    long_ago = os.stat(ended).st_mtime - 60
    os.utime(wal_of(ended), (long_ago, long_ago))
    used(ended).close()
    assert looks == ["deep"]


def test_a_refusal_is_repeated_at_each_start(ended: Path) -> None:
    ended.write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    for _ in range(2):
        with pytest.raises(UnfitDatabaseError, match=r"moorage\.db is malformed"):
            used(ended)


def test_what_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)
    with pytest.raises(UnfitDatabaseError, match="file is not a database"):
        used(path)


def test_a_missing_and_an_empty_file_are_no_trouble(path: Path, looks: list[str]) -> None:
    used(path).close()
    path.touch()
    used(path).close()
    assert looks == []


def test_a_file_that_cant_be_opened_is_not_called_malformed(ended: Path) -> None:
    ended.unlink()
    ended.mkdir()
    with pytest.raises(DatabaseBusyError, match="can't be opened"):
        used(ended)


@pytest.mark.parametrize("note", [b"", b"open", b"open x", b"closed 1 2", b"\xff\0", b"o" * 500])
def test_a_note_of_a_kill_between_two_steps_means_a_check(
    note: bytes, ended: Path, looks: list[str]
) -> None:
    ended.with_name("moorage.db.state").write_bytes(note)
    used(ended).close()
    assert looks == ["quick"]


def test_F88_a_full_disk_keeps_nobody_from_starting(
    ended: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    file = used(ended)
    with closing(connected(ended)) as connection:
        fill(connection, 1000, 1)
    file.close()
    monkeypatch.undo()
    assert looks == []
