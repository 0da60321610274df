"""Ten real nodes and a rollout: the node program, the server and a webhook tell one story.

The node program runs in this process, in threads: ten roots, ten identities, real files.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.rollout import rank
from app.node.cli import main
from tests.fakes.faults import Reply
from tests.fakes.fleet import go_script
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest
from tests.web.api import ok
from tests.web.conftest import Put, StartSite
from tests.web.test_fleet import settle
from tests.web.wire import Site

OLD, NEW = "go1.99.1", "go1.99.2"
HOOK = "#!/bin/sh\necho 'cgo is broken'\nexit 1\n"
PLAN = {"steps": [{"nodes": 1}, {"percent": 30}, {"percent": 100}]}


class Receiver(FakeServer):
    """Takes webhooks' messages."""

    methods = ("POST",)

    def answer(self, request: RecordedRequest) -> Reply:
        return Reply(204)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return an async function that runs the node program; it returns exit code and JSON."""

    async def run_one(root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, [*arguments, "--root", str(root), "--json"])
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        return code, json.loads(lines[-1])  # the server's log has the other lines

    return run_one


async def test_two_of_three_canaries_fail_and_the_other_seven_never_get_a_grant(
    start_site: StartSite, put: Put, receiver: Receiver, run: Run, tmp_path: Path
) -> None:
    for version in (OLD, NEW):
        put(version, go_command=go_script(version))
    site = await start_site()
    await site.services.releases.sync.sync([OLD, NEW])
    await ok(site, "POST", "/channels", {"name": "stable"})
    await ok(site, "POST", "/channels/stable/revisions", {"current": OLD})
    await ok(site, "POST", "/webhooks", {"url": receiver.base_url})
    roots = await enrolled(site, run, tmp_path)
    await rounds(site, run, roots, 2)
    assert {current(root) for root in roots.values()} == {OLD}

    steps = [{**step, "soak_s": 0} for step in PLAN["steps"]]
    body = {"current": NEW, "plan": {"steps": steps}}
    rollout = (await ok(site, "POST", "/channels/stable/rollouts", body))["id"]
    await settle(site)
    order = sorted(roots, key=lambda node: rank(rollout, node))
    for node in order[1:3]:
        hook = roots[node] / ".moorage" / "test.d" / "cgo"
        hook.parent.mkdir(parents=True)
        hook.write_text(HOOK)
        hook.chmod(0o755)
    printed = await rounds(site, run, roots, 3)

    status = await ok(site, "GET", f"/rollouts/{rollout}")
    assert (status["state"], status["succeeded"], status["failed"]) == ("halted", 1, 2)
    assert {root for root in roots.values() if current(root) == NEW} == {roots[order[0]]}
    for node in order:
        grants = (await ok(site, "GET", f"/nodes/{node}"))["grants"]
        assert any(grant["rollout"] == rollout for grant in grants) is (node in order[:3])

    # One story: node, audit log and webhook have the same trace id.
    await site.services.upkeep.webhooks.step()
    halts = [m for m in receiver.messages if m["event"] == "rollout.halt"]
    assert [m["rollout"]["gate"]["failed"] for m in halts] == [2]
    trace = halts[0]["trace"]
    shown = await ok(site, "GET", f"/nodes/{order[2]}")
    other = await ok(site, "GET", f"/nodes/{order[1]}")
    traces = {node["events"][0]["traceparent"].split("-")[1] for node in (shown, other)}
    assert trace in traces
    failures = [line for line in printed if line["result"] == "failed" and line["trace"]]
    assert {(line["stage"], line["trace"]) for line in failures} == {("tested", t) for t in traces}
    assert "cgo is broken" in shown["failure"]
    rows = (await ok(site, "GET", "/audit?action=rollout.halt"))["items"]
    assert [trace in row["detail"] for row in rows] == [True]
    metrics = (await site.ask("/metrics")).text
    assert 'moorage_fleet_rollout_changes_total{change="rollout.halt",channel="stable"}' in metrics

    # Back: by a newer revision with the older content, and from the snapshot on the disk.
    await ok(site, "POST", "/channels/stable/rollback", {"reason": "cgo is broken"})
    await settle(site)
    await rounds(site, run, roots, 1)
    assert {current(root) for root in roots.values()} == {OLD}
    assert (await ok(site, "GET", f"/rollouts/{rollout}"))["state"] == "rolled-back"


async def enrolled(site: Site, run: Run, folder: Path) -> dict[str, Path]:
    """Enrol ten nodes with one token; return their roots by their ids."""
    token = folder / "token"
    made = await ok(site, "POST", "/enroll-tokens", {"channel": "stable", "uses": 10})
    token.write_text(made["token"])
    roots = {}
    for number in range(10):
        root = folder / f"node-{number}"
        code, result = await run(
            root, "enroll", "--server", site.base, "--token-file", str(token),
            "--name", f"node-{number}",
        )  # fmt: skip
        assert code == 0
        roots[result["node"]] = root
    await settle(site)
    return roots


async def rounds(site: Site, run: Run, roots: dict[str, Path], count: int) -> list[dict[str, Any]]:
    """Let each node ask the server once a round, and the server write once after each node.

    Return what the nodes printed.
    """
    printed = []
    for _ in range(count):
        for root in roots.values():
            printed.append((await run(root, "update", "--smoke", "none"))[1])
            await settle(site)
    return printed


def current(root: Path) -> str:
    return (root / "current").readlink().name
