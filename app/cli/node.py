"""`moorage node`: machines that follow a channel."""

from typing import Annotated
from urllib.parse import urlencode

import typer

from app.cli import fleet_text as text
from app.cli.api import path_of
from app.cli.output import complain, emit
from app.cli.session import Json, ServerUrl, ask, ask_all

node = typer.Typer(name="node", help="Machines that follow a channel.", no_args_is_help=True)

_Id = Annotated[str, typer.Argument(metavar="NODE", help="Its id; or its name, if one has it.")]


@node.command("list")
def list_nodes(
    channel: Annotated[str | None, typer.Option("--channel", help="Only those of one.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only those of one.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help='Only those in one: "held", "silent" …')
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List nodes by name; without --state, all but retired ones."""
    named = {"channel": channel, "group": group, "state": state}
    query = urlencode({name: value for name, value in named.items() if value is not None})
    emit(ask_all(server_url, f"/nodes?{query}" if query else "/nodes"), as_json, text.nodes)


@node.command()
def show(node_id: _Id, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show a node with its latest grants and events."""
    emit(ask(server_url, "GET", path_of("nodes", node_id)), as_json, text.node)


@node.command()
def hold(
    node_id: _Id,
    reason: Annotated[str, typer.Option("--reason", help="Why; the node's admin reads it.")],
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Give a node no grants until `release`."""
    path = path_of("nodes", node_id, "hold")
    emit(ask(server_url, "POST", path, {"reason": reason}), as_json, text.node_line)


@node.command()
def release(node_id: _Id, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Let a node get grants again; its failures in a row are forgotten."""
    emit(ask(server_url, "POST", path_of("nodes", node_id, "release")), as_json, text.node_line)


@node.command()
def move(
    node_id: _Id,
    group: Annotated[str | None, typer.Option("--group", help="Where it goes.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="What it follows.")] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Move a node to another group, to another channel, or both."""
    body = {
        name: value for name, value in (("group", group), ("channel", channel)) if value is not None
    }
    path = path_of("nodes", node_id, "move")
    emit(ask(server_url, "POST", path, body), as_json, text.node_line)


@node.command()
def retire(node_id: _Id, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Retire a node for good: its token stops working."""
    emit(ask(server_url, "POST", path_of("nodes", node_id, "retire")), as_json, text.node_line)


@node.command("enroll-token")
def enroll_token(
    channel: Annotated[str | None, typer.Option("--channel", help="What the nodes follow.")] = None,
    group: Annotated[str, typer.Option("--group", help="Of the nodes.")] = "default",
    uses: Annotated[int, typer.Option(min=1, help="How many machines may enrol with it.")] = 1,
    hours: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = 24,
    show_all: Annotated[
        bool, typer.Option("--list", help="List the tokens there are; none is made.")
    ] = False,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="ID", help="Remove one; none is made.")
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make a token by which machines enrol, and print it, this once."""
    if show_all:
        emit(ask_all(server_url, "/enroll-tokens"), as_json, text.enrol_tokens)
        return
    if remove is not None:
        ask(server_url, "DELETE", path_of("enroll-tokens", remove))
        emit({"id": remove, "removed": True}, as_json, lambda _: f"token {remove} is removed")
        return
    if channel is None:
        raise typer.BadParameter("say what the nodes follow: --channel NAME")
    body = {"channel": channel, "group": group, "uses": uses, "hours": hours}
    made = ask(server_url, "POST", "/enroll-tokens", body)
    emit(made, as_json, lambda result: str(result["token"]))
    if not as_json:
        complain(text.enrol_token_facts(made))
