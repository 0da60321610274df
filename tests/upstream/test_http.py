import asyncio
import gzip
import logging
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from shutil import which
from urllib.parse import urlsplit

import anyio
import pytest

from app.core.errors import (
    BadInputError,
    MoorageError,
    OverloadedError,
    SettingsError,
    StorageError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamRedirectError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.metrics import scrape
from app.upstream.address import AddressGuard, AllowedNetwork
from app.upstream.breaker import BreakerState
from app.upstream.godev import GoDev
from app.upstream.http import HttpClient
from app.upstream.limits import UpstreamLimits
from app.upstream.url import Credential
from tests.upstream.server import answer, head, raw, redirect, serving

SECRET = "c4nary"
LOOPBACK = [AllowedNetwork.parse("127.0.0.0/8")]
BODY = bytes(range(256)) * 400  # 102400 bytes: more than one read
OK = head(200, "Content-Length: 4")


class Clock:
    """Seconds that pass only by `step` at each look, and by hand."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 1000.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Kept:
    """A sink that keeps what it got, and fails at will."""

    def __init__(self, error: Exception | None = None) -> None:
        self.body = b""
        self.restarts = 0
        self.error = error

    async def restart(self) -> None:
        self.body = b""
        self.restarts += 1

    async def write(self, chunk: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.body += chunk


class Bench:
    """The client with every outside thing replaced: names, clock, sleep, chance."""

    def __init__(self, *, allow=LOOPBACK, names=None, clock=None, limits=None, ca_file=None):
        self.slept: list[float] = []
        self.seen: list[tuple[str, str]] = []
        self.turned: list[tuple[str, bool]] = []
        self.clock = clock or Clock()
        self.names = names or {}
        self.client = HttpClient(
            guard=AddressGuard(allow, self.resolve),
            user_agent="Moorage/test",
            random=Random(1),
            clock=self.clock,
            wall_clock=lambda: 784111770.0,  # 1994-11-06 08:49:30 GMT
            sleep=self.sleep,
            ca_file=ca_file,
            observe=lambda origin, outcome, seconds: self.seen.append((origin, outcome)),
            on_breaker=lambda name, is_open: self.turned.append((name, is_open)),
            limits=limits or UpstreamLimits(),
        )

    async def resolve(self, host: str, port: int) -> list[str]:
        answers = self.names.get(host, host)
        if isinstance(answers, list):
            answers = answers.pop(0) if len(answers) > 1 else answers[0]
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        if answers == "never":
            await asyncio.Event().wait()
        return answers.split()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def get(self, url: str, **options):
        return await self.client.get(url, **{"max_bytes": 10**6, "deadline_s": 10.0} | options)

    async def download(self, url: str, sink, **options):
        options = {"max_bytes": 10**6, "deadline_s": 10.0} | options
        return await self.client.download(url, sink, **options)

    async def failing(self, url: str, **options) -> UpstreamError:
        """Return the error of a get, once it is checked to be fit for people."""
        with pytest.raises(UpstreamError) as caught:
            await self.get(url, **options)
        assert f"//{urlsplit(url).hostname}" in str(caught.value) or "private" in str(caught.value)
        assert "?" not in str(caught.value)
        return caught.value


@asynccontextmanager
async def bench(**options):
    made = Bench(**options)
    try:
        yield made
    finally:
        await made.client.aclose()


@asynccontextmanager
async def against(*plays, tls=None, **options):
    async with serving(*plays, tls=tls) as server, bench(**options) as made:
        yield made, server


# What is sent and what comes back


async def test_a_get_asks_for_identity_and_returns_body_and_lower_case_headers():
    async with against(answer(b"body", "X-One: 1", "X-One: 2")) as (made, server):
        fetched, body = await made.get(server.url("/a%2fb?q=1"), accept="text/plain")
        assert (fetched.status, fetched.size_bytes, body) == (200, 4, b"body")
        assert fetched.url == server.url("/a%2fb")
        assert fetched.headers["x-one"] == "1, 2"
        request = server.requests[0]
        assert request.target == "/a%2fb?q=1"
        assert request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "Moorage/test",
            "accept": "text/plain",
            "accept-encoding": "identity",
        }
        assert made.seen == [(server.origin(), "ok")]


@pytest.mark.parametrize(
    "target",
    [
        "/github.com/!burnt!sushi/toml/@v/v1.0.0+incompatible.zip",
        "/%21%2F%2f%7E~%C3%A9%c3%a9",
        "/100%/%zz/a%",
        "/a/../b/./c//d/..",
        "//a",
        """/"<>[]^`{|}'();:@&=$,*""",
        "/a?q=%21+%2B~!&r=/../?&&=",
        """/?"<>[]^`{|}'%zz""",
        "/" + "a" * 60_000 + "?" + "b" * 10_000,
    ],
)
async def test_a_path_and_query_go_out_exactly_as_given(target):
    async def play(connection):
        line = await connection.until(b"\r\n\r\n")
        sent.append(line.split(b" ")[1].decode())
        await connection.send(OK + b"okay")

    sent: list[str] = []
    async with against(play) as (made, server):
        await made.get(server.url(target))
        assert sent == [target]


@pytest.mark.parametrize("host", ["127.0.0.01", "999.1.1.1", "10-0-0-1", "xn--a", "a_b.example"])
async def test_every_host_name_that_dns_could_know_is_asked(host):
    async with against(answer(b"x"), names={host: "127.0.0.1"}) as (made, server):
        assert (await made.get(server.url(host=host)))[1] == b"x"
        assert server.requests[0].headers["host"] == f"{host}:{server.port}"


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", {"a": 1}, "8"), ("POST", None, "0"), ("DELETE", None, "0")],
)
async def test_a_request_with_a_body_has_no_other_header_than_ours(method, body, length):
    async with against(answer(b"x")) as (made, server):
        await made.client.send(method, server.url(), json_body=body, accept="application/json")
        headers = dict(server.requests[0].headers)
        assert headers.pop("content-type", None) == (body and "application/json")
        assert headers == {
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "Moorage/test",
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-length": length,
        }


async def test_a_download_streams_into_the_sink_with_absolute_progress():
    steps: list[int] = []
    body = BODY * 8  # of more than one piece, which has 256 KiB at most
    async with against(answer(body)) as (made, server):
        sink = Kept()
        fetched = await made.download(
            server.url(), sink, exact_bytes=len(body), progress=steps.append
        )
        assert sink.body == body
        assert fetched.size_bytes == len(body) == steps[-1]
        assert steps == sorted(steps)
        assert len(steps) > 1


async def test_a_chunked_body_is_taken_and_its_connection_used_again():
    async def play(connection):
        for _ in range(2):
            await connection.request()
            await connection.send(head(200, "Transfer-Encoding: chunked"))
            await connection.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await connection.stall()

    async with against(play) as (made, server):
        for _ in range(2):
            assert (await made.get(server.url()))[1] == b"abcde"
        assert server.connections == 1


async def test_a_connection_is_used_again_after_a_200_and_after_a_404():
    async def play(connection):
        for status in (200, 404, 200):
            await connection.request()
            await connection.send(head(status, "Content-Length: 4") + b"okay")
        await connection.stall()

    async with against(play) as (made, server):
        await made.get(server.url())
        await made.failing(server.url())
        await made.get(server.url())
        assert server.connections == 1


@pytest.mark.parametrize("value", ["\xe9", "\xc3\xa9"])
async def test_header_values_are_read_as_latin_1_even_if_they_look_like_utf_8(value):
    async with against(answer(b"x", f"X-Name: {value}")) as (made, server):
        assert (await made.get(server.url()))[0].headers["x-name"] == value


async def test_no_cookie_is_ever_kept():
    async with against(answer(b"x", "Set-Cookie: session=1; Path=/")) as (made, server):
        for _ in range(2):
            await made.get(server.url())
        assert "cookie" not in server.requests[1].headers


async def test_the_environments_proxy_and_netrc_are_not_used(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with against(answer(b"x")) as (made, server):
        assert (await made.get(server.url()))[1] == b"x"
        assert "authorization" not in server.requests[0].headers


async def test_nothing_is_logged_at_any_level(caplog):
    caplog.set_level(logging.DEBUG)
    async with against(answer(b"x")) as (made, server):
        credential = Credential("repo", server.origin(), "Authorization", SECRET)
        await made.get(server.url(f"/?token={SECRET}"), credential=credential)
    assert SECRET not in caplog.text


async def test_no_lower_layer_logs_anything(caplog):
    caplog.set_level(logging.DEBUG)
    async with against(answer(b"x")) as (made, server):
        await made.get(server.url())
    assert [r for r in caplog.records if r.name.startswith("http")] == []


async def test_a_closed_client_is_our_own_limit_and_connects_nowhere():
    async with against(answer(b"x")) as (made, server):
        await made.client.aclose()
        with pytest.raises(OverloadedError, match="shutting down"):
            await made.get(server.url())
        assert (server.connections, made.client.breaker_states()) == (0, {})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://u:p@127.0.0.1/", "127.0.0.1", ""])
async def test_what_is_no_web_url_is_bad_input(url):
    async with bench() as made:
        with pytest.raises(BadInputError):
            await made.get(url)


# Bodies that are not what was announced


async def test_F40_truncated_with_length_is_retried_from_the_start():
    steps: list[int] = []
    async with against(answer(BODY[:60000], declared=len(BODY)), answer(BODY)) as (made, server):
        sink = Kept()
        await made.download(server.url(), sink, progress=steps.append)
        assert sink.body == BODY
        assert sink.restarts == len(made.slept) == 1
        assert 0 in steps


async def test_F40_truncated_for_ever_is_a_content_error_after_four_attempts():
    async with against(answer(b"half", declared=8)) as (made, server):
        error = await made.failing(server.url())
        assert type(error) is UpstreamContentError
        assert "before its body was complete" in str(error)
        assert server.connections == 4


async def test_F40_truncated_in_a_chunk_is_a_content_error():
    cut = raw(head(200, "Transfer-Encoding: chunked"), b"8\r\nhalf")
    async with against(cut) as (made, server):
        assert type(await made.failing(server.url())) is UpstreamContentError
        assert server.connections == 4


async def test_F41_truncated_without_length_is_caught_by_the_exact_size():
    async with against(raw(head(200) + b"half")) as (made, server):
        sink = Kept()
        with pytest.raises(UpstreamContentError, match="ended after 4 of 8 bytes"):
            await made.download(server.url(), sink, exact_bytes=8)
        assert sink.restarts == 3


async def test_F42_a_body_over_the_limit_is_cut_at_the_limit():
    chunked = raw(
        head(200, "Transfer-Encoding: chunked"), b"4\r\n1234\r\n", b"4\r\n5678\r\n0\r\n\r\n"
    )
    for options in ({"max_bytes": 6}, {"exact_bytes": 6}, {"exact_bytes": 9, "max_bytes": 6}):
        async with against(chunked) as (made, server):
            sink = Kept()
            with pytest.raises(UpstreamContentError, match="more than 6 bytes"):
                await made.download(server.url(), sink, **options)
            assert len(sink.body) <= 6
            assert server.connections == 1


@pytest.mark.parametrize(
    ("options", "trouble"),
    [
        ({"max_bytes": 99}, "declares 100 bytes, more than the limit of 99"),
        ({"exact_bytes": 99}, "declares 100 bytes instead of 99"),
        ({"exact_bytes": 101}, "declares 100 bytes instead of 101"),
    ],
)
async def test_F42_a_wrong_declared_length_is_refused_before_reading(options, trouble):
    async with against(answer(b"x" * 100)) as (made, server):
        sink = Kept(StorageError("must not be written to"))
        with pytest.raises(UpstreamContentError, match=trouble):
            await made.download(server.url(), sink, **options)
        assert server.connections == 1


@pytest.mark.parametrize(
    "first",
    [OK + b"fine", head(200, "Transfer-Encoding: chunked") + b"4\r\nfine\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("status", [200, 404])
async def test_F42_bytes_after_an_answer_never_become_the_next_answer(first, status):
    first = first.replace(b" 200 ", f" {status} ".encode())

    async def play(connection):
        await connection.request()
        await connection.send(first + head(200, "Content-Length: 6") + b"poison")
        await connection.stall()

    async with against(play, answer(b"good")) as (made, server):
        if status == 200:
            assert (await made.get(server.url("/1")))[1] == b"fine"
        else:
            await made.failing(server.url("/1"))
        assert (await made.get(server.url("/2")))[1] == b"good"
        assert server.connections == 2


@pytest.mark.parametrize("status", [200, 404])
async def test_F42_bytes_after_an_answer_never_reach_a_call_that_waits_for_its_connection(status):
    may_answer = asyncio.Event()

    async def play(connection):
        await connection.request()
        await may_answer.wait()
        first = head(status, "Content-Length: 4") + b"fine"
        await connection.send(first + head(200, "Content-Length: 6") + b"poison")
        await connection.stall()

    limits = UpstreamLimits(connections=1)
    async with against(play, answer(b"good"), limits=limits) as (made, server):
        first = asyncio.create_task(made.client.send("GET", server.url("/1")))
        while not server.requests:
            await asyncio.sleep(0.005)
        second = asyncio.create_task(made.get(server.url("/2")))
        pool = made.client._exchanges._transport._pool
        while not any(request.is_queued() for request in pool._requests):
            await asyncio.sleep(0)  # until it waits for the only connection
        may_answer.set()
        assert (await first)[1] == b"fine"
        assert (await second)[1] == b"good"
        assert server.connections == 2


@pytest.mark.parametrize("status", [201, 203, 204, 206, 300, 304])
async def test_F58_a_status_that_nobody_asked_for_is_refused(status):
    lines = ["Content-Range: bytes 5-9/10"] if status == 206 else []
    async with against(answer(b"", *lines, status=status)) as (made, server):
        error = await made.failing(server.url())
        assert (type(error), error.status) == (UpstreamContentError, status)
        assert server.connections == 1


GZIPPED = gzip.compress(BODY)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_F59_a_gzip_body_that_nobody_asked_for_is_decoded(coding):
    members = gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:])
    for body in (GZIPPED, members):
        async with against(answer(body, f"Content-Encoding: {coding}")) as (made, server):
            answered, got = await made.get(server.url(), max_bytes=len(BODY))
            assert (got, answered.size_bytes) == (BODY, len(BODY))


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        (gzip.compress(bytes(10_000_000)), "more than 102400 bytes"),
        (GZIPPED[:-9], "cut short"),
        (b"no gzip", "damaged"),
        (GZIPPED + b"junk", "damaged"),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 200_000, "too long"),
    ],
)
async def test_F59_a_gzip_body_is_bounded_and_whole(body, trouble):
    async with against(answer(body, "Content-Encoding: gzip")) as (made, server):
        error = await made.failing(server.url(), max_bytes=len(BODY))
        assert type(error) is UpstreamContentError
        assert trouble in str(error)


async def test_F59_an_encoded_body_is_refused():
    async with against(answer(b"\x1f\x8b", "Content-Encoding: br")) as (made, server):
        error = await made.failing(server.url())
        assert type(error) is UpstreamContentError
        assert "encoded" in str(error)


@pytest.mark.parametrize("kibibytes", [65, 99, 300])
@pytest.mark.parametrize("is_one_line", [True, False])
async def test_F60_a_header_over_64_KiB_is_refused(kibibytes, is_one_line):
    lines = ["X: " + "y" * (kibibytes * 1024)] if is_one_line else ["X: " + "y" * 1021] * kibibytes
    async with against(answer(b"", *lines)) as (made, server):
        error = await made.failing(server.url())
        assert "header of more than 65536 bytes" in str(error)
        assert server.connections == 1


async def test_F60_a_header_of_60_KiB_is_taken():
    async with against(answer(b"x", *["X: " + "y" * 1021] * 60)) as (made, server):
        assert (await made.get(server.url()))[1] == b"x"


# Time


@pytest.mark.parametrize(
    "parts",
    [[], [head(200, "Content-Length: 8")], [head(200, "Content-Length: 8"), b"ha", b"lf"]],
    ids=["silent", "after headers", "in the body"],
)
async def test_F43_a_stall_ends_with_the_deadline(parts):
    async with against(raw(*parts, then="stall")) as (made, server):
        with pytest.raises(UpstreamTimeoutError, match=r"no complete answer within 0\.3 s"):
            await made.download(server.url("/x"), Kept(), deadline_s=0.3)
        await server.until_ended(1)
        assert made.seen == [(server.origin(), "UpstreamTimeoutError")]


async def test_F43_a_drip_ends_with_the_deadline():
    async def drip(connection):
        await connection.request()
        await connection.send(head(200, "Content-Length: 100000"))
        while True:
            await connection.send(b"x")
            await asyncio.sleep(0.02)

    async with against(drip) as (made, server):
        assert type(await made.failing(server.url(), deadline_s=0.3)) is UpstreamTimeoutError
        assert server.connections == 1


async def test_F43_a_download_below_the_minimum_rate_is_given_up():
    drip = raw(head(200, "Content-Length: 800"), *[b"x" * 100] * 4, then="stall")
    async with against(drip, clock=Clock(step=10.0)) as (made, server):
        with pytest.raises(UpstreamTimeoutError, match="less than 32768 bytes per second"):
            await made.download(server.url(), Kept())
        assert server.connections == 1


async def test_F43_a_silent_upstream_is_given_up_after_the_read_limit():
    async with against(raw(then="stall"), limits=UpstreamLimits(read_s=0.1)) as (made, server):
        error = await made.failing(server.url())
        assert type(error) is UpstreamTimeoutError
        assert "went silent" in str(error)


async def test_a_name_that_does_not_resolve_in_time_is_a_timeout_after_retries():
    async with bench(names={"up.example": "never"}, limits=UpstreamLimits(connect_s=0.05)) as made:
        error = await made.failing("http://up.example/")
        assert type(error) is UpstreamTimeoutError
        assert "accepts no connection in time" in str(error)
        assert len(made.slept) == 3


async def test_cancelling_closes_the_connection_and_passes_through():
    async with against(raw(head(200, "Content-Length: 8"), b"half", then="stall")) as (
        made,
        server,
    ):
        sink = Kept()
        task = asyncio.create_task(made.download(server.url(), sink))
        while sink.body != b"half":
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until_ended(1)
        assert made.seen == [(server.origin(), "abandoned")]


async def test_all_connections_in_use_is_our_own_limit():
    limits = UpstreamLimits(connections=1, pool_s=0.05)
    async with against(raw(then="stall"), limits=limits) as (made, server):
        first = asyncio.create_task(made.get(server.url()))
        while not server.requests:
            await asyncio.sleep(0.005)
        with pytest.raises(OverloadedError, match="in use"):
            await made.get(server.url())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_all_connections_in_use_never_means_that_there_is_no_signature():
    limits = UpstreamLimits(connections=1, pool_s=0.05)
    async with against(raw(then="stall"), limits=limits) as (made, server):
        first = asyncio.create_task(made.get(server.url()))
        while not server.requests:
            await asyncio.sleep(0.005)
        godev = GoDev(made.client, server.url(), (server.url("/1/"), server.url("/2/")), 10.0)
        with pytest.raises(OverloadedError):
            await godev.signature("go1.99.1.src.tar.gz")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


# Broken connections and retries


@pytest.mark.parametrize(
    "parts",
    [[], [OK], [OK, b"ok"], [OK, b"oka"]],
    ids=["byte 0", "after headers", "half", "last"],
)
async def test_F44_a_reset_is_retried(parts):
    async with against(raw(*parts, then="reset"), answer(b"okay")) as (made, server):
        sink = Kept()
        await made.download(server.url(), sink)
        assert (sink.body, sink.restarts) == (b"okay", 1)
        assert 0 <= made.slept[0] <= 0.1


async def test_F44_a_reset_for_ever_is_unavailable():
    async with against(raw(OK, b"ok", then="reset")) as (made, server):
        assert type(await made.failing(server.url())) is UpstreamUnavailableError
        assert server.connections == 4


async def test_a_refused_connection_is_unavailable_after_retries():
    async with serving(answer()) as server:
        pass
    async with bench() as made:
        error = await made.failing(server.url("/x"))
        assert type(error) is UpstreamUnavailableError
        assert error.origin == server.origin()
        assert "can't be reached" in str(error)
        assert len(made.slept) == 3


async def test_an_unknown_name_is_unavailable():
    async with bench(names={"gone.example": None}) as made:
        assert type(await made.failing("http://gone.example/")) is UpstreamUnavailableError


async def test_what_is_not_http_is_unavailable():
    async with against(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as (made, server):
        assert type(await made.failing(server.url())) is UpstreamUnavailableError


async def test_the_second_address_is_tried_when_the_first_refuses():
    async with against(answer(b"x"), names={"up.example": "127.0.0.9 127.0.0.1"}) as (made, server):
        assert (await made.get(server.url(host="up.example")))[1] == b"x"
        assert made.slept == []
        assert server.requests[0].headers["host"] == f"up.example:{server.port}"


@pytest.mark.parametrize("status", [404, 410])
async def test_F47_absent_is_told_with_its_status(status):
    async with against(answer(b"gone", status=status)) as (made, server):
        error = await made.failing(server.url())
        assert (type(error), error.status) == (UpstreamAbsentError, status)
        assert server.connections == 1


@pytest.mark.parametrize("then", ["close", "stall", "reset"])
async def test_F47_a_404_stays_a_404_when_its_body_never_comes(then):
    play = raw(head(404, "Content-Length: 8"), b"half", then=then)
    async with against(play, limits=UpstreamLimits(drop_s=0.1)) as (made, server):
        assert type(await made.failing(server.url())) is UpstreamAbsentError
        await server.until_ended(1)
        assert server.connections == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_F48_a_refused_credential_is_our_problem_and_the_body_stays_out(status):
    challenge = "WWW-Authenticate: Bearer realm=http://127.0.0.1:1/steal"
    async with against(answer(b"internal", challenge, status=status)) as (made, server):
        credential = Credential.bearer("repo", server.origin(), SECRET)
        error = await made.failing(server.url(), credential=credential)
        assert (type(error), error.status) == (UpstreamRefusedError, status)
        assert error.had_credential
        why = {401: "it refuses the credential", 403: "the credential may not have this"}
        assert str(error).endswith(f"answered {status}: {why[status]}")
        assert "internal" not in str(error)
        assert SECRET not in str(error)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("value", "slept"),
    [
        ("2", 2.0),
        ("30", 30.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 7.0),
        ("soon", None),
    ],
)
async def test_F49_retry_after_up_to_30_s_is_obeyed(value, slept):
    async def play(connection):
        await connection.request()
        await connection.send(head(429, f"Retry-After: {value}", "Content-Length: 0"))

    async with against(play, answer(b"x")) as (made, server):
        assert (await made.get(server.url(), deadline_s=60.0))[1] == b"x"
        assert len(made.slept) == 1
        if slept is None:
            assert made.slept[0] <= 0.1
        else:
            assert made.slept == [slept]


@pytest.mark.parametrize(
    ("value", "wait_s"), [("31", 31), ("3600", 3600), ("Sun, 06 Nov 1994 08:50:10 GMT", 40)]
)
async def test_F49_a_longer_retry_after_is_passed_on_at_once(value, wait_s):
    async with against(answer(b"", f"Retry-After: {value}", status=429)) as (made, server):
        error = await made.failing(server.url(), deadline_s=7200.0)
        assert isinstance(error, UpstreamUnavailableError)
        assert (error.status, error.retry_after_s) == (429, wait_s)
        assert made.slept == []


async def test_F49_a_wait_beyond_the_deadline_is_not_begun():
    async with against(answer(b"", "Retry-After: 20", status=503)) as (made, server):
        error = await made.failing(server.url(), deadline_s=5.0)
        assert isinstance(error, UpstreamUnavailableError)
        assert (error.retry_after_s, made.slept) == (20, [])


def failing_times(times: int, status: int = 500):
    """Answer status that often, over any number of connections, then 200."""
    left = [times]

    async def play(connection):
        while True:
            await connection.request()
            left[0] -= 1
            await connection.send(
                head(status if left[0] >= 0 else 200, "Content-Length: 4") + b"okay"
            )

    return play


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_F50_three_failures_then_200_is_200(status):
    async with against(failing_times(3, status)) as (made, server):
        assert (await made.get(server.url()))[1] == b"okay"
        assert len(made.slept) == 3
        assert all(delay <= 0.1 * 2**n for n, delay in enumerate(made.slept))


async def test_F50_four_failures_are_unavailable():
    async with against(failing_times(4)) as (made, server):
        error = await made.failing(server.url())
        assert (type(error), error.status) == (UpstreamUnavailableError, 500)
        assert len(server.requests) == 4


async def test_501_is_not_retried():
    async with against(failing_times(9, 501)) as (made, server):
        assert type(await made.failing(server.url())) is UpstreamUnavailableError
        assert len(server.requests) == 1


async def test_F50_500_for_ever_opens_the_breaker_and_no_connection_is_made():
    async with against(failing_times(10**6)) as (made, server):
        for _ in range(20):
            await made.failing(server.url())
        made_requests = len(server.requests)
        assert made_requests == 20  # 20 calls at least, and with the retries no more than that
        assert made.client.breaker_states() == {server.origin(): BreakerState.OPEN}
        error = await made.failing(server.url())
        assert isinstance(error, UpstreamUnavailableError)
        assert 24 <= error.retry_after_s <= 36
        assert "left alone" in str(error)
        assert len(server.requests) == made_requests
        assert made.seen[-1] == (server.origin(), "open")


async def test_an_outage_is_not_multiplied_by_more_than_the_retry_budget():
    async with against(failing_times(10**6, 429)) as (made, server):  # never opens the breaker
        for _ in range(50):
            await made.failing(server.url())
        assert len(made.slept) == 10 + 5
        assert len(server.requests) == 50 + 15


async def test_the_breaker_recovers_through_trials():
    clock = Clock()
    async with against(failing_times(20), clock=clock) as (made, server):
        for _ in range(20):
            await made.failing(server.url())
        clock.now += 36
        for _ in range(5):
            await made.get(server.url())
        assert made.client.breaker_states() == {server.origin(): BreakerState.CLOSED}
        assert made.turned == [(server.origin(), True), (server.origin(), False)]


async def test_an_open_breaker_is_seen_in_the_metrics(services):
    async with serving(failing_times(10**6, 501)) as server:
        gauge = f'moorage_upstream_breaker_open{{origin="{server.origin()}"}}'
        for _ in range(20):
            assert f"{gauge} 1.0" not in scrape.render().decode()
            with pytest.raises(UpstreamUnavailableError):
                await services.shared.client.get(server.url(), max_bytes=9, deadline_s=10.0)
        assert f"{gauge} 1.0" in scrape.render().decode()


async def test_a_cancelled_trial_gives_its_place_back():
    clock = Clock()

    async def play(connection):
        while True:
            request = await connection.request()
            if request.target == "/stall":
                await connection.stall()
                return
            status = 500 if request.target == "/bad" else 200
            await connection.send(head(status, "Content-Length: 0"))

    async with against(play, clock=clock) as (made, server):
        for _ in range(20):
            await made.failing(server.url("/bad"))
        clock.now += 36
        for _ in range(6):
            task = asyncio.create_task(made.get(server.url("/stall")))
            before = len(server.requests)
            while len(server.requests) == before:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await made.get(server.url("/good"))
        assert made.client.breaker_states() == {server.origin(): BreakerState.HALF_OPEN}


async def test_breakers_are_apart_for_each_credential():
    async def play(connection):
        while True:
            request = await connection.request()
            status = 500 if "authorization" in request.headers else 200
            await connection.send(head(status, "Content-Length: 0"))

    async with against(play) as (made, server):
        credential = Credential.bearer("repo-acme", server.origin(), SECRET)
        for _ in range(20):
            await made.failing(server.url(), credential=credential)
        await made.get(server.url())
        assert made.client.breaker_states() == {
            f"{server.origin()}#repo-acme": BreakerState.OPEN,
            server.origin(): BreakerState.CLOSED,
        }
        assert made.turned == [(f"{server.origin()}#repo-acme", True)]


@pytest.mark.parametrize(
    "play",
    [answer(status=404), answer(status=403), answer(status=429, body=b""), answer(status=206),
     answer(b"x", "Content-Encoding: br")],
    ids=["404", "403", "429", "206", "encoded"],
)  # fmt: skip
async def test_an_upstream_that_answers_is_never_left_alone(play):
    async with against(play) as (made, server):
        for _ in range(30):
            await made.failing(server.url())
        assert made.client.breaker_states() == {server.origin(): BreakerState.CLOSED}


# Redirects and credentials


async def test_as_many_redirects_are_followed_as_go_follows():
    async def play(connection):
        for status in (301, 302, 303, 307, 308, 301, 302, 303, 307, 200):
            request = await connection.request()
            n = int(request.target[1])
            await connection.send(head(status, f"Location: /{n + 1}", "Content-Length: 0"))
        await connection.stall()

    async with against(play) as (made, server):
        fetched, _ = await made.get(server.url("/0?sig=1"))
        assert fetched.url == server.url("/9")
        assert server.requests[0].target == "/0?sig=1"
        assert server.connections == 1


async def test_F52_ten_redirects_and_loops_are_refused():
    async def endless(connection):
        while True:
            request = await connection.request()
            n = int(request.target[1:])
            await connection.send(head(302, f"Location: /{n + 1}", "Content-Length: 0"))

    async with against(endless) as (made, server):
        error = await made.failing(server.url("/0"))
        assert "stopped after 10 redirects" in str(error)
        assert len(server.requests) == 10
    async with against(redirect("/0")) as (made, server):
        error = await made.failing(server.url("/0"))
        assert type(error) is UpstreamContentError
        assert "in a circle" in str(error)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "http://u:p@127.0.0.1/",
     "http://127.0.0.1:99999/", "/\xe9", "/a b", "javascript:1"],
)  # fmt: skip
async def test_F53_a_redirect_out_of_the_web_is_refused(location):
    async with against(redirect(location)) as (made, server):
        error = await made.failing(server.url())
        assert "redirects to where it may not" in str(error)
        assert server.connections == 1


async def test_F53_no_credential_follows_to_another_origin():
    names = {"one.example": "127.0.0.1", "two.example": "127.0.0.1"}
    async with serving(answer(b"there")) as other:
        target = other.url("/x", "two.example")
        async with against(redirect(target), names=names) as (made, server):
            origin = server.origin("one.example")
            credential = Credential("repo", origin, "PRIVATE-TOKEN", SECRET)
            fetched, body = await made.get(f"{origin}/x?token={SECRET}", credential=credential)
            assert (fetched.url, body) == (target, b"there")
            assert server.requests[0].headers["private-token"] == SECRET
            assert SECRET not in str(other.requests)
            assert set(made.client.breaker_states()) == {
                f"{origin}#repo",
                other.origin("two.example"),
            }


async def test_a_redirect_is_observed_under_the_origin_that_was_asked():
    async with (
        serving(answer(b"there")) as other,
        against(redirect(other.url("/x"))) as (made, server),
    ):
        assert (await made.get(server.url()))[1] == b"there"
        assert made.seen == [(server.origin(), "ok")] * 2


async def test_F53_a_redirect_to_an_origin_that_is_not_listed_is_refused():
    async with (
        serving(answer(b"there")) as other,
        against(redirect(other.url("/x"))) as (made, server),
    ):
        error = await made.failing(server.url(), follow_to=frozenset({"dl.google.com"}))
        assert isinstance(error, UpstreamRedirectError)
        assert error.target == "127.0.0.1"
        assert other.connections == 0
        allowed = frozenset({other.origin()})
        assert (await made.get(server.url(), follow_to=allowed))[1] == b"there"


async def test_no_secret_is_in_any_error_or_its_causes():
    async with against(answer(b"half", declared=8)) as (made, server):
        credential = Credential.basic("repo", server.origin(), "user", SECRET)
        error: BaseException | None = await made.failing(
            server.url(f"/x?token={SECRET}"), credential=credential
        )
        while error is not None:
            assert SECRET not in repr(error)
            error = error.__cause__ or error.__context__


# Addresses


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
     "2002:7f00:1::", "100.64.0.1", "0.0.0.0"],
)  # fmt: skip
async def test_F54_a_private_address_is_refused_at_once_and_not_counted(address):
    async with bench(allow=[], names={"up.example": address}) as made:
        for _ in range(21):
            error = await made.failing("http://up.example/x")
            assert type(error) is UpstreamError
            assert "not of the public internet" in str(error)
            assert "MOORAGE_NETWORK__ALLOW" in str(error)
        assert made.slept == []
        assert made.client.breaker_states() == {"http://up.example": BreakerState.CLOSED}


async def test_F54_a_redirect_inside_is_refused():
    async with serving(answer(b"inside")) as inside, serving(redirect(inside.url())) as server:
        allow = [AllowedNetwork.parse(f"127.0.0.1/32:{server.port}")]
        async with bench(allow=allow, names={"up.example": "127.0.0.1"}) as made:
            error = await made.failing(server.url("/x", "up.example"))
            assert f"{inside.origin()[7:]} has a loopback address" in str(error)
            assert inside.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0"])
async def test_F55_numeric_hosts_are_blocked(host):
    async with serving(answer(b"inside")) as server:
        client = HttpClient(guard=AddressGuard(), user_agent="x", random=Random(1))
        with pytest.raises(UpstreamError, match="a loopback address"):
            await client.get(server.url(host=host), max_bytes=9, deadline_s=5.0)
        await client.aclose()
        assert server.connections == 0


async def test_F56_a_second_answer_that_is_private_is_refused():
    names = {"up.example": ["127.0.0.1", "127.0.0.2"], "mixed.example": "127.0.0.1 127.0.0.2"}
    allow = [AllowedNetwork.parse("127.0.0.1/32")]
    async with against(raw(OK + b"okay"), names=names, allow=allow) as (made, server):
        assert (await made.get(server.url(host="up.example")))[1] == b"okay"
        await server.until_ended(1)
        for host in ("up.example", "mixed.example"):
            error = await made.failing(server.url(host=host))
            assert "not of the public internet" in str(error)
        assert server.connections == 1


# TLS


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A throw-away authority, and certificates of up.example: good, expired and of another name."""
    if which("openssl") is None:
        pytest.skip("no openssl program to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem",
            "-subj", "/CN=Test CA", "-days", "2")  # fmt: skip
    for name, host, days in (
        ("good", "up.example", "2"),
        ("expired", "up.example", "-1"),
        ("other", "other.example", "2"),
    ):
        path = folder / name
        path.with_suffix(".ext").write_text(f"subjectAltName=DNS:{host}\n")
        openssl("req", *curve, "-keyout", f"{path}.key", "-out", f"{path}.csr",
                "-subj", f"/CN={host}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{path}.csr", "-CA", f"{folder}/ca.pem",
                "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-days", days,
                "-extfile", f"{path}.ext", "-out", f"{path}.pem")  # fmt: skip
    return folder


def server_tls(folder, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


UP = {"up.example": "127.0.0.1"}


async def test_tls_goes_by_the_name_while_the_connection_goes_to_the_checked_address(certificates):
    tls = server_tls(certificates, "good")
    asked: list[str | None] = []
    tls.sni_callback = lambda _sock, name, _context: asked.append(name)
    options = {"names": UP, "ca_file": certificates / "ca.pem"}
    async with against(answer(BODY), tls=tls, **options) as (made, server):
        for _ in range(2):
            assert (await made.get(server.url("/x", "up.example")))[1] == BODY
        assert asked == ["up.example"]


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_tls_a_body_may_end_with_the_connection_and_may_not_be_cut_short(certificates, uvloop):
    options = {"names": UP, "ca_file": certificates / "ca.pem"}

    async def ask() -> None:
        plays = (
            raw(head(200) + BODY),
            raw(OK + b"ha"),
            raw(OK + b"ha", then="reset"),
            answer(BODY),
        )
        tls = server_tls(certificates, "good")
        async with against(*plays, tls=tls, **options) as (made, server):
            for _ in range(2):
                assert (await made.get(server.url("/x", "up.example")))[1] == BODY
            assert server.connections == 4

    anyio.run(ask, backend_options={"use_uvloop": uvloop})


@pytest.mark.parametrize(
    ("name", "is_trusted", "trouble"),
    [
        ("expired", True, "expired"),
        ("other", True, "up.example"),
        ("good", False, "certificate"),
    ],
)
async def test_F57_a_certificate_that_fails_is_refused_without_a_retry(
    certificates, name, is_trusted, trouble
):
    ca_file = certificates / "ca.pem" if is_trusted else None
    tls = server_tls(certificates, name)
    async with against(answer(b"x"), tls=tls, names=UP, ca_file=ca_file) as (made, server):
        error = await made.failing(server.url("/x", "up.example"))
        assert type(error) is UpstreamError
        assert "no trustworthy TLS connection" in str(error)
        assert trouble in str(error)
        assert (made.slept, server.requests) == ([], [])


async def test_F57_a_server_without_tls_1_2_is_refused_without_a_retry():
    async def only_tls_1_0(connection):
        await connection.read()
        await connection.send(bytes.fromhex("15 0301 0002 02 46"))  # fatal, protocol_version
        await connection.stall()

    async with against(only_tls_1_0, names=UP) as (made, server):
        error = await made.failing(replace(server, scheme="https").url("/x", "up.example"))
        assert type(error) is UpstreamError
        assert "PROTOCOL_VERSION" in str(error)
        assert server.connections == 1


async def test_a_hang_up_in_the_tls_handshake_is_retried():
    async def hang_up(connection):
        await connection.read()

    async with against(hang_up, names=UP) as (made, server):
        error = await made.failing(replace(server, scheme="https").url("/x", "up.example"))
        assert type(error) is UpstreamUnavailableError
        assert server.connections == 4


async def test_F53_a_redirect_from_https_to_http_is_refused(certificates):
    tls = server_tls(certificates, "good")
    options = {"names": UP, "ca_file": certificates / "ca.pem"}
    async with serving(answer(b"plain")) as plain:
        play = redirect(plain.url("/x", "up.example"))
        async with against(play, tls=tls, **options) as (made, server):
            error = await made.failing(server.url("/x", "up.example"))
            assert "from https to http" in str(error)
            assert plain.connections == 0


async def test_F57_plain_http_at_an_https_url_is_refused():
    async def play(connection):
        await connection.send(b"HTTP/1.1 400 Bad\r\n\r\n")
        await connection.stall()

    async with against(play, names=UP) as (made, server):
        error = await made.failing(replace(server, scheme="https").url("/x", "up.example"))
        assert "no trustworthy TLS connection" in str(error)
        assert server.connections == 1


async def test_a_cancelled_tls_handshake_leaves_no_socket():
    async def play(connection):
        await connection.stall()

    async with against(play, names=UP) as (made, server):
        url = replace(server, scheme="https").url("/x", "up.example")
        assert type(await made.failing(url, deadline_s=0.2)) is UpstreamTimeoutError
        await server.until_ended(1)


@pytest.mark.parametrize("text", [None, "", "not a certificate"])
def test_a_ca_file_without_certificates_stops_the_start(tmp_path, text):
    ca_file = tmp_path / "ca.pem"
    if text is not None:
        ca_file.write_text(text)
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        HttpClient(guard=AddressGuard(), user_agent="x", random=Random(1), ca_file=ca_file)


# Sinks, and the admin API


@pytest.mark.parametrize("error", [StorageError("full"), TimeoutError("disk"), OSError("disk")])
async def test_the_sinks_own_error_passes_untouched_and_is_not_retried(error):
    async with against(answer(BODY)) as (made, server):
        with pytest.raises(type(error)) as caught:
            await made.download(server.url(), Kept(error))
        assert caught.value is error
        assert (server.connections, made.slept) == (1, [])
        await server.until_ended(1)


@pytest.mark.parametrize("status", [200, 201, 204, 302, 404, 409, 500])
async def test_send_returns_every_status_with_its_body(status):
    body = b"" if status == 204 else b'{"title": "why"}'
    play = answer(body, "Location: /elsewhere", status=status)
    async with against(play) as (made, server):
        credential = Credential.bearer("admin", server.origin(), SECRET)
        fetched, got = await made.client.send(
            "POST", server.url("/api/v1/x"), json_body={"a": "ü"}, credential=credential
        )
        assert (fetched.status, got) == (status, body)
        request = server.requests[0]
        assert (request.method, request.body) == ("POST", b'{"a": "\\u00fc"}')
        assert request.headers["content-type"] == "application/json"
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        assert len(server.requests) == 1


@pytest.mark.parametrize(("method", "connections"), [("GET", 4), ("POST", 1), ("DELETE", 1)])
async def test_send_retries_a_broken_connection_for_get_alone(method, connections):
    async with against(raw(then="reset")) as (made, server):
        with pytest.raises(UpstreamUnavailableError):
            await made.client.send(method, server.url())
        assert server.connections == connections


async def test_every_error_of_the_client_is_one_of_ours():
    async with against(raw(b"\x00" * 100)) as (made, server):
        with pytest.raises(MoorageError):
            await made.get(server.url())
