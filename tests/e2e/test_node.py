"""The node program against a real server, and its rollback without one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.node.cli import main
from tests.conftest import PutRelease
from tests.e2e.process import Server, Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.fleet import go_script

OLD, NEW = "go1.99.1", "go1.99.2"


class Machine:
    """A node with a root of its own."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def run(self, *argv: str, code: int = 0) -> Any:
        """Run a command, which must end with this code, and return what it printed."""
        self._capsys.readouterr()
        ended = main([*argv, "--root", str(self.root), "--json"])
        out, err = self._capsys.readouterr()
        assert ended == code, err
        return json.loads(out)

    def run_any(self, *argv: str) -> int:
        """Run a command, and return its exit code."""
        return main([*argv, "--root", str(self.root), "--json"])

    @property
    def current(self) -> str:
        return (self.root / "current").readlink().name


@pytest.fixture
def mirror(site: Site, warm: Warm, put_release: PutRelease) -> Site:
    """An installation with two releases and a channel at the older one."""
    for version in (OLD, NEW):
        put_release(version, go_command=go_script(version), extra_bytes=(1 << 20) + 7)
    assert warm.run(site, "migrate").code == 0
    assert warm.run(site, "releases", "sync", OLD, NEW).code == 0
    assert warm.run(site, "channel", "create", "stable").code == 0
    assert warm.run(site, "channel", "set", "stable", OLD).code == 0
    return site


def admin(server: Server, method: str, path: str, body: Any = None) -> Any:
    reply = server.admin(method, path, body)
    assert reply.status < 300, reply.text
    return reply.json


@pytest.mark.slow
def test_a_node_lives_with_a_real_server(
    mirror: Site, warm: Warm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path / "root", capsys)
    with warm.serve(mirror) as server:
        # Without enrolment: the sums of /dl/, then a pinned key.
        assert machine.run("install", OLD, "--server", server.url)["result"] == "installed"
        vkey = admin(server, "GET", "/channel-key")["vkey"]
        pin = ("--vkey", vkey, "--channel", "stable")
        assert machine.run("install", OLD, *pin)["result"] == "unchanged"
        refusal = machine.run("install", NEW, code=1)
        assert f"does not offer {NEW}; it offers {OLD}" in refusal["reason"]
        assert machine.run("uninstall")["removed"] == [OLD]

        # Enrolled: a rollout brings the newer release.
        body = {"channel": "stable", "group": "canary", "uses": 1, "hours": 1}
        (tmp_path / "token").write_text(admin(server, "POST", "/enroll-tokens", body)["token"])
        machine.run("enroll", "--server", server.url, "--token-file", str(tmp_path / "token"))
        first = machine.run("install", OLD)
        assert (first["version"], machine.current) == (OLD, OLD)
        plan = {"steps": [{"percent": 100, "soak_s": 0}]}
        start = {"current": NEW, "plan": plan}
        admin(server, "POST", "/channels/stable/rollouts", start)
        # A server notices what another process has written within half a second.
        wait_until(lambda: machine.run("update")["version"] == NEW, "the rollout")
        assert machine.current == NEW
        assert machine.run("update")["result"] == "unchanged"

        def states() -> list[tuple[str, str]]:
            nodes = admin(server, "GET", "/nodes")["items"]
            return [(node["current"], node["group"]) for node in nodes]

        wait_until(lambda: states() == [(NEW, "canary")], "the node's state")

        # Rolled back by hand: held until an operator releases the node.
        machine.run("rollback")
        machine.run("update", code=4)

        def held() -> str:
            return str(admin(server, "GET", f"/nodes/{node}")["held"])

        node = admin(server, "GET", "/nodes")["items"][0]["id"]
        wait_until(lambda: "rolled back by hand on this node" in held(), "the node's reason")
        admin(server, "POST", f"/nodes/{node}/release")
        wait_until(lambda: held() == "", "the release")
        wait_until(lambda: machine.run_any("update") == 0, "the order")
        assert machine.current == NEW

        # Drift is found and mended, from the server's archive.
        (machine.root / NEW / "VERSION").write_text("something else")
        (machine.root / NEW / "bin/gofmt").unlink()
        seen = machine.run("verify", "--full", code=3)
        assert (seen["missing"], list(seen["changed"])) == (["bin/gofmt"], ["VERSION"])
        assert machine.run("repair")["result"] == "repaired"
        assert machine.run("verify", "--full")["result"] == "clean"

        # The program and its script, as the server serves them.
        script = server.get("/fleet/install.sh").text
        assert f"server='{server.url}'" in script
        program = tmp_path / "moorage-node.pyz"
        program.write_bytes(server.get("/fleet/moorage-node.pyz").body)
        said = subprocess.run(
            [sys.executable, str(program), "status", "--json", "--root", str(machine.root)],
            capture_output=True,
            check=True,
        )
        assert json.loads(said.stdout)["current"] == NEW
    assert machine.run("rollback")["version"] == OLD
    assert machine.run("verify", "--full")["result"] == "clean"
    machine.run("update", code=1)
    assert machine.current == OLD
