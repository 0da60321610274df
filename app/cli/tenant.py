"""`moorage tenant`: making, changing and removing tenants, and what their clients paste."""

import sys
from typing import Annotated, Any

import typer

from app.cli import tenants_text as text
from app.cli.api import Api, path_of
from app.cli.output import Exit, agreed, complain, emit
from app.cli.session import Json, ServerUrl, admin_api, ask, ask_all
from app.core.clientconfig import Target
from app.core.effect import Effect

tenant = typer.Typer(
    name="tenant", help="Teams and customers, each with its own view.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="The tenant's name.", metavar="NAME")]
Title = Annotated[str | None, typer.Option("--title", help="One line for people.")]
Default = Annotated[
    Effect | None, typer.Option("--default", help="What happens to modules without a rule.")
]
Anonymous = Annotated[
    bool | None,
    typer.Option("--anonymous-read/--tokens-only", help="Whether reading needs no token."),
]
Enabled = Annotated[
    bool | None, typer.Option("--enabled/--disabled", help="Whether requests are answered at all.")
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help='A host name that leads to it; repeatable; "" for none.'),
]
PrivateHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--private-host",
        help="A host in the own network that its upstreams may have: athens.corp.example:3000, "
        '*.corp.example; repeatable; "" for none.',
    ),
]
Toolchains = Annotated[
    str | None,
    typer.Option(
        "--toolchains",
        metavar="CHANNEL",
        help='The channel whose releases are the only toolchains for go; "" for the rules.',
    ),
]
_OWN = {"tokens": "name", "rules": "pattern", "routes": "pattern", "credentials": "name"}
Quota = Annotated[
    int | None,
    typer.Option("--quota-bytes", min=0, help="What may be stored for it; 0 for no quota."),
]
_Limit = Annotated[int | None, typer.Option(min=0, help="0 for the setting's value.")]


def _fields(
    title: str | None,
    default: Effect | None,
    anonymous_read: bool | None,
    enabled: bool | None,
    hosts: list[str] | None,
    private_hosts: list[str] | None,
    toolchains: str | None,
    **limits: int | None,
) -> dict[str, Any]:
    """Return the options of the command line as the API takes them, without those not used."""
    options: dict[str, Any] = {
        "title": title,
        "default": default,
        "anonymous_read": anonymous_read,
        "enabled": enabled,
        "hosts": [host for host in hosts if host] if hosts else None,
        "private_hosts": [host for host in private_hosts if host] if private_hosts else None,
        "limits": {name: value or None for name, value in limits.items() if value is not None},
    }
    fields = {name: value for name, value in options.items() if value not in (None, {})}
    return fields if toolchains is None else {**fields, "toolchains": toolchains or None}


@tenant.command()
def create(
    name: Name,
    title: Title = None,
    default: Default = None,
    anonymous_read: Anonymous = None,
    enabled: Enabled = None,
    hosts: Hosts = None,
    private_hosts: PrivateHosts = None,
    toolchains: Toolchains = None,
    streams: _Limit = None,
    cold: _Limit = None,
    rate: _Limit = None,
    quota_bytes: Quota = None,
    catch_all: Annotated[
        bool,
        typer.Option("--route/--no-route", help="Begin with a route to the public upstream."),
    ] = True,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make a tenant; without options it denies what no rule allows and wants a token."""
    limits = {"streams": streams, "cold": cold, "rate": rate, "quota_bytes": quota_bytes}
    body = _fields(
        title, default, anonymous_read, enabled, hosts, private_hosts, toolchains, **limits
    )
    body |= {"name": name, "catch_all": catch_all}
    result = ask(server_url, "POST", "/tenants", body)
    emit(result, as_json, text.made)


@tenant.command("list")
def list_tenants(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List tenants, by name."""
    tenants = ask_all(server_url, "/tenants")
    emit(tenants, as_json, text.tenants)


@tenant.command()
def show(name: Name, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show one tenant."""
    result = ask(server_url, "GET", path_of("tenants", name))
    emit(result, as_json, text.tenant)


@tenant.command()
def storage(
    name: Annotated[str | None, typer.Argument(help="Of one tenant; without it, of all.")] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show how much is stored for tenants: module files that were brought in for each."""
    path = "/storage" if name is None else path_of("tenants", name, "storage")
    result = ask(server_url, "GET", path)
    emit(result, as_json, text.storage)


@tenant.command()
def update(
    name: Name,
    title: Title = None,
    default: Default = None,
    anonymous_read: Anonymous = None,
    enabled: Enabled = None,
    hosts: Hosts = None,
    private_hosts: PrivateHosts = None,
    toolchains: Toolchains = None,
    streams: _Limit = None,
    cold: _Limit = None,
    rate: _Limit = None,
    quota_bytes: Quota = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Change what is given and nothing else."""
    limits = {"streams": streams, "cold": cold, "rate": rate, "quota_bytes": quota_bytes}
    body = _fields(
        title, default, anonymous_read, enabled, hosts, private_hosts, toolchains, **limits
    )
    if not body:
        raise typer.BadParameter("nothing to change was given; see --help")
    result = ask(server_url, "PATCH", path_of("tenants", name), body)
    emit(result, as_json, text.tenant)


@tenant.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Remove a tenant with its tokens, rules, routes, credentials and owned prefixes.

    Says what goes with it and asks; without a terminal it needs --yes. Stored modules stay.
    """
    with admin_api(server_url) as api:
        if not yes:
            complain(text.removed_with(name, _belongings(api, name)))
            if not sys.stdin.isatty():
                raise typer.BadParameter("nobody can be asked here; give --yes")
            if not agreed(f"Remove tenant {name}?"):
                complain("nothing is removed")
                raise typer.Exit(Exit.FAILED)
        api.ask("DELETE", path_of("tenants", name))
    emit({"name": name, "removed": True}, as_json, lambda _: f"tenant {name} is removed")


def _belongings(api: Api, name: str) -> dict[str, list[str]]:
    """Return what is removed with a tenant, by kind."""
    lists = {kind: api.list(path_of("tenants", name, kind)) for kind in _OWN}
    names = {kind: [str(one[_OWN[kind]]) for one in items] for kind, items in lists.items()}
    owned = [one["prefix"] for one in api.list("/ownership") if one["tenant"] == name]
    return {**names, "prefixes": owned}


@tenant.command("client-config")
def client_config(
    name: Name,
    target: Annotated[Target, typer.Option("--for", help="Who reads it.")] = Target.SH,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Print what clients paste to use this tenant; the address is MOORAGE_PUBLIC_URL."""
    with admin_api(server_url) as api:
        config = api.text(f"{path_of('tenants', name, 'client-config')}?for={target}")
    result = {"tenant": name, "for": target, "text": config}
    emit(result, as_json, lambda _: config.removesuffix("\n"))
