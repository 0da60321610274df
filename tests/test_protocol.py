"""The parts of uvicorn that `app/protocol.py` and `app/server.py` use, of which it promises none.

The wire itself is tested over real sockets, in web/test_edge.py and in e2e.
"""

import ast
import asyncio
import inspect
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.core.errors import BadInputError
from app.protocol import HttpProtocol, protocol_for
from app.server import Server
from app.settings.sections.limits import Limits
from app.web.connections import Connections
from app.web.guard import Guard
from app.web.plainhead import PlainHead, plain_head
from app.web.responses import Header
from app.web.tenancy import Gateways
from tests.fakes.transport import KeptTransport

ROOT = Path(__file__).parents[1]

METHODS = {
    "_start_asgi_task": ["cycle", "app"],
    "connection_lost": ["exc"],
    "connection_made": ["transport"],
    "_unset_keepalive_if_required": [],
    "data_received": ["data"],
    "on_body": ["body"],
    "on_headers_complete": [],
    "on_message_complete": [],
    "on_response_complete": [],
    "send_400_response": ["msg"],
    "shutdown": [],
    "timeout_keep_alive_handler": [],
}
"""Methods of uvicorn's protocol that ours calls or overrides, with their parameters."""

ATTRIBUTES = {
    "protocol": [
        "client",
        "cycle",
        "flow",
        "headers",
        "loop",
        "parser",
        "pipeline",
        "scope",
        "server_state",
        "timeout_keep_alive",
        "timeout_keep_alive_task",
        "transport",
        "url",
    ],
    "cycle": [
        "disconnected",
        "expected_content_length",  # web/connection.py
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "transport",
    ],
    "flow": ["read_paused", "resume_reading", "write_paused"],
    "parser": ["get_http_version", "get_method", "should_keep_alive", "should_upgrade"],
    "server_state": ["connections", "default_headers", "tasks"],
    "server": [
        "force_exit",
        "handle_exit",
        "main_loop",
        "on_tick",
        "server_state",
        "should_exit",
        "shutdown",
        "started",
        "startup",
    ],
}
"""Attributes of a connection that has begun a request, and of the objects that it holds."""


@dataclass(frozen=True)
class _Prepared:
    """An application that has one prepared answer."""

    wire: bytes
    limits: Limits = field(default_factory=Limits)
    connections: Connections = field(default_factory=lambda: Connections(8, 8, Gateways(())))

    def plain_head(self, headers: list[Header], peer: str) -> PlainHead | None:
        return plain_head(headers, peer, Guard(self.limits), Gateways(()))

    def instant(self, url: bytes, head: PlainHead) -> bytes | None:
        return self.wire


async def _never(_scope: object, _receive: object, _send: object) -> None:
    await asyncio.Event().wait()


P = TypeVar("P", bound=HttpToolsProtocol)


def _connected(protocol: type[P], app: Any = _never) -> P:
    config = uvicorn.Config(app, http=protocol, ws="none", log_config=None)
    config.load()
    made = protocol(config, ServerState(), {})
    made.connection_made(KeptTransport())
    return made


@pytest.fixture
async def connection() -> AsyncIterator[HttpToolsProtocol]:
    """One of uvicorn's own connections, on which three requests came at once."""
    made = _connected(HttpToolsProtocol)
    made.data_received(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
    yield made
    made.pipeline.clear()
    running = tuple(made.tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    made._unset_keepalive_if_required()


def _lacking(parts: dict[str, object]) -> list[str]:
    """Return "holder.attribute" for every attribute of the table that its holder lacks."""
    return [
        f"{holder}.{name}"
        for holder, names in ATTRIBUTES.items()
        for name in names
        if not hasattr(parts[holder], name)
    ]


def _parts(connection: HttpToolsProtocol) -> dict[str, object]:
    return {
        "protocol": connection,
        "cycle": connection.cycle,
        "flow": connection.flow,
        "parser": connection.parser,
        "server_state": connection.server_state,
        "server": uvicorn.Server(connection.config),
    }


def _blame(lacking: list[str]) -> str:
    return (
        f"uvicorn {uvicorn.__version__} has no {', '.join(lacking)}, used by app/protocol.py,"
        " app/server.py or app/web/connection.py: read uvicorn's protocols/http/httptools_impl.py"
    )


async def test_uvicorn_has_every_attribute_that_is_used(connection: HttpToolsProtocol) -> None:
    lacking = _lacking(_parts(connection))
    assert not lacking, _blame(lacking)


async def test_an_attribute_that_is_gone_is_named(connection: HttpToolsProtocol) -> None:
    del connection.cycle.message_event
    lacking = _lacking({**_parts(connection), "flow": object()})
    assert lacking == [
        "cycle.message_event",
        "flow.read_paused",
        "flow.resume_reading",
        "flow.write_paused",
    ]
    assert "has no cycle.message_event, flow.read_paused" in _blame(lacking)


@pytest.mark.parametrize(("name", "parameters"), METHODS.items())
def test_uvicorns_methods_take_what_ours_pass(name: str, parameters: list[str]) -> None:
    method = getattr(HttpToolsProtocol, name, None)
    assert method, _blame([f"protocol.{name}"])
    assert list(inspect.signature(method).parameters) == ["self", *parameters]


def test_uvicorns_server_ticks_and_exits_as_ours_expects() -> None:
    for name in ("on_tick", "handle_exit", "shutdown", "main_loop", "startup"):
        theirs, ours = getattr(uvicorn.Server, name), getattr(Server, name)
        assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(ours)
        assert len(inspect.signature(theirs).parameters) == len(inspect.signature(ours).parameters)


def test_status_lines_are_complete() -> None:
    assert STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n"
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


async def test_the_newest_waiting_request_is_at_the_left_of_the_pipeline(
    connection: HttpToolsProtocol,
) -> None:
    assert connection.cycle.scope["path"] == "/2"
    assert [cycle.scope["path"] for cycle, _ in connection.pipeline] == ["/2", "/1"]
    assert connection.flow.read_paused


async def test_the_scope_of_a_request_is_the_cycles_own(connection: HttpToolsProtocol) -> None:
    # Our protocol adds an extension to it after uvicorn has made the cycle.
    assert connection.cycle.scope is connection.scope
    assert connection.scope["headers"] is connection.headers


async def test_what_a_callback_raises_ends_in_a_400() -> None:
    class Refusing(HttpToolsProtocol):
        refusals = 0

        def on_headers_complete(self) -> None:
            raise BadInputError("refused")

        def send_400_response(self, msg: str) -> None:
            self.refusals += 1

    made = _connected(Refusing)
    made.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert made.refusals == 1


async def test_between_requests_the_timer_of_keep_alive_runs(
    connection: HttpToolsProtocol,
) -> None:
    connection.pipeline.clear()
    assert connection.timeout_keep_alive_task is None
    connection.on_response_complete()
    assert connection.timeout_keep_alive_task is not None
    connection._unset_keepalive_if_required()
    assert connection.timeout_keep_alive_task is None


class _Clock:
    """The parts of an event loop that the timer of keep-alive needs."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append((self.now_s + delay_s, call))
        return asyncio.get_running_loop().call_later(3600, _fail)


def _fail() -> None:
    raise AssertionError("the test called its timers itself")


async def test_a_repeated_request_starts_no_timer_and_still_counts_for_keep_alive() -> None:
    clock, request = _Clock(), b"GET /zip HTTP/1.1\r\nHost: a\r\n\r\n"
    made = _connected(protocol_for(_Prepared(b"content-length: 0\r\n\r\n")))
    made.loop, keep_s = cast(asyncio.AbstractEventLoop, clock), made.timeout_keep_alive
    made.data_received(request)
    for clock.now_s in (1.0, 2.0, 3.0):
        made.data_received(request)
    (first,) = clock.timers
    assert first[0] == keep_s
    clock.now_s = keep_s
    first[1]()
    assert not made.transport.is_closing()
    clock.now_s, last = clock.timers[-1]
    assert clock.now_s == 3.0 + keep_s
    last()
    assert made.transport.is_closing()
    made._unset_keepalive_if_required()


async def test_no_timer_of_keep_alive_runs_under_a_request() -> None:
    """One read may bring a request that is answered at once, and behind it one that takes long."""
    made = _connected(protocol_for(_Prepared(b"content-length: 0\r\n\r\n")))
    made.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert made.cycle is not None
    assert not made.cycle.response_complete
    assert made.timeout_keep_alive_task is None
    for task in made.tasks:
        task.cancel()


async def test_a_large_prepared_answer_goes_out_in_one_call_and_is_not_copied() -> None:
    wire = b"content-length: 300000\r\n\r\n" + bytes(300_000)
    made = _connected(protocol_for(_Prepared(wire)))
    assert isinstance(made.transport, KeptTransport)
    made.data_received(b"GET /zip HTTP/1.1\r\nHost: a\r\n\r\n")
    (pieces,) = made.transport.calls
    assert pieces[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert pieces[1] is wire
    made._unset_keepalive_if_required()


@pytest.mark.parametrize("answered", range(3))
async def test_the_request_that_runs_hears_that_its_client_is_gone(answered: int) -> None:
    """Its answer would be written to a closed connection, which ends in a traceback in the log."""
    is_gone, heard = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if len(heard) == answered:
            heard.append((await receive())["type"])  # the end of its own head
            made.connection_lost(ConnectionResetError())
            heard.append((await receive())["type"])
            is_gone.set()
        heard.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    made = _connected(protocol_for(_Prepared(b"")), app)
    assert isinstance(made.transport, KeptTransport)
    made.data_received(b"".join(b"HEAD /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
    await asyncio.wait_for(is_gone.wait(), 60)
    await asyncio.gather(*made.tasks)
    before = [f"/{number}" for number in range(answered)]
    assert heard == [*before, "http.request", "http.disconnect", f"/{answered}"]
    assert len(made.transport.calls) == answered
    made._unset_keepalive_if_required()


def test_the_table_has_every_attribute_that_the_protocol_uses() -> None:
    (ours,) = (
        node
        for node in ast.parse((ROOT / "app/protocol.py").read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "HttpProtocol"
    )
    listed = {name for names in ATTRIBUTES.values() for name in names} | set(METHODS)
    assert _used(ours) - listed - set(vars(HttpProtocol)) - {"_application", "limits"} == set()


def _used(protocol: ast.ClassDef) -> set[str]:
    """Return the attributes that a class reads of itself, of super() and of objects it holds."""
    used = set()
    for node in ast.walk(protocol):
        if isinstance(node, ast.Attribute):
            holder = ast.unparse(node.value)
            if holder in ("self", "super()", "cycle") or (
                holder.startswith("self.") and holder[5:] in ATTRIBUTES
            ):
                used.add(node.attr)
    return used


def test_uvicorn_stays_below_its_next_minor_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    major, minor = (int(number) for number in uvicorn.__version__.split(".")[:2])
    assert f"uvicorn[standard]>={major}.{minor},<{major}.{minor + 1}" in project["dependencies"]
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert f"\nuvicorn=={major}.{minor}." in (ROOT / lock).read_text()


def test_it_is_uvicorns_httptools_protocol() -> None:
    assert HttpToolsProtocol in HttpProtocol.__mro__
    assert httptools_impl.RequestResponseCycle.run_asgi
