"""`moorage rollout`, `node` and `webhook`."""

import asyncio
import hashlib
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.channel import Revision, RevisionState
from app.core.fleetnode import Node
from app.core.rollout import Rollout
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import Outcome
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.generation import FLEET, bump_generation, current_generation
from app.db.grants import Grant, GrantTable
from app.db.nodeevents import NodeEvent, NodeEventTable
from app.db.nodes import NodeTable
from app.db.rollouts import RolloutTable
from app.db.sqlite import sqlite_url
from app.services.clock import utc_now
from tests.cli.port import Port, Way

OLD, NEW = "go1.99.1", "go1.99.2"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


_count = itertools.count()


@pytest.fixture
def way(port: Port) -> Way:
    """Through the server; what a command prints is the same on the data directory."""
    return Way(port, "there")


@pytest.fixture
def channel(way: Way) -> str:
    """A channel with a node, and a rollout of which the node failed."""
    name = f"stable-{next(_count)}"
    assert way("channel", "create", name).code == 0
    planted(way.port, name)
    return name


def test_both_ways_print_the_same(port: Port, channel: str) -> None:
    port.both("rollout", "list", "--channel", channel)
    port.both("node", "show", f"web-{channel}")


def planted(port: Port, name: str) -> None:
    at = utc_now()
    node_id = rollout_id = hashlib.sha256(name.encode()).hexdigest()[:16]

    def work(session: Session) -> None:
        table = ChannelTable(session)
        channel = table.get(name)
        assert channel is not None
        current = Revision(
            channel=name, revision=1, current=OLD, state=RevisionState.CURRENT, actor="cli",
            created_at=at, offered_at=at,
        )  # fmt: skip
        candidate = {"revision": 2, "current": NEW, "state": RevisionState.CANDIDATE}
        table.add_revision(channel.id, current)
        table.add_revision(channel.id, current.model_copy(update={**candidate, "offered_at": None}))
        # Else the server's own loop halts it at some moment: its only result is a failure.
        patient = RolloutPlan(max_failure_percent=100)
        rollout = Rollout(
            id=rollout_id, channel=name, from_revision=1, to_revision=2, plan=patient,
            started_at=at, changed_at=at, reason="a test",
        )  # fmt: skip
        RolloutTable(session).add(rollout, "cli")
        node = Node(id=node_id, name=f"web-{name}", channel=name, enrolled_at=at, current=OLD)
        changed = current_generation(session) + 1
        NodeTable(session).add(node, f"sha-{node_id}", changed)
        NodeTable(session).save(replace(node, failures=1, failed_at=at, failure="no"), changed)
        grant = Grant(
            id=node_id, node=node_id, rollout=rollout_id, channel=name, revision=2, version=NEW,
            given_at=at, expires_at=at, outcome=Outcome.FAILED, outcome_at=at, stage="tested",
            reason="exit 1", trace=TRACE,
        )  # fmt: skip
        GrantTable(session).add(grant)
        event = NodeEvent(
            node=node_id, grant=node_id, at=at, event="failed", stage="tested", reason="exit 1",
            version=NEW, seconds={"network": 1.5}, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
        )  # fmt: skip
        NodeEventTable(session).add([event])
        bump_generation(session, [FLEET])

    db = Database(sqlite_url(port.site.data_dir / "moorage.db"))
    try:
        asyncio.run(db.write(work))
    finally:
        db.close()


def test_a_rollout_is_shown_and_stopped(way: Way, channel: str) -> None:
    shown = way("rollout", "show", channel)
    assert shown.code == 0
    assert re.search(r"^results +0 of 1 succeeded, 1 failed", shown.out, re.MULTILINE)
    assert "1 nodes (soak 300 s), 5 % (soak 300 s)" in shown.out
    assert re.search(rf"web-{channel}.*tested +exit 1 +{TRACE}", shown.out)
    rollout = way.json("rollout", "list", "--channel", channel)[0]
    assert rollout["id"] in way("rollout", "list").out
    assert way.json("rollout", "halt", channel, "--reason", "a bad release")["state"] == "halted"
    watched = way("rollout", "watch", channel)
    assert (watched.code, "is halted" in watched.err) == (1, True)
    assert f"moorage rollout show {rollout['id']}" in watched.err
    assert way.json("rollout", "resume", rollout["id"])["state"] == "running"
    assert way.json("rollout", "pause", rollout["id"])["state"] == "paused"
    assert way.json("rollout", "promote", channel, "--reason", "urgent")["state"] == "promoted"
    assert way("rollout", "watch", rollout["id"]).code == 0
    assert way.json("channel", "show", channel)["current"] == NEW
    refused = way("rollout", "abandon", rollout["id"])
    assert (refused.code, "is promoted" in refused.err) == (1, True)


def test_a_rollback_of_the_channel_ends_its_rollout(way: Way, channel: str) -> None:
    refused = way("channel", "rollback", channel)
    assert refused.code == 1  # here no file of the older release is stored
    assert way.json("rollout", "abandon", channel)["state"] == "abandoned"
    assert way.json("channel", "show", channel)["candidate"] is None


def test_a_rollout_needs_a_channel_and_a_plan_that_can_be(port: Port, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"steps": [{"nodes": 1}]}))
    for words, line in (
        (("rollout", "start", "none", NEW), "there is no channel"),
        (("rollout", "start", "none", NEW, "--plan", "1,x y"), "is no name of a group"),
        (("rollout", "start", "none", NEW, "--plan", "1"), "the last step has to be 100 %"),
        (("channel", "set", "none", NEW, "--rollout", str(plan)), "the last step has to be 100 %"),
        (("channel", "set", "none", NEW, "--rollout", "no.json"), "can't be read as JSON"),
        (("rollout", "show", "none"), "no rollout has the id or channel"),
        (("rollout", "start", "none", NEW, "--window", "Mon"), "is not a window"),
    ):
        ended = port.there(*words)
        assert ended.code in (1, 2)
        assert line in ended.err, ended


def test_a_node_is_shown_held_moved_and_retired(way: Way, channel: str) -> None:
    name = f"web-{channel}"
    shown = way("node", "show", name).out
    assert f"it should run {NEW}" in shown
    assert re.search(rf"failed +{NEW} +network 1.5s +tested exit 1 +{TRACE}", shown)
    assert re.search(rf"^{name} .* failed ", way("node", "list", "--channel", channel).out, re.M)
    assert way.json("node", "hold", name, "--reason", "disk")["state"] == "held"
    assert [n["name"] for n in way.json("node", "list", "--state", "held")] == [name]
    assert "disk" in way("node", "list", "--state", "held").out
    assert "no node fits the options" in way("node", "list", "--group", "no-such-group").out
    assert way.json("node", "release", name)["state"] == "behind"
    assert way.json("node", "move", name, "--group", "canary")["group"] == "canary"
    assert way("node", "move", name).code == 2
    assert way.json("node", "retire", name)["state"] == "retired"
    assert way.json("node", "list", "--channel", channel) == []
    assert way("node", "show", "nobody").code == 1


def test_an_enrolment_token_is_printed_once(way: Way, channel: str) -> None:
    made = way("node", "enroll-token", "--channel", channel, "--uses", "3", "--hours", "2")
    assert re.fullmatch(r"moor_[0-9A-Za-z]{49}\n", made.out)
    assert "3 uses until" in made.err
    assert way("node", "enroll-token").code == 2
    tokens = [t for t in way.json("node", "enroll-token", "--list") if t["channel"] == channel]
    assert [(t["uses_left"], t["group"]) for t in tokens] == [(3, "default")]
    assert "moor_" not in way("node", "enroll-token", "--list").out
    assert way("node", "enroll-token", "--remove", tokens[0]["id"]).code == 0


def test_a_webhook_is_added_listed_tried_and_removed(way: Way, channel: str) -> None:
    url = "http://127.0.0.1:9/hook"
    made = way("webhook", "add", url, "--channel", channel)
    assert re.fullmatch(r"[0-9a-f]{64}\n", made.out)
    [webhook] = [w for w in way.json("webhook", "list") if w["channel"] == channel]
    assert way("webhook", "test", webhook["id"]).out.startswith(f"a message to {url} waits")
    assert way("webhook", "remove", webhook["id"]).code == 0
    assert way("webhook", "remove", webhook["id"]).code == 1
    assert way("webhook", "add", "ftp://x/").code == 2


def test_a_webhook_of_the_audit_log_gets_no_rollouts_unless_it_is_asked_for(way: Way) -> None:
    url = "http://127.0.0.1:9/audit"
    for more, rollouts in (((), False), (("--rollouts",), True)):
        assert way("webhook", "add", url, "--audit", "alarms", *more).code == 0
        [webhook] = [w for w in way.json("webhook", "list") if w["url"] == url]
        assert (webhook["audit"], webhook["rollouts"], webhook["tenant"]) == (
            "alarms",
            rollouts,
            None,
        )
        assert "alarms" in way("webhook", "list").out
        assert way("webhook", "remove", webhook["id"]).code == 0
    assert way("webhook", "add", url, "--audit", "some").code == 2
    assert way("webhook", "add", url, "--audit", "all", "--tenant", "nobody").code == 1
