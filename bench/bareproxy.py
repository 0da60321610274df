"""The least that a proxy made of Moorage's libraries can do with a cold file, for comparison.

Each file is asked for with httpx, synced and renamed into a folder, and recorded in SQLite by a
transaction of its own; then it is sent. Nothing is checked, no rule or tenant is asked, no request
is shared, nothing is logged, and no stored file is ever looked at. Run by uvicorn in workers, with
BARE_UPSTREAM and BARE_FOLDER.
"""

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

_CONNECTIONS = 100
_DISK_THREADS = 4


class BareProxy:
    """The ASGI application.

    Args:
        upstream: URL of a GOPROXY.
        folder: for the files and the database; it exists.
    """

    def __init__(self, upstream: str, folder: Path) -> None:
        self._upstream = upstream
        self._folder = folder
        self._disk = ThreadPoolExecutor(_DISK_THREADS)
        self._writer = ThreadPoolExecutor(1)
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        self._client = httpx.AsyncClient(timeout=60, limits=limits)
        self._db = sqlite3.connect(
            folder / "files.db", timeout=30, isolation_level=None, check_same_thread=False
        )
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, digest TEXT, bytes INTEGER)",
        ):
            self._db.execute(statement)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Forward one request."""
        path: str = scope["path"]
        answer = await self._client.get(self._upstream + path)
        body = answer.content
        if answer.status_code == 200:
            loop = asyncio.get_running_loop()
            digest = await loop.run_in_executor(self._disk, self._store, body)
            await loop.run_in_executor(self._writer, self._record, path, digest, len(body))
        headers = [(b"content-length", str(len(body)).encode())]
        await send(
            {"type": "http.response.start", "status": answer.status_code, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})

    def _store(self, body: bytes) -> str:
        """Write a file so that it is whole after a power cut; return its digest."""
        digest = hashlib.sha256(body).hexdigest()
        staged = self._folder / f"{digest}.{os.getpid()}.{id(body)}"
        with staged.open("wb") as out:
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        staged.rename(self._folder / digest)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest

    def _record(self, path: str, digest: str, size_bytes: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", (path, digest, size_bytes))
        self._db.execute("COMMIT")


def create() -> BareProxy:
    """Return the application of this process, for uvicorn's `--factory`."""
    return BareProxy(os.environ["BARE_UPSTREAM"], Path(os.environ["BARE_FOLDER"]))
