"""Rows of channels and their revisions.

A removed channel keeps its row, and gets it back when it is made again: its numbers go on, because
nodes refuse a revision below the newest that they saw.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Select, UniqueConstraint, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.channel import (
    Channel,
    ChannelSettings,
    RecordedChannel,
    Revision,
    RevisionState,
    ToolchainOffer,
)
from app.db.base import Base, Revisions, WordSet, columns_for, values_for

_OFFERED = (RevisionState.CURRENT, RevisionState.CANDIDATE)


class ChannelRow(Base):
    """One channel; `tenants` is NULL where it is open to everybody."""

    __tablename__ = "channels"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    tenants: Mapped[list[str] | None] = mapped_column(WordSet)
    edits: Mapped[int]
    removed: Mapped[bool]
    created_at: Mapped[datetime]


class RevisionRow(Base):
    """One revision of a channel; `also` is a text with spaces between the names of releases.

    `manifest` is the signed note of a current revision or a candidate, signed at `signed_at`.
    """

    __tablename__ = "channel_revisions"
    __table_args__ = (UniqueConstraint("channel_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"))
    number: Mapped[int]
    state: Mapped[str]
    current: Mapped[str]
    also: Mapped[str]
    reason: Mapped[str]
    restores: Mapped[int | None]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    offered_at: Mapped[datetime | None]
    manifest: Mapped[bytes | None]
    signed_at: Mapped[datetime | None]


def _at_most_one(state: RevisionState) -> Index:
    """Return the index that lets a channel have one revision in a state at most."""
    of_state = RevisionRow.state == state.value
    return Index(
        f"uq_channel_revisions_{state}",
        RevisionRow.channel_id,
        unique=True,
        sqlite_where=of_state,
        postgresql_where=of_state,
    )


_at_most_one(RevisionState.CURRENT)
_at_most_one(RevisionState.CANDIDATE)


@dataclass(frozen=True, slots=True)
class SignedRevision:
    """A current revision or a candidate, with its signed manifest.

    Attributes:
        manifest: the note; b"" before it was signed for the first time.
        signed_at: when it was signed last, UTC.
    """

    revision: Revision
    manifest: bytes
    signed_at: datetime | None


class ChannelTable:
    """The repository of channels and revisions. Removed channels are no channels here."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[RecordedChannel]:
        """Return every channel, by name."""
        return self.page(after=None, limit=None)

    def page(self, *, after: str | None, limit: int | None) -> list[RecordedChannel]:
        """Return the channels that follow a name, in the order of their names.

        Args:
            after: the last name of the page before; None begins the list.
            limit: how many at most; None takes all.
        """
        query = _channels().where(ChannelRow.removed.is_(False))
        query = query.order_by(ChannelRow.name).limit(limit)
        return self._recorded(query if after is None else query.where(ChannelRow.name > after))

    def get(self, name: str) -> RecordedChannel | None:
        """Return one channel."""
        query = _channels().where(ChannelRow.name == name, ChannelRow.removed.is_(False))
        return next(iter(self._recorded(query)), None)

    def stamps(self) -> Revisions:
        """Return what tells whether any channel was added, changed or removed."""
        columns = (ChannelRow.id, ChannelRow.edits, ChannelRow.created_at)
        rows = self._session.execute(select(*columns).order_by(ChannelRow.id))
        return [(row.id, row.edits, row.created_at) for row in rows]

    def _recorded(self, query: Select[Any]) -> list[RecordedChannel]:
        rows = [dict(row) for row in self._session.execute(query).mappings()]
        offered = self._offered([row["id"] for row in rows])
        return [_channel(row, offered) for row in rows]

    def _offered(self, channel_ids: Collection[int]) -> dict[tuple[int, str], RevisionRow]:
        """Return the current revisions and candidates of some channels, by id and state."""
        query = select(RevisionRow).where(
            RevisionRow.channel_id.in_(channel_ids), RevisionRow.state.in_(_OFFERED)
        )
        rows = self._session.execute(query).scalars() if channel_ids else ()
        return {(row.channel_id, row.state): row for row in rows}

    def add(self, channel: Channel, at: datetime) -> None:
        """Record a new channel, or one of this name that was removed; its revisions go on."""
        values = values_for(ChannelRow, channel)
        row = self._session.execute(
            select(ChannelRow).where(ChannelRow.name == channel.name)
        ).scalar_one_or_none()
        if row is None:
            row = ChannelRow(**values, edits=0)
            self._session.add(row)
        for name, value in values.items():
            setattr(row, name, value)
        row.removed, row.created_at, row.edits = False, at, row.edits + 1
        self._session.flush()

    def save(self, channel_id: int, settings: ChannelSettings) -> None:
        """Record what an admin decides about a channel."""
        self._update(channel_id, **values_for(ChannelRow, settings))

    def remove(self, channel_id: int) -> None:
        """Remove a channel; its revisions are past from now on, and stay recorded."""
        self._session.execute(
            update(RevisionRow)
            .where(RevisionRow.channel_id == channel_id)
            .values(state=RevisionState.PAST, manifest=None)
        )
        self._update(channel_id, removed=True)

    def _update(self, channel_id: int, **values: Any) -> None:
        statement = update(ChannelRow).where(ChannelRow.id == channel_id)
        self._session.execute(statement.values(edits=ChannelRow.edits + 1, **values))

    def forget_tenants(self, names: Collection[str]) -> None:
        """Remove tenants from the lists of who may follow a channel."""
        if not names:
            return
        query = select(ChannelRow).where(ChannelRow.tenants.is_not(None))
        for row in self._session.execute(query).scalars():
            kept = set(row.tenants or ()) - set(names)
            if kept != set(row.tenants or ()):
                self._update(row.id, tenants=sorted(kept))

    def revisions(
        self, channel: RecordedChannel, *, before: int | None = None, limit: int | None = None
    ) -> list[Revision]:
        """Return a channel's revisions, the newest first.

        Args:
            channel: whose.
            before: only those of lower numbers; None begins with the newest.
            limit: how many at most; None takes all.
        """
        query = _revisions(channel.id).order_by(RevisionRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(RevisionRow.number < before)
        return [_revision(row, channel.name) for row in self._session.execute(query).scalars()]

    def revision(self, channel: RecordedChannel, number: int) -> Revision | None:
        """Return one revision of a channel."""
        query = _revisions(channel.id).where(RevisionRow.number == number)
        row = self._session.execute(query).scalar_one_or_none()
        return None if row is None else _revision(row, channel.name)

    def newest_number(self, channel_id: int) -> int:
        """Return the highest number of a channel's revisions; 0 without any."""
        query = select(func.max(RevisionRow.number)).where(RevisionRow.channel_id == channel_id)
        return self._session.execute(query).scalar() or 0

    def add_revision(self, channel_id: int, revision: Revision) -> None:
        """Record a new revision."""
        self._session.add(
            RevisionRow(
                channel_id=channel_id,
                number=revision.revision,
                state=revision.state,
                current=revision.current,
                also=" ".join(revision.also),
                reason=revision.reason,
                restores=revision.restores,
                actor=revision.actor,
                created_at=revision.created_at,
                offered_at=revision.offered_at,
            )
        )
        self._session.flush()
        self._update(channel_id)

    def set_state(
        self, channel_id: int, number: int, state: RevisionState, *, offered_at: datetime | None
    ) -> None:
        """Record a revision's state; only a past revision loses its manifest."""
        values: dict[str, Any] = {"state": state, "offered_at": offered_at}
        if state is RevisionState.PAST:
            values["manifest"] = None
        self._session.execute(_one(channel_id, number).values(**values))
        self._update(channel_id)

    def set_manifest(self, channel_id: int, number: int, manifest: bytes, at: datetime) -> None:
        """Record the signed manifest of a revision."""
        self._session.execute(_one(channel_id, number).values(manifest=manifest, signed_at=at))

    def signed(self) -> list[tuple[RecordedChannel, list[SignedRevision]]]:
        """Return every channel with its current revision and its candidate, in this order."""
        channels = self.all()
        offered = self._offered([channel.id for channel in channels])
        return [
            (
                channel,
                [
                    SignedRevision(_revision(row, channel.name), row.manifest or b"", row.signed_at)
                    for state in _OFFERED
                    if (row := offered.get((channel.id, state))) is not None
                ],
            )
            for channel in channels
        ]

    def toolchain_offers(self, names: Collection[str]) -> Mapping[str, ToolchainOffer]:
        """Return what some channels offer to tenants, by name; a channel that is gone is empty."""
        offers = {name: ToolchainOffer(name) for name in names}
        if not names:
            return offers
        query = (
            select(ChannelRow.name, RevisionRow.current, RevisionRow.also)
            .join(RevisionRow, RevisionRow.channel_id == ChannelRow.id)
            .where(
                ChannelRow.name.in_(names),
                ChannelRow.removed.is_(False),
                RevisionRow.state == RevisionState.CURRENT,
            )
        )
        for name, current, also in self._session.execute(query):
            offers[name] = ToolchainOffer(name, current, frozenset({current, *also.split()}))
        return offers

    def pinned(self) -> Mapping[str, str]:
        """Return each release that a revision of a channel names, with the channel's name.

        Past revisions count: a rollback must find their releases stored.
        """
        query = (
            select(RevisionRow.current, RevisionRow.also, ChannelRow.name)
            .join(ChannelRow, ChannelRow.id == RevisionRow.channel_id)
            .where(ChannelRow.removed.is_(False))
            .order_by(ChannelRow.name, RevisionRow.number)
        )
        pins: dict[str, str] = {}
        for current, also, name in self._session.execute(query):
            for version in (current, *also.split()):
                pins.setdefault(version, name)
        return pins


def _channels() -> Select[Any]:
    return select(*columns_for(ChannelRow, RecordedChannel))


def _revisions(channel_id: int) -> Select[RevisionRow]:
    return select(RevisionRow).where(RevisionRow.channel_id == channel_id)


def _one(channel_id: int, number: int) -> Any:
    return update(RevisionRow).where(
        RevisionRow.channel_id == channel_id, RevisionRow.number == number
    )


def _channel(
    row: Mapping[str, Any], offered: Mapping[tuple[int, str], RevisionRow]
) -> RecordedChannel:
    current = offered.get((row["id"], RevisionState.CURRENT))
    candidate = offered.get((row["id"], RevisionState.CANDIDATE))
    offers: dict[str, Any] = {"candidate": candidate.number if candidate else None}
    if current is not None:
        offers |= {
            "revision": current.number,
            "current": current.current,
            "also": current.also.split(),
        }
    return RecordedChannel.model_validate({**row, **offers})


def _revision(row: RevisionRow, channel: str) -> Revision:
    columns = {name: getattr(row, name) for name in _SAME}
    return Revision.model_validate(
        {**columns, "channel": channel, "revision": row.number, "also": row.also.split()}
    )


_SAME = ("state", "current", "reason", "restores", "actor", "created_at", "offered_at")
