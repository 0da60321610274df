"""kill -9 at each change that the program makes to the file system, before it and after it.

Whatever the moment: a release that works is current, and the next run ends clean. The suite takes
a part of the moments; `MOORAGE_TEST_EVERY_KILL=1` takes all of them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.fleet import FakeFleet, has_zstd
from tests.node.conftest import V1, V2, V3, V4, Node

REPOSITORY = Path(__file__).parents[2]
POINTS = 1_000_000 if os.environ.get("MOORAGE_TEST_EVERY_KILL") else 8
KILLED = -9


class Victim:
    """A one_run process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.node.one_run"]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, *argv: str, kill_at: int = -1) -> tuple[int, int]:
        """Return exit status and count of changes of one run."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"argv": argv, "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        status, changes = self._process.stdout.readline().split()
        return int(status), int(changes)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.close()


@pytest.fixture
def prepared(tmp_path: Path, fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> Node:
    """A node on the second release, with the first one beside; the third one is offered."""
    node = Node(tmp_path / "prepared", fleet, capsys)
    fleet.put_release(V2)
    for version in (V1, V2):
        assert node.install(version).code == 0
    fleet.put_release(V3, zst=has_zstd(), extra_bytes=400_000)
    return node


def nothing(_: Node) -> None:
    """The root is right as it is."""


def damage(node: Node) -> None:
    node.path("VERSION", V2).unlink()
    node.path("src/fmt/print.go", V2).write_text("other")
    node.path("bin", V2).chmod(0o700)
    shutil.rmtree(node.path("pkg", V2))
    node.path("extra/folder", V2).mkdir(parents=True)
    node.path("extra/folder/file", V2).touch()


def more(node: Node) -> None:
    for version in (V3, V4):
        node.fleet.put_release(version)
        assert node.install(version).code == 0


ACTIONS: dict[str, tuple[Callable[[Node], None], tuple[str, ...], tuple[str, ...]]] = {
    "install": (nothing, ("install", V3, "--form", "tar.gz"), (V1, V2, V3)),
    "install of zst": (nothing, ("install", V3), (V1, V2, V3)),
    "repair": (damage, ("repair",), (V1, V2)),
    "rollback": (nothing, ("rollback", V1), (V1, V2)),
    "prune": (more, ("prune", "--keep", "1"), (V4,)),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_leaves_a_release_that_works(
    prepared: Node, victim: Victim, tmp_path: Path, action: str
):
    prepare, argv, versions = ACTIONS[action]
    prepare(prepared)
    case = Node(tmp_path / "case", prepared.fleet, prepared._capsys)

    def run(kill_at: int) -> tuple[int, int]:
        shutil.rmtree(case.root, ignore_errors=True)
        shutil.copytree(prepared.root, case.root, symlinks=True)
        return victim.run(*argv, "--root", str(case.root), kill_at=kill_at)

    status, changes = run(-1)
    assert status == 0
    assert changes > 8
    step = max(1, 2 * changes // POINTS)
    for kill_at in range(0, 2 * changes, step):
        status, _ = run(kill_at)
        assert status == KILLED
        current = case.current
        assert current is not None, kill_at
        if action != "repair":
            assert case.run("verify", current, "--full").code == 0, kill_at
        again = case.run(*argv)
        # A rollback that had switched already finds the other snapshot current.
        assert again.code == 0 or action == "rollback", (kill_at, again.stderr)
        assert case.is_clean(*versions), kill_at
        state = {path.name for path in (case.root / ".moorage").iterdir()}
        assert state <= {"lock", "node.json", "state.json", "snapshots"}, kill_at
        assert len(list((case.root / ".moorage/snapshots").iterdir())) == 3 * len(versions)
