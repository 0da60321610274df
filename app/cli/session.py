"""Where a command works: on the local data directory, or on a server through its admin API.

Both give the same JSON, so that each command has one way to render it.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli.output import Exit, complain
from app.core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    MoorageError,
    SettingsError,
    UnauthenticatedError,
    UnknownError,
)

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring import Services

T = TypeVar("T")
_ANSWER_MAX_BYTES = 64 * 1024 * 1024
_DEADLINE_S = 1200.0  # an ingestion may take a quarter of an hour

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="MOORAGE_SERVER",
        help="Work through the admin API of this server; the token comes from MOORAGE_TOKEN "
        "or MOORAGE_TOKEN_FILE.",
    ),
]


@contextlib.asynccontextmanager
async def local_services(settings: "Settings") -> "AsyncIterator[Services]":
    """Return a context with started services on the local data directory."""
    from app.wiring import build

    services = build(settings)
    try:
        await services.start(owns_key=False)
        yield services
    finally:
        await services.close()


def run_local(settings: "Settings", work: "Callable[[Services], Awaitable[T]]") -> T:
    """Return what work makes of the local services; Ctrl-C ends the program with 1."""

    async def run() -> T:
        async with local_services(settings) as services:
            return await work(services)

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        complain("interrupted; nothing is left half done")
        raise typer.Exit(Exit.FAILED) from None


def local(work: "Callable[[Services], Awaitable[T]]", *, may_be_new: bool = True) -> T:
    """Return what work makes of the local services, brought up to date first on SQLite.

    Args:
        work: what to do.
        may_be_new: False for commands that mean nothing where no Moorage has run yet.

    Raises:
        SettingsError: a setting is wrong, or names a data directory without a database.
        SchemaError: another database needs `moorage migrate`.
    """
    from app import logs
    from app.db.engine import is_sqlite
    from app.settings import load_settings
    from app.wiring import migrate

    settings = load_settings()
    # The result and its exit code say what went wrong; a log would say it twice.
    logs.configure("critical", settings.log_format, sys.stderr)
    if is_sqlite(settings.resolved_database_url):
        if not may_be_new and not (settings.data_dir / "moorage.db").exists():
            raise SettingsError(
                f"MOORAGE_DATA_DIR: there is no Moorage database in {settings.data_dir}; "
                "name the directory that the service uses"
            )
        migrate(settings)
    return run_local(settings, work)


@dataclass(frozen=True, slots=True)
class Server:
    """A server's admin API."""

    url: str
    token: str | None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON that the server answers.

        Raises:
            MoorageError: the class that the status stands for, with the server's words.
        """
        return asyncio.run(self._call(method, path, body))

    async def _call(self, method: str, path: str, body: object) -> Any:
        from app import __version__
        from app.upstream.address import AddressGuard, AllowedNetwork, Credential, Url
        from app.upstream.http import HttpClient
        from app.upstream.retry import Limits

        # The address was given by the person at the keyboard: nothing needs to be guarded.
        anywhere = [AllowedNetwork.parse("0.0.0.0/0"), AllowedNetwork.parse("::/0")]
        client = HttpClient(
            guard=AddressGuard(anywhere),
            user_agent=f"moorage/{__version__}",
            random=Random(),  # noqa: S311 (jitter)
            limits=Limits(read_s=_DEADLINE_S),
        )
        credential = None
        if self.token:
            credential = Credential.bearer("cli", Url.parse(self.url).origin, self.token)
        try:
            fetched, answer = await client.send(
                method,
                self.url.rstrip("/") + path,
                json_body=body,
                max_bytes=_ANSWER_MAX_BYTES,
                deadline_s=_DEADLINE_S,
                credential=credential,
            )
        finally:
            await client.aclose()
        return _result(fetched.status, answer)


def _result(status: int, answer: bytes) -> Any:
    try:
        data = json.loads(answer)
    except ValueError as error:
        raise MoorageError(
            f"the server answered {status} and something that is not JSON; "
            "is --server the address of a Moorage?"
        ) from error
    if status < 400:
        return data
    told = data.get("detail", status) if isinstance(data, dict) else status
    detail = f"the server says: {told}" if status >= 500 else str(told)
    if status == 401:
        detail += "; set MOORAGE_TOKEN or MOORAGE_TOKEN_FILE (`moorage token create` makes one)"
    raise _error_of(status)(detail)


def _error_of(status: int) -> type[MoorageError]:
    classes: dict[int, type[MoorageError]] = {
        400: BadInputError,
        401: UnauthenticatedError,
        403: DeniedError,
        404: UnknownError,
        409: ConflictError,
    }
    return classes.get(status, MoorageError)


def server(url: str) -> Server:
    """Return the server at url, with the token of the environment.

    Raises:
        SettingsError: the token file can't be read, or the URL is none.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--server {url}: must begin with http:// or https://")
    token = os.environ.get("MOORAGE_TOKEN")
    path = os.environ.get("MOORAGE_TOKEN_FILE")
    if token is None and path is not None:
        try:
            token = Path(path).read_text().strip()
        except OSError as error:
            raise SettingsError(f"MOORAGE_TOKEN_FILE: {path}: {error.strerror}") from error
    return Server(url, token)
