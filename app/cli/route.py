"""`moorage route`: where the modules of a tenant come from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.api import path_of
from app.cli.output import emit, table
from app.cli.session import Json, ServerUrl, admin_api, ask, ask_all
from app.core.errors import BadInputError

if TYPE_CHECKING:
    from app.cli.output import Shown

route = typer.Typer(
    name="route", help="Where the modules of a tenant come from.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose route it is.")]
RouteId = Annotated[int, typer.Argument(min=1, help="Its number in `route list`.")]
Credentials = Annotated[
    list[str] | None,
    typer.Option(
        "--credential",
        help="Name of a credential: once for all URLs, or for each in order, - for none.",
    ),
]
Redirects = Annotated[
    list[str] | None,
    typer.Option("--redirect-to", help="A host that the upstreams may redirect to."),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", help="PEM certificates to trust for the upstreams.")
]
HostKeys = Annotated[
    Path | None,
    typer.Option("--host-keys-file", help="Public keys of the git+ssh hosts, one a line."),
]
Vanity = Annotated[
    bool | None,
    typer.Option("--vanity", help="Ask the modules' own host, by go-import, for the repository."),
]
Log = Annotated[
    str | None, typer.Option("--log", help="off, defer or require: the checksum database's part.")
]
Note = Annotated[str | None, typer.Option("--note", help="One line for people.")]
_STOP = "A 404 of an upstream ends the search, instead of asking the next."
_PRIVATE = "Its names are asked here and nowhere else, by any tenant."
_OFF = "Fetch nothing; serve what is stored."
_FORKS = "Accept modules whose go.mod declares another path, as public routes do."
_TTL = "Seconds for which lists are fresh."
_NO_CREDENTIAL = "-"


@route.command()
def add(
    pattern: Annotated[str, typer.Argument(help='As in GOPRIVATE: "corp.example"; "*" is all.')],
    urls: Annotated[list[str], typer.Argument(help="GOPROXY or git servers, in order.")],
    tenant: Tenant,
    credential: Credentials = None,
    private: Annotated[bool | None, typer.Option("--private", help=_PRIVATE)] = None,
    off: Annotated[bool | None, typer.Option("--off", help=_OFF)] = None,
    forks: Annotated[bool | None, typer.Option("--forks", help=_FORKS)] = None,
    ttl_s: Annotated[int | None, typer.Option("--ttl", min=0, help=_TTL)] = None,
    stop: Annotated[bool | None, typer.Option("--stop", help=_STOP)] = None,
    redirect_to: Redirects = None,
    ca_file: CaFile = None,
    host_keys_file: HostKeys = None,
    vanity: Vanity = None,
    log: Log = None,
    note: Note = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Say where the modules of a pattern come from; the longest pattern that matches is taken."""
    upstreams = [
        _changed(
            u,
            credential=c,
            stop=stop,
            redirect_to=redirect_to,
            ca_file=ca_file,
            host_keys_file=host_keys_file,
            vanity=vanity,
        )
        for u, c in _paired([{"url": url} for url in urls], credential)
    ]
    body: dict[str, Any] = {"pattern": pattern, "upstreams": upstreams}
    # What is left out has the server's default.
    options = {
        "private": private,
        "off": off,
        "forks": forks,
        "ttl_s": ttl_s,
        "log": log,
        "note": note,
    }
    body |= {name: value for name, value in options.items() if value is not None}
    result = ask(server_url, "POST", path_of("tenants", tenant, "routes"), body)
    emit(result, as_json, lambda r: f"route {r['id']} added: {_words(r)}")


@route.command("list")
def list_routes(tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List routes, oldest first."""
    result = ask_all(server_url, path_of("tenants", tenant, "routes"))
    emit(result, as_json, _listed)


@route.command()
def show(
    route_id: RouteId, tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Show one route, a fact a line."""
    path = path_of("tenants", tenant, "routes", route_id)
    emit(ask(server_url, "GET", path), as_json, _facts)


@route.command()
def update(
    route_id: RouteId,
    tenant: Tenant,
    pattern: Annotated[str | None, typer.Option("--pattern", help="As in GOPRIVATE.")] = None,
    urls: Annotated[
        list[str] | None, typer.Option("--url", help="GOPROXY servers in place of those of now.")
    ] = None,
    credential: Credentials = None,
    private: Annotated[bool | None, typer.Option("--private/--public", help=_PRIVATE)] = None,
    off: Annotated[bool | None, typer.Option("--off/--on", help=_OFF)] = None,
    forks: Annotated[bool | None, typer.Option("--forks/--no-forks", help=_FORKS)] = None,
    ttl_s: Annotated[int | None, typer.Option("--ttl", min=0, help=_TTL)] = None,
    stop: Annotated[bool | None, typer.Option("--stop/--next", help=_STOP)] = None,
    redirect_to: Redirects = None,
    ca_file: CaFile = None,
    host_keys_file: HostKeys = None,
    vanity: Vanity = None,
    log: Log = None,
    note: Note = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Change what is given of a route; the rest stays."""
    path = path_of("tenants", tenant, "routes", route_id)
    with admin_api(server_url) as api:
        before = api.ask("GET", path)
        upstreams = [
            _changed(
                u,
                credential=c,
                stop=stop,
                redirect_to=redirect_to,
                ca_file=ca_file,
                host_keys_file=host_keys_file,
                vanity=vanity,
            )
            for u, c in _paired(
                [{"url": url} for url in urls] if urls else before["upstreams"], credential
            )
        ]
        options = {
            "pattern": pattern,
            "private": private,
            "off": off,
            "forks": forks,
            "ttl_s": ttl_s,
            "log": log,
            "note": note,
        }
        if log is None and private not in (None, before["private"]):
            before["log"] = None  # the default is another for a private route
        body = {name: before[name] for name in options} | {"upstreams": upstreams}
        body |= {name: value for name, value in options.items() if value is not None}
        result = api.ask("PUT", path, body)
    emit(result, as_json, lambda r: f"route {r['id']} is now: {_words(r)}")


@route.command()
def remove(
    route_id: RouteId, tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Remove a route; what it brought in stays stored."""
    ask(server_url, "DELETE", path_of("tenants", tenant, "routes", route_id))
    emit({"id": route_id, "removed": True}, as_json, lambda r: f"route {r['id']} is removed")


def _paired(
    upstreams: list[dict[str, Any]], credentials: list[str] | None
) -> list[tuple[dict[str, Any], str | None]]:
    """Return each upstream with the credential that was given for it, None where none was."""
    if not credentials:
        return [(u, None) for u in upstreams]
    if len(credentials) == 1:
        return [(u, credentials[0]) for u in upstreams]
    if len(credentials) != len(upstreams):
        raise BadInputError("give --credential once, or once for each URL (- for none)")
    return list(zip(upstreams, credentials, strict=True))


def _changed(
    upstream: dict[str, Any],
    *,
    credential: str | None,
    stop: bool | None,
    redirect_to: list[str] | None,
    ca_file: Path | None,
    host_keys_file: Path | None,
    vanity: bool | None,
) -> dict[str, Any]:
    changed = dict(upstream)
    if credential is not None:
        changed["credential"] = None if credential == _NO_CREDENTIAL else credential
    if stop is not None:
        changed["on_absent"] = "stop" if stop else "next"
    if redirect_to:
        changed["redirect_to"] = redirect_to
    if ca_file is not None:
        changed["ca_pem"] = _read("--ca-file", ca_file)
    if vanity is not None:
        changed["vanity"] = vanity
    if host_keys_file is not None:
        changed["host_keys"] = _read("--host-keys-file", host_keys_file)
    return changed


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise BadInputError(f"{option} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{option} {path}: it is not ASCII") from error


def _flags(shown: dict[str, Any]) -> str:
    return " ".join(name for name in ("private", "off", "forks") if shown[name])


def _words(shown: dict[str, Any]) -> str:
    urls = " ".join(u["url"] for u in shown["upstreams"])
    return f"{shown['pattern']} -> {urls} {_flags(shown)}".rstrip()


def _listed(result: list[dict[str, Any]]) -> "Shown":
    if not result:
        return "no routes, so nothing is served; see `moorage route add`"
    rows = [
        (
            r["id"],
            r["pattern"],
            " ".join(u["url"] for u in r["upstreams"]),
            r["ttl_s"],
            r["log"],
            _flags(r),
            r["note"],
        )
        for r in result
    ]
    return table(("ID", "PATTERN", "UPSTREAMS", "TTL", "LOG", "", "NOTE"), rows)


def _facts(shown: dict[str, Any]) -> str:
    lines = [
        ("route", f"{shown['id']} of {shown['tenant']}"),
        ("pattern", shown["pattern"]),
        ("is", _flags(shown)),
        ("ttl", f"{shown['ttl_s']} s"),
        ("log", shown["log"]),
        ("note", shown["note"]),
    ]
    for number, upstream in enumerate(shown["upstreams"], 1):
        lines += [
            (f"upstream {number}", upstream["url"]),
            ("  credential", upstream["credential"] or "none"),
            ("  on 404", upstream["on_absent"]),
            ("  redirects", " ".join(upstream["redirect_to"])),
            ("  own CA", "yes" if upstream["ca_pem"] else ""),
            ("  go-import", "yes" if upstream["vanity"] else ""),
            ("  host keys", str(len(upstream["host_keys"].splitlines()) or "")),
            (
                "  time-outs",
                f"connect {upstream['connect_s']:g} s, metadata {upstream['metadata_s']:g} s, "
                f"zip {upstream['zip_s']:g} s",
            ),
        ]
    return "\n".join(f"{name:<14}{value}" for name, value in lines if value)
