"""Installations in one process: a data directory with a migrated database, and running services.

No test but those of the migrations runs them again: each starts from a copy of one file, which the
migrations themselves make once per process. How they run is what tests/db/test_schema.py tests.
"""

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path

from app.db.engine import Database
from app.db.schema import upgrade
from app.db.sqlite import is_sqlite, sqlite_url
from app.services.assembly import Services
from app.services.clock import Now, utc_now
from app.settings import Settings
from app.wiring import build, prepare_data_dir

_ROOM_BYTES = 1 << 30  # several times of what the tests of two processes hold at once


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Yield a folder in memory, else on disk, which is gone at the end.

    For tests that only wait for a disk. Those of the store itself and of what is served from it
    stay on the disk: a file system in memory has no RWF_NOWAIT.
    """
    with tempfile.TemporaryDirectory(prefix="moorage-", dir=memory()) as folder:
        yield Path(folder)
        _remove_below(folder)


def _remove_below(folder: str) -> None:
    """Remove the empty folders, of which a store has 256, each in one step.

    `shutil.rmtree`, which removes the rest, opens and lists a folder before that.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                try:
                    os.rmdir(entry.path)
                except OSError:
                    _remove_below(entry.path)


def memory() -> Path | None:
    """Return where files lie in memory and programs among them run; None if nowhere (Linux)."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return None
    room = os.statvfs(folder)
    is_fit = room.f_bavail * room.f_frsize >= _ROOM_BYTES and not room.f_flag & os.ST_NOEXEC
    return folder if is_fit else None


@cache
def _migrated_file() -> Path:
    """Return an SQLite file at the schema of this program; it has no -wal or -shm beside it."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "moorage.db"
    database = Database(sqlite_url(path))
    upgrade(database.engine)
    database.close()
    return path


def migrated_url(path: Path) -> str:
    """Return the URL of an SQLite file, which is made at the schema of this program if missing."""
    if not path.exists():
        shutil.copyfile(_migrated_file(), path)
    return sqlite_url(path)


def migrate(settings: Settings) -> None:
    """Make the data directory and its database as `app.wiring.migrate` does."""
    prepare_data_dir(settings)
    if not is_sqlite(settings.resolved_database_url):
        return  # a copy of the migrated template: tests/postgres.py
    url = migrated_url(settings.data_dir / "moorage.db")
    assert url == settings.resolved_database_url, "the database is to be in the data directory"


async def without_a_pause(_seconds: float) -> None:
    """Stand in for asyncio.sleep between two tries at an upstream: only let others run."""
    await asyncio.sleep(0)


@asynccontextmanager
async def running(settings: Settings, now: Now = utc_now) -> AsyncIterator[Services]:
    """Return a context with started services; nothing runs in the background."""
    migrate(settings)
    services = build(settings, now=now, pause=without_a_pause, monotonic=lambda: now().timestamp())
    try:
        await services.start()
        yield services
    finally:
        await services.close()
