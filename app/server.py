"""Running the application under uvicorn: processes, draining on SIGTERM, cutting connections.

On SIGTERM a process becomes unready at once and accepts connections for `drain_s` more seconds, so
that load balancers notice first; then it stops listening and running downloads get `shutdown_s`.
"""

import errno
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import logs, metrics
from app.core.errors import SettingsError
from app.main import Application, create_app
from app.settings import Settings
from app.web.connection import CONNECTION, Connection

_BACKLOG = 4096
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 35\r\n"
    b"cache-control: no-store\r\n\r\n"
    b"the head of the request is too big\n"
)
_HEAD_MAX_BYTES = 512 * 1024  # uvloop reads up to 256 KiB at once, body included
_OPEN_FILES = 65536
_RESTART_PAUSE_S = 1.0
_START_S = 30.0  # a process that ends with 1 so early could not start at all
_log = logs.get("server")


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with two additions.

    A plain GET whose answer lies prepared is answered right here, in one write, without a task and
    without ASGI. And the application can cut a connection that stopped taking bytes.
    """

    _answered = False
    _head_bytes = 0  # since the last head or body was complete
    _is_in_body = False

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that grows without end is refused, since nothing else limits it."""
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_MAX_BYTES:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()
            return
        super().data_received(data)
        if self._is_in_body:
            self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Answer at once if that can be done, else hand the request to the application."""
        self._head_bytes, self._is_in_body = 0, True
        self._answered = self._answer_instantly()
        if not self._answered:
            super().on_headers_complete()
            # The cycle's task runs later, so it finds this in its scope.
            connection = Connection(self.transport, self.cycle)
            self.scope["extensions"] = {CONNECTION: {"connection": connection}}

    def _answer_instantly(self) -> bool:
        is_idle = self.cycle is None or self.cycle.response_complete
        # Bytes that the client has not taken yet would pile up; the ordinary way waits for them.
        if not is_idle or self.flow.write_paused or not self.parser.should_keep_alive():
            return False
        if self.parser.get_method() != b"GET" or self.parser.get_http_version() != "1.1":
            return False
        rest = self.config.loaded_app.instant(self.url, self.headers)
        if rest is None:
            return False
        parts = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*parts, rest)))
        self.on_response_complete()
        return True

    def on_body(self, body: bytes) -> None:
        """Take a body; one that came with an answered GET is dropped."""
        if not self._answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._head_bytes, self._is_in_body = 0, False
        if not self._answered:
            super().on_message_complete()


class Server(uvicorn.Server):
    """One process's server."""

    def __init__(self, config: uvicorn.Config, application: Application, drain_s: float) -> None:
        super().__init__(config)
        self._application = application
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first SIGTERM; stop accepting at any other signal, or the second one.

        uvicorn's own handler raises the signal again at the end, which would end a clean stop with
        the signal's exit status instead of 0.
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


def bind(settings: Settings) -> socket.socket:
    """Return the bound socket that all processes listen on.

    Raises:
        SettingsError: the address is taken, or not one of this host.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        return _bound(*found[0])
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "another MOORAGE_PORT, or stop what listens there" if taken else "a MOORAGE_HOST"
        raise SettingsError(
            f"can't listen on {settings.host}:{settings.port}: {error.strerror}; choose {advice}"
        ) from error


def _bound(family: int, kind: int, protocol: int, _name: str, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def serve(settings: Settings, sock: socket.socket) -> int:
    """Serve until told to stop; return the exit code."""
    _allow_open_files()
    if settings.workers == 1:
        return _serve_here(settings, sock)
    with TemporaryDirectory(prefix="moorage-metrics-") as folder:
        metrics.prepare_multiprocess(Path(folder))
        return Supervisor(settings, sock).run()


def _allow_open_files() -> None:
    """Raise the soft limit of open files, which is 1024 in most shells: a stream takes three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _serve_here(settings: Settings, sock: socket.socket) -> int:
    application = create_app(settings)
    server = Server(_config(settings, application), application, settings.drain_s)
    server.run(sockets=[sock])
    return 0 if server.started else 1


def _worker(settings: Settings, sock: socket.socket) -> None:
    """Run in a process of its own."""
    logs.configure(settings.log_level, settings.log_format)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    raise SystemExit(_serve_here(settings, sock))


def _end_with_supervisor() -> None:
    """Stop when the supervisor is gone: killed, it could not tell us, and we hold its port."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _config(settings: Settings, application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=Protocol,
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
    """Several processes on one listener: restarts what dies, passes signals on."""

    def __init__(self, settings: Settings, sock: socket.socket) -> None:
        self._settings = settings
        self._sock = sock
        self._spawn = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []
        self._stopping = False

    def run(self) -> int:
        """Run until a signal or a process that can't start; return the exit code."""
        self._sock.listen(_BACKLOG)
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._on_signal)
        self._processes = [self._start() for _ in range(self._settings.workers)]
        failed, began = False, time.monotonic()
        while not self._stopping and not failed:
            time.sleep(0.2)
            # Later on, one that can't start (a full disk, say) must not end those that serve.
            is_start = time.monotonic() - began < _START_S
            failed = is_start and any(p.exitcode == 1 for p in self._processes)
            if not failed:
                self._replace_dead()
        if failed:
            _log.error("a process could not start; stopping all")
        self._stopping = True
        # Held open here, it would take connections that no process accepts any more.
        self._sock.close()
        self._terminate()
        for process in self._processes:
            process.join()
        # One that was still starting has no handler yet, and ends by the signal itself.
        clean = (0, -signal.SIGTERM)
        return int(failed or any(p.exitcode not in clean for p in self._processes))

    def _start(self) -> BaseProcess:
        process = self._spawn.Process(target=_worker, args=(self._settings, self._sock))
        process.start()
        return process

    def _replace_dead(self) -> None:
        for index, process in enumerate(self._processes):
            if process.exitcode is None:
                continue
            _log.error("process died; starting another", pid=process.pid, exit=process.exitcode)
            metrics.forget_process(process.pid or 0)
            time.sleep(_RESTART_PAUSE_S)
            if self._stopping:
                return
            self._processes[index] = self._start()

    def _on_signal(self, _sig: int, _frame: FrameType | None) -> None:
        """Begin to stop; the second signal goes straight on to the processes and ends the drain."""
        if self._stopping:
            self._terminate()
        self._stopping = True

    def _terminate(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.terminate()
