"""`moorage audit`: the record of changes, and what was downloaded and denied."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

import typer

from app.cli import tenants_text as text
from app.cli.output import Exit, complain, emit
from app.cli.progress import busy
from app.cli.session import Json, ServerUrl, ask, ask_all
from app.core.cursor import cursor_of

audit = typer.Typer(
    name="audit", help="Who changed, downloaded or was denied what.", no_args_is_help=True
)

_Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=["%Y-%m-%d"], help="Only from this day (UTC) on."),
]
_Most = Annotated[int, typer.Option("--limit", min=1, max=10000, help="How many at most.")]


def _query(path: str, **parameters: object) -> str:
    """Return the path with those parameters that are not None."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{path}?{query}" if query else path


@audit.command("list")
def list_rows(
    after: Annotated[int, typer.Option("--after", min=0, help="Only rows after this number.")] = 0,
    limit: _Most = 1000,
    action: Annotated[
        str | None, typer.Option("--action", help='Only this one: "token.create".')
    ] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", help='Only actors that begin so: "token:".')
    ] = None,
    since: _Since = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="The newest first, instead of the oldest.")
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List changes, oldest first."""
    if newest and after:
        raise typer.BadParameter("--newest and --after contradict each other")
    day = since.date() if since else None
    rows = ask_all(
        server_url,
        _query("/audit", action=action, actor=actor, since=day, newest="true" if newest else None),
        cursor=cursor_of((after,)) if after else None,
        most=limit,
    )
    emit(rows, as_json, text.changes)
    if len(rows) == limit and newest:
        complain("there may be more: --since DAY, or a larger --limit")
    elif len(rows) == limit:
        complain(f"there may be more: --after {rows[-1]['seq']}, or a larger --limit")


@audit.command()
def verify(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Check the hash chain; ends with 1 at the first row that was changed, removed or moved.

    Ends with 1 also if an older database was restored: it lacks rows that were written before.
    """
    with busy("checking the hash chain"):
        result = ask(server_url, "GET", "/audit/verify")
    emit(result, as_json, text.verified)
    if not result["intact"]:
        raise typer.Exit(Exit.FAILED)


@audit.command()
def recover(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Go on with the rows that the database has, after an older one was restored.

    Make the revocations and denials that were made since the backup again first.
    """
    emit(ask(server_url, "POST", "/audit/recover"), as_json, text.verified)


@audit.command()
def downloads(
    module: Annotated[str | None, typer.Option("--module", help="Only this module.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="Only this version.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    since: _Since = None,
    limit: _Most = 1000,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List who downloaded what on which day; counted within seconds."""
    day = since.date() if since else None
    days = ask_all(
        server_url,
        _query("/audit/downloads", module=module, version=version, tenant=tenant, since=day),
        most=limit,
    )
    emit(days, as_json, text.downloads)


@audit.command()
def denials(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="ID", help="Only this token's.")
    ] = None,
    module: Annotated[str | None, typer.Option("--module", help="Only this module.")] = None,
    since: _Since = None,
    limit: _Most = 1000,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List what was denied to whom and by which rule, newest day first; counted within seconds."""
    day = since.date() if since else None
    path = _query("/audit/denials", tenant=tenant, token=token, module=module, since=day)
    days = ask_all(server_url, path, most=limit)
    emit(days, as_json, text.denials)
    if len(days) == limit:
        complain("there may be more: a larger --limit, or --tenant, --token, --module")
