"""What admins can do with credentials for upstreams."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.base import Page
from app.web.admin.models.credentials import CredentialIn, CredentialOut
from app.web.admin.paging import key_of, page_from


async def list_credentials(
    services: Services, who: Principal, tenant: str, *, cursor: str | None, limit: int
) -> Page[CredentialOut]:
    """Return the credentials of a tenant, by name, without their secrets.

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    after = None if cursor is None else str(key_of(cursor, str)[0])
    credentials = await services.tenants.credentials.page(tenant, who, after=after, limit=limit + 1)
    return page_from(credentials, lambda credential: (credential.name,), limit)


async def put_credential(
    services: Services,
    who: Principal,
    tenant: str,
    name: str,
    wanted: CredentialIn,
    revision: int | None = None,
) -> CredentialOut:
    """Return a new credential, or one that has another secret from now on.

    Raises:
        BadInputError: it can't be sent as a header.
        StaleRevisionError: it is no longer at that revision.
    """
    return await services.tenants.credentials.put(tenant, name, wanted, who, revision=revision)


async def remove_credential(
    services: Services, who: Principal, tenant: str, name: str, revision: int | None = None
) -> None:
    """Remove a credential that no route uses.

    Raises:
        UnknownError: the tenant has none of that name.
        ConflictError: a route uses it.
        StaleRevisionError: it is no longer at that revision.
    """
    await services.tenants.credentials.remove(tenant, name, who, revision=revision)
