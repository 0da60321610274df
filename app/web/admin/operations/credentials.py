"""What admins can do with credentials for upstreams."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.services.tenants.drafts import CredentialDraft
from app.web.admin.models.base import Page
from app.web.admin.models.credentials import CredentialIn, CredentialOut, credential_out
from app.web.admin.paging import page_of


async def list_credentials(
    services: Services, who: Principal, tenant: str, *, cursor: str | None, limit: int
) -> Page[CredentialOut]:
    """Return the credentials of a tenant, by name, without their secrets.

    Raises:
        BadInputError: the cursor is not one that a page gave.
    """
    found = await services.tenants.credentials.all(tenant, who)
    return page_of(
        found, lambda c: (c.name,), credential_out, kinds=(str,), cursor=cursor, limit=limit
    )


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
    draft = CredentialDraft(name, wanted.kind, wanted.secret.get_secret_value(), wanted.username)
    return credential_out(
        await services.tenants.credentials.put(tenant, draft, who, revision=revision)
    )


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
