"""What is no request, and clients that keep a connection waiting: F29 to F33, F21 of CONNECT."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest

from app.web.guard import announces_body, head_fault, is_host
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.conftest import VERIFIED, Mirror, Put, StartSite
from tests.web.harbour import add_tenant, harbour
from tests.web.test_troubles import SLOW, big, blob_path, descriptors, stalled_download
from tests.web.wire import Caller, Site, request, until

PREPARED = f"/dl/{VERIFIED}.sha256".encode()
HOST = b"Host: mirror.example\r\n"
SMUGGLED = b"GET /dl/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"

HOSTS = [
    (b"mirror.example", True),
    (b"mirror.example:8080", True),
    (b"mirror.example:", True),  # RFC 3986, section 3.2.3: the port may be empty
    (b"MIRROR_1.internal", True),
    (b"127.0.0.1:1", True),
    (b"[::1]", True),
    (b"[fd00::12]:8080", True),
    (b"a%20b", True),
    (b"", False),
    (b" ", False),
    (b":80", False),
    (b"a b", False),
    (b"a,b c", False),
    (b"a/b", False),
    (b"a\\b", False),
    (b"a?b", False),
    (b"a#b", False),
    (b"user@a", False),
    (b"http://a", False),
    (b"a:b", False),
    (b"a:80:80", False),
    (b"a:123456", False),
    (b"a%2", False),
    (b"a%zz", False),
    (b"::1", False),
    (b"[::1", False),
    (b"[::1]x", False),
    (b"[go.example]", False),
    (b"a\n", False),
    (b"a\x00", False),
    (b"\xc3\xa4", False),
    (b"a" * 256, False),
]


@pytest.mark.parametrize(("value", "good"), HOSTS, ids=range(len(HOSTS)))
def test_F29_what_a_host_is(value: bytes, good: bool) -> None:
    assert is_host(value) is good
    assert (head_fault(b"GET", "1.1", [(b"host", value)]) == "") is good


def test_F29_only_HTTP_1_0_may_come_without_a_host() -> None:
    assert head_fault(b"GET", "1.0", []) == ""
    assert "no Host" in head_fault(b"GET", "1.1", [])
    assert "more than one" in head_fault(b"GET", "1.0", [(b"host", b"a")] * 2)


@pytest.mark.parametrize(
    ("framing", "announced"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"000")], False),
        ([(b"content-length", b"10")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_F32_which_heads_announce_a_body(framing: list, announced: bool) -> None:
    assert announces_body([(b"host", b"a"), *framing]) is announced


def head(*lines: bytes, first: bytes = b"POST /dl/x HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


GET = b"GET " + PREPARED + b" HTTP/1.1"
H = HOST.strip()
CHUNKED = b"Transfer-Encoding: chunked"
EMPTY_CHUNK = b"0\r\n\r\n"
MALFORMED = [
    ("F29", head(H, H, first=GET)),
    ("F29", head(H, b"host: other.example", first=GET)),
    ("F29", head(first=GET)),
    ("F29", head(b"Host:", first=GET)),
    ("F29", head(b"Host: a b", first=GET)),
    ("F29", head(b"Host: a/b", first=GET)),
    ("F29", head(b"Host: user@a", first=GET)),
    ("F29", head(b"Host : a", first=GET)),
    ("F30", head(H, b"Content-Length: 5", CHUNKED) + EMPTY_CHUNK),
    ("F30", head(H, CHUNKED, b"Content-Length: 5") + EMPTY_CHUNK),
    ("F30", head(H, b"Content-Length: 4", b"Content-Length: 5") + b"abcd"),
    ("F30", head(H, b"Content-Length: 4", b"Content-Length: 4") + b"abcd"),
    ("F30", head(H, b"Content-Length: 4, 4") + b"abcd"),
    ("F30", head(H, b"Content-Length: +4") + b"abcd"),
    ("F30", head(H, b"Content-Length: -4") + b"abcd"),
    ("F30", head(H, b"Content-Length: 0x4") + b"abcd"),
    ("F30", head(H, b"Content-Length: " + b"9" * 30) + b"abcd"),
    ("F30", head(H, b"Transfer-Encoding: xchunked") + EMPTY_CHUNK),
    ("F30", head(H, b"Transfer-Encoding: chunked, identity") + EMPTY_CHUNK),
    ("F30", head(H, b"Transfer-Encoding: gzip, chunked") + EMPTY_CHUNK),
    ("F30", head(H, b"Transfer-Encoding: identity") + EMPTY_CHUNK),
    ("F30", head(H, b"Transfer-Encoding:") + EMPTY_CHUNK),
    ("F30", head(H, CHUNKED, CHUNKED) + EMPTY_CHUNK),
    ("F30", head(H, b"Transfer-Encoding : chunked") + EMPTY_CHUNK),
    ("F30", head(H, CHUNKED, first=b"POST /dl/x HTTP/1.0") + EMPTY_CHUNK),
    ("F30", head(H, b"X: a", b" folded", first=GET)),
    ("F30", head(b" X: folded", H, first=GET)),
    ("F30", GET + b"\n" + HOST + b"\r\n"),
    ("F30", GET + b"\r\nHost: a\nX: y\r\n\r\n"),
    ("F30", GET + b"\r\nHost: a\r\n\n"),
    ("F30", GET + b"\nHost: a\n\n"),
    ("F30", GET + b"\r\nHost: a\rX: y\r\n\r\n"),
    ("F30", head(H, b"no colon", first=GET)),
    ("F30", head(H, b": no name", first=GET)),
    ("F30", head(H, b"X: a\x00b", first=GET)),
    ("F30", head(H, first=b"GET /dl/?\x80 HTTP/1.1")),
    ("F30", head(H, first=b"GET /api/v1/releases/dl/?\x80 HTTP/1.1")),
    ("F33", b"GET /dl/\r\n\r\n"),
    ("F33", head(H, first=b"GET /dl/ HTTP/0.9")),
    ("F33", head(H, first=b"GET /dl/ HTTP/1.2")),
    ("F33", head(H, first=b"GET /dl/ HTTP/2.0")),
    ("F33", head(H, first=b"GET /dl/ http/1.1")),
    ("F33", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("F33", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"),  # the start of TLS
    ("F33", b"\x00\x01\x02 garbage\r\n\r\n"),
    ("F33", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ("F21", head(H, first=b"CONNECT mirror.example:443 HTTP/1.1")),
    ("F21", head(H, first=b"CONNECT " + PREPARED + b" HTTP/1.1")),
]
IDS = [f"{f}-{i}" for i, (f, _) in enumerate(MALFORMED)]


def is_a_refusal_alone(raw: bytes, status: bytes = b"400") -> bool:
    """Whether it is one response, and one that closes."""
    top, _, body = raw.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 " + status + b" "), raw
    assert b"\r\nconnection: close" in top
    assert b"\r\ncontent-length: %d\r\n" % len(body) in top + b"\r\n"
    return body.endswith(b"\n") and raw.count(b"HTTP/1.1 ") == 1 + body.count(b"HTTP/1.1 ")


@pytest.mark.parametrize("data", [data for _, data in MALFORMED], ids=IDS)
async def test_F21_F29_F30_F33_what_is_malformed_is_400_and_nothing_behind_it_is_answered(
    mirror: Mirror, data: bytes
) -> None:
    await mirror.site.ask(PREPARED)  # a prepared answer is no way around the rules
    assert is_a_refusal_alone(await mirror.site.raw(data + SMUGGLED))


NOTHING = b"/dl/nothing"
BEFORE = [(PREPARED,), (NOTHING,), (PREPARED, NOTHING), (NOTHING, PREPARED), (NOTHING,) * 3]


@pytest.mark.parametrize("data", [data for _, data in MALFORMED], ids=IDS)
async def test_F30_requests_before_a_malformed_one_are_answered_first(
    mirror: Mirror, data: bytes
) -> None:
    for targets in BEFORE:
        async with mirror.site.calling() as caller:
            await caller.send(b"".join(map(request, targets)) + data + SMUGGLED)
            for target in targets:
                answer = await caller.response()
                assert answer.status == (200 if target == PREPARED else 404)
            assert is_a_refusal_alone(await rest(caller))


async def rest(caller: Caller) -> bytes:
    """Return all that still comes, until the server closes or resets the connection."""
    everything = b""
    with suppress(ConnectionError):
        while piece := await caller.read(65536):
            everything += piece
    return everything


UNREAD = [
    (b"POST /dl/x HTTP/1.1", 405),
    (b"POST /fleet/v1/check HTTP/1.1", 413),
    (b"POST /api/v1/releases/sync HTTP/1.1", 413),
    (b"POST /hooks/git/acme/" + b"0" * 32 + b" HTTP/1.1", 401),
    (b"PUT /api/v1/releases/files/go1.99.1-corp1.linux-amd64.tar.gz HTTP/1.1", 413),
    (b"PUT /goproxy/nobody/example.com/x/@v/v1.0.0.zip HTTP/1.1", 404),
]


@pytest.mark.parametrize(
    ("first", "status"), UNREAD, ids=[str(s) + str(i) for i, (_, s) in enumerate(UNREAD)]
)
@pytest.mark.parametrize("expect", [True, False])
async def test_a_refusal_reaches_a_client_that_still_sends_and_ends_its_connection(
    mirror: Mirror, first: bytes, status: int, expect: bool
) -> None:
    """A close with bytes unread would reset the connection, and many clients lose the refusal."""
    lines = [
        H,
        b"Content-Length: %d" % 2**40,
        b"Authorization: Bearer " + mirror.site.secret.encode(),
    ]
    lines += [b"Expect: 100-continue"] if expect else []
    loop, body = asyncio.get_running_loop(), bytes(2**20)
    with socket.create_connection(("127.0.0.1", mirror.site.port)) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, head(*lines, first=first) + (b"" if expect else body))
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < whole_length(answer):
            piece = await loop.sock_recv(client, 65536)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert b"\r\nconnection: close\r\n" in answer
        for _ in range(4):
            await loop.sock_sendall(client, body)
        assert await loop.sock_recv(client, 1) == b""


def whole_length(answer: bytes) -> int:
    """Return the bytes of a response with a whole head, by its Content-Length."""
    top, _, _ = answer.partition(b"\r\n\r\n")
    length = next(
        line for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    return len(top) + 4 + int(length.partition(b":")[2])


async def test_after_an_answer_to_a_body_that_came_whole_the_connection_goes_on(
    mirror: Mirror,
) -> None:
    body = b"x" * 300_000
    async with mirror.site.calling() as caller:
        for _ in range(2):
            await caller.send(request("/fleet/v1/nothing", "POST", body=b"{}"))
            got = await caller.response()
            assert (got.status, got.header("connection")) == (405, None)
        await caller.send(request("/dl/x", "POST", {"Content-Length": str(len(body))}))
        assert (await caller.response()).header("connection") == "close"


BAD_CHUNKS = [
    b"1\nx\n0\n\n",
    b"1;a\n\r\nx\r\n0\r\n\r\n",
    b"-1\r\nx\r\n",
    b"1 \r\nx\r\n",
    b"2\r\nx\r\n",
]


@pytest.mark.parametrize("chunks", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
async def test_F30_a_malformed_chunk_ends_the_connection(mirror: Mirror, chunks: bytes) -> None:
    start = head(H, CHUNKED, b"Authorization: Bearer " + mirror.site.secret.encode())
    for target in (b"/dl/x", b"/api/v1/releases/sync"):
        raw = await mirror.site.raw(start.replace(b"/dl/x", target) + chunks + SMUGGLED)
        assert raw.startswith(b"HTTP/1.1 4")
        assert raw.count(b"\r\nconnection: close") == 1
        assert b"smuggled" not in raw


async def test_F30_fields_of_a_trailer_are_no_headers(mirror: Mirror) -> None:
    """RFC 9110, section 6.5.1: merged, they would be a way around checks of the headers."""
    token = b"Authorization: Bearer " + mirror.site.secret.encode() + b"\r\n"
    start = head(H, CHUNKED, b"Connection: close", first=b"POST /api/v1/releases/sync HTTP/1.1")
    for trailer in (token, token * 3, b"Host: other.example\r\n"):
        raw = await mirror.site.raw(start + b"0\r\n" + trailer + b"\r\n")
        assert raw.startswith(b"HTTP/1.1 401 ")


CHECK = b"POST /fleet/v1/check HTTP/1.1"  # whose body is read before it is answered
ENDLESS = [
    GET + b"\r\n" + HOST + b"X-Long: " + b"a" * 2**20,
    GET + b"\r\n" + HOST + b"X: y\r\n" * 180_000,
    b"GET /" + b"a" * 2**20,
    b"\r\n" * 2**19,
    head(H, CHUNKED, first=CHECK) + b"1\r\nx\r\n0\r\nX-Long: " + b"a" * 2**20,
    head(H, CHUNKED, first=CHECK) + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 180_000,
    head(H, CHUNKED, first=CHECK) + b"1;" + b"a" * 2**20,
]


@pytest.mark.parametrize("data", ENDLESS, ids=range(len(ENDLESS)))
async def test_F31_a_head_or_trailer_without_end_ends_the_connection(
    mirror: Mirror, data: bytes
) -> None:
    raw = await mirror.site.raw(data)
    assert b"HTTP/1.1 431 " in raw
    assert raw.endswith(b"the head of the request is too big\n")


BODIES = [
    (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
    (CHUNKED, b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n" + EMPTY_CHUNK),
    (b"Content-Length: 100", b"less"),
    (CHUNKED, b"ff\r\nless"),
]


@pytest.mark.parametrize(("framing", "body"), BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("target", [PREPARED, b"/dl/", b"/healthz"])
async def test_F32_a_body_of_a_get_is_ignored_and_ends_the_connection(
    mirror: Mirror, target: bytes, method: bytes, framing: bytes, body: bytes
) -> None:
    await mirror.site.ask(target)
    first = method + b" " + target + b" HTTP/1.1"
    raw = await mirror.site.raw(head(H, framing, first=first) + body + SMUGGLED)
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in raw


async def test_F32_an_empty_body_of_a_get_is_none(mirror: Mirror) -> None:
    async with mirror.site.calling() as caller:
        for _ in range(2):
            await caller.send(head(H, b"Content-Length: 0", first=GET))
            assert (await caller.response()).status == 200


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_an_upgrade_is_answered_without_one_and_ends_the_connection(
    mirror: Mirror, protocol: bytes
) -> None:
    asked = head(H, b"Connection: Upgrade", b"Upgrade: " + protocol, first=GET)
    raw = await mirror.site.raw(asked + SMUGGLED)
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.count(b"HTTP/1.1 ") == 1


BYTE, SILENCE = repeat(b"a"), repeat(b"")
KEYS = b"POST /api/v1/releases/keys HTTP/1.1"
TRICKLES = [
    ("head", [GET + b"\r\n" + HOST + b"X: "], BYTE, b"408"),
    ("url", [b"GET /"], BYTE, b"408"),
    ("headers", [GET + b"\r\n" + HOST], repeat(b"X: y\r\n"), b"408"),
    ("next-head", [request(b"/dl/nothing") + b"GET /"], BYTE, b"408"),
    ("next-head-prepared", [request(b"/dl/") + b"GET /"], BYTE, b"408"),
    ("newlines", [], repeat(b"\r\n"), b""),
    ("body", [head(H, b"Content-Length: 1000", first=KEYS)], BYTE, b"408"),
    ("chunks", [head(H, CHUNKED, first=KEYS)], repeat(b"1\r\na\r\n"), b"408"),
    ("silence", [], SILENCE, b""),
    ("silent-body", [head(H, b"Content-Length: 1000", first=KEYS)], SILENCE, b"408"),
    ("half-a-head", [b"GET /dl/ HTTP/1.1\r\n"], SILENCE, b"408"),
]


@pytest.mark.parametrize(
    ("start", "more", "status"), [t[1:] for t in TRICKLES], ids=[f"F33-{t[0]}" for t in TRICKLES]
)
async def test_F33_a_request_that_comes_too_slowly_ends_the_connection(
    mirror: Mirror, start: list[bytes], more: Iterable[bytes], status: bytes
) -> None:
    site, limits = mirror.site, mirror.site.services.shared.settings.limits
    token = b"Authorization: Bearer " + site.secret.encode() + b"\r\nHost: "
    passed_s = 0.0
    async with site.calling() as caller:
        for piece in start:
            await caller.send(piece.replace(b"Host: ", token))
        ending = asyncio.ensure_future(rest(caller))
        for piece in more:
            await caller.send(piece)
            await turn()
            if ending.done():
                break
            site.let_pass(0.5)
            passed_s += 0.5
            assert passed_s < 100
        raw = await ending
    assert passed_s >= min(limits.header_s, limits.body_s)
    last = raw[raw.rfind(b"HTTP/1.1 ") :]
    if status:
        assert is_a_refusal_alone(last, status)
    else:
        assert b" 408 " not in raw


async def turn() -> None:
    """Let the server take what has come."""
    await asyncio.sleep(0.001)


async def until_cut(site: Site, claim: Callable[[], bool]) -> None:
    """Let time pass for the clients until a claim holds."""
    async with asyncio.timeout(60):
        while not claim():
            await turn()
            site.let_pass(0.5)


@pytest.mark.timed
async def test_F33_a_refused_client_that_does_not_close_is_cut(mirror: Mirror) -> None:
    connections = mirror.site.server.server_state.connections
    before = set(connections)
    async with mirror.site.calling() as caller:
        await caller.send(head(H, b"Content-Length: 1000"))
        assert (await caller.response()).status == 405
        [refused] = connections - before
        await until_cut(mirror.site, lambda: refused not in connections)


async def test_F33_the_server_itself_looks_at_its_connections(start_site: StartSite) -> None:
    site = await start_site(sweeps=True, limits={"header_s": 1})
    async with site.calling() as caller:
        assert await rest(caller) == b""


async def test_F33_a_connection_that_is_used_now_and_then_stays(mirror: Mirror) -> None:
    header_s = mirror.site.services.shared.settings.limits.header_s
    async with mirror.site.calling() as caller:
        for _ in range(3):
            await caller.send(request("/dl/"))
            assert (await caller.response()).status == 200
            for _ in range(3):
                await turn()
                mirror.site.let_pass(header_s + 1)


def established(site: Site) -> int:
    """Count the server's connections that the kernel knows of, whatever their state."""
    rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    ours = f"0100007F:{site.port:04X}"
    return sum(row.split()[1] == ours and row.split()[3] != "0A" for row in rows)


@pytest.mark.slow
@pytest.mark.timed
async def test_F33_a_client_that_takes_no_prepared_answer_is_cut(
    start_site: StartSite, put: Put
) -> None:
    """However much there is: the kernel, which has its own clock, holds all of it or a part."""
    put()
    site = await start_site(sweeps=True, limits={"send_s": 1})
    await site.ask("/dl/")
    await site.services.shared.watch.poll()
    size = len((await site.ask("/dl/")).body)

    async def gone() -> bool:
        return not established(site)

    async def take_nothing(count: int) -> None:
        async with site.calling(socket_bytes=4096) as caller:
            with_end = request("/dl/", headers={"Connection": "close"})
            sending = asyncio.ensure_future(caller.send(request("/dl/") * count + with_end))
            await until(gone)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    await until(gone)
    counts = (300_000 // size, 6_000_000 // size, 20_000_000 // size)
    await asyncio.gather(*(take_nothing(count) for count in counts))


async def test_F33_a_stalled_download_is_cut_and_frees_its_descriptor(
    start_site: StartSite, put: Put
) -> None:
    name, data = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    path = blob_path(site, data).resolve()
    async with site.calling(socket_bytes=SLOW) as caller:
        await stalled_download(caller, name)
        assert descriptors(path) == 1
        await until_cut(site, lambda: descriptors(path) == 0)


async def test_F33_a_client_that_resets_while_nothing_is_read_from_it_frees_its_stream_at_once(
    start_site: StartSite, put: Put
) -> None:
    """The last bytes of a download wait for the client; behind a request that waits nobody reads.

    No time passes: the client need not have stalled for `send_s` seconds.
    """
    name, data = put(extra_bytes=1_400_000)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    path = blob_path(site, data).resolve()
    connections = site.server.server_state.connections
    async with site.calling(socket_bytes=SLOW) as caller:
        await stalled_download(caller, name)
        await caller.send(request("/dl/"))
        async with asyncio.timeout(60):
            while not any(connection.flow.read_paused for connection in connections):
                await turn()
        assert descriptors(path) == 1
        caller.vanish()
        async with asyncio.timeout(60):
            while descriptors(path):
                await turn()
                site.let_pass(0)


async def test_F33_a_slow_download_that_goes_on_is_not_cut(start_site: StartSite, put: Put) -> None:
    name, data = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    send_s = site.services.shared.settings.limits.send_s
    async with site.calling(socket_bytes=SLOW) as caller:
        await caller.send(request(f"/dl/{name}", headers={"Connection": "close"}))
        raw, looked_at = b"", 0
        while piece := await caller.read(2**18):
            raw += piece
            # More than all buffers hold: between two looks the client has acknowledged some of it.
            if len(raw) - looked_at >= 2**20:
                looked_at = len(raw)
                site.let_pass(0.9 * send_s)
    assert raw.endswith(data)


def passed_s(site: Site) -> float:
    """Return the seconds that `Site.let_pass` let pass."""
    return site.server.now_s


async def drip(caller: Caller, size: int) -> None:
    """Take so many bytes of a response, if the connection still gives them."""
    left = size
    while left and (piece := await caller.read(left)):
        left -= len(piece)


async def test_F33_a_download_below_8_KiB_a_second_is_cut(start_site: StartSite, put: Put) -> None:
    name, data = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    path = blob_path(site, data).resolve()
    async with site.calling(socket_bytes=SLOW) as caller:
        await stalled_download(caller, name)
        site.let_pass(0)
        # The kernel's buffers hold more than a little: what is taken here is not acknowledged at
        # once, and never comes near 8 KiB a second.
        for _ in range(6):
            assert descriptors(path) == 1
            await drip(caller, 70_000)
            await turn()
            site.let_pass(10)
        await until_cut(site, lambda: descriptors(path) == 0)
        assert passed_s(site) <= 75


async def test_F33_a_slow_download_beside_500_others_is_cut_only_when_it_stalls(
    start_site: StartSite, put: Put
) -> None:
    name, data = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    path = blob_path(site, data).resolve()

    def let_pass(seconds: float) -> None:
        site.server._taking = 500
        site.let_pass(seconds)

    async with site.calling(socket_bytes=SLOW) as caller:
        await stalled_download(caller, name)
        let_pass(0)
        for _ in range(20):  # below 8 KiB a second
            await drip(caller, 70_000)
            await turn()
            let_pass(10)
        assert descriptors(path) == 1
        for _ in range(12):
            let_pass(10)
        await until_cut(site, lambda: descriptors(path) == 0)


async def test_the_server_counts_the_clients_that_take_answers(
    start_site: StartSite, put: Put
) -> None:
    name, _ = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    async with (
        site.calling(socket_bytes=SLOW) as one,
        site.calling(socket_bytes=SLOW) as another,
        site.calling(),
    ):
        for caller in (one, another):
            await stalled_download(caller, name)

        async def both_are_counted() -> bool:
            site.let_pass(0)
            return site.server._taking == 2

        await until(both_are_counted)  # the kernel takes a part first


async def test_F33_a_prepared_answer_that_is_taken_too_slowly_is_cut(tmp_path: Path) -> None:
    fat = module("example.com/fat", "v1.0.0", padding_bytes=900_000)
    with FakeGoproxy([fat]) as fake:
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake)
            target = "/goproxy/acme/example.com/fat/@v/v1.0.0.zip"
            for _ in range(2):
                assert (await site.ask(target)).body == fat.zip
            async with site.calling(socket_bytes=SLOW) as caller:
                # More than the kernel takes in, so that the rest lies in this process.
                await caller.send(request(target) * 8)
                assert (await caller.head())[0] == 200
                site.let_pass(0)
                for _ in range(6):
                    assert site.server.server_state.connections
                    await drip(caller, 70_000)
                    await turn()
                    site.let_pass(10)

                async def gone() -> bool:
                    site.let_pass(5)
                    return not site.server.server_state.connections

                await until(gone)
                assert passed_s(site) <= 75


async def test_F30_garbage_behind_a_running_download_does_not_get_into_it(
    start_site: StartSite, put: Put
) -> None:
    name, data = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    async with site.calling(socket_bytes=SLOW) as caller:
        await caller.send(request(f"/dl/{name}") + b"\x00garbage\r\n\r\n")
        got = await caller.response()
        assert (got.status, got.body) == (200, data)
        assert is_a_refusal_alone(await rest(caller))
