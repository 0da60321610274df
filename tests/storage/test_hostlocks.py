"""Turns among the processes of one host: whoever opens the file apart stands for a process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.errors import StorageError
from app.storage.hostlocks import HostLocks

pytestmark = pytest.mark.on_disk

NAME = "module:1:example.com/x@v1.0.0.zip"

_HOLDING = """
import asyncio, sys
from pathlib import Path
from app.storage.hostlocks import HostLocks

async def main():
    async with HostLocks(Path(sys.argv[1])).hold(sys.argv[2]):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


class Waiting(HostLocks):
    """Turns that say when they have found a name held.

    Attributes:
        has_tried: another process holds the name.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.has_tried = asyncio.Event()

    def _set_lock(self, kind: int, offset: int) -> bool:
        is_set = super()._set_lock(kind, offset)
        if not is_set:
            self.has_tried.set()
        return is_set


async def _hold(locks: HostLocks) -> None:
    async with locks.hold(NAME):
        pass


async def test_two_processes_never_have_the_same_turn_at_once(tmp_path):
    one, other = HostLocks(tmp_path / "turns.lock"), Waiting(tmp_path / "turns.lock")
    async with one.hold(NAME):
        waiting = asyncio.ensure_future(_hold(other))
        await other.has_tried.wait()
        assert not waiting.done()
    async with asyncio.timeout(120):
        await waiting
    one.close()
    other.close()


async def test_turns_of_different_names_do_not_wait_for_each_other(tmp_path):
    one, other = HostLocks(tmp_path / "turns.lock"), HostLocks(tmp_path / "turns.lock")
    async with asyncio.timeout(120), one.hold(NAME), one.hold("b"), other.hold("c"):
        pass
    one.close()
    other.close()


async def test_a_turn_ends_however_its_work_ends(tmp_path):
    one, other = HostLocks(tmp_path / "turns.lock"), HostLocks(tmp_path / "turns.lock")
    with pytest.raises(ZeroDivisionError):
        async with one.hold(NAME):
            raise ZeroDivisionError
    async with asyncio.timeout(120), other.hold(NAME):
        pass
    one.close()
    other.close()


async def test_the_turn_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "turns.lock"
    command = [sys.executable, "-c", _HOLDING, str(path), NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        other = Waiting(path)
        waiting = asyncio.ensure_future(_hold(other))
        await other.has_tried.wait()
        assert not waiting.done()
        process.kill()
        async with asyncio.timeout(120):
            await waiting


async def test_a_waiting_turn_can_be_cancelled(tmp_path):
    one, other = HostLocks(tmp_path / "turns.lock"), Waiting(tmp_path / "turns.lock")
    async with one.hold(NAME):
        waiting = asyncio.ensure_future(_hold(other))
        await other.has_tried.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    one.close()
    other.close()


async def test_the_file_is_private_and_made_when_first_needed(tmp_path):
    path = tmp_path / "turns.lock"
    locks = HostLocks(path)
    assert not path.exists()
    async with locks.hold(NAME):
        assert path.stat().st_mode & 0o777 == 0o600
    locks.close()
    locks.close()


async def test_a_file_that_cannot_be_made_is_a_storage_error():
    with pytest.raises(StorageError, match=r"open turns\.lock"):
        async with HostLocks(Path("/proc/nowhere/turns.lock")).hold(NAME):
            pass


async def test_where_the_system_has_no_locks_the_turn_is_had_at_once(tmp_path):
    locks = HostLocks(tmp_path / "turns.lock")
    async with asyncio.timeout(120), locks.hold(NAME):
        os.close(locks._descriptor)  # every further call on it fails with EBADF
        async with locks.hold("b"):
            pass
    locks._descriptor = -1
