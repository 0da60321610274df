"""Requests that differ from the last one of their connection in the target alone.

They are answered without the parser. Whatever a client sends must come to the same end with it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from app.protocol import protocol_for
from app.settings.sections.limits import Limits
from app.web.connections import Connections
from app.web.guard import Guard
from app.web.plainhead import PlainHead, plain_head
from app.web.responses import Header
from app.web.tenancy import Gateways
from tests.fakes.transport import KeptTransport

END = b" HTTP/1.1\r\nHost: a\r\nAuthorization: Basic Z286c2VjcmV0\r\n\r\n"
FIRST = b"GET /first" + END
POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n"
PREPARED = (b"/first", b"/other")
PIECES = (
    END, FIRST, POST, b"GET /other" + END, b"GET /other?x=1" + END, b"GET /unknown" + END,
    b"GET ", b"POST ", b"/other", b"?", b"#f", b"http://a", b"*", b" ", b"\t", b"\x00", b"\xff",
    b"\"<>\\^`{|}", b" HTTP/1.0", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"Host: a\r\n",
    b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Upgrade: h2c\r\n", b"X: ", b"5\r\nabcde\r\n0\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Application:
    """Has prepared answers to two paths, with any query; notes what it is asked."""

    asked: list[tuple[bytes, tuple[Header, ...]]] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    connections: Connections = field(default_factory=lambda: Connections(8, 8, Gateways(())))

    def plain_head(self, headers: list[Header], peer: str) -> PlainHead | None:
        return plain_head(headers, peer, Guard(self.limits), Gateways(()))

    def instant(self, url: bytes, head: PlainHead) -> bytes | None:
        path = url.partition(b"?")[0]
        if path not in PREPARED:
            return None
        self.asked.append((url, tuple(head.headers)))
        return b"content-length: %d\r\n\r\n" % len(url) + url


class Outcome:
    """What came of the bytes of a connection.

    Attributes:
        seen: all that the client, the application and the next request can see.
        parsed: how many heads went through the parser.
    """

    def __init__(self, *reads: bytes, is_repeating: bool = True) -> None:
        self._scopes: list[Any] = []
        self.parsed = 0
        asyncio.run(self._of(reads, is_repeating=is_repeating))

    async def _of(self, reads: Sequence[bytes], *, is_repeating: bool) -> None:
        application, outcome = Application(), self

        class Connection(protocol_for(application)):  # type: ignore[misc]
            def on_headers_complete(self) -> None:
                outcome.parsed += 1
                super().on_headers_complete()

            def _answer_repeated(self, *arguments: Any) -> bool:
                return is_repeating and super()._answer_repeated(*arguments)

        config = uvicorn.Config(self._app, http=Connection, ws="none", log_config=None)
        config.load()
        made, transport = Connection(config, ServerState(), {}), KeptTransport()
        made.connection_made(transport)
        for read in reads:
            made.data_received(read)
        for _ in range(3):
            await asyncio.sleep(0)  # the tasks of the requests begin
        self.sent = b"".join(bytes(piece) for call in transport.calls for piece in call)
        waiting = [cycle.scope["path"] for cycle, _ in made.pipeline]
        state = made._heads, made._is_in_body, made._is_leaving, made.scope is made._whole_head
        has_timer = made.timeout_keep_alive_task is not None
        self.seen = application.asked, self._scopes, self.sent, waiting, state, has_timer
        running = tuple(made.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        made._unset_keepalive_if_required()

    async def _app(self, scope: Any, _receive: object, _send: object) -> None:
        self._scopes.append((scope["method"], scope["raw_path"], list(scope["headers"])))
        await asyncio.Event().wait()


def test_a_repeated_head_is_not_parsed_again() -> None:
    outcome = Outcome(FIRST, b"GET /other" + END, b"GET /other?x=1" + END)
    assert outcome.parsed == 1
    assert outcome.sent.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert outcome.sent.endswith(b"/other?x=1")


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param((b"GET /other" + END.replace(b"c2VjcmV0", b"b3RoZXI="),), id="other token"),
        pytest.param((b"GET /unknown" + END,), id="nothing prepared"),
        pytest.param((b"GET /other?x" + END + b"GET /first" + END,), id="two at once"),
        pytest.param((FIRST + FIRST, FIRST + FIRST), id="two at once, twice"),
        pytest.param((b"GET /other HTTP/1.1\r\nX: ", FIRST), id="within a head"),
        pytest.param(
            (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n", FIRST),
            id="within a body",
        ),
        pytest.param((b"GET /unknown" + END, FIRST), id="behind a request that is not answered"),
        pytest.param((b"GET /other#f" + END,), id="fragment"),
        pytest.param((b"GET /other?x y" + END,), id="blank in the target"),
        pytest.param((b"HEAD /other" + END,), id="HEAD"),
    ],
)
def test_any_other_request_is_parsed(reads: tuple[bytes, ...]) -> None:
    outcome, parsed = Outcome(FIRST, *reads), Outcome(FIRST, *reads, is_repeating=False)
    assert outcome.seen == parsed.seen
    assert outcome.parsed == parsed.parsed


@settings(max_examples=400)
@example([b"GET /other?a HTTP/1.1\r\n\r\nGET /other" + END])
@example([b"GET /other" + END + b"\r", FIRST])
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=5).map(b"".join), max_size=5))
def test_whatever_comes_ends_as_if_it_was_parsed(reads: list[bytes]) -> None:
    outcome, parsed = Outcome(FIRST, *reads), Outcome(FIRST, *reads, is_repeating=False)
    assert outcome.seen == parsed.seen
