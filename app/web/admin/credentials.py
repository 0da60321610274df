"""`/api/v1/tenants/{tenant}/credentials…`: what upstreams are shown. Secrets are write-only."""

from secrets import token_urlsafe

from fastapi import APIRouter, Response
from pydantic import SecretStr

from app.core import githook
from app.core.credential import RecordedCredential, SecretCredential
from app.core.cursor import key_of
from app.web.admin.answers import MALFORMED, REFUSED, STALE, TAKEN, UNKNOWN, TenantName
from app.web.admin.context import Site, TokenHolder
from app.web.admin.models.base import Page
from app.web.admin.models.githooks import HookMadeOut
from app.web.admin.paging import Cursor, Limit, page_from
from app.web.admin.revisions import IfMatch, put_etag

router = APIRouter(tags=["credentials"])


@router.get("/tenants/{tenant}/credentials", responses={**REFUSED, **MALFORMED, **UNKNOWN})
async def list_credentials(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RecordedCredential]:
    """List a tenant's credentials by name; no answer has a secret."""
    after = None if cursor is None else str(key_of(cursor, str)[0])
    credentials = await services.tenants.credentials.page(
        tenant, caller, after=after, limit=limit + 1
    )
    return page_from(credentials, lambda credential: (credential.name,), limit)


@router.put(
    "/tenants/{tenant}/credentials/{name}",
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **STALE},
)
async def put_credential(
    services: Site,
    caller: TokenHolder,
    tenant: TenantName,
    name: str,
    body: SecretCredential,
    revision: IfMatch,
    response: Response,
) -> RecordedCredential:
    """Record a credential, or give it another secret; routes refer to it by its name."""
    recorded = await services.tenants.credentials.put(tenant, name, body, caller, revision=revision)
    put_etag(response, recorded.revision)
    return recorded


@router.delete(
    "/tenants/{tenant}/credentials/{name}",
    status_code=204,
    responses={**REFUSED, **MALFORMED, **UNKNOWN, **TAKEN, **STALE},
)
async def remove_credential(
    services: Site, caller: TokenHolder, tenant: TenantName, name: str, revision: IfMatch
) -> None:
    """Remove a credential that no route uses."""
    await services.tenants.credentials.remove(tenant, name, caller, revision=revision)


@router.post(
    "/tenants/{tenant}/hook",
    status_code=201,
    responses={**REFUSED, **MALFORMED, **UNKNOWN},
)
async def create_hook(services: Site, caller: TokenHolder, tenant: TenantName) -> HookMadeOut:
    """Make the URL by which a git host tells of pushes, or another one; shown this once.

    The secret is the tenant's credential "git-hook", by which the hook is removed.
    """
    secret = token_urlsafe(32)
    credential = SecretCredential(kind="bearer", secret=SecretStr(secret))
    await services.tenants.credentials.put(tenant, githook.CREDENTIAL, credential, caller)
    path = f"/hooks/git/{tenant}/{githook.path_secret(secret)}"
    public_url = services.shared.settings.public_url
    return HookMadeOut(
        url=None if public_url is None else public_url + path,
        path=path,
        secret=secret,
        content_type="application/json",
    )
