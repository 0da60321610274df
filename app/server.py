"""Running the application under uvicorn: processes, draining on SIGTERM, sweeping.

On SIGTERM a process becomes unready at once, and accepts connections for `drain_s` more seconds, so
that load balancers notice. Then it stops listening, and running downloads get `shutdown_s` seconds.
"""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import uvicorn

from app import logs, metrics
from app.main import Application, create_app
from app.metrics import scrape
from app.protocol import HttpProtocol, protocol_for
from app.settings import Settings
from app.tls import TlsListener
from app.web.connections import Connections
from app.web.operators import OperatorsApp

_BACKLOG = 4096
_OPEN_FILES = 65536
_SWITCH_S = 0.0005  # a tenth of Python's: the event loop waits so long for each thread at work
_RESTART_PAUSE_S = 1.0
_START_S = 30.0  # a process that ends with code 1 in this time could not start
_START_FAILED = 3  # uvicorn's exit status for it
_TICK_S = 1.0
_CLOSING_TURNS = 20  # of the event loop: idle connections are closed in fewer
_log = logs.get("server")


class Server(uvicorn.Server):
    """One process's server.

    Args:
        config: of uvicorn.
        application: of the process.
        drain_s: seconds after SIGTERM during which connections are accepted.
        metrics_socket: the bound socket of the listener for metrics; None for no such listener.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        application: Application,
        drain_s: float,
        metrics_socket: socket.socket | None = None,
    ) -> None:
        super().__init__(config)
        self._metrics_socket = metrics_socket
        self._application = application
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = asyncio.Event()
        self._taking = 0  # connections that waited for their clients to take bytes, at last sweep

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections on both listeners.

        uvicorn's own startup has one application, and TLS without a limit on handshakes.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(_START_FAILED)
        self.servers = [await self._listen(sock) for sock in sockets or []]
        if self._metrics_socket is not None:
            application = self._application
            config = _config(application.operators, application.services.shared.settings)
            config.load()
            self.servers.append(await self._plain(self._metrics_socket, config))
        self.started = True

    async def _listen(self, sock: socket.socket) -> Any:
        """Accept connections of clients, with TLS where there is a certificate."""
        application = self._application
        if application.certificate is None:
            return await self._plain(sock, self.config)
        limits = application.limits
        listener = TlsListener(
            sock,
            application.certificate,
            Connections(limits.connections, limits.address_connections, application.gateways),
            float(limits.header_s),
            self._connections_of(self.config),
        )
        listener.listen(_BACKLOG)
        return listener

    async def _plain(self, sock: socket.socket, config: uvicorn.Config) -> asyncio.Server:
        make = self._connections_of(config)
        return await asyncio.get_running_loop().create_server(make, sock=sock, backlog=_BACKLOG)

    def _connections_of(self, config: uvicorn.Config) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of a new connection."""
        kind: Any = config.http_protocol_class
        state = self.lifespan.state
        return lambda: kind(config=config, server_state=self.server_state, app_state=state)

    async def main_loop(self) -> None:
        """Sweep all connections and renew the Date header once a second, until the end.

        uvicorn looks ten times a second whether to end.
        """
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            due_s = time.monotonic() + _TICK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._ends.wait()
            metrics.observe_loop_lag(max(0.0, time.monotonic() - due_s))

    async def on_tick(self, counter: int) -> bool:
        """Sweep, run the tick of uvicorn, and return whether to end."""
        self.sweep(time.monotonic())
        return await super().on_tick(counter)

    def sweep(self, now_s: float) -> None:
        """Cut every connection whose client stalls for too long.

        Args:
            now_s: the time of a clock that only grows, the same clock in every call.
        """
        # A copy: a connection that is cut leaves the set.
        self._taking = sum(
            connection.sweep(now_s, self._taking)
            for connection in list(self.server_state.connections)
            if isinstance(connection, HttpProtocol)
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and end; at once where no request is under way.

        uvicorn's own shutdown waits for a tenth of a second even for idle connections.
        """
        for listening in self.servers:
            listening.close()
        for sock in (*(sockets or []), self._metrics_socket):
            if sock is not None:
                sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # one that is idle closes, another after its answer
        for _ in range(_CLOSING_TURNS):
            if not (self.server_state.connections or self.server_state.tasks):
                await self.lifespan.shutdown()
                return
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first SIGTERM; stop accepting at any other signal, or at the second one.

        uvicorn's own handler raises the signal again at the end: a clean stop would end with the
        signal's exit status instead of 0.
        """
        first = not self._application.health.draining
        self._application.begin_drain()
        if sig == signal.SIGTERM and first and self._drain_s:
            timer = threading.Timer(self._drain_s, self._stop)
            timer.daemon = True
            timer.start()
        elif self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True
        if self._loop is not None:  # else it has not begun, and looks first
            with contextlib.suppress(RuntimeError):  # it has ended before the drain did
                self._loop.call_soon_threadsafe(self._ends.set)


def serve(
    settings: Settings, sock: socket.socket, metrics_socket: socket.socket | None = None
) -> int:
    """Serve until a signal; return the exit code."""
    _allow_open_files()
    if settings.workers == 1:
        return _serve_here(settings, sock, metrics_socket)
    with TemporaryDirectory(prefix="moorage-metrics-") as folder:
        scrape.prepare_multiprocess(Path(folder))
        return Supervisor(settings, sock, metrics_socket).run()


def _allow_open_files() -> None:
    """Raise the soft limit of open files: most shells have 1024, and a stream needs three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _serve_here(
    settings: Settings, sock: socket.socket, metrics_socket: socket.socket | None
) -> int:
    sys.setswitchinterval(_SWITCH_S)
    application = create_app(settings)
    config = _config(application, settings)
    server = Server(config, application, settings.drain_s, metrics_socket)
    _end_imports()
    server.run(sockets=[sock])
    return 0 if server.started else 1


def _end_imports() -> None:
    """Leave nothing to load, and nothing of what is loaded to look through, to a request.

    httpcore's first request would load anyio's locks on the event loop: 20 ms of CPU time. The
    garbage collector's look through all modules takes 160 ms, in which no thread goes on.
    """
    import_module("anyio._backends._asyncio")
    gc.freeze()
    gc.enable()  # the command line paused it


def _worker(settings: Settings, sock: socket.socket, metrics_socket: socket.socket | None) -> None:
    """Serve in a process of its own, under the supervisor."""
    logs.configure(settings.log_level, settings.log_format)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    raise SystemExit(_serve_here(settings, sock, metrics_socket))


def _end_with_supervisor() -> None:
    """Stop when the supervisor is gone: a killed one sends no signal, and the port must be free."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _config(application: Application | OperatorsApp, settings: Settings) -> uvicorn.Config:
    asgi: Any = application  # the types of uvicorn name each message
    return uvicorn.Config(
        asgi,
        http=protocol_for(application),
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.shutdown_s,
        proxy_headers=False,
    )


class Supervisor:
    """Several processes on shared listeners: restarts dead processes, passes signals on."""

    def __init__(
        self, settings: Settings, sock: socket.socket, metrics_socket: socket.socket | None
    ) -> None:
        self._settings = settings
        self._sock, self._metrics_socket = sock, metrics_socket
        self._spawn = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []
        self._stopping = False

    def run(self) -> int:
        """Run until a signal, or until a process can't start; return the exit code."""
        for sock in self._listeners():
            sock.listen(_BACKLOG)
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._on_signal)
        self._processes = [self._start() for _ in range(self._settings.workers)]
        failed, began = False, time.monotonic()
        while not self._stopping and not failed:
            time.sleep(0.2)
            # Later a process that can't start (a full disk) must not end the others.
            is_start = time.monotonic() - began < _START_S
            failed = is_start and any(p.exitcode == 1 for p in self._processes)
            if not failed:
                self._replace_dead()
        if failed:
            _log.error("a process could not start; stopping all")
        self._stopping = True
        # An open listener here would take connections that no process accepts.
        for sock in self._listeners():
            sock.close()
        self._terminate()
        for process in self._processes:
            process.join()
        # A process that was still starting has no handler, and ends by the signal.
        clean = (0, -signal.SIGTERM)
        return int(failed or any(p.exitcode not in clean for p in self._processes))

    def _listeners(self) -> list[socket.socket]:
        return [sock for sock in (self._sock, self._metrics_socket) if sock is not None]

    def _start(self) -> BaseProcess:
        arguments = (self._settings, self._sock, self._metrics_socket)
        process = self._spawn.Process(target=_worker, args=arguments)
        process.start()
        return process

    def _replace_dead(self) -> None:
        for index, process in enumerate(self._processes):
            if process.exitcode is None:
                continue
            _log.error("process died; starting another", pid=process.pid, exit=process.exitcode)
            scrape.forget_process(process.pid or 0)
            time.sleep(_RESTART_PAUSE_S)
            if self._stopping:
                return
            self._processes[index] = self._start()

    def _on_signal(self, _sig: int, _frame: FrameType | None) -> None:
        """Begin to stop. The second signal goes to the processes and ends their drain."""
        if self._stopping:
            self._terminate()
        self._stopping = True

    def _terminate(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.terminate()
