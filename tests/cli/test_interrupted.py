"""Ctrl-C and SIGTERM in the middle of long work: what is left is said, and the next run works."""

import asyncio
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.db.blobs import Blobs
from app.settings import Settings
from tests.cli.test_sync import Screen
from tests.e2e.process import Site, blobs
from tests.e2e.warm import Warm, terminal
from tests.installation import memory_folder, running

COUNT = 1500
"""Blobs: enough that each command takes seconds."""
BEGUN = re.compile(rf"[1-9]\d*/{COUNT}")
COMMANDS = {
    "fsck": (("fsck", "--deep"), "nothing is left half done"),
    "gc": (("gc", "--run"), "the next `moorage gc --run` goes on"),
    "backup": (("backup", "create"), "there is no such backup"),
    "restore": (("restore", "--new-secrets-key"), "goes on where this one stopped"),
}


async def fill(settings: Settings) -> None:
    """Store blobs that no file names."""
    async with running(settings) as services:
        store, at = services.shared.store, services.shared.now()
        digests = [await store.put(b"blob %d" % number) for number in range(COUNT)]

        def record(session: Any) -> None:
            for number, digest in enumerate(digests):
                Blobs(session).record(digest, len(b"blob %d" % number), at)

        await services.shared.db.write(record)


@pytest.fixture(scope="module")
def origin(warm: Warm) -> Iterator[Path]:
    """A folder with an installation's `data` and a backup of it in `backups`."""
    with memory_folder() as folder:
        asyncio.run(fill(Settings(data_dir=folder / "data", port=0)))
        site = Site.new(folder, backup__url=folder / "backups")
        assert warm.run(site, "backup", "create").code == 0
        yield folder


@pytest.fixture
def site(origin: Path, tmp_path: Path, command: str) -> Site:
    """An installation of a command's own; without data and with a backup for `restore`."""
    site = Site.new(tmp_path, backup__url=tmp_path / "backups", storage__min_free_percent=0)
    if command == "restore":
        shutil.copytree(origin / "backups", tmp_path / "backups")
        return site
    shutil.copytree(origin / "data", site.data_dir)
    if command == "gc":
        with closing(sqlite3.connect(site.data_dir / "moorage.db")) as database, database:
            database.execute("UPDATE blobs SET condemned_at = '2020-01-01 00:00:00.000000'")
    return site


def left_behind(site: Site) -> list[str]:
    """Return what of the data directory is no part of an installation."""
    usual = {"blobs", "quarantine", "tmp", "keys", "database.id", "restore.unfinished"}
    return [
        path.name
        for path in site.data_dir.iterdir()
        if path.name not in usual and not path.name.startswith("moorage.db")
    ] + [path.name for path in (site.data_dir / "tmp").glob("*")]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupted_command_says_what_is_left_and_the_next_one_works(
    site: Site, warm: Warm, command: str, how: str
) -> None:
    arguments, said = COMMANDS[command]
    with terminal() as (near, tty):
        run = warm.start(site, *arguments, tty=tty)
        screen = Screen(near)
        screen.until(lambda shown: BEGUN.search(shown) is not None, "the first blobs")
        if how == "Ctrl-C":
            screen.press_ctrl_c()
        else:
            run.send(signal.SIGTERM)
        code, shown = screen.ended(run), " ".join(screen.read().split())
    assert code == (130 if how == "Ctrl-C" else 143)
    assert "moorage: interrupted; " in shown
    assert said in shown
    assert "Traceback" not in shown
    assert left_behind(site) == []
    if command == "restore":
        refused = warm.run(site, "fsck")
        assert refused.code == 1
        assert "a restore has begun there and did not end" in refused.err

    after = warm.run(site, *arguments)
    assert (after.code, after.err) == (0, ""), after
    assert left_behind(site) == []
    if command == "backup":
        assert len(warm.run(site, "backup", "list", "--json").json) == 1
        assert warm.run(site, "backup", "verify").code == 0
    assert warm.run(site, "fsck", "--deep").code == 0
    assert len(blobs(site.data_dir)) == (0 if command == "gc" else COUNT)
