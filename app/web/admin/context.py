"""What admin routes may use, and how they get at it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from app import logs
from app.core.errors import DatabaseBusyError
from app.core.principal import Principal
from app.services.audit import AuditReader
from app.services.authorization import require_admin
from app.services.jobs import JobService
from app.services.modules.front import ModuleFront
from app.services.modules.refresh import ModuleRefresh
from app.services.policy import PolicyReader
from app.services.publiclog.relay import LogRelay
from app.services.releases.catalog import CatalogReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.keyring import ReleaseKeyring
from app.services.releases.sync import ReleaseSync
from app.services.sumdb.fsck import LogFsck
from app.services.sumdb.prefetch import Prefetch
from app.services.sumdb.status import LogStatus
from app.services.tenantlog.log import TenantLogs
from app.services.tenants.document import DocumentService
from app.services.tenants.explain import ExplainService
from app.services.tenants.routes import CredentialService, RouteService
from app.services.tenants.rules import OwnershipService, RuleService
from app.services.tenants.tenants import TenantService
from app.services.tokens import TokenService
from app.services.usage import UsageCounter
from app.upstream.godev import GoDev
from app.web.credentials import presented_token

_log = logs.get("admin")


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The services behind the admin API.

    Attributes:
        public_url: scheme, host and port as clients see them, or None where no setting says.
    """

    catalog: CatalogReader
    ingestion: Ingestion
    keyring: ReleaseKeyring
    godev: GoDev
    sync: ReleaseSync
    tokens: TokenService
    tenants: TenantService
    rules: RuleService
    ownership: OwnershipService
    routes: RouteService
    credentials: CredentialService
    policies: PolicyReader
    modules: ModuleFront
    refresh: ModuleRefresh
    explain: ExplainService
    documents: DocumentService
    usage: UsageCounter
    audit: AuditReader
    jobs: JobService
    logs: TenantLogs
    relays: Mapping[str, LogRelay]
    log_fsck: LogFsck
    log_status: LogStatus
    prefetch: Prefetch
    public_url: str | None
    max_body_bytes: int
    keyring_path: Path | None
    keyring_url: str | None


def _context(request: Request) -> AdminContext:
    context = request.app.state.context
    if not isinstance(context, AdminContext):
        raise TypeError("the admin API was created without its context")
    return context


Context = Annotated[AdminContext, Depends(_context)]


async def _caller(request: Request, context: Context) -> Principal:
    principal = await context.tokens.authenticate(presented_token(request.scope["headers"]))
    # Whoever is denied from here on is known, and leaves an audit row; see `record_denial`.
    request.state.caller = principal
    return principal


Caller = Annotated[Principal, Depends(_caller)]
"""Whoever presents a valid token; the service says what it may do (`require_admin`)."""


async def _admin(caller: Caller) -> Principal:
    require_admin(caller, None)
    return caller


Admin = Annotated[Principal, Depends(_admin)]
"""An admin of the platform."""


async def record_denial(request: Request, why: str) -> None:
    """Leave an audit row of what a caller with a valid token may not do.

    A caller who is nobody leaves none: whoever can reach the port could fill the log.
    """
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Principal):
        return
    context = _context(request)
    # As it came: decoded, a path may hold line breaks.
    path = request.scope["raw_path"].decode("ascii", "backslashreplace")
    what = f"{request.method} {path}"
    try:
        await context.tokens.deny(caller, what, why)
    except DatabaseBusyError as error:
        _log.error("denial not recorded", actor=caller.actor, what=what, error=str(error))
