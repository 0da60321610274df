"""An installation with some tenants or with many, each with a few of everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from app.db.usage import Download, Usage
from app.services.assembly import Services
from app.services.tenants.plan import Document, TenantPart
from tests.installation import running
from tests.nouns import a_credential, a_route, a_rule, an_owner
from tests.web.harbour import proxy_settings

FEW, MANY = 10, 100
RULES, ROUTES = 6, 3
TENANT = "team-003"


def document(tenants: int, title: str = "") -> Document:
    """Return a document with many tenants of the same make; each owns a prefix."""
    names = [f"team-{number:03}" for number in range(tenants)]
    return Document(
        tenants={name: _part(name, title) for name in names},
        ownership=tuple(
            an_owner(f"corp.example/{name}", name, names[number - 1])
            for number, name in enumerate(names)
        ),
        rules=(a_rule(Effect.DENY, "evil.example"),),
    )


def _part(name: str, title: str) -> TenantPart:
    return TenantPart(
        title=title,
        hosts=(f"{name}.example",),
        rules=tuple(
            a_rule(Effect.DENY, f"evil{number}.example", reason=title) for number in range(RULES)
        ),
        routes=tuple(
            a_route(f"{number}.example", "https://proxy.example", off=bool(title))
            for number in range(ROUTES)
        ),
    )


@asynccontextmanager
async def installation(folder: Path, tenants: int) -> AsyncIterator[Services]:
    """Run services with tenants; nothing works in the background."""
    async with running(proxy_settings(folder)) as services:
        applied = document(tenants)
        await services.tenants.documents.apply(applied, OPERATOR)
        for name in applied.tenants:
            await services.tenants.tokens.create("ci", tenant=name, scopes=frozenset({Scope.READ}))
            for credential in ("git", "nexus"):
                secret = a_credential("bearer", "s3cret")
                await services.tenants.credentials.put(name, credential, secret, OPERATOR)
        await services.sumdb.logs.create(TENANT)
        downloads = {
            Download(date(2026, 11, 25), name, "", "a.b/c", "v1.0.0"): 1 for name in applied.tenants
        }
        await services.shared.db.write(lambda s: Usage(s).add(downloads))
        yield services
