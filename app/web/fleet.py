"""`/fleet/`: nodes enrol, check in and report. Plain ASGI: every node asks once a minute.

A check-in whose answer is `stay` or `hold` is answered from memory. Errors are one line of text for
whoever reads the node's log. Not here: what is decided (`services/fleet`), statuses (`responses`).
"""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime
from secrets import token_hex
from typing import Any, TypeVar

from app import logs
from app.core.bodylimit import BodyLimit
from app.core.errors import (
    BadInputError,
    MoorageError,
    RateLimitedError,
    UnauthenticatedError,
    UnknownError,
)
from app.core.fleetmessages import MAX_BODY_BYTES, CheckIn, Enrolment, Report
from app.core.noun import Noun, checked
from app.metrics import hotpath
from app.services.fleet.checkins import Action, CheckAnswer, CheckIns
from app.services.fleet.enrolment import EnrolmentService
from app.services.fleet.installscript import install_script
from app.services.fleet.nodeprogram import FILENAME, node_program
from app.web.credentials import presented_token
from app.web.limits import NodeRates, WrongTokens
from app.web.requestbody import declared_bytes, pieces_of
from app.web.responses import (
    LISTING,
    NO_STORE,
    TEXT,
    Answer,
    Header,
    body_answer,
    error_answer,
    plain,
)
from app.web.sending import Sender
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways

PREFIX = b"/fleet/"
_ROOT = PREFIX.decode()
_SCRIPT = "install.sh"
_FILES = (FILENAME, f"{FILENAME}.sha256", _SCRIPT)
_JSON = b"application/json"
_JITTER = 0.1
_CHECK, _REPORT, _ENROL = "/fleet/v1/check", "/fleet/v1/report", "/fleet/v1/enroll"
_LIMIT = BodyLimit("the message", MAX_BODY_BYTES)
_log = logs.get("fleet")
N = TypeVar("N", bound=Noun)


class FleetApp:
    """The ASGI application below /fleet/.

    Args:
        check_s: seconds between two check-ins of a node, before the jitter.
        random: returns a number from 0 to 1, for the jitter.
        public_url: scheme, host and port as nodes see them; None for the request's own.
    """

    def __init__(
        self,
        enrolment: EnrolmentService,
        check_ins: CheckIns,
        sender: Sender,
        gateways: Gateways,
        wrong_tokens: WrongTokens,
        rates: NodeRates,
        *,
        check_s: float,
        random: Callable[[], float],
        public_url: str | None,
    ) -> None:
        self._enrolment = enrolment
        self._check_ins = check_ins
        self._sender = sender
        self._gateways = gateways
        self._wrong_tokens = wrong_tokens
        self._rates = rates
        self._check_s = check_s
        self._random = random
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.monotonic()
        reset = logs.request_id.set(token_hex(8))
        try:
            answer, is_logged = await self._answer(scope, receive)
            status, sent = await self._sender.send(answer, scope, receive, send)
            hotpath.count_request("fleet", scope["method"], status, sent)
            if is_logged:
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(time.monotonic() - started, 3),
                )
        finally:
            logs.request_id.reset(reset)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, bool]:
        """Return the answer, and whether the request is worth a line of the log."""
        method, path, headers = scope["method"], scope["path"], scope["headers"]
        try:
            if path in (_CHECK, _REPORT, _ENROL):
                if method != "POST":
                    return plain(405, "only POST is answered here", (b"allow", b"POST")), True
                body = await _body(headers, receive)
                return await self._post(path, headers, body)
            if method not in ("GET", "HEAD"):
                return plain(405, "only GET and HEAD are answered here", (b"allow", b"GET")), True
            return await self._file(path.removeprefix(_ROOT), scope), True
        except UnauthenticatedError as error:
            return self._unauthenticated(error, scope), True
        except MoorageError as error:
            return error_answer(error), True

    async def _post(self, path: str, headers: list[Header], body: bytes) -> tuple[Answer, bool]:
        if path == _ENROL:
            return await self._enrol(body), True
        traceparent = _header(headers, b"traceparent")
        node = await self._check_ins.node_of(presented_token(headers))
        if path == _REPORT:
            self._rates.count_report(node.id)
            await self._check_ins.report(node, _parsed(Report, body), traceparent)
            return Answer(204, ((b"cache-control", NO_STORE),), 0), False
        self._rates.count_check_in(node.id)
        check = await self._check_ins.check(node, _parsed(CheckIn, body), traceparent)
        hotpath.count_check_in(check.action)
        return self._check_answer(check), check.action is Action.UPDATE

    def _check_answer(self, check: CheckAnswer) -> Answer:
        shown: dict[str, Any] = {
            "action": check.action,
            "reason": check.reason,
            "server_time": _rfc3339(check.server_time),
            "next_check_s": self._next_check_s(),
        }
        if check.action is Action.UPDATE:
            shown |= {"grant": check.grant, "manifest": check.manifest}
            shown |= {"rollout": check.rollout} if check.rollout else {}
            shown |= {"released": True} if check.is_released else {}
        if check.channel:
            shown |= {"channel": check.channel}
        return _json_answer(200, shown)

    def _next_check_s(self) -> int:
        """Return when a node asks next, in seconds: jittered, so that a herd spreads out."""
        spread = 1 - _JITTER + 2 * _JITTER * self._random()
        return max(1, round(self._check_s * spread))

    async def _enrol(self, body: bytes) -> Answer:
        enrolled = await self._enrolment.enrol(_parsed(Enrolment, body))
        node = enrolled.node
        return _json_answer(
            201,
            {
                "node": node.id,
                "token": enrolled.token,
                "vkey": enrolled.vkey,
                "channel": node.channel,
                "group": node.group,
                "server_time": _rfc3339(node.enrolled_at),
            },
        )

    async def _file(self, name: str, scope: Scope) -> Answer:
        """Return the node program, its SHA-256, or the script that brings it.

        Raises:
            UnknownError: there is no file of that name.
            BadInputError: the request's Host can't be a part of the script.
        """
        if name not in _FILES:
            raise UnknownError(f"there is nothing of that name here; see /fleet/{FILENAME}")
        if name == _SCRIPT:
            host = _header(scope["headers"], b"host")
            script = install_script(self._public_url or f"{scope['scheme']}://{host}")
            # The text depends on the request: no cache keeps it for another one.
            return body_answer(script.encode(), TEXT, NO_STORE)
        program = await asyncio.to_thread(node_program)
        if name == FILENAME:
            return body_answer(program.content, b"application/octet-stream", LISTING)
        return body_answer(program.sha256.encode(), TEXT, LISTING)

    def _unauthenticated(self, error: UnauthenticatedError, scope: Scope) -> Answer:
        peer = scope["client"][0] if scope.get("client") else ""
        try:
            self._wrong_tokens.count(self._gateways.client_behind(peer, scope["headers"]))
        except RateLimitedError as too_many:
            return error_answer(too_many)
        return plain(401, str(error), (b"www-authenticate", b'Bearer realm="moorage"'))


async def _body(headers: list[Header], receive: Receive) -> bytes:
    """Return the body of a request.

    Raises:
        TooLargeError: it is longer than a message can be.
        BadInputError: the client went away.
    """
    _LIMIT.check(declared_bytes(headers))
    return b"".join([piece async for piece in pieces_of(receive, _LIMIT)])


def _parsed(kind: type[N], body: bytes) -> N:
    """Return a message of a node.

    Raises:
        BadInputError: the body is not one.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInputError("the body is not JSON") from error
    if not isinstance(values, dict):
        raise BadInputError("the body is not a JSON object")
    return checked(kind, values)


def _header(headers: list[Header], name: bytes) -> str:
    value = next((value for key, value in headers if key == name), b"")
    return value.decode("ascii", "replace")


def _json_answer(status: int, value: dict[str, Any]) -> Answer:
    body = json.dumps(value, separators=(",", ":")).encode()
    headers = (
        (b"content-type", _JSON),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", NO_STORE),
        (b"x-content-type-options", b"nosniff"),
    )
    return Answer(status, headers, len(body), body=body)


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
