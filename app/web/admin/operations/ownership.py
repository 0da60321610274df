"""What admins can do with owned prefixes."""

from app.core.acl import Ownership
from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.base import Page
from app.web.admin.models.ownership import OwnershipIn, OwnershipOut, ownership_out
from app.web.admin.paging import page_of


async def list_owned(
    services: Services, who: Principal, *, cursor: str | None, limit: int
) -> Page[OwnershipOut]:
    """Return the owned prefixes, by prefix.

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    found = await services.tenants.ownership.all(who)
    return page_of(
        found,
        lambda o: (o.ownership.prefix,),
        ownership_out,
        kinds=(str,),
        cursor=cursor,
        limit=limit,
    )


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
    ownership = Ownership(prefix, wanted.tenant, frozenset(wanted.granted))
    return ownership_out(await services.tenants.ownership.put(ownership, who, revision=revision))


async def remove_owned(
    services: Services, who: Principal, prefix: str, revision: int | None = None
) -> None:
    """Give a prefix back to everybody.

    Raises:
        UnknownError: nobody owns it.
        StaleRevisionError: it is no longer at that revision.
    """
    await services.tenants.ownership.remove(prefix, who, revision=revision)
