"""The admin API as its clients use it: JSON in, JSON out, and the status that is expected."""

import json
from collections.abc import Mapping
from typing import Any

from tests.web.wire import Got, Site


async def call(
    site: Site,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = "",
    headers: Mapping[str, str] | None = None,
) -> Got:
    """Return the response to a request below /api/v1; token "" is the platform admin's."""
    data = b"" if body is None else json.dumps(body).encode()
    return await site.admin(
        f"/api/v1{path}", method, token=token, body=data, headers=dict(headers or {})
    )


async def ok(site: Site, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """Return the JSON of an answer that must be a good one; None where there is none."""
    got = await call(site, method, path, body, **more)
    assert got.status in (200, 201, 204), (got.status, got.text)
    return json.loads(got.body) if got.body else None


async def refused(site: Site, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """Return (status, what is told) of a refusal, which must be problem+json."""
    got = await call(site, method, path, body, **more)
    assert got.header("content-type") == "application/problem+json", (got.status, got.text)
    problem = json.loads(got.body)
    detail = problem["detail"]
    if "errors" in problem:
        detail = "; ".join(f"{e['at']}: {e['error']}" for e in problem["errors"])
    return got.status, detail
