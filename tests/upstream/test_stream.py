import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import httpcore
import pytest

from app.upstream.stream import connect
from tests.upstream.server import serving

CHUNK = 64 * 1024
AT_ONCE = 0.0  # a time-out that is over when the event loop looks next


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def connected(play, **options):
    async with serving(play, **options) as server:
        stream = await connect("127.0.0.1", server.port, 5.0)
        try:
            yield stream, server
        finally:
            await stream.aclose()


async def settled(stream):
    """Return once the transport knows that bytes or the end wait to be read."""
    while not stream.get_extra_info("is_readable"):
        await asyncio.sleep(0)


async def drained(stream, size_bytes):
    got = b""
    while len(got) < size_bytes:
        chunk = await stream.read(CHUNK, 5.0)
        assert 0 < len(chunk) <= CHUNK
        assert type(chunk) is bytes
        got += chunk
    return got


async def test_bytes_come_in_order_in_pieces_of_the_size_asked_for_and_then_the_end():
    body = bytes(range(256)) * 8192  # 2 MiB: more than the buffer holds

    async def play(connection):
        await connection.send(body)

    async with connected(play) as (stream, _):
        assert await drained(stream, len(body)) == body
        assert await stream.read(CHUNK, 5.0) == b""


async def test_what_nobody_reads_is_not_taken_from_the_network_without_bound():
    async def play(connection):
        while True:
            await connection.send(bytes(1024 * 1024))

    async with connected(play) as (stream, _):
        while stream._is_reading:
            await asyncio.sleep(0)
        assert stream._waiting_bytes <= 288 * 1024
        await drained(stream, 4 * 1024 * 1024)  # it goes on


async def test_a_stall_ends_with_the_time_out_and_the_stream_reads_on_after_it():
    go_on = asyncio.Event()

    async def play(connection):
        await go_on.wait()
        await connection.send(b"late")

    async with connected(play) as (stream, _):
        with pytest.raises(httpcore.ReadTimeout):
            await stream.read(CHUNK, AT_ONCE)
        go_on.set()
        assert await stream.read(CHUNK, 5.0) == b"late"


async def test_what_came_before_a_reset_is_read_and_then_the_reset_is_an_error():
    async def play(connection):
        await connection.send(b"half")
        await connection.reset()

    async with connected(play) as (stream, server):
        await server.until_ended(1)
        assert await stream.read(CHUNK, 5.0) == b"half"
        with pytest.raises(httpcore.ReadError):
            await stream.read(CHUNK, 5.0)
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"more", 5.0)


async def test_the_other_sides_half_close_leaves_our_direction_open():
    heard: list[bytes] = []

    async def play(connection):
        connection._writer.write_eof()
        heard.append(await connection.read())

    async with connected(play) as (stream, server):
        assert await stream.read(CHUNK, 5.0) == b""
        await stream.write(b"still here", 5.0)
        await server.until_ended(1)
        assert heard == [b"still here"]


async def test_a_writer_waits_for_one_that_does_not_read_and_only_as_long_as_it_may():
    async def play(connection):
        await asyncio.Event().wait()

    async with connected(play) as (stream, _):
        with pytest.raises(httpcore.WriteTimeout):
            while True:
                await stream.write(bytes(4 * 1024 * 1024), AT_ONCE)


async def test_a_close_wakes_who_reads():
    async def play(connection):
        await connection.stall()

    async with connected(play) as (stream, _):
        reading = asyncio.ensure_future(stream.read(CHUNK, 30.0))
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(httpcore.ReadError):
            await reading


async def test_bytes_that_the_transport_has_read_while_idle_make_it_readable():
    async def play(connection):
        await connection.send(b"HTTP/1.1 200 unasked")
        await connection.stall()

    async with connected(play) as (stream, _):
        await settled(stream)
        assert await stream.read(CHUNK, 5.0) == b"HTTP/1.1 200 unasked"
        assert not stream.get_extra_info("is_readable")


async def test_an_end_while_idle_makes_it_readable():
    async def play(connection):
        pass

    async with connected(play) as (stream, _):
        await settled(stream)


async def test_bytes_before_the_handshake_are_never_read_as_if_tls_protected_them():
    async def play(connection):
        await connection.send(b"HTTP/1.1 200 injected")
        await connection.stall()

    async with connected(play) as (stream, _):
        await settled(stream)
        with pytest.raises(httpcore.ConnectError, match="before the TLS handshake"):
            await stream.start_tls(ssl.create_default_context(), "up.example", 5.0)


async def test_a_handshake_that_stalls_ends_with_the_time_out():
    async def play(connection):
        await connection.stall()

    async with connected(play) as (stream, _):
        with pytest.raises(httpcore.ConnectTimeout):
            await stream.start_tls(ssl.create_default_context(), "up.example", AT_ONCE)


async def test_an_end_in_the_middle_of_the_handshake_is_an_error():
    async def play(connection):
        await connection.read()

    async with connected(play) as (stream, _):
        with pytest.raises((httpcore.ConnectError, ssl.SSLError)):
            await stream.start_tls(ssl.create_default_context(), "up.example", 5.0)


async def test_a_port_where_nobody_listens_refuses():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and not listening
        with pytest.raises(httpcore.ConnectError):
            await connect("127.0.0.1", held.getsockname()[1], 5.0)
