"""`moorage owner`: prefixes of module paths that belong to one tenant."""

from typing import Annotated

import typer

from app.cli import tenants_text as text
from app.cli.api import path_of
from app.cli.output import emit
from app.cli.session import Json, ServerUrl, ask, ask_all

owner = typer.Typer(
    name="owner", help="Module path prefixes that belong to one tenant.", no_args_is_help=True
)

_Prefix = Annotated[
    str, typer.Argument(metavar="PREFIX", help='Whole path elements: "corp.example/team".')
]


@owner.command("set")
def put(
    prefix: _Prefix,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose it is.")],
    granted: Annotated[
        list[str] | None, typer.Option("--grant", help="Who else may use it; repeatable.")
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Close a prefix to all tenants but its owner and those granted; its names become private."""
    body = {"tenant": tenant, "granted": granted or []}
    result = ask(server_url, "PUT", path_of("ownership") + path_of(*prefix.split("/")), body)
    emit(result, as_json, text.owner)


@owner.command("list")
def list_owned(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List the prefixes that have an owner."""
    owned = ask_all(server_url, "/ownership")
    emit(owned, as_json, text.owned)


@owner.command()
def remove(prefix: _Prefix, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Give a prefix back to everybody."""
    ask(server_url, "DELETE", path_of("ownership") + path_of(*prefix.split("/")))
    emit({"prefix": prefix, "removed": True}, as_json, lambda _: f"{prefix} is everybody's")
