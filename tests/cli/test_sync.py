"""`moorage releases sync` at work: progress on a terminal, Ctrl-C, a second run."""

import os
import re
import select
import signal
import time
from typing import Any

import pytest

from tests.e2e.process import Site, staged, wait_until
from tests.e2e.warm import Run, Warm, terminal
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault, Pace
from tests.fakes.godev import FakeGodev

NAME = archive_name("go1.99.1")
OTHER = archive_name("go1.98.1")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """What a command shows on its terminal."""

    def __init__(self, near: int) -> None:
        self._near = near
        self.raw = ""

    def read(self) -> str:
        """Take what is there; return everything so far without control codes."""
        while select.select([self._near], [], [], 0)[0]:
            try:
                self.raw += os.read(self._near, 65536).decode(errors="replace")
            except OSError:  # the far end is closed
                break
        return ESCAPE.sub("", self.raw)

    def press_ctrl_c(self) -> None:
        """Type it, so that the terminal sends the signal."""
        os.write(self._near, b"\x03")

    def until(self, claim, what: str) -> None:
        """Read until claim holds for what was shown."""
        wait_until(lambda: claim(self.read()), what)

    def ended(self, run: Run) -> int | None:
        """Read until the command has ended; return its exit code."""
        deadline = time.monotonic() + 60
        while (code := run.warm.wait(run.pid, 0.05)) is None:
            self.read()
            assert time.monotonic() < deadline
        self.read()
        return code


@pytest.fixture
def slow(site: Site, fake: FakeGodev) -> Site:
    """An installation whose upstream sends 1 MB/s on each connection."""
    fake._pace = Pace(20_000, 0.02)
    return Site(site.folder, {**site.environ, "TERM": "xterm-256color", "COLUMNS": "120"})


def test_a_terminal_sees_bytes_rate_and_remaining_time_of_each_file(
    slow: Site, warm: Warm, put_release
) -> None:
    put_release("go1.99.1", extra_bytes=900_000)
    put_release("go1.98.1", extra_bytes=900_000)
    with terminal() as (near, tty):
        run = warm.start(slow, "releases", "sync", tty=tty)
        screen = Screen(near)
        code = screen.ended(run)
    shown = ESCAPE.sub("", screen.raw)
    assert code == 0, shown
    for version in ("go1.99.1", "go1.98.1"):
        bars = re.findall(rf"{version}\S*( \(\w+\))? +[^\r\n]*", shown)
        assert bars, shown
        line = rf"{version}\.linux-amd64\.tar\.gz[^\r\n]*"
        assert re.search(line + r"\d+\.\d/\d+\.\d KiB", shown)
        assert re.search(line + r"\d+(\.\d)? [kKM]i?B/s", shown)
        assert re.search(line + r"0:00:0\d", shown)
        assert f"{version}.linux-amd64.tar.gz (done)" in shown
    assert "2 fetched, 0 were here, 0 failed" in shown
    assert COLOUR.search(screen.raw)


def test_NO_COLOR_is_obeyed_on_a_terminal(slow: Site, warm: Warm, put_release) -> None:
    put_release()
    plain = Site(slow.folder, {**slow.environ, "NO_COLOR": "1"})
    with terminal() as (near, tty):
        screen = Screen(near)
        assert screen.ended(warm.start(plain, "releases", "sync", tty=tty)) == 0
    colours = {code for code in COLOUR.findall(screen.raw) if re.search(r"[34]\d", code)}
    assert colours == set()


def test_without_a_terminal_nothing_but_the_result_is_shown(
    site: Site, warm: Warm, put_release
) -> None:
    put_release()
    ended = warm.run(site, "releases", "sync")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"fetched  {NAME}\n1 fetched, 0 were here, 0 failed\n"
    again = warm.run(site, "releases", "sync")
    assert again.out == "0 fetched, 1 were here, 0 failed\n"


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGINT", "SIGTERM"])
def test_F97_an_interrupted_sync_leaves_nothing_and_the_next_one_completes(
    site: Site, warm: Warm, fake: FakeGodev, put_release, how: str
) -> None:
    put_release("go1.99.1", extra_bytes=500_000)
    put_release("go1.98.1")
    fake.fault(f"/go/{NAME}", Fault.stall("half"))
    with terminal() as (near, tty):
        run = warm.start(site, "releases", "sync", tty=tty if how == "Ctrl-C" else None)
        screen = Screen(near)
        fake.wait_until(lambda: fake.stalled == 1)
        assert staged(site.data_dir)
        if how == "Ctrl-C":
            screen.press_ctrl_c()
            code, output = screen.ended(run), screen.read()
        else:
            run.send(signal.Signals[how])
            ended = run.wait()
            code, output = ended.code, ended.err
    assert code == (143 if how == "SIGTERM" else 130)
    assert "interrupted; nothing is left half done" in output
    assert "Traceback" not in output
    assert staged(site.data_dir) == []
    assert list((site.data_dir / "keys").glob("gpg-*")) == []
    assert warm.run(site, "fsck", "--deep").code == 0

    after = warm.run(site, "releases", "sync", "--json")
    assert (after.code, after.json["failed"]) == (0, [])
    assert sorted(after.json["fetched"] + after.json["present"]) == [
        archive_name("go1.98.1"),
        NAME,
    ]
    assert fake.hits[f"/go/{archive_name('go1.98.1')}"] <= 2


def test_one_file_that_fails_does_not_stop_the_others(
    site: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    put_release("go1.99.1")
    put_release("go1.98.1")
    fake.fault(f"/go/{NAME}", Fault.flip_byte("half"), times=None)
    ended = warm.run(site, "releases", "sync", "--json")
    assert ended.code == 1
    assert ended.json["fetched"] == [archive_name("go1.98.1")]
    [failed] = ended.json["failed"]
    assert failed["filename"] == NAME
    assert "SHA-256" in failed["reason"]
    text = warm.run(site, "releases", "sync").out
    assert re.search(rf"^failed +.*{re.escape(NAME)}.*SHA-256", text, re.MULTILINE)


def test_a_sync_through_a_server_can_be_left_and_goes_on_there(
    site: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    put_release(extra_bytes=500_000)
    fake.fault(f"/go/{NAME}", Fault.stall("half"))
    with warm.serve(site) as server:
        client = Site(site.folder, {"MOORAGE_TOKEN": server.token, "LC_ALL": "C.UTF-8"})
        run = warm.start(client, "releases", "sync", "go1.99", "--server", server.url)
        fake.wait_until(lambda: fake.stalled == 1)
        wait_until(lambda: is_half_done(jobs(site, warm)[0]["progress"]), "the progress")
        [job] = jobs(site, warm)
        assert (job["names"], job["progress"]["current"]) == (["go1.99"], [NAME])
        for command in (("job", "list"), ("job", "show", job["id"])):
            here = warm.run(site, *command)
            assert here == warm.run(client, *command, "--server", server.url)
            assert "running" in here.out
            assert "0 of 1 files, " in here.out
        run.send(signal.SIGINT)
        ended = run.wait()
        assert ended.code == 130
        assert "was queued" in ended.err
        assert f"the job goes on there, see `moorage job show {job['id']}`" in ended.err
        assert "Traceback" not in ended.err
        fake.release()
        done = warm.run(client, "job", "show", job["id"], "--wait", "--server", server.url)
        assert (done.code, done.err) == (0, "")
        assert f"fetched  {NAME}\n1 fetched, 0 were here, 0 failed\n" in done.out

        put_release("go1.98.1")
        fake.fault(f"/go/{OTHER}", Fault.flip_byte("half"), times=None)
        far = ("--server", server.url)
        assert warm.run(client, "releases", "sync", OTHER, *far).code == 1
        [newest, _] = jobs(site, warm)
        shown = warm.run(client, "job", "show", newest["id"], "--wait", *far)
        assert shown.code == 1
        assert re.search(rf"^failed +.*{re.escape(OTHER)}.*SHA-256", shown.out, re.MULTILINE)
        wrong = warm.run(client, "releases", "sync", "1.99.7", *far)
        assert (wrong.code, wrong.out) == (1, "")
        assert "did you mean go1.99.1?" in wrong.err
        assert len(jobs(site, warm)) == 2
        wait_until(lambda: server.get(f"/dl/{NAME}").status == 200, "the file")
    assert fake.hits[f"/go/{NAME}"] == 1


def is_half_done(progress: Any) -> bool:
    """Whether all that the stalled upstream has sent is in the progress: it changes no more."""
    return bool(progress) and progress["done_bytes"] == progress["total_bytes"] // 2 > 0


def jobs(site: Site, warm: Warm) -> Any:
    return warm.run(site, "job", "list", "--json").json


def test_a_pin_that_matches_nothing_is_told(site: Site, warm: Warm, put_release) -> None:
    put_release()
    pinned = site.but(releases__select__pins=["go1.42.7"])
    for command in (("releases", "plan"), ("releases", "sync")):
        ended = warm.run(pinned, *command)
        assert ended.code == 0
        assert "pins that match nothing: go1.42.7" in ended.out


def test_a_sync_beside_a_running_server_fetches_once_and_is_served_at_once(
    site: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    put_release(extra_bytes=300_000)
    with warm.serve(site) as server:
        assert warm.run(site, "releases", "sync").code == 0
        assert server.get(f"/dl/{NAME}").status == 200
        wait_until(lambda: NAME in server.get("/dl/SHA256SUMS").text, "the listing", 3)
    assert fake.hits[f"/go/{NAME}"] == 1
