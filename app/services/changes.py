"""What every change to tenants has in common: one lock, one transaction, audit rows, a generation.

Also the looks at the database that end in a clear refusal.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from app.core.errors import StaleRevisionError, UnknownError
from app.core.principal import Principal
from app.core.tenant import RecordedTenant
from app.db.audit import AuditLog
from app.db.engine import Session
from app.db.generation import bump_generation
from app.db.room import Room
from app.db.tenants import TenantTable

T = TypeVar("T")


def locked(work: Callable[[Session], T]) -> Callable[[Session], T]:
    """Return work that first takes the lock of all changes to tenants, for `Database.write`.

    Every change to tenants, their rules, routes, credentials, tokens and logs, and to owned
    prefixes, is written under this lock. So nothing that work reads is changed before work commits:
    a revision, a count or a name that it checked is still right when it writes. PostgreSQL lets
    several write at once. SQLite does not, and the lock is a read of one row there.
    """

    def locked_work(session: Session) -> T:
        AuditLog(session).lock()
        return work(session)

    return locked_work


def denial_room(who: Principal) -> Room:
    """Return the part of the disk for revoking and denying, which work on a full disk."""
    return Room.RESERVE if who.tenant is None else Room.TENANT_RESERVE


def record(
    session: Session,
    at: datetime,
    who: Principal,
    action: str,
    obj: str,
    detail: str = "",
    *,
    tenant: str,
) -> None:
    """Leave the audit row of a change to a tenant, and have every process notice the change."""
    AuditLog(session).append(at, who.actor, action, obj, detail)
    bump_generation(session, [tenant])


def tenant_named(session: Session, name: str) -> RecordedTenant:
    """Return one tenant.

    Raises:
        UnknownError: there is none of that name.
    """
    # PostgreSQL takes no NUL in a text, and the name may be anybody's.
    tenant = TenantTable(session).get(name) if name.isprintable() else None
    if tenant is None:
        raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")
    return tenant


def tenant_id_named(session: Session, name: str) -> int:
    """Return the id of one tenant, without reading the tenant.

    Raises:
        UnknownError: there is none of that name.
    """
    ids = TenantTable(session).ids_of([name]) if name.isprintable() else {}
    if name not in ids:
        raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")
    return ids[name]


def check_revision(present: int, expected: int | None, what: str) -> None:
    """Return if the caller knows the present revision, or asks for no check.

    Raises:
        StaleRevisionError: it was changed since.
    """
    if expected is not None and expected != present:
        raise StaleRevisionError(
            f"{what} was changed meanwhile: it is at revision {present}, not {expected}; "
            "look at it again"
        )
