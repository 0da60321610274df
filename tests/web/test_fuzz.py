"""No input gives a 500: any path, query and headers, straight into the ASGI application."""

import asyncio
from typing import Any
from urllib.parse import unquote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.main import Application
from tests.web.conftest import PENDING, QUARANTINED, SHA256_ONLY, VERIFIED, Mirror

PIECES = [
    b"/dl/",
    b"/go/",
    b"/dl",
    b"/api/v1/releases",
    b"/api/v1/releases/files/",
    b"/api/v1/jobs/",
    b"/api/v1/",
    b"/healthz",
    b"/metrics",
    b"/openapi.json",
    b"/docs",
    b"/",
    b"..",
    b"%2f",
    b"%00",
    b"%ff",
    b"%",
    b"\\",
    b"\x00",
    b"\xff",
    b"go1.99.2",
    b".linux-amd64.tar.gz",
    b".sha256",
    b".sha256sum",
    b".asc",
    b"SHA256SUMS",
    b"ab" * 32,
    *(name.encode() for name in (VERIFIED, SHA256_ONLY, PENDING, QUARANTINED)),
]
FIELDS = [
    b"mode=json",
    b"include=all",
    b"cursor=go1.99.2",
    b"limit=1",
    b"offered=1",
    b"&",
    b"=",
    b";",
]
NAMES = [
    b"range",
    b"if-range",
    b"if-none-match",
    b"if-modified-since",
    b"authorization",
    b"content-type",
    b"content-length",
    b"accept",
    b"host",
    b"x-tenant-id",
]
VALUES = [b"bytes=0-0", b"bytes=-5", b"*", b"Bearer x", b"Basic eDp5", b"application/json", b"10"]

paths = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=6).map(b"".join)
queries = st.lists(st.sampled_from(FIELDS) | st.binary(max_size=6), max_size=25).map(b"&".join)
headers = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=40)), max_size=6
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "x"])
bodies = st.sampled_from([b"", b"{}", b"[", b"\xff", b'{"fetch": true}']) | st.binary(max_size=40)


async def answer(
    application: Application,
    method: str,
    path: bytes,
    query: bytes,
    given_headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Call the application as uvicorn does; return status, headers and body."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path.decode("latin-1"), "latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": given_headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    sent: list[Any] = []
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(120):
        await application(scope, receive, send)
    assert sent[0]["type"] == "http.response.start"
    whole = b"".join(m.get("body", b"") for m in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), whole


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(method=methods, path=paths, query=queries, headers=headers, body=bodies)
async def test_no_input_gives_a_500(
    mirror: Mirror,
    method: str,
    path: bytes,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    application = mirror.site.application
    target = b"/" + path.lstrip(b"/") if not path.startswith(b"/") else path
    status, got, whole = await answer(application, method, target, query, headers, body)
    assert 200 <= status < 600
    assert status != 500
    assert b"Traceback" not in whole
    is_go_facing = target.startswith((b"/dl/", b"/go/")) or target in (b"/dl", b"/go")
    if status >= 400 and status != 416 and is_go_facing:
        assert got[b"content-type"] == b"text/plain; charset=utf-8"
        assert whole.count(b"\n") == (0 if method == "HEAD" else 1)
    if method != "HEAD" and b"content-length" in got and status != 304:
        assert int(got[b"content-length"]) == len(whole)


ODD = [
    b"",
    b"\x00",
    b"a=" + b"%" * 300,
    b"&" * 300,
    b"&".join(b"mode=json" for _ in range(100)),
    b"\xff=\xfe",
    b"mode=json&include=all;",
]


async def test_odd_queries_of_a_listing_give_no_500(mirror: Mirror) -> None:
    for query in ODD:
        status, _, _ = await answer(mirror.site.application, "GET", b"/dl/", query, [], b"")
        assert status in (200, 400)
