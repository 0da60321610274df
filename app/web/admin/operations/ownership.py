"""What admins can do with owned prefixes."""

from app.core.acl import Ownership
from app.core.noun import checked
from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.base import Page
from app.web.admin.models.ownership import OwnershipIn, OwnershipOut
from app.web.admin.paging import key_of, page_from


async def list_owned(
    services: Services, who: Principal, *, cursor: str | None, limit: int
) -> Page[OwnershipOut]:
    """Return the owned prefixes, by prefix.

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    after = None if cursor is None else str(key_of(cursor, str)[0])
    owned = await services.tenants.ownership.page(who, after=after, limit=limit + 1)
    return page_from(owned, lambda one: (one.prefix,), limit)


async def put_owned(
    services: Services,
    who: Principal,
    prefix: str,
    wanted: OwnershipIn,
    revision: int | None = None,
) -> OwnershipOut:
    """Return the prefix, recorded as belonging to a tenant.

    Raises:
        BadInputError: the prefix is malformed, or granted to its owner.
        UnknownError: there is no such tenant.
        StaleRevisionError: it is no longer at that revision.
    """
    ownership = checked(Ownership, {**dict(wanted), "prefix": prefix})
    return await services.tenants.ownership.put(ownership, who, revision=revision)


async def remove_owned(
    services: Services, who: Principal, prefix: str, revision: int | None = None
) -> None:
    """Give a prefix back to everybody.

    Raises:
        UnknownError: nobody owns it.
        StaleRevisionError: it is no longer at that revision.
    """
    await services.tenants.ownership.remove(prefix, who, revision=revision)
