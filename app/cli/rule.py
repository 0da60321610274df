"""`moorage rule`: which modules may be used, in a tenant or on the whole platform."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.api import path_of
from app.cli.output import emit, table
from app.cli.session import Json, ServerUrl, admin_api, ask, ask_all
from app.core.errors import BadInputError

if TYPE_CHECKING:
    from app.cli.output import Shown

rule = typer.Typer(
    name="rule", help="Which modules and versions may be used.", no_args_is_help=True
)

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Whose rule it is.")]
OfPlatform = Annotated[
    bool, typer.Option("--platform", help="A rule for every tenant; it can only deny.")
]
RuleId = Annotated[int, typer.Argument(min=1, help="Its number in `rule list`.")]
_VERSIONS = 'Such as ">=v1.2.0 <v2.0.0-0 || v3"; all versions without it.'
_UNTIL = "From then on it does nothing: 2027-01-31, or 2027-01-31T12:00:00Z."


def _whose(tenant: str | None, platform: bool) -> str | None:
    if (tenant is None) is not platform:
        raise BadInputError("say whose rule it is: either --tenant NAME or --platform")
    return tenant


def _path(tenant: str | None, *more: object) -> str:
    return path_of("rules", *more) if tenant is None else path_of("tenants", tenant, "rules", *more)


@rule.command()
def add(
    effect: Annotated[str, typer.Argument(help='"allow" or "deny".')],
    pattern: Annotated[str, typer.Argument(help='As in GOPRIVATE: "example.com/team/*".')],
    tenant: OfTenant = None,
    platform: OfPlatform = False,
    versions: Annotated[str | None, typer.Option("--versions", help=_VERSIONS)] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Shown to whoever is denied.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help=_UNTIL)] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Allow or deny something."""
    whose = _whose(tenant, platform)
    # What is left out has the server's default.
    options = {"versions": versions, "reason": reason, "expires_at": _time(until)}
    body = {"effect": effect, "pattern": pattern}
    body |= {name: value for name, value in options.items() if value is not None}
    result = ask(server_url, "POST", _path(whose), body)
    emit(result, as_json, lambda r: f"rule {r['id']} added: {_words(r)}")


@rule.command("list")
def list_rules(
    tenant: OfTenant = None,
    platform: OfPlatform = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List rules, oldest first; `explain` tells in which order they act."""
    whose = _whose(tenant, platform)
    result = ask_all(server_url, _path(whose))
    emit(result, as_json, _listed)


@rule.command()
def show(
    rule_id: RuleId,
    tenant: OfTenant = None,
    platform: OfPlatform = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show one rule."""
    path = _path(_whose(tenant, platform), rule_id)
    emit(ask(server_url, "GET", path), as_json, lambda r: _listed([r]))


@rule.command()
def update(
    rule_id: RuleId,
    tenant: OfTenant = None,
    platform: OfPlatform = False,
    effect: Annotated[str | None, typer.Option("--effect", help='"allow" or "deny".')] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help="As in GOPRIVATE.")] = None,
    versions: Annotated[str | None, typer.Option("--versions", help='"" means all.')] = None,
    reason: Annotated[str | None, typer.Option("--reason", help='"" gives none.')] = None,
    until: Annotated[str | None, typer.Option("--until", help='"" means for ever.')] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Change what is given of a rule; the rest stays."""
    path = _path(_whose(tenant, platform), rule_id)
    options = {"effect": effect, "pattern": pattern, "versions": versions, "reason": reason}
    with admin_api(server_url) as api:
        before = api.ask("GET", path)
        body = {name: before[name] for name in (*options, "expires_at")}
        body |= {name: value for name, value in options.items() if value is not None}
        if until is not None:
            body["expires_at"] = _time(until)
        result = api.ask("PUT", path, body)
    emit(result, as_json, lambda r: f"rule {r['id']} is now: {_words(r)}")


@rule.command()
def remove(
    rule_id: RuleId,
    tenant: OfTenant = None,
    platform: OfPlatform = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Remove a rule."""
    whose = _whose(tenant, platform)
    ask(server_url, "DELETE", _path(whose, rule_id))
    emit({"id": rule_id, "removed": True}, as_json, lambda r: f"rule {r['id']} is removed")


def _time(text: str | None) -> str | None:
    """Return a time as the API takes it; without a zone it is UTC.

    Raises:
        BadInputError: it is none.
    """
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInputError("--until takes a date such as 2027-01-31, or a time") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _words(shown: dict[str, Any]) -> str:
    versions = f" {shown['versions']}" if shown["versions"] else ""
    reason = f" ({shown['reason']})" if shown["reason"] else ""
    until = f", until {_until(shown)}" if shown["expires_at"] else ""
    return f"{shown['effect']} {shown['pattern']}{versions}{reason}{until}"


def _until(shown: dict[str, Any]) -> str:
    if not shown["expires_at"]:
        return ""
    at = datetime.fromisoformat(shown["expires_at"])
    over = " (over)" if at <= datetime.now(UTC) else ""
    return f"{at:%Y-%m-%d %H:%M} UTC{over}"


def _listed(result: list[dict[str, Any]]) -> "Shown":
    if not result:
        return "no rules; the tenant's default decides"
    rows = [
        (r["id"], r["effect"], r["pattern"], r["versions"] or "all", _until(r), r["reason"])
        for r in result
    ]
    return table(("ID", "EFFECT", "PATTERN", "VERSIONS", "UNTIL", "REASON"), rows)
