"""The FastAPI application: routes, problem+json, request ids, body limit."""

import functools
from contextlib import suppress
from http import HTTPStatus
from secrets import token_hex
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from app import __version__, logs
from app.core.bodylimit import BodyLimit
from app.core.errors import (
    BadInputError,
    DatabaseBusyError,
    DeniedError,
    MoorageError,
    RateLimitedError,
    TooLargeError,
)
from app.core.noun import CONTENT
from app.metrics import hotpath
from app.services.memory import MemoryBudget
from app.services.refusals import Refusal
from app.web.admin.answers import content_line
from app.web.admin.audit import router as audit
from app.web.admin.channels import router as channels
from app.web.admin.context import Backend, count_refusal, operator_of
from app.web.admin.credentials import router as credentials
from app.web.admin.document import router as document
from app.web.admin.gc import router as gc
from app.web.admin.health import router as health
from app.web.admin.jobs import router as jobs
from app.web.admin.modules import router as modules
from app.web.admin.nodes import router as nodes
from app.web.admin.openapi import AdminApi
from app.web.admin.ownership import router as ownership
from app.web.admin.published import router as published
from app.web.admin.reference import reference_page
from app.web.admin.releases import router as releases
from app.web.admin.rollouts import router as rollouts
from app.web.admin.routes import router as routes
from app.web.admin.rules import router as rules
from app.web.admin.sumdb import router as sumdb
from app.web.admin.tenants import router as tenants
from app.web.admin.tokens import router as tokens
from app.web.admin.webhooks import router as webhooks
from app.web.connections import is_health
from app.web.pageshell import POLICY
from app.web.requestbody import declared_bytes
from app.web.responses import retry_after_s, status_of
from app.web.streaming import Message, Receive, Scope, Send
from app.web.tenancy import client_block

_PROBLEM = "application/problem+json"
_UPLOADS = "/api/v1/releases/files/"
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_log = logs.get("admin")


def problem(status: int, detail: str, **more: Any) -> JSONResponse:
    """Return an RFC 9457 problem."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    headers = {"WWW-Authenticate": 'Bearer realm="moorage"'} if status == 401 else {}
    return JSONResponse(
        {**body, "detail": detail, **more},
        status_code=status,
        headers={"Cache-Control": "no-store", **headers},
        media_type=_PROBLEM,
    )


def refused(status: int, detail: str) -> Response:
    """Return the answer to a request that is too large to be looked at; the connection ends."""
    answer = problem(status, detail)
    answer.headers["Connection"] = "close"
    return answer


def create_admin(backend: Backend) -> Any:
    """Return the ASGI application for everything that is not Go-facing."""
    return _Outer(admin_routes(), backend)


@functools.cache
def admin_routes() -> FastAPI:
    """Return the routes; a process makes them once, whatever answers behind them."""
    api = AdminApi(
        title="Moorage",
        version=__version__,
        description="Admin API of a private Go mirror. Changes need an admin token.",
        docs_url=None,
        redoc_url=None,
    )
    for router in (releases, jobs, gc, tenants, tokens, credentials, ownership, audit):
        api.include_router(router, prefix="/api/v1")
    api.include_router(channels, prefix="/api/v1")
    for router in (rules, routes, modules, document, sumdb):
        api.include_router(router, prefix="/api/v1")
    for router in (rollouts, nodes, webhooks, published):
        api.include_router(router, prefix="/api/v1")
    api.include_router(health)
    api.add_exception_handler(MoorageError, _on_moorage_error)
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(Exception, _on_defect)

    reference = functools.cache(lambda: reference_page(api.openapi()))

    @api.head("/docs", include_in_schema=False)
    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference(), headers={"Content-Security-Policy": POLICY})

    return api


async def _on_moorage_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, MoorageError):
        raise error
    if isinstance(error, DeniedError):
        await count_refusal(request, Refusal.DENIED, str(error))
    elif isinstance(error, BadInputError):
        await count_refusal(request, Refusal.MALFORMED, str(error))
    return _problem_of(error)


def _problem_of(error: MoorageError) -> Response:
    answer = problem(status_of(error), str(error))
    seconds = retry_after_s(error)
    if seconds is not None:
        answer.headers["Retry-After"] = str(seconds)
    return answer


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    await count_refusal(request, Refusal.MALFORMED, "the request is not what this route takes")
    # The body stays bytes where its Content-Type is not JSON.
    if any(e["loc"] == ("body",) and isinstance(e["input"], bytes) for e in error.errors()):
        return problem(415, "this route takes JSON: send Content-Type: application/json")
    shape = [e for e in error.errors() if e["type"] != CONTENT]
    if not shape:
        return problem(400, content_line(error.errors()[0]))
    # The offending input is not echoed: it may be a secret in the wrong field.
    wrong = [{"at": ".".join(map(str, e["loc"])), "error": e["msg"]} for e in shape]
    return problem(422, "the request is not what this route takes", errors=wrong)


async def _on_defect(_: Request, _error: Exception) -> Response:
    """Answer in the form of every other error; Starlette raises the error again for the log."""
    return problem(500, "a defect of this server; its log has the details")


async def _on_http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    answer = problem(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


class _Outer:
    """Gives each request an id, limits its body and its address, counts and logs it."""

    def __init__(self, api: FastAPI, backend: Backend) -> None:
        services = backend.services
        self._api = api
        self._backend = backend
        self._callers = backend.callers
        self._memory = services.modules.memory
        self._watch = services.shared.watch
        max_bytes = services.shared.settings.limits.admin_body_bytes
        self._limit = BodyLimit("the body", max_bytes, "MOORAGE_LIMITS__ADMIN_BODY_BYTES")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = self._backend.attach(scope)
        request_id = token_hex(8)
        reset = logs.request_id.set(request_id)
        status, sent = 500, 0
        is_api = scope["path"].startswith("/api/")  # answers differ by token, and some hold one

        async def sending(message: Message) -> None:
            nonlocal status, sent
            sent += len(message.get("body", b""))
            if message["type"] == "http.response.start":
                status = message["status"]
                if is_api and status < 400 and scope["method"] in _CHANGING:
                    await self._see_the_change()
                headers = [*message["headers"], (b"x-request-id", request_id.encode())]
                if is_api:
                    headers.append((b"x-content-type-options", b"nosniff"))
                if is_api and all(name != b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        try:
            if operator_of(scope) is not None:
                await self._api(scope, receive, sending)  # reads the body from this process
            elif (refusal := self._refusal(scope)) is not None:
                await refusal(scope, receive, sending)
            elif _is_upload(scope):
                await self._api(scope, receive, sending)  # read as a stream, by who may send it
            else:
                who = client_block(self._callers.address_of(scope))
                with _Body(receive, self._limit, self._memory, who) as body:
                    await self._api(scope, body.receive, sending)
        finally:
            hotpath.count_request("admin", scope["method"], status, sent)
            if is_api:
                _log.info("request", method=scope["method"], path=scope["path"], status=status)
            logs.request_id.reset(reset)

    async def _see_the_change(self) -> None:
        """Have a change act in this process before the client hears that it was made.

        Other processes see it within half a second.
        """
        # It is made, whether or not the database answers this: then a later poll tells of it.
        with suppress(DatabaseBusyError):
            await self._watch.poll_shared()

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the refusal of an address that asks too much, or of a body that is too large.

        Health is never refused for its address. The body of an upload has limits of its own.
        """
        try:
            if not is_health(scope["raw_path"]):
                self._callers.rates.count_address(self._callers.address_of(scope))
            if not _is_upload(scope):
                self._limit.check(declared_bytes(scope["headers"]))
        except (RateLimitedError, TooLargeError) as error:
            return _problem_of(error)
        return None


def _is_upload(scope: Scope) -> bool:
    """Whether the body is a file, which the route reads in pieces."""
    path: str = scope["path"]
    return scope["method"] == "PUT" and path.startswith(_UPLOADS)


class _Body:
    """The body of a request, which FastAPI keeps in memory before it knows who asks.

    Args:
        receive: gives the messages of the request.
        limit: of the body (a chunked one does not say its length before).
        memory: the budget that the body is taken from, until the end of the context.
        who: the address whose share of the budget is used.
    """

    def __init__(self, receive: Receive, limit: BodyLimit, memory: MemoryBudget, who: str) -> None:
        self._receive = receive
        self._limit = limit
        self._memory = memory
        self._who = who
        self._held_bytes = 0

    def __enter__(self) -> "_Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.give_back(self._held_bytes, self._who)

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            HTTPException: the body is too large, or there is no memory for it now.
        """
        message = await self._receive()
        size_bytes = len(message.get("body", b""))
        try:
            self._limit.check(self._held_bytes + size_bytes)
        except TooLargeError as error:  # FastAPI passes no other error on from a body
            raise HTTPException(413, str(error)) from error
        if size_bytes and not self._memory.take(size_bytes, self._who):
            raise HTTPException(503, "too many bodies are under way here; try again")
        self._held_bytes += size_bytes
        return message
