"""What admin routes may use, and how they get at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from app.services.jobs import JobService
from app.services.releases.catalog import CatalogReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.keyring import ReleaseKeyring
from app.services.releases.sync import ReleaseSync
from app.services.tokens import Principal, TokenService, require_admin
from app.upstream.godev import GoDev
from app.web.admin.credentials import presented_token


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The services behind the admin API."""

    catalog: CatalogReader
    ingestion: Ingestion
    keyring: ReleaseKeyring
    godev: GoDev
    sync: ReleaseSync
    tokens: TokenService
    jobs: JobService
    max_body_bytes: int
    keyring_path: Path | None
    keyring_url: str | None


def _context(request: Request) -> AdminContext:
    context = request.app.state.context
    if not isinstance(context, AdminContext):
        raise TypeError("the admin API was created without its context")
    return context


Context = Annotated[AdminContext, Depends(_context)]


async def _admin(request: Request, context: Context) -> Principal:
    principal = await context.tokens.authenticate(presented_token(request.scope["headers"]))
    require_admin(principal)
    return principal


Admin = Annotated[Principal, Depends(_admin)]
