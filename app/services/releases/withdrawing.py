"""Taking an own release back, as a whole: every file of it, published before or not.

Retired, it is in no list, and no channel, tag list or toolchain list has it; who names a file, a
digest or a version of it still gets the bytes: nodes and builds that have it go on. Gone, the rows
give the bytes up in the transaction that says so, and `moorage gc` removes them; the rows stay, so
that the names never get other bytes.
"""

from app import logs
from app.core.errors import BadInputError, ConflictError, UnknownError
from app.core.ownrelease import is_own
from app.core.principal import Principal
from app.core.releasefile import FileRecord
from app.core.toolchain import MODULE_PATH
from app.core.withdrawal import Withdrawal, WithdrawalState, check_reason
from app.db.audit import AuditLog
from app.db.channels import ChannelTable
from app.db.engine import Database, Session
from app.db.generation import RELEASES, STORED, bump_generation
from app.db.modules import ModuleTable
from app.db.releases import ReleaseTable
from app.db.room import Room
from app.db.withdrawals import WithdrawalTable
from app.services.authorization import require_admin
from app.services.changes import locked
from app.services.clock import Now

_ACTIONS = {
    WithdrawalState.RETIRED: "release.retire",
    WithdrawalState.GONE: "release.withdraw",
}
_log = logs.get("publishing")


class Withdrawing:
    """Takes own releases back."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def retire(
        self, who: Principal, release: str, reason: str, *, is_gone: bool
    ) -> Withdrawal:
        """Return what became of a release: retired, or gone for good. Neither is undone.

        A release that is retired can be made gone later; everything else that happened stays.

        Args:
            who: a platform admin.
            release: "go1.25.9-corp1".
            reason: one line for people, or "".
            is_gone: for a leak: 410 for everything, and the bytes are removed.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: it is not the name of an own release, or the reason has two lines.
            UnknownError: no file of it was published.
            ConflictError: a channel offers it, or a rollout is bringing it to nodes.
        """
        require_admin(who, None)
        check_reason(reason)
        if not is_own(release):
            raise BadInputError(
                f"{release[:60]!a} is no own release: only what was published here is taken back"
            )
        state = WithdrawalState.GONE if is_gone else WithdrawalState.RETIRED
        withdrawal = Withdrawal(release, state, reason, self._now())
        changed = await self._db.write(
            locked(lambda s: _withdraw(s, withdrawal, who)), room=Room.RESERVE
        )
        _log.info("own release taken back", release=release, state=changed.state)
        return changed


def _withdraw(session: Session, withdrawal: Withdrawal, who: Principal) -> Withdrawal:
    """Record a withdrawal with all that follows from it; return the one that counts."""
    table, release = WithdrawalTable(session), withdrawal.release
    before = table.get(release)
    if before is not None and (before.is_gone or before.state is withdrawal.state):
        return before
    records = ReleaseTable(session).of_versions([release])
    if not records:
        raise UnknownError(f"no file of {release} was published here; see `moorage releases list`")
    _check_not_offered(session, release)
    table.put(withdrawal)
    if withdrawal.is_gone:
        _let_go(session, records)
    action = _ACTIONS[withdrawal.state]
    AuditLog(session).append(
        withdrawal.at, who.actor, action, f"release:{release}", withdrawal.reason
    )
    bump_generation(session, [RELEASES, STORED])
    return withdrawal


def _check_not_offered(session: Session, release: str) -> None:
    """Return if no channel has the release, so that no node is told to install it meanwhile.

    Raises:
        ConflictError: one has.
    """
    table = ChannelTable(session)
    for channel in table.all():
        for number in (channel.revision, channel.candidate):
            revision = None if number is None else table.revision(channel, number)
            if revision is not None and release in revision.versions:
                raise ConflictError(
                    f"channel {channel.name} offers {release} (revision {number}): give it another "
                    f"release first (`moorage channel set {channel.name} …`)"
                )


def _let_go(session: Session, records: list[FileRecord]) -> None:
    """Give up the bytes of files, of what was derived from them, and of their toolchain modules."""
    for record in records:
        ReleaseTable(session).let_go(record.file.filename)
        if record.toolchain is not None:
            ModuleTable(session).remove(MODULE_PATH, record.toolchain.version)
