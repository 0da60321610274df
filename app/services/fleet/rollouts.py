"""Rollouts: starting them, and what operators do to them. The leader moves them on each second."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.channel import Choice, RevisionState
from app.core.errors import ConflictError, UnknownError
from app.core.principal import Principal
from app.core.rollout import Gate, Participant, Rollout, acted, gate_of, present_members
from app.core.rolloutplan import RolloutPlan
from app.core.rolloutstate import RolloutAction
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import FLEET, bump_generation
from app.db.grants import Grant, GrantTable
from app.db.nodes import NodeTable
from app.db.rollouts import RolloutTable
from app.db.room import Room
from app.services.authorization import require_admin
from app.services.changes import check_revision, denial_room, locked
from app.services.clock import Now
from app.services.fleet.channels import channel_named
from app.services.fleet.giving import Written
from app.services.fleet.messages import describe, tell
from app.services.fleet.progress import Progress
from app.services.fleet.revisions import Revisions
from app.services.generation import GenerationWatch

_DENIALS = (RolloutAction.PAUSE, RolloutAction.HALT, RolloutAction.ROLL_BACK)
_SHOWN_FAILURES = 20
_LOOK_AGAIN = timedelta(seconds=5)
"""Age at which the gates are looked at again without a change: soak times and grants end."""


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """A rollout with the results of its present step.

    Attributes:
        version: the release that it brings.
        waiting: nodes of the present step without a grant.
        total: nodes of the channel that need the change, or had a grant of the rollout.
        failures: the latest grants that failed, the newest first, with the names of their nodes.
    """

    rollout: Rollout
    version: str
    gate: Gate
    waiting: int
    total: int
    failures: list[tuple[str, Grant]]


class RolloutService:
    """Use cases about rollouts."""

    def __init__(
        self,
        db: Database,
        watch: GenerationWatch,
        revisions: Revisions,
        progress: Progress,
        now: Now,
    ) -> None:
        self._db = db
        self._watch = watch
        self._looked: tuple[int, datetime] | None = None
        self._revisions = revisions
        self._progress = progress
        self._now = now

    async def start(
        self,
        channel_name: str,
        choice: Choice,
        plan: RolloutPlan,
        who: Principal,
        *,
        edits: int | None = None,
    ) -> RolloutStatus:
        """Return a new rollout, which brings a choice of releases to a channel's nodes.

        Args:
            channel_name: the channel's.
            choice: what its nodes get step by step, and everybody after the last step.
            plan: steps, gates, windows.
            who: a platform admin.
            edits: of the channel, as the caller looked at it; None for no check.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is no such channel, or no release of a name.
            ConflictError: a release is not verified, or a rollout is under way.
            StaleRevisionError: the channel was changed since.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> Rollout:
            channel = channel_named(session, channel_name)
            check_revision(channel.edits, edits, f"channel {channel_name}")
            if RolloutTable(session).open_of(channel_name) is not None:
                raise ConflictError(
                    f"a rollout of channel {channel_name} is under way: promote or abandon it first"
                )
            revision = self._revisions.add(
                session, channel, choice, who, at, state=RevisionState.CANDIDATE
            )
            rollout = Rollout(
                id=secrets.token_hex(8),
                channel=channel_name,
                from_revision=channel.revision or 0,
                to_revision=revision.revision,
                plan=plan,
                started_at=at,
                changed_at=at,
            )
            RolloutTable(session).add(rollout, who.actor)
            steps = ", ".join(map(str, plan.steps))
            detail = f"{channel_name} to revision {revision.revision} ({choice.current}): {steps}"
            AuditLog(session).append(
                at, who.actor, "rollout.start", f"rollout:{rollout.id}", detail
            )
            about = describe(rollout) | {"actor": who.actor}
            tell(session, channel_name, "rollout.start", at, {"rollout": about})
            bump_generation(session, [FLEET])
            return rollout

        rollout = await self._db.write(locked(work))
        return await self.show(rollout.id, who)

    async def page(
        self,
        who: Principal,
        *,
        channel: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> list[Rollout]:
        """Return rollouts, the newest first; see `RolloutTable.page`.

        Raises:
            DeniedError: who is no platform admin.
        """
        require_admin(who, None)
        return await self._db.read(
            lambda s: RolloutTable(s).page(channel=channel, before=before, limit=limit)
        )

    async def show(self, rollout_id: str, who: Principal) -> RolloutStatus:
        """Return a rollout with its results.

        Args:
            rollout_id: its id; or a channel's name for its open rollout, else its latest.
            who: a platform admin.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> RolloutStatus:
            rollout = _named(session, rollout_id)
            participants = self._progress.participants(session, rollout, at)
            return RolloutStatus(
                rollout,
                self._progress.version_of(session, rollout),
                gate_of(rollout, participants),
                _waiting(rollout, participants),
                sum(p.needs_change or p.outcome is not None for p in participants),
                _failures(session, rollout),
            )

        return await self._db.read(work)

    async def act(
        self, rollout_id: str, action: RolloutAction, who: Principal, *, reason: str = ""
    ) -> RolloutStatus:
        """Return a rollout after an operator's action.

        Args:
            rollout_id: as `show` takes it.
            action: what the operator does.
            who: a platform admin.
            reason: one line for people.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none.
            ConflictError: the action is not one for the rollout's state, or a release is not
                served any more.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> tuple[Rollout, Written]:
            before = _named(session, rollout_id)
            after = acted(before, action, at, reason)
            return after, self._progress.change(session, before, after, who, at)

        # Stopping a bad release works on a full disk.
        room = denial_room(who) if action in _DENIALS else Room.ABOVE_FLOOR
        after, written = await self._db.write(locked(work), room=room)
        await self._progress.committed(written)
        return await self.show(after.id, who)

    def roll_back_open(
        self, session: Session, channel: str, who: Principal, at: datetime, reason: str
    ) -> bool:
        """End the channel's open rollout by a new revision with the content before it.

        Runs in a transaction of `changes.locked`.

        Returns:
            False if no rollout is open.
        """
        before = RolloutTable(session).open_of(channel)
        if before is None:
            return False
        after = acted(before, RolloutAction.ROLL_BACK, at, reason or "channel rollback")
        self._progress.change(session, before, after, who, at)
        return True

    async def step(self) -> None:
        """Move every open rollout on, and end grants whose time is over; the leader calls this."""
        at, generation = self._now(), self._watch.since(FLEET)
        if self._looked is not None:
            looked_generation, looked_at = self._looked
            if generation == looked_generation and abs(at - looked_at) < _LOOK_AGAIN:
                return
        self._looked = (generation, at)
        if await self._db.read(lambda s: self._progress.is_due(s, at)):
            work = locked(lambda s: self._progress.advance(s, at))
            await self._progress.committed(await self._db.write(work, room=Room.BELOW_FLOOR))


def _named(session: Session, rollout_id: str) -> Rollout:
    """Return a rollout by its id, or the open or latest one of a channel.

    Raises:
        UnknownError: there is none.
    """
    # PostgreSQL takes no NUL in a text, and the id may be anybody's.
    if rollout_id.isprintable():
        table = RolloutTable(session)
        rollout = table.get(rollout_id) or table.open_of(rollout_id)
        latest = [rollout] if rollout else table.page(channel=rollout_id, limit=1)
        if latest:
            return latest[0]
    raise UnknownError(
        f"no rollout has the id or channel {rollout_id[:80]!a}; see `moorage rollout list`"
    )


def _waiting(rollout: Rollout, participants: list[Participant]) -> int:
    inside = present_members(rollout, participants)
    return sum(p.node in inside and p.outcome is None for p in participants)


def _failures(session: Session, rollout: Rollout) -> list[tuple[str, Grant]]:
    """Return the latest failures with the names of their nodes, the newest first."""
    nodes = NodeTable(session)
    return [
        (node.name, grant)
        for grant in GrantTable(session).failures(rollout.id, _SHOWN_FAILURES)
        if (node := nodes.get(grant.node)) is not None
    ]
