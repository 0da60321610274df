"""Long work shows on a terminal that it goes on, and on a pipe nothing but its result.

`releases sync` and `job show --wait` are in `test_sync.py`.
"""

import io
import re
import sys

import pytest

from app.cli import progress
from tests.cli.test_sync import ESCAPE, Screen
from tests.e2e.process import Site
from tests.e2e.warm import Warm, terminal

BACKUPS = ("--store", "FOLDER/backups")
LONG = {
    "fsck": ("blobs", ("fsck",)),
    "gc": ("blobs", ("gc", "--run")),
    "dry gc": ("looking at what is stored", ("gc", "--dry-run")),
    "migrate": ("migrating", ("migrate",)),
    "audit": ("checking the hash chain", ("audit", "verify")),
    "logs": ("records", ("sumdb", "verify", "--all")),
    "backup": ("blobs", ("backup", "create", *BACKUPS)),
    "backup, checked": ("blobs", ("backup", "verify", *BACKUPS)),
    "prune": ("looking at backups", ("backup", "prune", "--keep", "9", *BACKUPS)),
    "import": ("versions", ("module", "import", "FOLDER/cache")),
    "doctor": ("examining", ("doctor",)),
}
BAR = "\u2501" * 3


@pytest.mark.parametrize("name", LONG)
def test_long_work_shows_that_it_goes_on(site: Site, warm: Warm, name: str) -> None:
    (site.folder / "cache" / "cache" / "download").mkdir(parents=True)
    what, words = LONG[name]
    command = [word.replace("FOLDER", str(site.folder)) for word in words]
    create = [word.replace("FOLDER", str(site.folder)) for word in LONG["backup"][1]]
    assert warm.run(site, *create).err == ""
    piped = warm.run(site, *command)
    assert BAR not in piped.out + piped.err
    assert what not in piped.err
    shown = Site(site.folder, {**site.environ, "TERM": "xterm-256color", "COLUMNS": "120"})
    with terminal() as (near, tty):
        screen = Screen(near)
        assert screen.ended(warm.start(shown, *command, tty=tty)) == piped.code
        assert f"{what} {BAR}" in screen.read()


@pytest.mark.parametrize("columns", [40, 80])
def test_a_bar_leaves_room_for_ctrl_c_and_a_name_is_no_markup(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    name = f"go1[red].{'x' * 60}.tar.gz"
    drawn = []
    for bar in (
        lambda: progress.busy(name),
        lambda: progress.counted(name),
        lambda: progress.uploading(name, 9),
    ):
        monkeypatch.setattr(sys, "stderr", screen := Terminal())
        with bar():
            pass
        drawn.append(ESCAPE.sub("", screen.getvalue()))
    lines = [line for text in drawn for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, lines)) <= columns - len("^C")
    assert all("go1[red]." in text for text in drawn)


def test_findings_fit_on_a_terminal_and_are_a_line_each_on_a_pipe(site: Site, warm: Warm) -> None:
    piped = warm.run(site, "doctor").out.splitlines()
    findings = warm.run(site, "doctor", "--json").json
    assert len(piped) == len(findings) + 1
    assert sum("; do: " in line for line in piped) == sum(bool(one["advice"]) for one in findings)
    assert f"data in {site.data_dir}" in piped[0]
    narrow = Site(site.folder, {**site.environ, "TERM": "xterm", "COLUMNS": "80"})
    with terminal() as (near, tty):
        screen = Screen(near)
        screen.ended(warm.start(narrow, "doctor", tty=tty))
        lines = [line for line in screen.read().split("\n") if "examining" not in line]
    assert max(len(line.rstrip("\r")) for line in lines) <= 80
    assert any(line.startswith(" " * 9) and "do: " in line for line in lines)
