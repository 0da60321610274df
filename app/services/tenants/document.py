"""Making the state match one document: tenants, credentials, rules, routes, owned prefixes.

    tenants that the document names     exactly as it says, their rules and routes too
    tenants that it does not name       left alone; removed with `prune`
    owned prefixes, platform rules      exactly as it says, where it has that table; else left alone
    credentials                         those that it names; the others are left alone
    tokens                              not in a document

What differs is found by `plan` while others may write. One short transaction then makes sure that
nothing was changed meanwhile, and writes: every part holds, or nothing was changed. An object
that already matches is not written and gets no audit row.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from app.core.credential import RecordedCredential
from app.core.errors import ConflictError
from app.core.principal import Principal
from app.db.engine import Database, Session
from app.services.authorization import require_admin
from app.services.changes import locked
from app.services.clock import Now
from app.services.secrets import SecretBox
from app.services.tenants.checks import RouteCheck
from app.services.tenants.edits import Edit, room_for, write
from app.services.tenants.plan import Document, Plan, plan
from app.services.tenants.snapshot import Change, State, read_revisions, read_state

_EDIT_BYTES = 1024  # of a noun without its secret, and its audit row, generously
_TRIES = 5  # of a document during whose planning something was changed


class DocumentService:
    """Applies documents."""

    def __init__(self, db: Database, check: RouteCheck, box: SecretBox, now: Now) -> None:
        self._db = db
        self._check = check
        self._box = box
        self._now = now

    async def apply(
        self, document: Document, who: Principal, *, dry_run: bool = False, prune: bool = False
    ) -> list[Change]:
        """Return what was changed so that the state is that of the document.

        Args:
            document: the state that is wanted.
            who: a platform admin.
            dry_run: change nothing, and tell what would be.
            prune: remove the tenants that the document does not name.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: something in it is malformed; the message says where.
            UnknownError: it names a credential or a tenant that does not exist.
            ConflictError: it contradicts itself, or others change too much at the same time.
        """
        require_admin(who, None)

        def prepare(session: Session) -> tuple[State, Plan]:
            present = read_state(session)
            planned = plan(present, document, self._check, self._box, self._now(), prune=prune)
            return present, planned

        for _ in range(_TRIES):
            present, planned = await self._db.read(prepare)
            if dry_run or not planned.edits:
                return planned.changes
            work = partial(_write, present=present, edits=planned.edits, who=who, at=self._now())
            size_bytes = sum(map(_size_of, planned.edits))
            room = room_for(planned.edits)
            if await self._db.write(locked(work), room=room, size_bytes=size_bytes):
                return planned.changes
        raise ConflictError(
            f"tenants, rules or routes were changed during each of {_TRIES} tries to apply the "
            "document; try again when others are done"
        )


def _size_of(edit: Edit) -> int:
    sealed = edit.after.sealed if isinstance(edit.after, RecordedCredential) else b""
    return _EDIT_BYTES + len(sealed)


def _write(
    session: Session, *, present: State, edits: Sequence[Edit], who: Principal, at: datetime
) -> bool:
    """Write edits; False, without a change, if the state is no longer what was planned for."""
    if read_revisions(session) != present.revisions:
        return False
    write(session, edits, who, at)
    return True
