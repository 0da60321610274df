"""`moorage channel`: names under which nodes and CI follow a choice of releases."""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.api import path_of
from app.cli.fleet_text import rollout_status
from app.cli.output import Exit, agreed, complain, emit, table
from app.cli.rollout import begin, plan_of
from app.cli.session import Json, ServerUrl, ask, ask_all

if TYPE_CHECKING:
    from app.cli.output import Shown

channel = typer.Typer(
    name="channel", help="Which Go releases nodes and CI are to run.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The channel's name.")]
Title = Annotated[str | None, typer.Option("--title", help="One line for people.")]
Tenants = Annotated[
    list[str] | None,
    typer.Option("--tenant", help="A tenant that may follow it, no other then; repeatable."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; the history shows it.")]


@channel.command()
def create(
    name: Name,
    title: Title = None,
    tenants: Tenants = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make a channel; `set` then says what it offers."""
    options = {"title": title, "tenants": tenants}
    body = {"name": name} | {key: value for key, value in options.items() if value is not None}
    result = ask(server_url, "POST", "/channels", body)
    emit(result, as_json, lambda c: f"channel {c['name']} is made; `moorage channel set` is next")


@channel.command("list")
def list_channels(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List channels with what they offer."""
    emit(ask_all(server_url, "/channels"), as_json, _listed)


@channel.command()
def show(name: Name, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show one channel, a fact a line."""
    emit(ask(server_url, "GET", path_of("channels", name)), as_json, _shown)


@channel.command()
def update(
    name: Name,
    title: Title = None,
    tenants: Tenants = None,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Open it to all tenants and to clients without one.")
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Change title, or who may follow the channel."""
    body: dict[str, Any] = {} if title is None else {"title": title}
    if tenants and everybody:
        raise typer.BadParameter("give either --tenant or --everybody")
    if tenants or everybody:
        body["tenants"] = tenants or None
    if not body:
        raise typer.BadParameter("nothing to change was given; see --help")
    emit(ask(server_url, "PATCH", path_of("channels", name), body), as_json, _shown)


@channel.command("set")
def put(
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="What nodes run from now on: go1.27.1.")
    ],
    also: Annotated[
        list[str] | None, typer.Option("--also", help="A further release on offer; repeatable.")
    ] = None,
    reason: Reason = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--rollout",
            metavar="PLAN",
            help='Bring it to the nodes in steps first: "default", "1/10m,25%,100%" or a .json '
            "file; see `moorage rollout start`.",
        ),
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make a revision, which everybody gets at once. Its releases must be verified here."""
    body = {"current": version, "also": also or [], "reason": reason or ""}
    if plan is not None:
        emit(begin(server_url, name, body, plan_of(plan)), as_json, rollout_status)
        return
    result = ask(server_url, "POST", path_of("channels", name, "revisions"), body)
    emit(result, as_json, lambda r: f"{name} is at {_words(r)}")


@channel.command()
def history(name: Name, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List a channel's revisions, the newest first: what, when, who and why."""
    revisions = ask_all(server_url, path_of("channels", name, "revisions"))
    emit(revisions, as_json, _history)


@channel.command()
def diff(
    name: Name,
    before: Annotated[
        int | None, typer.Argument(min=1, help="A revision; the one before AFTER without it.")
    ] = None,
    after: Annotated[
        int | None, typer.Argument(min=1, help="A revision; the current one without it.")
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Tell what differs between two revisions."""
    numbers = {"before": before, "after": after}
    query = "&".join(f"{key}={value}" for key, value in numbers.items() if value is not None)
    path = path_of("channels", name, "diff") + (f"?{query}" if query else "")
    emit(ask(server_url, "GET", path), as_json, _difference)


@channel.command()
def rollback(
    name: Name,
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, help="A revision; without it the one offered before this one."),
    ] = None,
    reason: Reason = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make a revision with the content of an older one; no upstream is needed."""
    body = {"to": to, "reason": reason or ""}
    result = ask(server_url, "POST", path_of("channels", name, "rollback"), body)
    emit(result, as_json, lambda r: f"{name} is at {_words(r)}")


@channel.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Remove a channel that no tenant follows: its nodes keep what they have, and hear no more.

    Asks first; without a terminal it needs --yes. Its releases stay stored.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here; give --yes")
        if not agreed(f"Remove channel {name}?"):
            complain("nothing is removed")
            raise typer.Exit(Exit.FAILED)
    ask(server_url, "DELETE", path_of("channels", name))
    emit({"name": name, "removed": True}, as_json, lambda _: f"channel {name} is removed")


@channel.command()
def key(
    new: Annotated[
        bool,
        typer.Option("--new", help="Make a new key; the present one signs along until the next."),
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Print the public key that signs manifests (vkey), which nodes pin."""
    result = ask(server_url, "POST" if new else "GET", "/channel-key")
    emit(result, as_json, lambda k: str(k["vkey"]))


def _words(revision: dict[str, Any]) -> str:
    also = f", also {' '.join(revision['also'])}" if revision["also"] else ""
    restored = revision["restores"]
    restores = f", as revision {restored} was" if restored is not None else ""
    return f"revision {revision['revision']}: {revision['current']}{also}{restores}"


def _followers(shown: dict[str, Any]) -> str:
    return "everybody" if shown["tenants"] is None else " ".join(shown["tenants"]) or "nobody"


def _listed(channels: list[dict[str, Any]]) -> "Shown":
    if not channels:
        return "no channels; `moorage channel create stable` makes one"
    rows = [
        (c["name"], c["revision"], c["current"], " ".join(c["also"]), _followers(c), c["title"])
        for c in channels
    ]
    return table(("NAME", "REVISION", "CURRENT", "ALSO", "FOR", "TITLE"), rows)


def _shown(shown: dict[str, Any]) -> "Shown":
    facts = {
        "name": shown["name"],
        "title": shown["title"] or "-",
        "for": _followers(shown),
        "revision": shown["revision"] or "none yet",
        "current": shown["current"] or "-",
        "also": " ".join(shown["also"]) or "-",
        "rollout": f"of revision {shown['candidate']}" if shown["candidate"] else "-",
    }
    return "\n".join(f"{name:<10}{value}" for name, value in facts.items())


def _history(revisions: list[dict[str, Any]]) -> "Shown":
    if not revisions:
        return "no revisions yet; `moorage channel set` makes one"
    rows = [
        (
            r["revision"],
            r["state"],
            r["current"],
            " ".join(r["also"]),
            f"{datetime.fromisoformat(r['created_at']):%Y-%m-%d %H:%M} UTC",
            r["actor"],
            "" if r["restores"] is None else f"revision {r['restores']}",
            r["reason"],
        )
        for r in revisions
    ]
    columns = ("REVISION", "STATE", "CURRENT", "ALSO", "MADE", "BY", "RESTORES", "REASON")
    return table(columns, rows)


def _difference(shown: dict[str, Any]) -> "Shown":
    before = shown["before"] if shown["before"] is not None else "none"
    lines = [f"{shown['channel']}: revision {before} -> {shown['after']}"]
    if shown["current_before"] != shown["current_after"]:
        lines.append(f"current {shown['current_before'] or '-'} -> {shown['current_after']}")
    lines += [f"+ {version}" for version in shown["added"]]
    lines += [f"- {version}" for version in shown["removed"]]
    return "\n".join(lines if len(lines) > 1 else [*lines, "both offer the same"])
