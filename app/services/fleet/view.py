"""What check-ins read without the database: nodes by token, and what each channel has for them.

The view is as old as a second, but for nodes that were retired or moved. That is enough for `stay`,
which is always safe; whatever gives a grant asks the database (`progress`). Only a token that the
view does not know is looked up.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.core.fleetnode import Node, Target
from app.core.rollout import Rollout, present_members
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import Outcome
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.generation import FLEET, NODES, current_generation
from app.db.grants import GrantTable
from app.db.nodes import NodeTable
from app.db.rollouts import RolloutTable
from app.services.clock import Now
from app.services.fleet.progress import Progress
from app.services.generation import GenerationWatch

_RELOAD = timedelta(seconds=30)
"""Age at which the view is read again without a change: nodes become silent by themselves."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """What a channel has for its nodes.

    Attributes:
        revision: the number of the current revision; 0 without one.
        version: what that revision has its nodes run; "" without one.
        rollout: the open rollout, or None.
        candidate: what the rollout brings; "" without one.
        inside: nodes of the rollout's present step.
        done: nodes of whose latest grant the rollout knows that it succeeded.
        tried: nodes that had a grant of the rollout.
        out: grants without a result.
    """

    revision: int = 0
    version: str = ""
    rollout: Rollout | None = None
    candidate: str = ""
    inside: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    out: int = 0

    @property
    def max_parallel(self) -> int:
        """How many grants may be out at once."""
        return self.rollout.plan.max_parallel if self.rollout else RolloutPlan().max_parallel

    def offered_to(self, node: str) -> Target:
        """Return what a node should run."""
        return self._target(is_candidate=node in self.tried)

    def due_for(self, node: str) -> Target:
        """Return what a node gets next, or has: that of the rollout whose step it is in."""
        return self._target(is_candidate=node in self.inside or node in self.tried)

    def _target(self, *, is_candidate: bool) -> Target:
        if is_candidate and self.rollout is not None:
            return Target(self.candidate, self.rollout.to_revision)
        return Target(self.version, self.revision)


NO_CHANNEL = ChannelView()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The view at one generation.

    Attributes:
        nodes: by the SHA-256 of their tokens; without retired nodes.
        channels: by name.
        changed: the latest change of a node that is in here; see `NodeRow.changed`.
    """

    generation: int
    at: datetime
    nodes: Mapping[str, Node]
    channels: Mapping[str, ChannelView]
    changed: int


class FleetView:
    """The view of one process."""

    def __init__(self, db: Database, watch: GenerationWatch, progress: Progress, now: Now) -> None:
        self._db = db
        self._watch = watch
        self._progress = progress
        self._now = now
        self._loaded: Loaded | None = None
        self._one_load = asyncio.Lock()

    @property
    def tokens_since(self) -> int:
        """The generation of the last change of what a node's token opens."""
        return self._watch.since(NODES)

    async def current(self) -> Loaded:
        """Return the view as it was loaded last; no token in it is known to open less since."""
        loaded = self._fresh()
        if loaded is not None:
            return loaded
        async with self._one_load:
            return self._fresh() or await self.load()

    def _fresh(self) -> Loaded | None:
        """Return the view if it knows of every token's last change that this process knows of."""
        # Where the database is lost, everything has changed, and the view is what there is.
        since = min(self.tokens_since, self._watch.value)
        loaded = self._loaded
        return loaded if loaded is not None and loaded.generation >= since else None

    async def step(self) -> None:
        """Load the view again if something changed, or if it is old; called every second."""
        loaded = self._loaded
        if loaded is None:
            return  # nobody has checked in yet
        since = max(self._watch.since(FLEET), self._watch.channels)
        if loaded.generation < since or abs(self._now() - loaded.at) > _RELOAD:
            await self.load()

    async def load(self) -> Loaded:
        """Load what has changed; return the view."""
        before, at = self._loaded, self._now()
        self._loaded = await self._db.read(lambda s: self._load(s, before, at))
        return self._loaded

    async def look_up(self, sha256_hex: str) -> Node | None:
        """Return the node of a token that the view does not know: it may be new."""
        node = await self._db.read(lambda s: NodeTable(s).by_secret(sha256_hex))
        if node is None or node.retired_at is not None:
            return None
        await self.load()
        return node

    def _load(self, session: Session, before: Loaded | None, at: datetime) -> Loaded:
        generation = current_generation(session)
        nodes = dict(before.nodes) if before else {}
        changed = before.changed if before else -1
        for sha256_hex, node, node_changed in NodeTable(session).changed_since(changed):
            changed = max(changed, node_changed)
            if node.retired_at is None:
                nodes[sha256_hex] = node
            else:
                nodes.pop(sha256_hex, None)
        return Loaded(generation, at, nodes, self._channels(session, at), changed)

    def _channels(self, session: Session, at: datetime) -> dict[str, ChannelView]:
        rollouts = {rollout.channel: rollout for rollout in RolloutTable(session).open()}
        out = GrantTable(session).count_out()
        views = {}
        for channel in ChannelTable(session).all():
            view = ChannelView(
                revision=channel.revision or 0,
                version=channel.current or "",
                out=out.get(channel.name, 0),
            )
            rollout = rollouts.get(channel.name)
            if rollout is not None:
                view = self._with_rollout(session, view, rollout, at)
            views[channel.name] = view
        return views

    def _with_rollout(
        self, session: Session, view: ChannelView, rollout: Rollout, at: datetime
    ) -> ChannelView:
        participants = self._progress.participants(session, rollout, at)
        return replace(
            view,
            rollout=rollout,
            candidate=self._progress.version_of(session, rollout),
            inside=present_members(rollout, participants),
            done=frozenset(p.node for p in participants if p.outcome is Outcome.SUCCEEDED),
            tried=frozenset(p.node for p in participants if p.outcome is not None),
        )
