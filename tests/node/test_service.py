"""The service that updates a node: when it asks the server, and its units."""

import json
import os
from pathlib import Path

import pytest

from app.node.cli import main
from app.node.layout import Layout
from app.node.service import DEFAULT_S, run_due
from app.node.units import PERIOD_S
from app.services.fleet.nodeprogram import node_program
from tests.node.conftest import Node


class Clock:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "root")
    layout.make()
    return layout


def start(layout: Layout, clock: Clock, *answers: float) -> tuple[int, int]:
    """Start the service once; return its exit code and how often it updated."""
    left = list(answers)

    def update() -> tuple[int, float]:
        return 0, left.pop(0)

    code = run_due(layout, update, sleep=clock.sleep, now=clock.time)
    return code, len(answers) - len(left)


def test_the_service_keeps_the_servers_pace(layout: Layout):
    clock = Clock()
    assert start(layout, clock, 61) == (0, 1)
    clock.now += PERIOD_S
    assert start(layout, clock) == (0, 0)  # 31 s are left: the timer starts it again
    clock.now += PERIOD_S
    assert start(layout, clock, 300) == (0, 1)  # 1 s is left: it waits
    assert clock.slept == [1.0]


def test_a_server_that_wants_it_more_often_than_the_timer_is_asked_by_one_start(layout: Layout):
    clock = Clock()
    assert start(layout, clock, 5, 10, 60) == (0, 3)
    assert clock.slept == [5.0, 10.0]


def test_one_start_does_not_last_for_ever(layout: Layout):
    clock = Clock()
    assert start(layout, clock, *([10.0] * 1000))[1] <= 91


def test_without_an_answer_the_next_time_is_not_the_same_for_all(layout: Layout):
    clock = Clock()
    start(layout, clock, 0)
    pause = json.loads((layout.state_folder / "next.json").read_text())["at"] - clock.now
    assert DEFAULT_S <= pause <= 1.5 * DEFAULT_S


@pytest.mark.parametrize("text", ["", "[]", '{"at": "x"}', '{"at": 9e15}'])
def test_a_damaged_time_is_no_time(layout: Layout, text: str):
    (layout.state_folder / "next.json").write_text(text)
    assert start(layout, Clock(), 60) == (0, 1)


FAKE = '#!/bin/sh\necho "$*" >> "$FAKE/asked"\n[ "$2" != enable ] || exit "${FAKE_ENABLE:-0}"\n'


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's units, beside a script in the place of systemctl."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(FAKE)
    (tmp_path / "bin/systemctl").chmod(0o755)
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "moorage-node.pyz").write_bytes(node_program().content)
    return tmp_path / "config/systemd/user"


def test_install_writes_and_starts_and_uninstall_takes_back(
    node: Node, units: Path, tmp_path: Path
):
    program = ["--user", "--program", str(tmp_path / "moorage-node.pyz")]
    assert node.run("service", "install", *program).code == 2  # not enrolled
    node.enroll()
    outcome = node.run("service", "install", *program, "--limit", "20M")
    assert outcome.code == 0
    text = (units / "moorage-node.service").read_text()
    assert f'"service" "run" "--root" "{node.root}" "--limit" "20M"' in text
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--user daemon-reload", "--user enable --now moorage-node.timer",
    ]  # fmt: skip
    assert node.run("service", "run").code == 0
    assert (node.root / ".moorage/next.json").exists()
    assert len(node.run("service", "uninstall", "--user").value["removed"]) == 2
    assert list(units.iterdir()) == []


def test_units_that_systemd_does_not_start_are_an_error(
    node: Node, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_ENABLE", "1")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    node.enroll()
    program = str(tmp_path / "moorage-node.pyz")
    outcome = node.run("service", "install", "--user", "--program", program)
    assert outcome.code == 1
    assert "are written, but not started: no user session of systemd runs" in outcome.stderr
    assert "then run `moorage-node service install` again" in outcome.stderr


@pytest.mark.parametrize("root", ["another", "root"])
def test_uninstall_of_a_root_takes_its_own_service_along(
    node: Node, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
):
    node.enroll()
    node.run("service", "install", "--user", "--program", str(tmp_path / "moorage-node.pyz"))
    monkeypatch.setattr("app.node.service.os.geteuid", lambda: 1000)
    if root == "another":
        assert main(["uninstall", "--root", str(tmp_path / root)]) == 0
    else:
        assert node.run("uninstall").code == 0
    assert len(list(units.iterdir())) == (2 if root == "another" else 0)
