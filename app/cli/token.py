"""`moorage token`: who may do what, and until when."""

from typing import Annotated, Any

import typer

from app.cli import tenants_text as text
from app.cli.api import path_of
from app.cli.output import complain, emit
from app.cli.session import Json, ServerUrl, ask, ask_all
from app.core.principal import Scope

token = typer.Typer(name="token", help="Tokens of admins and of clients.", no_args_is_help=True)

_Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Whose it is; without it, the platform's.")
]
_Platform = Annotated[
    bool, typer.Option("--platform", help="Of the platform: with `admin`, it changes everything.")
]
_Id = Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it.")]


def _path(tenant: str | None, *more: str) -> str:
    return (
        path_of("tenants", tenant, "tokens", *more)
        if tenant is not None
        else path_of("tokens", *more)
    )


@token.command()
def create(
    name: Annotated[
        str | None,
        typer.Option("--name", help="Whose it is, for listings; without it, its first scope."),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Whose it is; or give --platform.")
    ] = None,
    platform: _Platform = False,
    scopes: Annotated[
        list[Scope] | None,
        typer.Option("--scope", help="Repeatable; `read` for a tenant, `admin` for the platform."),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="For how many days it is valid.")
    ] = 365,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, this once; only its hash is stored.

    Stderr says what was made.
    """
    if bool(tenant) == platform:
        raise typer.BadParameter(
            "give either --tenant NAME, for a token of this tenant, or --platform, for an admin's "
            "token of the whole platform"
        )
    named_scopes = scopes or [Scope.READ if tenant else Scope.ADMIN]
    body = {"name": name or named_scopes[0], "scopes": named_scopes, "days": days}
    made = ask(server_url, "POST", _path(tenant), body)
    emit(made, as_json, lambda result: str(result["token"]))
    _explain(made, as_json)


@token.command("list")
def list_tokens(
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Only this tenant's; without it, all.")
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List tokens; their secrets are not known to anybody but their owners."""
    tokens = ask_all(server_url, _path(tenant))
    emit(tokens, as_json, text.tokens)


@token.command()
def rotate(
    token_id: _Id,
    tenant: _Tenant = None,
    grace_hours: Annotated[
        int,
        typer.Option(
            "--grace-hours", min=0, max=720, help="How long the old one is valid beside it."
        ),
    ] = 24,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make the successor of a token and print it, this once; the old one ends after the grace."""
    body = {"grace_hours": grace_hours}
    made = ask(server_url, "POST", _path(tenant, token_id, "rotate"), body)
    emit(made, as_json, lambda result: str(result["token"]))
    _explain(made, as_json)


@token.command()
def revoke(
    token_id: _Id,
    tenant: _Tenant = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Revoke a token at once."""
    ask(server_url, "DELETE", _path(tenant, token_id))
    emit({"id": token_id, "revoked": True}, as_json, lambda _: f"token {token_id} is revoked")


def _explain(made: dict[str, Any], as_json: bool) -> None:
    """Say on stderr what was made; JSON says so itself."""
    if not as_json:
        complain(text.token_facts(made))
