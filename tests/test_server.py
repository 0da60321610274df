"""`app.server`: binding, and what signals do. Whole servers are in e2e/test_shutdown.py."""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator

import anyio
import pytest
import uvicorn

from app.core.errors import SettingsError
from app.main import Application, create_app
from app.server import Server, serve
from app.settings import Settings
from app.sockets import bind
from tests.conftest import MakeSettings


@pytest.fixture
def application(make_settings: MakeSettings) -> Iterator[Application]:
    made = create_app(make_settings())
    yield made
    made.services.releases.gpg.close()
    made.services.shared.db.close()


def server_of(application: Application, drain_s: float) -> Server:
    return Server(uvicorn.Config(application, log_config=None), application, drain_s)


def test_bind_gives_a_socket_on_that_address(make_settings: MakeSettings) -> None:
    with bind(make_settings()) as sock:
        host, port = sock.getsockname()
        assert host == "127.0.0.1"
        assert port > 0


def test_bind_knows_IPv6(make_settings: MakeSettings) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with bind(make_settings(host="::1")) as sock:
        assert sock.family is socket.AF_INET6


def test_a_taken_port_is_a_settings_error_that_names_the_settings(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}: .* MOORAGE_PORT"):
            bind(Settings(data_dir=tmp_path, port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "name.invalid"])
def test_an_address_of_somebody_else_is_a_settings_error(tmp_path, host: str) -> None:
    with pytest.raises(SettingsError, match=f"can't listen on {host}"):
        bind(Settings(data_dir=tmp_path, port=0, host=host))


def test_a_port_can_be_bound_again_while_old_connections_linger(make_settings) -> None:
    with bind(make_settings()) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), sock.accept()[0]:
            pass  # the server's end closes last and lingers
    bind(make_settings().model_copy(update={"port": port})).close()


@pytest.mark.parametrize(
    ("drain_s", "signals", "stops", "forces"),
    [
        (600, [signal.SIGTERM], False, False),
        (0, [signal.SIGTERM], True, False),
        (600, [signal.SIGTERM, signal.SIGTERM], True, False),
        (600, [signal.SIGTERM, signal.SIGINT], True, False),
        (600, [signal.SIGINT], True, False),
        (600, [signal.SIGINT, signal.SIGTERM], True, False),
        (600, [signal.SIGINT, signal.SIGINT], True, True),
    ],
)
def test_F97_what_signals_do(
    application: Application, drain_s: float, signals: list[int], stops: bool, forces: bool
) -> None:
    server = server_of(application, drain_s)
    for number in signals:
        server.handle_exit(number, None)
        assert application.health.draining
    assert (server.should_exit, server.force_exit) == (stops, forces)


async def test_F97_the_drain_ends_by_itself(application: Application) -> None:
    server = server_of(application, 0.02)
    server.handle_exit(signal.SIGTERM, None)
    with anyio.fail_after(120):
        while not server.should_exit:
            await anyio.sleep(0.01)


async def test_F97_a_draining_process_is_alive_but_not_ready(application: Application) -> None:
    application.begin_drain()
    assert await application.health.readiness() == {"process": "shutting down"}


async def test_a_start_that_fails_leaves_nothing_open(make_settings: MakeSettings) -> None:
    before = len(os.listdir("/proc/self/fd"))
    application = create_app(make_settings())
    messages: list[dict] = []
    with contextlib.suppress(RuntimeError):
        await application({"type": "lifespan"}, _startup, _into(messages))
    assert [message["type"] for message in messages] == ["lifespan.startup.failed"]
    assert "moorage migrate" in messages[0]["message"]
    assert len(os.listdir("/proc/self/fd")) <= before


async def _startup() -> dict:
    return {"type": "lifespan.startup"}


def _into(messages: list[dict]):
    async def send(message: dict) -> None:
        messages.append(message)

    return send


def test_what_is_loaded_before_the_first_request_is_kept_and_not_looked_through(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look of the garbage collector through all modules stops every thread for 160 ms."""
    seen: dict[str, int] = {}

    def run(_: uvicorn.Server, sockets: object) -> None:
        seen["frozen"], seen["tracked"] = gc.get_freeze_count(), len(gc.get_objects())
        seen["is_enabled"] = gc.isenabled()
        seen["has_backend"] = "anyio._backends._asyncio" in sys.modules

    monkeypatch.setattr(uvicorn.Server, "run", run)
    settings = make_settings()
    gc.disable()  # as the command line does
    try:
        with contextlib.closing(bind(settings)) as sock:
            serve(settings, sock)
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen["is_enabled"]
    assert seen["has_backend"]
    assert seen["frozen"] > 50_000 > 10 * seen["tracked"]
