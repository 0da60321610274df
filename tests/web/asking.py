"""The admin API as its clients use it: JSON in, JSON out, over a real socket."""

import json
from dataclasses import dataclass
from typing import Any

from app.core.audit import AuditRecord
from app.core.principal import Scope
from tests.services.bench import audited
from tests.web.wire import Got, Site

API = "/api/v1"


@dataclass(frozen=True)
class Admin:
    """Whoever holds a token; "" is the platform's admin, None has none."""

    site: Site
    token: str | None = ""

    async def ask(
        self, method: str, path: str, body: Any = None, *, if_match: str | None = None
    ) -> Got:
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        raw = sent.encode() if isinstance(sent, str) else sent
        headers = {} if if_match is None else {"If-Match": if_match}
        return await self.site.admin(
            API + path, method, token=self.token, body=raw, headers=headers
        )

    async def get(self, path: str) -> Any:
        """Return the JSON of what is there."""
        got = await self.ask("GET", path)
        assert got.status == 200, got.text
        return json.loads(got.body)

    async def put(self, path: str, body: Any) -> Any:
        got = await self.ask("PUT", path, body)
        assert got.status == 200, got.text
        return json.loads(got.body)

    async def post(self, path: str, body: Any) -> Any:
        got = await self.ask("POST", path, body)
        assert got.status == 201, got.text
        return json.loads(got.body)

    async def delete(self, path: str) -> None:
        got = await self.ask("DELETE", path)
        assert (got.status, got.body) == (204, b""), got.text

    async def pages(self, path: str, limit: int) -> list[list[Any]]:
        """Return the items of each page of a list."""
        pages: list[list[Any]] = []
        mark, cursor = "&" if "?" in path else "?", ""
        while True:
            page = await self.get(f"{path}{mark}limit={limit}{cursor}")
            pages.append(page["items"])
            if page["next_cursor"] is None:
                return pages
            cursor = f"&cursor={page['next_cursor']}"


async def admin_of(site: Site, tenant: str, *scopes: Scope) -> Admin:
    """Return whoever holds a new token of a tenant, by default an admin's."""
    granted = frozenset(scopes or {Scope.ADMIN})
    _, secret = await site.services.tenants.tokens.create(
        "of tenant", tenant=tenant, scopes=granted
    )
    return Admin(site, secret)


def refused(got: Got, status: int) -> str:
    """It is a problem with that status; return its detail."""
    assert got.status == status, (got.status, got.text)
    assert got.header("content-type") == "application/problem+json"
    assert got.header("cache-control") == "no-store"
    assert got.header("x-content-type-options") == "nosniff"
    return str(json.loads(got.body)["detail"])


async def rows(site: Site, action: str) -> list[AuditRecord]:
    """Return the audit rows of an action; those of refused calls are written now."""
    return await audited(site.services, action)
