"""Where a command works: on the local data directory, or on a server through its admin API.

Both give the same JSON, so that each command has one way to render it.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from app.cli.output import Exit, complain
from app.cli.remote import server, wrong_fields
from app.core.errors import BadInputError, SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.services.assembly import Services
    from app.settings import Settings

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")
_API = "/api/v1"
PAGE = 200
"""Items of a page, as many as the API gives at once."""

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


def ask(
    server_url: str | None,
    method: str,
    path: str,
    work: "Callable[[Services], Awaitable[Any]]",
    body: Any = None,
    *,
    may_be_new: bool = True,
) -> Any:
    """Return the JSON that a server answers, or that work makes of the local services.

    Args:
        server_url: of `--server`; None works on the data directory.
        method: of the request to the server.
        path: below /api/v1, made by `path_of`.
        work: the operation behind that request; it returns a model, several, or nothing.
        body: what the request sends as JSON.
        may_be_new: as in `local`.
    """
    if server_url:
        return server(server_url).call(method, _API + path, body)
    return _shape(local(work, may_be_new=may_be_new))


def ask_all(
    server_url: str | None,
    path: str,
    work: "Callable[[Services, str | None], Awaitable[Any]]",
    *,
    cursor: str | None = None,
    most: int | None = None,
    may_be_new: bool = True,
) -> list[Any]:
    """Return the items of every page of a list.

    Args:
        server_url: of `--server`; None works on the data directory.
        path: below /api/v1; it may have a query.
        work: the operation that gives one page; its second argument is the cursor.
        cursor: where to begin.
        most: how many items at most; None for all.
        may_be_new: as in `local`.
    """
    if not server_url:
        return local(
            lambda services: _pages(services, work, cursor, most),
            may_be_new=may_be_new,
        )
    items: list[Any] = []
    mark = "&" if "?" in path else "?"
    while True:
        more = f"&cursor={quote(cursor, safe='')}" if cursor else ""
        page = server(server_url).call("GET", f"{_API}{path}{mark}limit={PAGE}{more}")
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or (most is not None and len(items) >= most):
            return items[:most]


async def _pages(
    services: "Services",
    work: "Callable[[Services, str | None], Awaitable[Any]]",
    cursor: str | None,
    most: int | None,
) -> list[Any]:
    items: list[Any] = []
    while True:
        page = _shape(await work(services, cursor))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or (most is not None and len(items) >= most):
            return items[:most]


def path_of(*parts: object) -> str:
    """Return a path whose parts are quoted: ("tenants", "a b") gives "/tenants/a%20b"."""
    return "".join("/" + quote(str(part), safe="") for part in parts)


def checked(model: type[M], body: Any) -> M:
    """Return the request that body stands for, refused as the server would refuse it.

    Raises:
        BadInputError: a value can't be; the message does not repeat it.
    """
    from pydantic import ValidationError

    from app.core.noun import CONTENT
    from app.web.admin.answers import content_line

    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
    if all(e["type"] == CONTENT for e in found):
        place = ("body", "document") if model.__name__ == "Document" else ()
        raise BadInputError(content_line({**found[0], "loc": (*place, *found[0]["loc"])}))
    found = [e for e in found if e["type"] != CONTENT]
    raise BadInputError(wrong_fields((".".join(map(str, e["loc"])), e["msg"]) for e in found))


def _shape(result: Any) -> Any:
    if isinstance(result, list):
        return [_shape(one) for one in result]
    return None if result is None else result.model_dump(mode="json")
