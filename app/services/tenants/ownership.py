"""Writing who owns which prefix of module paths."""

from app.core.acl import Ownership, RecordedOwnership
from app.core.errors import UnknownError
from app.core.principal import Principal
from app.db.engine import Database, Session
from app.db.ownership import OwnershipTable
from app.db.tenants import TenantTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, locked
from app.services.clock import Now
from app.services.tenants.checks import check_owners, check_spelling
from app.services.tenants.edits import Edit, write


class OwnershipService:
    """Use cases about owned prefixes; all are the platform's."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def page(
        self, who: Principal, *, after: str | None = None, limit: int | None = None
    ) -> list[RecordedOwnership]:
        """Return owned prefixes, in their order.

        Args:
            who: a platform admin.
            after: the last prefix of the page before; None begins the list.
            limit: how many at most; None takes all.
        """
        require_admin(who, None)
        return await self._db.read(lambda s: OwnershipTable(s).page(after=after, limit=limit))

    async def put(
        self, ownership: Ownership, who: Principal, *, revision: int | None = None
    ) -> RecordedOwnership:
        """Record the prefix as its tenant's and return it. If nothing differs, nothing is written.

        Raises:
            UnknownError: there is no such tenant.
            ConflictError: the prefix is owned in another spelling.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, None)

        def work(session: Session) -> RecordedOwnership:
            names = {ownership.tenant, *ownership.granted}
            check_owners(ownership, TenantTable(session).ids_of(names))
            owned = OwnershipTable(session)
            check_spelling(ownership.prefix, owned.other_spelling(ownership.prefix))
            before, at = owned.get(ownership.prefix), self._now()
            check_revision(before.revision if before else 0, revision, ownership.prefix)
            if before is not None and before.says(ownership):
                return before
            after = RecordedOwnership.first(ownership, at).succeeding(before)
            [prefix_id] = write(session, [Edit(before, after)], who, at)
            return after.model_copy(update={"id": prefix_id})

        return await self._db.write(locked(work))

    async def remove(self, prefix: str, who: Principal, *, revision: int | None = None) -> None:
        """Give a prefix back to everybody.

        Raises:
            UnknownError: nobody owns it.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, None)

        def work(session: Session) -> None:
            # PostgreSQL takes no NUL in a text, and the prefix may be anything.
            before = OwnershipTable(session).get(prefix) if prefix.isprintable() else None
            if before is None:
                raise UnknownError(
                    f"nobody owns the prefix {prefix[:200]!a}; see `moorage owner list`"
                )
            check_revision(before.revision, revision, prefix)
            write(session, [Edit(before, None)], who, self._now())

        await self._db.write(locked(work))
