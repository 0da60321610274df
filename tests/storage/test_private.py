"""What is in the data directory is readable for its user alone, whatever the umask says."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.schema import check_schema
from app.storage.hostlocks import HostLocks
from app.storage.private import make_private_file, tighten
from app.wiring import build, migrate
from tests.web.harbour import proxy_settings


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "after"), [(0o666, 0o600), (0o440, 0o400), (0o755, 0o700)])
def test_the_rights_of_others_are_taken_away(tmp_path: Path, before: int, after: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(before)
    tighten(path)
    assert mode(path) == after


def test_a_missing_file_is_made_or_left_alone(tmp_path: Path, no_umask: None) -> None:
    tighten(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    make_private_file(tmp_path / "made")
    assert mode(tmp_path / "made") == 0o600
    make_private_file(tmp_path / "no" / "folder")


async def test_database_reserve_and_locks_are_private_and_older_ones_are_tightened(
    tmp_path: Path, no_umask: None
) -> None:
    settings = proxy_settings(tmp_path)
    folder = settings.data_dir
    names = ("moorage.db", "moorage.db-wal", "moorage.db-shm", "moorage.db.reserve", "turns.lock")
    for _ in range(2):
        migrate(settings)
        services = build(settings)
        check_schema(services.shared.db.engine)
        async with services.shared.locks.hold("x"):
            await services.shared.db.read(lambda _: None)
            assert {name: mode(folder / name) for name in names} == dict.fromkeys(names, 0o600)
        services.shared.db.close()
        services.shared.locks.close()
        services.shared.store.close()
        for path in folder.glob("*.*"):
            path.chmod(0o666)


async def test_a_lock_file_of_an_earlier_version_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "turns.lock"
    path.touch()
    path.chmod(0o644)
    locks = HostLocks(path)
    async with locks.hold("x"):
        assert mode(path) == 0o600
    locks.close()
