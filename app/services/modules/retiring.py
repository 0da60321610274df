"""Published versions as an admin sees them: listing them, and taking them back.

A retired version is not offered any more; a withdrawn one is gone for ever. Publishing is
`publishing.py`.
"""

from dataclasses import replace

from app.core.errors import UnknownError
from app.core.principal import Principal
from app.core.published import PUBLISHED, PublishedState, PublishedVersion
from app.core.withdrawal import check_reason
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.modules import ModuleTable
from app.db.origins import OriginTable
from app.db.published import PublishedTable
from app.db.routes import RouteTable
from app.services.authorization import require_admin
from app.services.changes import locked, tenant_named
from app.services.clock import Now
from app.services.policy import PolicyReader


class PublishedVersions:
    """Use cases of a tenant's admin about published versions."""

    def __init__(self, db: Database, policies: PolicyReader, now: Now) -> None:
        self._db = db
        self._policies = policies
        self._now = now

    async def page(
        self,
        tenant: str,
        who: Principal,
        *,
        module: str | None = None,
        after: tuple[str, str] = ("", ""),
        limit: int = 50,
    ) -> list[PublishedVersion]:
        """Return versions that a tenant published, by module and version.

        Args:
            tenant: whose token published them.
            who: an admin of the tenant.
            module: only those of this path.
            after: module and version of the last one of the page before.
            limit: how many at most.

        Raises:
            UnknownError: there is no such tenant.
        """
        require_admin(who, tenant)
        if not all(text.isprintable() for text in (module or "", *after)):
            return []

        def work(session: Session) -> list[PublishedVersion]:
            tenant_named(session, tenant)
            return PublishedTable(session).of_tenant(tenant, module, after, limit)

        return await self._db.read(work)

    async def retire(
        self, tenant: str, module: str, version: str, reason: str, who: Principal, *, is_gone: bool
    ) -> PublishedVersion:
        """Take a version out of lists and @latest; with is_gone, answer 410 for ever.

        Retired, its files are served to those that have it in go.sum. Gone, the rows of its files
        are removed; the record in the tenant's log stays, and the version is never free again.

        Raises:
            BadInputError: the reason is too long, or has more than one line.
            UnknownError: the tenant has published no such version.
        """
        require_admin(who, tenant)
        check_reason(reason)
        at = self._now()
        state = PublishedState.GONE if is_gone else PublishedState.RETIRED

        def work(session: Session) -> PublishedVersion:
            table = PublishedTable(session)
            known = _of_tenant(session, tenant, module, version)
            if known.state in (state, PublishedState.GONE):
                return known
            origin_id = OriginTable(session).origin(PUBLISHED)
            table.set_state(module, version, state, reason, at)
            if is_gone:
                ModuleTable(session).remove(module, version, origin=origin_id)
            action = "module.withdraw" if is_gone else "module.retire"
            obj = f"module:{tenant}/{known.name}"
            AuditLog(session).append(at, who.actor, action, obj, reason)
            readers = {*RouteTable(session).tenants_asking(origin_id), tenant}
            bump_generation(session, readers)
            return replace(known, state=state, reason=reason, changed_at=at)

        changed = await self._db.write(locked(work))
        await self._policies.looked_up()
        return changed


def _of_tenant(session: Session, tenant: str, module: str, version: str) -> PublishedVersion:
    is_printable = module.isprintable() and version.isprintable()
    known = PublishedTable(session).get(module, version) if is_printable else None
    if known is None or known.tenant != tenant:
        raise UnknownError(
            f"tenant {tenant} has not published {module[:200]}@{version[:80]}; see `moorage module"
            f" list --tenant {tenant}`"
        )
    return known
