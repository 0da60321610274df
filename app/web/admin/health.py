"""`/healthz`, `/readyz`, `/version` and `/metrics`: what operators' tools ask."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from app import __version__
from app.metrics import hotpath, scrape
from app.web.admin.context import backend_of

router = APIRouter(tags=["health"])
_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer as long as the process runs."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses={503: {"description": "Requests can't be served", "content": _JSON}},
)
async def readyz(request: Request) -> JSONResponse:
    """Answer 200 if requests can be served here, 503 and the reason if not.

    Notes say what an operator has to look at although requests are served.
    """
    health = backend_of(request).health
    checks = await health.readiness()
    ready = all(result == "ok" for result in checks.values())
    return JSONResponse(
        {
            "status": "ready" if ready else "not ready",
            "checks": checks,
            "notes": health.notes(),
        },
        status_code=200 if ready else 503,
    )


@router.head("/version", include_in_schema=False)
@router.get("/version")
async def version() -> dict[str, str]:
    """Tell which Moorage this is."""
    return {"version": __version__}


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {scrape.CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
async def exposition(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    health = backend_of(request).health
    health.notes()
    hotpath.flush()
    origins = await health.origins()
    body = await asyncio.to_thread(lambda: scrape.render(origins=origins))
    return Response(body, media_type=scrape.CONTENT_TYPE)
