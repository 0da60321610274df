"""`moorage hook`: the URL by which a git host tells a tenant of pushes."""

import secrets
from typing import Annotated

import typer

from app.cli.api import path_of
from app.cli.output import emit
from app.cli.session import Json, ServerUrl, ask
from app.core.githook import CREDENTIAL, path_secret

hook = typer.Typer(name="hook", help="Messages of git hosts about pushes.", no_args_is_help=True)

_Tenant = Annotated[str, typer.Option("--tenant", help="Whose modules are pushed.")]


@hook.command()
def create(tenant: _Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Make a hook, or give it another URL and secret; both are shown this once."""
    secret = secrets.token_urlsafe(32)
    body = {"kind": "bearer", "username": "", "secret": secret}
    ask(server_url, "PUT", path_of("tenants", tenant, "credentials", CREDENTIAL), body)
    made = {
        "path": f"/hooks/git/{tenant}/{path_secret(secret)}",
        "secret": secret,
        "content_type": "application/json",
    }
    base = (server_url or "https://<this server>").rstrip("/")
    emit(made, as_json, lambda shown: _made(shown, base))


@hook.command()
def remove(tenant: _Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Remove a tenant's hook: messages are refused from now on."""
    ask(server_url, "DELETE", path_of("tenants", tenant, "credentials", CREDENTIAL))
    emit({"tenant": tenant, "removed": True}, as_json, lambda _: f"the hook of {tenant} is removed")


def _made(made: dict[str, str], base: str) -> str:
    return (
        "Enter in the git host, for push events (tags too):\n"
        f"  URL           {base}{made['path']}\n"
        f"  Secret        {made['secret']}\n"
        f"  Content type  {made['content_type']}"
    )
