"""Where a command works: on a server (`--server`), or on the local data directory.

Both are the same requests to the same admin API, so a command has one body and one way to render
its result. Only what needs more than the API works on the services themselves: `local`.
"""

import contextlib
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli.api import Api
from app.cli.interrupt import NOTHING_HALF_DONE, interruptible
from app.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from app.services.assembly import Services
    from app.settings import Settings

T = TypeVar("T")

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


def _refuse_server(context: typer.Context, server_url: str | None) -> None:
    """Refuse a command that looks at the local data directory while a server is named."""
    if server_url and not context.resilient_parsing:
        command = context.command_path
        raise BadInputError(
            f"`{command}` works on this machine's data directory, and --server or MOORAGE_SERVER "
            "names a server: run it on that server's machine (in a container: docker compose exec "
            f"moorage {command}), or for this machine: env -u MOORAGE_SERVER {command}"
        )


def _refuse_option(context: typer.Context, server_url: str | None) -> None:
    """Refuse --server where it means nothing; MOORAGE_SERVER is for other commands, and no harm."""
    if (server_url or context.find_root().obj) and not context.resilient_parsing:
        raise BadInputError(f"`{context.command_path}` asks no server: leave --server out")


# Every command has one of `ServerUrl`, `Here` and `Anywhere`. tests/cli/test_place.py sees to it.
Here = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="MOORAGE_SERVER",
        hidden=True,
        expose_value=False,
        is_eager=True,  # before a missing argument is complained about
        callback=_refuse_server,
    ),
]
"""Of a command that works on the local data directory: naming a server refuses it."""
Anywhere = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        hidden=True,
        expose_value=False,
        is_eager=True,
        callback=_refuse_option,
    ),
]
"""Of a command that looks at no installation, or starts one: only the option is refused."""


def ask(
    server_url: str | None,
    method: str,
    path: str,
    body: object = None,
) -> Any:
    """Return the JSON that one request is answered with; see `admin_api` and `Api.ask`."""
    with admin_api(server_url) as api:
        return api.ask(method, path, body)


def ask_all(
    server_url: str | None,
    path: str,
    *,
    cursor: str | None = None,
    most: int | None = None,
) -> list[Any]:
    """Return the items of every page of a list; see `admin_api` and `Api.list`."""
    with admin_api(server_url) as api:
        return api.list(path, cursor=cursor, most=most)


@contextlib.contextmanager
def admin_api(
    server_url: str | None,
    *,
    progress: "Callable[[int, int], None] | None" = None,
) -> "Iterator[Api]":
    """Return a context with the admin API that a command works through.

    Args:
        server_url: of `--server`; None stands for the application in this process, which works on
            the local data directory as the operator.
        progress: is called with (done, in all) by work that counts, without `--server` only.

    Raises:
        SettingsError: a setting is wrong, or names a data directory without a database.
        SchemaError: another database than SQLite needs `moorage migrate`.
    """
    if server_url:
        from app.cli.remote import Remote, environment_token

        with contextlib.closing(Remote(server_url, environment_token())) as remote:
            yield Api(remote)
        return
    from app.cli.inprocess import InProcess, command_settings, end_start, started

    with interruptible(), started(command_settings()) as services:
        api = Api(InProcess(services, progress))
        end_start()
        yield api


def local(work: "Callable[[Services], Awaitable[T]]", *, interrupted: str = NOTHING_HALF_DONE) -> T:
    """Return what work makes of the local services; see `run_local`."""
    from app.cli.inprocess import command_settings

    return run_local(command_settings(), work, interrupted=interrupted)


def run_local(
    settings: "Settings",
    work: "Callable[[Services], Awaitable[T]]",
    *,
    interrupted: str = NOTHING_HALF_DONE,
) -> T:
    """Return what work makes of the services that these settings make.

    Args:
        settings: of the installation.
        work: is given the services.
        interrupted: what Ctrl-C leaves, and how it goes on.
    """
    from app.cli.inprocess import end_start, started

    with interruptible(interrupted), started(settings) as services:
        end_start()
        return services.run(work)
