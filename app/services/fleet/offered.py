"""Channels as requests see them: in memory for one generation, without a query between changes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from app import metrics
from app.core.channel import MANIFEST_LIFE, RecordedChannel, RevisionState, newest_first
from app.db.channels import ChannelTable, SignedRevision
from app.db.engine import Database, Session
from app.db.generation import current_generation
from app.services.generation import GenerationWatch, PerGeneration


@dataclass(frozen=True, slots=True)
class OfferedChannel:
    """One channel with what it offers.

    Attributes:
        current: what everybody gets; None before the first revision.
        candidate: what a rollout brings to the nodes that it grants; None without a rollout.
    """

    channel: RecordedChannel
    current: SignedRevision | None = None
    candidate: SignedRevision | None = None

    def for_nodes(self) -> "OfferedChannel":
        """Return the channel as its nodes see it: the candidate's releases are on offer, too."""
        if self.candidate is None:
            return self
        if self.current is None:
            return replace(self, current=self.candidate)
        present, more = self.current.revision, self.candidate.revision
        also = newest_first({*present.also, *more.versions} - {present.current})
        revision = present.model_copy(update={"also": also})
        return replace(self, current=replace(self.current, revision=revision))


@dataclass(frozen=True, slots=True)
class OfferedChannels:
    """All channels at one generation, by name."""

    generation: int
    by_name: Mapping[str, OfferedChannel]


class ChannelReader:
    """Loads the channels once, and again after each change of a channel."""

    def __init__(self, db: Database, watch: GenerationWatch) -> None:
        self._watch = watch
        self._channels = PerGeneration(db, watch, _load, lambda: watch.channels)

    @property
    def changed_at(self) -> int:
        """The generation of the last change; answers prepared at an earlier one are not valid."""
        return self._watch.channels

    async def current(self, *, fresh: bool = False) -> OfferedChannels:
        """Return the channels of the present generation; see `PerGeneration.current`."""
        return await self._channels.current(fresh=fresh)


def _load(session: Session, _before: OfferedChannels | None) -> OfferedChannels:
    generation = current_generation(session)
    by_name = {}
    for channel, revisions in ChannelTable(session).signed():
        of_state = {signed.revision.state: signed for signed in revisions}
        by_name[channel.name] = OfferedChannel(
            channel,
            current=of_state.get(RevisionState.CURRENT),
            candidate=of_state.get(RevisionState.CANDIDATE),
        )
    signed = (one.current.signed_at for one in by_name.values() if one.current is not None)
    expiry = (at + MANIFEST_LIFE for at in signed if at is not None)
    metrics.set_manifests_expiry(min((at.timestamp() for at in expiry), default=math.inf))
    return OfferedChannels(generation, by_name)
