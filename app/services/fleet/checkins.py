"""Check-ins and reports of nodes: answered from memory, gathered, and written once a second.

A `stay` asks no database. Nodes that may get a grant wait for one transaction that serves all of
them, and first writes what was gathered. What is gathered and not yet written is lost with the
process; the node says it again. Not here: HTTP (`web/fleet`), what a transaction decides
(`progress`).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from app import logs, metrics
from app.core import fleetnode
from app.core.errors import (
    DatabaseBusyError,
    DeniedError,
    OverloadedError,
    StorageFullError,
    UnauthenticatedError,
)
from app.core.fleetmessages import CheckIn, Event, GrantResult, Report
from app.core.fleetnode import NOTHING, Node, Target
from app.core.rollout import is_open
from app.core.rolloutstate import Outcome, RolloutState
from app.core.traceparent import trace_id
from app.db.engine import Database
from app.db.nodeevents import NodeEvent
from app.db.nodes import SeenNode
from app.services.authorization import secret_hash
from app.services.changes import locked
from app.services.clock import Now, Pause
from app.services.fleet.giving import Answered, Asking, Written, is_halted
from app.services.fleet.progress import Progress
from app.services.fleet.said import Gathered, Result, knows_decline
from app.services.fleet.view import NO_CHANNEL, ChannelView, FleetView

FLUSH_S = 1.0
MAX_EVENTS = 10_000
MAX_WAITING = 20_000
"""Check-ins, and events and results, in memory; beyond that a node is asked to come again."""
_FULL_S = 5
_PAUSE_SHARE = 1.0
_MAX_PAUSE_S = 1.0
"""Pause between two transactions that give grants: as long as the last one took."""
_FAILURES = frozenset({Event.FAILED, Event.ROLLED_BACK})
_log = logs.get("fleet")


class Action(StrEnum):
    """What a node is to do."""

    STAY = "stay"
    UPDATE = "update"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The answer to a check-in.

    Attributes:
        grant: "" unless the node is to update; so are `rollout` and `manifest`.
        is_released: the grant brings what the node declines, since an operator released the node.
        channel: what the node follows, if it said otherwise; else "".
    """

    action: Action
    reason: str
    server_time: datetime
    grant: str = ""
    rollout: str = ""
    manifest: str = ""
    channel: str = ""
    is_released: bool = False


@dataclass(slots=True)
class _Waiting:
    """A node that waits for the next transaction."""

    asking: Asking
    answer: "asyncio.Future[Answered]"


class CheckIns:
    """Answers nodes, and gathers what they say."""

    def __init__(
        self, db: Database, view: FleetView, progress: Progress, now: Now, pause: Pause
    ) -> None:
        self._db = db
        self._pause = pause
        self._view = view
        self._progress = progress
        self._now = now
        self._seen: dict[str, SeenNode] = {}
        self._events: list[NodeEvent] = []
        self._results: dict[tuple[str, Outcome], Result] = {}
        self._written: dict[str, tuple[str, Outcome]] = {}  # the last result of each node
        self._waiting: list[_Waiting] = []
        self._serving: asyncio.Task[None] | None = None
        self._one_write = asyncio.Lock()

    @property
    def tokens_since(self) -> int:
        """The generation of the last change of what a node's token opens."""
        return self._view.tokens_since

    async def node_of(self, presented: str | None) -> Node:
        """Return the node whose token was presented.

        Raises:
            UnauthenticatedError: none, malformed, unknown, or of a retired node.
        """
        sha256_hex = secret_hash(presented)
        node = (await self._view.current()).nodes.get(sha256_hex)
        node = node or await self._view.look_up(sha256_hex)
        if node is None:
            raise UnauthenticatedError(
                "this node's token is unknown, or the node is retired; on its machine "
                "`moorage-node enroll` with a new enrolment token makes a node of it again"
            )
        return node

    async def check(self, node: Node, check: CheckIn, traceparent: str = "") -> CheckAnswer:
        """Return what a node is to do now.

        Args:
            node: whose token it is.
            check: what the node says.
            traceparent: the header of the request; "" without one.

        Raises:
            DeniedError: the message is another node's.
            OverloadedError: too much is gathered and not yet written.
        """
        _require_own(node, check.node)
        if max(len(self._seen), len(self._results)) >= MAX_WAITING:
            raise OverloadedError("too many check-ins wait to be written", retry_after_s=_FULL_S)
        at = self._now()
        self._seen[node.id] = _seen(node, check, at)
        has_ended = self._keep_last_result(node, check, traceparent)
        if check.channel not in ("", node.channel):
            # The newest revision that it saw is another channel's number.
            reason = f"this node follows channel {node.channel} from now on"
            return CheckAnswer(Action.STAY, reason, at, channel=node.channel)
        channel = (await self._view.current()).channels.get(node.channel, NO_CHANNEL)
        answer = _from_view(node, check, channel, at, has_ended=has_ended)
        if answer is not None:
            return answer
        granted = await self._ask(
            Asking(
                node=node.id,
                current=check.current or "",
                seen_revision=check.seen_revision,
                is_drifted=check.drift,
                declined=_declined(check),
            )
        )
        return _answer(granted, at)

    async def report(self, node: Node, report: Report, traceparent: str = "") -> None:
        """Keep an event of a node.

        Args:
            node: whose token it is.
            report: what the node says.
            traceparent: the header of the request; "" without one.

        Raises:
            DeniedError: the report is another node's.
            OverloadedError: too much is gathered and not yet written.
        """
        _require_own(node, report.node)
        if len(self._events) >= MAX_EVENTS:
            raise OverloadedError("too many reports wait to be written", retry_after_s=_FULL_S)
        trace = trace_id(traceparent)
        self._events.append(
            NodeEvent(
                node=node.id,
                grant=report.grant or "",
                at=self._now(),
                event=report.event,
                stage=report.stage,
                reason=report.reason,
                version=report.version or "",
                seconds=report.seconds,
                traceparent=traceparent if trace else "",
            )
        )
        metrics.count_node_event(node.channel, report.event)
        if report.event in _FAILURES and report.grant:
            self._keep(
                Result(
                    grant=report.grant,
                    node=node.id,
                    outcome=Outcome.FAILED,
                    stage=report.stage or report.event,
                    reason=report.reason,
                    trace=trace,
                )
            )

    async def flush(self) -> None:
        """Write what was gathered; called once a second, and at the end of the process."""
        if self._seen or self._events or self._results:
            try:
                await self._write(())
            except (DatabaseBusyError, StorageFullError) as error:
                _log.warning("check-ins not written yet", error=str(error))

    async def aclose(self) -> None:
        """End the transaction that serves waiting nodes."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def _keep_last_result(self, node: Node, check: CheckIn, traceparent: str) -> bool:
        """Keep the result of a node's last grant; return whether the node's grant has ended."""
        last = check.last
        if last is None or not last.grant:
            return False
        is_success = last.result is GrantResult.SUCCEEDED
        self._keep(
            Result(
                grant=last.grant,
                node=node.id,
                outcome=Outcome.SUCCEEDED if is_success else Outcome.FAILED,
                stage=last.stage,
                reason=last.reason,
                trace=trace_id(traceparent),
            )
        )
        return last.grant == node.grant

    def _keep(self, result: Result) -> None:
        key = (result.grant, result.outcome)
        if self._written.get(result.node) != key:
            self._results.setdefault(key, result)

    async def _ask(self, asking: Asking) -> Answered:
        """Wait for the transaction that serves the nodes that wait; one runs at a time."""
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(asking, answer))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.ensure_future(self._serve())
        return await answer

    async def _serve(self) -> None:
        """Serve the nodes that wait, in one transaction after the other, until none waits."""
        while self._waiting:
            group, self._waiting = self._waiting, []
            group = [one for one in group if not one.answer.done()]  # its client may be gone
            # A node that asks twice at once (its first request timed out) has one answer: a second
            # grant is refused by the database, and everybody's transaction with it.
            asking = {one.asking.node: one.asking for one in group}
            began = time.monotonic()
            try:
                written = await self._write(list(asking.values()))
            except Exception as error:  # each of them gets the error as its answer
                for one in group:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one in group:
                if not one.answer.done():
                    one.answer.set_result(written.answers[one.asking.node])
            # With thousands of nodes a transaction takes long: who comes now shares the next one.
            await self._pause(min(_MAX_PAUSE_S, _PAUSE_SHARE * (time.monotonic() - began)))

    async def _write(self, asking: "list[Asking] | tuple[()]") -> Written:
        """Write what was gathered, and answer nodes, in one transaction."""
        async with self._one_write:
            seen, self._seen = self._seen, {}
            events, self._events = self._events, []
            results, self._results = self._results, {}
            gathered = Gathered(seen=seen.values(), events=events, results=list(results.values()))
            at = self._now()
            try:
                written = await self._db.write(
                    locked(lambda s: self._progress.write(s, gathered, at, asking))
                )
            except (DatabaseBusyError, StorageFullError):
                self._seen = seen | self._seen
                self._events = events + self._events
                self._results = results | self._results
                raise
        self._written |= {r.node: key for key, r in results.items()}
        await self._progress.committed(written)
        return written


def _require_own(node: Node, claimed: str) -> None:
    if claimed != node.id:
        raise DeniedError("this token is another node's; enrol this node to get its own")


def _seen(node: Node, check: CheckIn, at: datetime) -> SeenNode:
    clock = check.clock
    off_s = 0.0
    if clock is not None and clock.tzinfo is not None:
        off_s = round((clock - at).total_seconds(), 1)
    facts: Mapping[str, str] = check.facts or node.facts
    return SeenNode(
        id=node.id,
        facts={**facts, "program": check.program},
        current=check.current or "",
        installed=check.installed,
        seen_revision=check.seen_revision,
        is_drifted=check.drift,
        declined_version=_declined(check).version,
        declined_revision=_declined(check).revision,
        seen_at=at,
        clock_off_s=off_s,
    )


def _declined(check: CheckIn) -> Target:
    """Return what a node declines, as it says; without a release for nothing."""
    declined = check.declined
    return Target(declined.version or "", declined.revision) if declined else NOTHING


def _as_it_says(node: Node, check: CheckIn) -> Node:
    """Return a node of the view with what its check-in says and the view does not follow."""
    said = _declined(check)
    node = replace(node, current=check.current or "")
    if said.version and knows_decline(node, said):
        return node
    return replace(node, declined_version=said.version, declined_revision=said.revision)


def _from_view(
    node: Node, check: CheckIn, channel: ChannelView, at: datetime, *, has_ended: bool
) -> CheckAnswer | None:
    """Return an answer that gives no grant; None where the database may have a grant to give."""
    if node.grant and not node.held and not has_ended:
        return None  # the same grant again, or its success
    current = check.current or ""
    due = channel.due_for(node.id)
    refusal = fleetnode.refusal(_as_it_says(node, check), due, at)
    if refusal is not None and (node.held or current != due.version != ""):
        return CheckAnswer(Action.HOLD, refusal, at)
    reason = _no_rollout(node, current, channel, at)
    if reason is None:
        return None
    if not channel.version or current == channel.version or node.id in channel.tried:
        return _waits(channel, reason, at)
    if channel.candidate and current == channel.candidate:
        return CheckAnswer(Action.STAY, reason, at)
    if check.seen_revision > channel.revision:
        return CheckAnswer(
            Action.STAY,
            f"this node has seen revision {check.seen_revision}, and the channel offers "
            f"{channel.revision}; the next revision moves it",
            at,
        )
    if channel.out >= channel.max_parallel:
        return CheckAnswer(
            Action.STAY, f"{channel.out} nodes are changing, as many as may at once", at
        )
    return None


def _no_rollout(node: Node, current: str, channel: ChannelView, at: datetime) -> str | None:
    """Return why a node gets no grant of a rollout; None where it may get one."""
    rollout = channel.rollout
    if rollout is None or current == channel.candidate:
        return "this node has the release"
    if rollout.state is not RolloutState.RUNNING:
        return f"rollout {rollout.id} is {rollout.state}"
    if node.id in channel.done:
        return "this node has the release"
    if node.id not in channel.inside:
        return f"rollout {rollout.id} is at step {rollout.step + 1}, without this node"
    if not is_open(rollout.plan, at):
        return f"rollout {rollout.id} is outside its windows"
    if channel.out >= rollout.plan.max_parallel:
        return f"{channel.out} nodes are changing, as many as may at once"
    return None


def _waits(channel: ChannelView, reason: str, at: datetime) -> CheckAnswer:
    """Return the answer to a node that runs what it may: `hold` if its rollout is halted."""
    action = Action.HOLD if is_halted(channel.rollout) else Action.STAY
    return CheckAnswer(action, reason, at)


def _answer(answered: Answered, at: datetime) -> CheckAnswer:
    grant = answered.grant
    if grant is None:
        action = Action.HOLD if answered.is_hold else Action.STAY
        return CheckAnswer(action, answered.reason, at)
    return CheckAnswer(
        Action.UPDATE,
        answered.reason,
        at,
        grant=grant.id,
        rollout=grant.rollout or "",
        manifest=answered.manifest.decode(),
        is_released=answered.is_released,
    )
