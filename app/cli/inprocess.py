"""The services and the application in this process, on the local data directory.

`InProcess` is the transport of commands without `--server`: it gives a request to the ASGI
application itself, as the operator. Nothing runs in the background but what a request starts.
"""

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from app.core.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from app.cli.api import FileUpload
    from app.services.assembly import Services
    from app.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Local:
    """Started services on the local data directory, and the event loop that they run on."""

    services: "Services"
    runner: asyncio.Runner

    def run(self, work: "Callable[[Services], Awaitable[T]]") -> T:
        """Return what work makes of the services."""

        async def working() -> T:
            return await work(self.services)

        return self.runner.run(working())


@contextlib.contextmanager
def started(settings: "Settings") -> Iterator[Local]:
    """Return a context with started services, which are closed at its end."""
    with asyncio.Runner() as runner:
        services = runner.run(_start(settings))
        try:
            yield Local(services, runner)
            runner.run(services.file_heads())
        finally:
            runner.run(services.close())


def end_start() -> None:
    """Have the garbage collector work again, which `program.main` paused for the imports.

    What was imported stays for good and is not looked through any more.
    """
    gc.freeze()
    gc.enable()


async def _start(settings: "Settings") -> "Services":
    from app.wiring import build

    services = build(settings)
    try:
        await services.start(owns_key=False)
    except BaseException:
        await services.close()
        raise
    return services


def command_settings() -> "Settings":
    """Return the settings of the environment; on SQLite, bring the database up to date first.

    Only `serve` and `migrate` make a data directory: elsewhere a wrong name would leave an empty
    installation behind, and an answer about it.

    Raises:
        SettingsError: a setting is wrong, or names a data directory without a database.
        StorageError: the data directory has half of a backup.
    """
    from app import logs
    from app.db.sqlite import sqlite_path
    from app.settings import load_settings
    from app.wiring import migrate, require_restored

    settings = load_settings()
    # The result and its exit code say what went wrong; a log would say it twice.
    logs.configure("critical", settings.log_format, sys.stderr)
    path = sqlite_path(settings.resolved_database_url)
    require_restored(settings)
    if not settings.data_dir.is_dir() or (path is not None and not _has_database(settings, path)):
        raise SettingsError(
            f"MOORAGE_DATA_DIR: there is no Moorage database in {settings.data_dir.absolute()}; "
            "name the directory that the service uses, or make a new one with `moorage migrate`"
        )
    if path is not None:
        migrate(settings)
    return settings


def _has_database(settings: "Settings", path: "Path") -> bool:
    """Whether there is a database: the one that the settings name, or the folder's own."""
    return path.exists() or (settings.data_dir / "moorage.db").exists()


class InProcess:
    """The admin API of the application in this process, asked as the operator."""

    is_remote = False

    def __init__(self, local: Local, progress: "Callable[[int, int], None] | None" = None) -> None:
        from app.main import Application
        from app.web.admin.context import Operator

        settings = local.services.shared.settings
        self._runner = local.runner
        self._application: Application = Application(local.services)
        self._operator: Operator = Operator(progress)
        self._scheme, _, self._host = base_url(settings, settings.port).partition("://")

    def send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        return self._runner.run(self._exchange(method, path, body or b""))

    def upload(self, path: str, upload: "FileUpload") -> tuple[int, bytes]:
        """Send a file by PUT; return status and body of the answer."""
        headers = {"content-type": "application/octet-stream", **upload.headers}
        headers["content-length"] = str(upload.size_bytes)
        scope = self._scope("PUT", path, headers)
        return self._runner.run(self._answer(scope, upload.pieces()))

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"content-length": str(len(body))}
        if body:
            headers["content-type"] = "application/json"
        return await self._answer(self._scope(method, path, headers), iter([body]))

    async def _answer(self, scope: Any, pieces: Iterator[bytes]) -> tuple[int, bytes]:
        status, answer, is_sent = 0, bytearray(), False

        async def receive() -> Any:
            nonlocal is_sent
            if is_sent:
                return {"type": "http.disconnect"}
            piece = next(pieces, None)
            is_sent = piece is None
            return {"type": "http.request", "body": piece or b"", "more_body": not is_sent}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            answer.extend(message.get("body", b""))

        await self._application(scope, receive, send)
        return status, bytes(answer)

    def _scope(self, method: str, path: str, headers: Mapping[str, str]) -> Any:
        raw_path, _, query = path.partition("?")
        sent = {"host": self._host, **headers}
        return self._operator.sign(
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "http_version": "1.1",
                "method": method,
                "scheme": self._scheme,
                "path": unquote(raw_path),
                "raw_path": raw_path.encode(),
                "query_string": query.encode(),
                "root_path": "",
                "headers": [(n.lower().encode(), v.encode()) for n, v in sent.items()],
                "client": None,
                "server": None,
            }
        )


def base_url(settings: "Settings", port: int) -> str:
    """Return where this machine reaches the service: "http://127.0.0.1:8080"."""
    everywhere = settings.host in {"0.0.0.0", "::"}  # noqa: S104 (compared, not bound)
    name = socket.gethostname() if everywhere else settings.host
    host = f"[{name}]" if ":" in name else name
    scheme = "http" if settings.tls.cert_file is None else "https"
    return f"{scheme}://{host}:{port}"
