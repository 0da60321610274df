"""A node with a root of its own, run in this process, against a fake server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.node.cli import main
from app.node.goversion import this_platform
from tests.fakes.fleet import FakeFleet

V1, V2, V3, V4 = "go1.99.1", "go1.99.2", "go1.99.3", "go1.99.4"


@dataclass(frozen=True)
class Outcome:
    """What a run printed, and its exit code."""

    code: int
    value: dict[str, Any]
    stderr: str


class Node:
    """A root, and the program that works on it."""

    def __init__(self, root: Path, fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.fleet = fleet
        self._capsys = capsys

    def run(self, *argv: str) -> Outcome:
        """Run a command with --json."""
        self._capsys.readouterr()
        code = main([*argv, "--root", str(self.root), "--json"])
        captured = self._capsys.readouterr()
        return Outcome(code, json.loads(captured.out or "{}"), captured.err)

    def install(self, version: str, *argv: str) -> Outcome:
        """Install a release by the fake's manifest."""
        pin = ("--vkey", self.fleet.vkey, "--channel", self.fleet.channel)
        return self.run("install", version, *pin, "--server", self.fleet.base_url, *argv)

    def enroll(self) -> Outcome:
        """Enroll at the fake."""
        token = self.root.parent / "token"
        token.write_text("enrolment-token\n")
        return self.run("enroll", "--server", self.fleet.base_url, "--token-file", str(token))

    @property
    def current(self) -> str | None:
        """Where `current` leads."""
        link = self.root / "current"
        return link.readlink().name if link.is_symlink() else None

    def path(self, inner: str, version: str = V1) -> Path:
        """Return a path of a snapshot."""
        return self.root / version / inner

    def is_clean(self, *versions: str) -> bool:
        """Return whether the root has these snapshots, nothing half done, and each is whole."""
        names = {path.name for path in self.root.iterdir()} - {".moorage", "current"}
        return names == set(versions) and all(
            self.run("verify", version, "--full").code == 0 for version in versions
        )


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.node.fetch.FIRST_WAIT_S", 0.0)


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with FakeFleet(platform=this_platform()) as fake:
        fake.put_release(V1)
        yield fake


@pytest.fixture
def node(tmp_path: Path, fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> Node:
    return Node(tmp_path / "root", fleet, capsys)


@pytest.fixture
def enrolled(node: Node) -> Node:
    """A node of the fake's fleet, on the first release."""
    assert node.enroll().code == 0
    node.fleet.order_update()
    assert node.run("update").value["version"] == V1
    node.fleet.forget()
    node.fleet.reports.clear()
    node.fleet.check_ins.clear()
    return node
