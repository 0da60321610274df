"""The reserve beside a database: its size, its steps, and when it is whole again."""

import os
import stat
from pathlib import Path

import pytest

from app.core.errors import StorageFullError
from app.storage.freespace import FreeSpace
from app.storage.reserve import MAX_BYTES, STEP_BYTES, Reserve

pytestmark = pytest.mark.on_disk


def a_reserve(folder: Path, *, floor: float = 0.0) -> tuple[Reserve, Path]:
    path = folder / "moorage.db.reserve"
    return Reserve(path, FreeSpace(folder, floor)), path


def whole_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return min(MAX_BYTES, status.f_blocks * status.f_frsize // 16)


def test_an_open_reserve_occupies_its_space_and_is_private(tmp_path: Path) -> None:
    reserve, path = a_reserve(tmp_path)
    reserve.open()
    status = path.stat()
    assert status.st_size == whole_bytes(tmp_path)
    assert status.st_blocks * 512 >= status.st_size
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_steps_are_given_back_until_nothing_is_left(tmp_path: Path) -> None:
    reserve, path = a_reserve(tmp_path)
    reserve.open()
    whole = path.stat().st_size
    assert reserve.let_go()
    assert whole - STEP_BYTES <= path.stat().st_size < whole
    steps = 1
    while reserve.let_go():
        steps += 1
    assert steps == -(-whole // STEP_BYTES)
    assert path.stat().st_size == 0


def test_half_of_the_reserve_is_kept_for_the_platform(tmp_path: Path) -> None:
    reserve, path = a_reserve(tmp_path)
    assert not reserve.has_share()
    reserve.open()
    half = path.stat().st_size / 2
    while reserve.has_share():
        assert path.stat().st_size > half
        reserve.let_go()
    assert half - STEP_BYTES <= path.stat().st_size <= half


def test_room_above_the_floor_makes_the_reserve_whole_again(tmp_path: Path) -> None:
    reserve, path = a_reserve(tmp_path)
    reserve.open()
    reserve.let_go()
    reserve.require(1)
    assert path.stat().st_size == whole_bytes(tmp_path)


def test_below_the_floor_nothing_fits_and_the_reserve_stays_as_it_is(tmp_path: Path) -> None:
    a_reserve(tmp_path)[0].open()
    full, path = a_reserve(tmp_path, floor=1.0)
    full.let_go()
    size = path.stat().st_size
    with pytest.raises(StorageFullError, match="free some space"):
        full.require(0)
    assert path.stat().st_size == size


def test_without_a_reserve_there_is_nothing_to_give_back(tmp_path: Path) -> None:
    full, path = a_reserve(tmp_path, floor=1.0)
    full.open()
    assert not path.exists()
    assert not full.let_go()
