"""Making, changing and removing channels; setting them, and going back."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from app.core.channel import (
    Channel,
    ChannelSettings,
    Choice,
    RecordedChannel,
    Revision,
    RevisionDiff,
    difference,
)
from app.core.errors import ConflictError, UnknownError
from app.core.principal import Principal
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.generation import CHANNELS, bump_generation
from app.db.tenants import TenantTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, denial_room, locked
from app.services.clock import Now
from app.services.fleet.manifests import Manifests
from app.services.fleet.revisions import Revisions

_SHOWN_TENANTS = 5


RollBackOpen = Callable[[Session, str, Principal, datetime, str], bool]
"""Ends the open rollout of a channel within a transaction; returns False if none is open."""


class ChannelService:
    """Use cases about channels.

    Args:
        roll_back_open: ends the open rollout of a channel, which a rollback does first.
    """

    def __init__(
        self,
        db: Database,
        manifests: Manifests,
        revisions: Revisions,
        now: Now,
        roll_back_open: RollBackOpen,
    ) -> None:
        self._db = db
        self._manifests = manifests
        self._roll_back_open = roll_back_open
        self._revisions = revisions
        self._now = now

    async def page(
        self, who: Principal, *, after: str | None = None, limit: int | None = None
    ) -> list[RecordedChannel]:
        """Return the channels that an admin may see, by name.

        Args:
            who: an admin of anything; a tenant's admin sees the channels that admit the tenant.
            after: the last name of the page before; None begins the list.
            limit: how many at most; None takes all.

        Raises:
            DeniedError: who is no admin of anything.
        """
        require_admin(who, who.tenant)
        if who.tenant is None:
            return await self._db.read(lambda s: ChannelTable(s).page(after=after, limit=limit))
        channels = await self._db.read(lambda s: ChannelTable(s).page(after=after, limit=None))
        return [channel for channel in channels if _may_see(channel, who)][:limit]

    async def get(self, name: str, who: Principal) -> RecordedChannel:
        """Return one channel.

        Raises:
            DeniedError: who is no admin of anything.
            UnknownError: there is none that who may see.
        """
        require_admin(who, who.tenant)
        return await self._db.read(lambda s: _visible(s, name, who))

    async def create(self, channel: Channel, who: Principal) -> RecordedChannel:
        """Return a new channel, which offers nothing yet.

        Raises:
            DeniedError: who is no platform admin.
            ConflictError: the name is taken.
            UnknownError: there is no tenant of a name.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> RecordedChannel:
            table = ChannelTable(session)
            if table.get(channel.name) is not None:
                raise ConflictError(f"there is a channel {channel.name} already")
            _check_tenants(session, channel.tenants)
            self._manifests.ensure_key(session, who, at)
            table.add(channel, at)
            _record(session, at, who, "channel.create", channel.name, _words(channel))
            return channel_named(session, channel.name)

        return await self._db.write(locked(work))

    async def change(
        self, name: str, settings: ChannelSettings, who: Principal, *, edits: int | None = None
    ) -> RecordedChannel:
        """Return a channel after the fields that `settings` was made with are changed.

        Args:
            name: the channel's.
            settings: what to change; what was left out stays as it is.
            who: a platform admin.
            edits: the number that the caller looked at; None for no check.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is no such channel, or no tenant of a name.
            ConflictError: a tenant that follows the channel would be shut out.
            StaleRevisionError: it was changed since.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> RecordedChannel:
            before = channel_named(session, name)
            check_revision(before.edits, edits, f"channel {name}")
            changes: dict[str, Any] = {n: getattr(settings, n) for n in settings.model_fields_set}
            after = before.model_copy(update=changes)
            if before == after:
                return before
            _check_tenants(session, after.tenants)
            _check_followers(session, after)
            ChannelTable(session).save(before.id, after)
            _record(session, at, who, "channel.update", name, _words(after))
            return channel_named(session, name)

        return await self._db.write(locked(work))

    async def remove(self, name: str, who: Principal, *, edits: int | None = None) -> None:
        """Remove a channel. Its revisions stay recorded, and their numbers are not given again.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none.
            ConflictError: a tenant follows it, or a rollout is under way.
            StaleRevisionError: it was changed since.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> None:
            channel = channel_named(session, name)
            check_revision(channel.edits, edits, f"channel {name}")
            followers = TenantTable(session).following(name)
            if followers:
                raise ConflictError(
                    f"{_listed(followers)} take{'s' if len(followers) == 1 else ''} toolchains "
                    f'from channel {name}; `moorage tenant update NAME --toolchains ""` first'
                )
            if channel.candidate is not None:
                raise ConflictError(
                    f"a rollout is bringing revision {channel.candidate} of channel {name} to the "
                    "nodes; abandon it first"
                )
            ChannelTable(session).remove(channel.id)
            last = f"at revision {channel.revision}" if channel.revision else "without a revision"
            _record(session, at, who, "channel.remove", name, last)

        await self._db.write(locked(work))

    async def set(
        self, name: str, choice: Choice, who: Principal, *, edits: int | None = None
    ) -> Revision:
        """Return the revision that offers a choice from now on.

        Where the present revision offers just that, it stays.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is no such channel, or no release of a name.
            ConflictError: a release is not verified, or a rollout is under way.
            StaleRevisionError: the channel was changed since.
        """
        require_admin(who, None)

        def work(session: Session) -> Revision:
            channel = channel_named(session, name)
            check_revision(channel.edits, edits, f"channel {name}")
            present = _present(session, channel)
            if present is not None and present.offers_as(choice.normal()):
                return present
            return self._revisions.add(session, channel, choice, who, self._now())

        return await self._db.write(locked(work))

    async def rollback(
        self,
        name: str,
        who: Principal,
        *,
        to: int | None = None,
        reason: str = "",
        edits: int | None = None,
    ) -> Revision:
        """Return a new revision with the content of an older one. No upstream is asked.

        Args:
            name: the channel's.
            who: a platform admin.
            to: the number of the older revision; None is the one that was offered before this one.
            reason: one line for people.
            edits: the number that the caller looked at; None for no check.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is no such channel or revision.
            ConflictError: a release of it is not served any more, or a rollout is under way.
            StaleRevisionError: the channel was changed since.
        """
        require_admin(who, None)

        def work(session: Session) -> Revision:
            channel = channel_named(session, name)
            check_revision(channel.edits, edits, f"channel {name}")
            if self._roll_back_open(session, name, who, self._now(), reason):
                channel = channel_named(session, name)
                present = _present(session, channel)
                if present is not None and to in (None, present.restores, present.revision):
                    return present
            older = _older(session, channel, to)
            choice = Choice(current=older.current, also=older.also, reason=reason)
            restores = older.revision
            return self._revisions.add(
                session, channel, choice, who, self._now(), restores=restores
            )

        # Withdrawing a bad release works on a full disk.
        return await self._db.write(locked(work), room=denial_room(who))

    async def history(
        self, name: str, who: Principal, *, before: int | None = None, limit: int | None = None
    ) -> list[Revision]:
        """Return a channel's revisions, the newest first.

        Args:
            name: the channel's.
            who: an admin that may see it.
            before: only those of lower numbers; None begins with the newest.
            limit: how many at most; None takes all.

        Raises:
            DeniedError: who is no admin of anything.
            UnknownError: there is no such channel.
        """
        require_admin(who, who.tenant)
        return await self._db.read(
            lambda s: ChannelTable(s).revisions(_visible(s, name, who), before=before, limit=limit)
        )

    async def revision(self, name: str, number: int, who: Principal) -> Revision:
        """Return one revision of a channel.

        Raises:
            DeniedError: who is no admin of anything.
            UnknownError: there is no such channel or revision.
        """
        require_admin(who, who.tenant)
        return await self._db.read(lambda s: revision_of(s, _visible(s, name, who), number))

    async def diff(
        self, name: str, who: Principal, *, before: int | None = None, after: int | None = None
    ) -> RevisionDiff:
        """Return what differs between two revisions.

        Args:
            name: the channel's.
            who: an admin that may see it.
            before: a number; None is the revision that was offered before `after`.
            after: a number; None is the current revision.

        Raises:
            DeniedError: who is no admin of anything.
            UnknownError: there is no such channel or revision.
        """
        require_admin(who, who.tenant)

        def work(session: Session) -> RevisionDiff:
            channel = _visible(session, name, who)
            newer = _present(session, channel)
            if after is not None:
                newer = revision_of(session, channel, after)
            if newer is None:
                raise UnknownError(_no_revision(channel))
            if before is not None:
                return difference(revision_of(session, channel, before), newer)
            return difference(_offered_before(session, channel, newer.revision), newer)

        return await self._db.read(work)


def channel_named(session: Session, name: str) -> RecordedChannel:
    """Return one channel.

    Raises:
        UnknownError: there is none of that name.
    """
    # PostgreSQL takes no NUL in a text, and the name may be anybody's.
    channel = ChannelTable(session).get(name) if name.isprintable() else None
    if channel is None:
        raise UnknownError(f"there is no channel {name[:80]!a}; see `moorage channel list`")
    return channel


def revision_of(session: Session, channel: RecordedChannel, number: int) -> Revision:
    """Return one revision of a channel.

    Raises:
        UnknownError: there is none of that number.
    """
    revision = ChannelTable(session).revision(channel, number)
    if revision is None:
        raise UnknownError(
            f"channel {channel.name} has no revision {number}; "
            f"see `moorage channel history {channel.name}`"
        )
    return revision


def _visible(session: Session, name: str, who: Principal) -> RecordedChannel:
    channel = channel_named(session, name)
    if not _may_see(channel, who):
        raise UnknownError(f"there is no channel {name[:80]!a}; see `moorage channel list`")
    return channel


def _may_see(channel: RecordedChannel, who: Principal) -> bool:
    return who.tenant is None or channel.admits(who.tenant)


def _present(session: Session, channel: RecordedChannel) -> Revision | None:
    return None if channel.revision is None else revision_of(session, channel, channel.revision)


def _older(session: Session, channel: RecordedChannel, to: int | None) -> Revision:
    if channel.revision is None:
        raise UnknownError(_no_revision(channel))
    if to is not None:
        return revision_of(session, channel, to)
    older = _offered_before(session, channel, channel.revision)
    if older is None:
        raise UnknownError(
            f"channel {channel.name} has no revision before {channel.revision} to go back to"
        )
    return older


def _offered_before(session: Session, channel: RecordedChannel, number: int) -> Revision | None:
    """Return the revision that was offered before another one; abandoned candidates never were."""
    revisions = ChannelTable(session).revisions(channel, before=number)
    return next((r for r in revisions if r.offered_at is not None), None)


def _no_revision(channel: RecordedChannel) -> str:
    return (
        f"channel {channel.name} has no revision yet; "
        f"`moorage channel set {channel.name} go1.27.1` makes one"
    )


def _check_tenants(session: Session, names: Collection[str] | None) -> None:
    known = TenantTable(session).ids_of(names or ())
    for name in sorted(names or ()):
        if name not in known:
            raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")


def _check_followers(session: Session, channel: RecordedChannel) -> None:
    outside = [n for n in TenantTable(session).following(channel.name) if not channel.admits(n)]
    if outside:
        raise ConflictError(
            f"{_listed(outside)} follow{'s' if len(outside) == 1 else ''} channel {channel.name} "
            "and would be shut out"
        )


def _listed(tenants: list[str]) -> str:
    shown = ", ".join(tenants[:_SHOWN_TENANTS])
    more = len(tenants) - _SHOWN_TENANTS
    plural = "s" if len(tenants) > 1 else ""
    return f"tenant{plural} {shown}" + (f" and {more} more" if more > 0 else "")


def _words(channel: ChannelSettings) -> str:
    who = "everybody" if channel.tenants is None else " ".join(sorted(channel.tenants)) or "nobody"
    return f"for {who}" + (f', "{channel.title}"' if channel.title else "")


def _record(
    session: Session, at: datetime, who: Principal, action: str, name: str, detail: str
) -> None:
    AuditLog(session).append(at, who.actor, action, f"channel:{name}", detail)
    bump_generation(session, [CHANNELS])
