"""`moorage webhook`: who gets changes of rollouts, and rows of the audit log."""

from typing import Annotated

import typer

from app.cli import fleet_text as text
from app.cli.api import path_of
from app.cli.output import complain, emit
from app.cli.session import Json, ServerUrl, ask, ask_all

webhook = typer.Typer(
    name="webhook",
    help="Who gets changes of rollouts, and rows of the audit log.",
    no_args_is_help=True,
)

_Id = Annotated[str, typer.Argument(metavar="ID", help="As `webhook list` shows it.")]


@webhook.command()
def add(
    url: Annotated[str, typer.Argument(help="Where messages are sent.")],
    channel: Annotated[
        str | None, typer.Option("--channel", help="Whose rollouts; without it, all.")
    ] = None,
    audit: Annotated[
        str, typer.Option("--audit", metavar="alarms|all", help="Which rows of the audit log.")
    ] = "",
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Whose rows; without it, all.")
    ] = None,
    rollouts: Annotated[
        bool | None,
        typer.Option(
            "--rollouts/--no-rollouts", help="Changes of rollouts; by default, without --audit."
        ),
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Send messages to an address; print the secret that signs them, this once."""
    body = {
        "url": url,
        "channel": channel,
        "audit": audit,
        "tenant": tenant,
        "rollouts": rollouts if rollouts is not None else not audit or channel is not None,
    }
    made = ask(server_url, "POST", "/webhooks", body)
    emit(made, as_json, lambda result: str(result["secret"]))
    if not as_json:
        where = "docs/operations/observe.md"
        complain(f"webhook {made['id']}: messages are signed with this secret; see {where}")


@webhook.command("list")
def list_webhooks(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List webhooks, and what they did not take."""
    emit(ask_all(server_url, "/webhooks"), as_json, text.webhooks)


@webhook.command()
def test(webhook_id: _Id, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Send a message "webhook.test"; the server sends it within a second."""
    made = ask(server_url, "POST", path_of("webhooks", webhook_id, "test"))
    emit(made, as_json, lambda r: f"a message to {r['url']} waits; see `moorage webhook list`")


@webhook.command()
def remove(webhook_id: _Id, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Remove a webhook, and what it did not get."""
    ask(server_url, "DELETE", path_of("webhooks", webhook_id))
    emit({"id": webhook_id, "removed": True}, as_json, lambda _: f"webhook {webhook_id} is removed")
