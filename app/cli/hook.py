"""`moorage hook`: the URL by which a git host tells a tenant of pushes."""

from typing import Annotated

import typer

from app.cli.api import path_of
from app.cli.output import emit
from app.cli.session import Json, ServerUrl, ask
from app.core.githook import CREDENTIAL

hook = typer.Typer(name="hook", help="Messages of git hosts about pushes.", no_args_is_help=True)

_Tenant = Annotated[str, typer.Option("--tenant", help="Whose modules are pushed.")]


@hook.command()
def create(tenant: _Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Make a hook, or give it another URL and secret; both are shown this once."""
    made = ask(server_url, "POST", path_of("tenants", tenant, "hook"))
    if made["url"] is None and server_url:
        made["url"] = server_url.rstrip("/") + made["path"]
    emit(made, as_json, _made)


@hook.command()
def remove(tenant: _Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Remove a tenant's hook: messages are refused from now on."""
    ask(server_url, "DELETE", path_of("tenants", tenant, "credentials", CREDENTIAL))
    emit({"tenant": tenant, "removed": True}, as_json, lambda _: f"the hook of {tenant} is removed")


def _made(made: dict[str, str]) -> str:
    # Only the setting knows by which address the git host reaches the service.
    url = made["url"] or f"https://HOST{made['path']} (HOST: set MOORAGE_PUBLIC_URL to see it)"
    return (
        "Enter in the git host, for push events (tags too):\n"
        f"  URL           {url}\n"
        f"  Secret        {made['secret']}\n"
        f"  Content type  {made['content_type']}"
    )
