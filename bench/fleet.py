"""Scenarios of fleets: thousands of nodes that check in once a minute, idle or during a rollout.

The nodes are a process of their own (`bench/fleetherd.py`), and check in evenly over the minute.
"""

import asyncio
import json
import secrets
import sys
from datetime import datetime

from app.core.channel import Channel, RecordedChannel, Revision, RevisionState
from app.core.fleetnode import Node
from app.core.principal import OPERATOR
from app.core.rollout import Rollout
from app.core.rolloutplan import RolloutPlan, parse_steps
from app.core.token import make_token, token_hash
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.db.nodes import NodeTable
from app.db.rollouts import RolloutTable
from app.services.assembly import Services
from app.services.clock import utc_now
from bench.report import Bound, Rate
from bench.scenario import Scenario, Site
from bench.servers import cpu_s, rss_bytes

_NODES = 5000
_INTERVAL_S = 60
_P99_MS = 100.0
_OLD, _NEW = "go1.23.0", "go1.23.1"
_MIB = 1024 * 1024


class FleetCheckIns(Scenario):
    """Every node runs its channel's release and checks in once a minute."""

    what = f"{_NODES:,} nodes, a check-in a minute each"
    max_ms = 100

    def __init__(self) -> None:
        super().__init__()
        self.tokens: dict[str, str] = {}

    async def record(self, services: Services, upstream: str) -> None:
        at = utc_now()
        await services.fleet.channels.create(Channel(name="stable"), OPERATOR)
        await services.shared.db.write(lambda s: self._record(s, at))

    def _record(self, session: Session, at: datetime) -> None:
        channel = ChannelTable(session).get("stable")
        assert channel is not None
        _add_revision(session, channel, 1, _OLD, RevisionState.CURRENT, at)
        for number in range(_NODES):
            secret, node_id = make_token(secrets.token_bytes(32)), f"{number:016x}"
            node = Node(
                id=node_id,
                name=f"node-{number}",
                channel="stable",
                enrolled_at=at,
                current=_OLD,
                seen_revision=1,
                seen_at=at,
            )
            NodeTable(session).add(node, token_hash(secret), changed=1)
            self.tokens[node_id] = secret
        self._record_more(session, channel, at)

    def _record_more(self, session: Session, channel: RecordedChannel, at: datetime) -> None:
        """Record what a scenario needs besides the nodes."""

    async def run(self, site: Site) -> None:
        nodes = site.folder / "nodes.json"
        nodes.write_text(json.dumps({"interval_s": _INTERVAL_S, "current": _OLD, **self._more()}))
        before_bytes, before_s = rss_bytes(site.pid), cpu_s(site.pid)
        herd = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.fleetherd", site.url, str(nodes),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await herd.wait()
            sys.exit("the herd ended by itself")
        finally:
            herd.terminate()
            out, _ = await herd.communicate()
            used_s = cpu_s(site.pid) - before_s
            self._add(json.loads(out), rss_bytes(site.pid) - before_bytes, used_s)

    def _more(self) -> dict[str, object]:
        return {"tokens": self.tokens, "new": ""}

    def _add(self, heard: dict[str, list[float]], grown_bytes: int, used_s: float) -> None:
        waits_ms = sorted(heard["waits_ms"])
        p99 = waits_ms[int(len(waits_ms) * 0.99)]
        self.results.append(Bound(f"check-in, p99, {self.what}", "ms", [p99], _P99_MS))
        self.results.append(Rate(f"check-ins, {self.what}", "", [float(len(waits_ms))]))
        each = [used_s * 1000 / len(waits_ms)]
        self.results.append(Rate(f"CPU of a check-in, with the victim's, {self.what}", "ms", each))
        grown = grown_bytes / _MIB
        self.results.append(Rate(f"memory grown, {self.what}", "MiB", [grown]))


class FleetRollout(FleetCheckIns):
    """A rollout brings a release to all nodes, 50 at once; each takes two seconds for it."""

    what = f"{_NODES:,} nodes in a rollout, a check-in a minute each"

    def _record_more(self, session: Session, channel: RecordedChannel, at: datetime) -> None:
        _add_revision(session, channel, 2, _NEW, RevisionState.CANDIDATE, at)
        rollout = Rollout(
            id=secrets.token_hex(8),
            channel="stable",
            from_revision=1,
            to_revision=2,
            plan=RolloutPlan(steps=parse_steps("1/0, 5%/0, 100%/0")),
            started_at=at,
            changed_at=at,
        )
        RolloutTable(session).add(rollout, "bench")

    def _more(self) -> dict[str, object]:
        return {"tokens": self.tokens, "new": _NEW}

    def _add(self, heard: dict[str, list[float]], grown_bytes: int, used_s: float) -> None:
        super()._add(heard, grown_bytes, used_s)
        self.results.append(Rate(f"updates, {self.what}", "", [float(len(heard["updates"]))]))


def _add_revision(
    session: Session,
    channel: RecordedChannel,
    number: int,
    version: str,
    state: RevisionState,
    at: datetime,
) -> None:
    revision = Revision(
        current=version,
        channel=channel.name,
        revision=number,
        state=state,
        actor="bench",
        created_at=at,
        offered_at=at if state is RevisionState.CURRENT else None,
    )
    table = ChannelTable(session)
    table.add_revision(channel.id, revision)
    # As long as a real one; nobody checks the signature here.
    table.set_manifest(channel.id, number, b"x" * 6000, at)
