"""Writing a channel's revisions within the transaction of a use case.

Each change leaves its audit row, signs the manifest, and ends what was prepared of the channel and
of the tenants that follow it.
"""

from datetime import datetime

from app.core.channel import Choice, RecordedChannel, Revision, RevisionState
from app.core.errors import ConflictError, UnknownError
from app.core.gorelease import ReleaseFileKind
from app.core.principal import Principal
from app.core.releasefile import FileRecord, FileState
from app.core.selection import Selection, is_selected
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.db.generation import CHANNELS, bump_generation
from app.db.nodes import NodeTable
from app.db.releases import ReleaseTable
from app.db.tenants import TenantTable
from app.db.withdrawals import WithdrawalTable
from app.services.fleet.manifests import Manifests
from app.services.releases.policy import IngestionPolicy

_MOST_JUMP = 1000


class Revisions:
    """Makes and promotes revisions. Every method runs in a transaction of `changes.locked`."""

    def __init__(self, manifests: Manifests, policy: IngestionPolicy, selection: Selection) -> None:
        self._manifests = manifests
        self._policy = policy
        self._selection = selection

    def add(
        self,
        session: Session,
        channel: RecordedChannel,
        choice: Choice,
        who: Principal,
        at: datetime,
        *,
        state: RevisionState = RevisionState.CURRENT,
        restores: int | None = None,
    ) -> Revision:
        """Return a new revision of a channel.

        Args:
            session: the transaction.
            channel: as the transaction sees it.
            choice: what the revision offers.
            who: makes it.
            at: UTC.
            state: CURRENT offers it to everybody now; CANDIDATE is for a rollout, see `promote`.
            restores: the number of the revision that a rollback brings back.

        Raises:
            ConflictError: a release is not verified, or was taken back; or the channel has a
                candidate already.
            UnknownError: the index has no release of a name.
        """
        _check_no_candidate(channel)
        choice = choice.normal()
        _check_not_withdrawn(session, choice)
        if restores is None:
            self._check_verified(session, choice)
        else:
            self._check_stored(session, choice)
        is_current = state is RevisionState.CURRENT
        revision = Revision(
            **dict(choice),
            channel=channel.name,
            revision=_next_number(session, channel),
            state=state,
            restores=restores,
            actor=who.actor,
            created_at=at,
            offered_at=at if is_current else None,
        )
        if is_current:
            _retire_current(session, channel)
        ChannelTable(session).add_revision(channel.id, revision)
        self._manifests.sign(session, channel, revision, at)
        _record(session, at, who, _action(revision), channel, _words(revision))
        return revision

    def promote(
        self, session: Session, channel: RecordedChannel, who: Principal, at: datetime
    ) -> Revision:
        """Return the channel's candidate, which is the current revision from now on.

        Raises:
            ConflictError: the channel has no candidate.
        """
        candidate = _candidate(session, channel)
        _retire_current(session, channel)
        ChannelTable(session).set_state(
            channel.id, candidate.revision, RevisionState.CURRENT, offered_at=at
        )
        _record(session, at, who, "channel.promote", channel, str(candidate))
        return candidate.model_copy(update={"state": RevisionState.CURRENT, "offered_at": at})

    def drop(
        self, session: Session, channel: RecordedChannel, who: Principal, at: datetime
    ) -> Revision:
        """Return the channel's candidate, which never becomes current.

        Nodes that have it already refuse lower numbers: to bring them back, `add` a revision that
        restores the current one.

        Raises:
            ConflictError: the channel has no candidate.
        """
        candidate = _candidate(session, channel)
        ChannelTable(session).set_state(
            channel.id, candidate.revision, RevisionState.PAST, offered_at=None
        )
        _record(session, at, who, "channel.drop", channel, str(candidate))
        return candidate.model_copy(update={"state": RevisionState.PAST})

    def _check_verified(self, session: Session, choice: Choice) -> None:
        """Return if every selected archive of the releases is verified.

        Of a release without such archives, any verified file is enough.
        """
        records = _records(session, choice)
        for version in choice.versions:
            files = records.get(version)
            if files is None:
                raise UnknownError(
                    f"there is no release {version} in the release index as it was last read; "
                    "`moorage releases list --all` shows what is"
                )
            archives = [r for r in files if self._is_demanded(r)]
            missing = [r for r in archives if not self._is_usable(r)]
            if missing or not any(map(self._is_usable, files)):
                raise ConflictError(_not_verified(version, missing or files))

    def _is_demanded(self, record: FileRecord) -> bool:
        """Whether a revision needs a file: an archive that this mirror is to have, and can have."""
        return (
            record.file.kind is ReleaseFileKind.ARCHIVE
            and is_selected(record.file, self._selection)
            and self._policy.refusal(record) is None
        )

    def _check_stored(self, session: Session, choice: Choice) -> None:
        """Return if each release has a file that may be served: a rollback asks for no more."""
        records = _records(session, choice)
        for version in choice.versions:
            files = records.get(version, [])
            if not any(map(self._is_usable, files)):
                raise ConflictError(_not_verified(version, files))

    def _is_usable(self, record: FileRecord) -> bool:
        return self._policy.serves(record) and record.has_bytes and not record.damaged


def _check_not_withdrawn(session: Session, choice: Choice) -> None:
    for version in choice.versions:
        withdrawal = WithdrawalTable(session).get(version)
        if withdrawal is not None:
            raise ConflictError(f"{withdrawal}; choose another release")


_STATES = {
    FileState.KNOWN: "not fetched yet",
    FileState.FETCHING: "being fetched",
    FileState.PENDING_SIGNATURE: "not signed upstream yet",
}


def _records(session: Session, choice: Choice) -> dict[str, list[FileRecord]]:
    records: dict[str, list[FileRecord]] = {}
    for record in ReleaseTable(session).of_versions(choice.versions):
        records.setdefault(record.file.version, []).append(record)
    return records


def _not_verified(version: str, files: list[FileRecord]) -> str:
    """Return why a release can't be in a revision, and what to do."""
    refused = next((r for r in files if r.state is FileState.QUARANTINED), None)
    if refused is not None:
        why = f"{refused.file.filename} is quarantined: {refused.reason}"
    elif files:
        first, more = files[0], f", and {len(files) - 1} more" if len(files) > 1 else ""
        state = "damaged" if first.damaged else _STATES.get(first.state, str(first.state))
        why = f"{first.file.filename} is {state}{more}"
    else:
        why = "none of its files is known"
    return (
        f"{version} is not verified here ({why}); run `moorage releases sync {version}`, "
        "then set the channel again"
    )


def _next_number(session: Session, channel: RecordedChannel) -> int:
    """Return the number of a channel's next revision: above all that its nodes have seen.

    After an older database was restored, nodes have seen numbers that are not recorded, and refuse
    lower ones. The jump is bounded, so that a node that lies can't use the numbers up.
    """
    newest = ChannelTable(session).newest_number(channel.id)
    return max(newest, NodeTable(session).newest_seen(channel.name, most=newest + _MOST_JUMP)) + 1


def _candidate(session: Session, channel: RecordedChannel) -> Revision:
    number = channel.candidate
    revision = None if number is None else ChannelTable(session).revision(channel, number)
    if revision is None:
        raise ConflictError(f"channel {channel.name} has no candidate")
    return revision


def _check_no_candidate(channel: RecordedChannel) -> None:
    if channel.candidate is not None:
        raise ConflictError(
            f"a rollout is bringing revision {channel.candidate} of channel {channel.name} to the "
            "nodes; promote or abandon it first"
        )


def _retire_current(session: Session, channel: RecordedChannel) -> None:
    if channel.revision is None:
        return
    table = ChannelTable(session)
    current = table.revision(channel, channel.revision)
    offered_at = current.offered_at if current else None
    table.set_state(channel.id, channel.revision, RevisionState.PAST, offered_at=offered_at)


def _action(revision: Revision) -> str:
    if revision.restores is not None:
        return "channel.rollback"
    return "channel.set" if revision.state is RevisionState.CURRENT else "channel.propose"


def _words(revision: Revision) -> str:
    restores = f", restores revision {revision.restores}" if revision.restores is not None else ""
    return f"{revision}{restores}"


def _record(
    session: Session,
    at: datetime,
    who: Principal,
    action: str,
    channel: RecordedChannel,
    detail: str,
) -> None:
    AuditLog(session).append(at, who.actor, action, f"channel:{channel.name}", detail)
    bump_generation(session, [CHANNELS, *TenantTable(session).following(channel.name)])
