"""`moorage rollout`: bringing a release to a channel's nodes in steps."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.api import path_of
from app.cli.fleet_text import rollout_line, rollout_status, rollouts
from app.cli.output import Exit, complain, emit
from app.cli.session import Json, ServerUrl, admin_api, ask, ask_all
from app.core.errors import BadInputError

rollout = typer.Typer(
    name="rollout", help="Bringing a release to nodes in steps.", no_args_is_help=True
)

_Id = Annotated[
    str, typer.Argument(metavar="ID", help="A rollout's id; or a channel, for its latest rollout.")
]
_Reason = Annotated[str, typer.Option("--reason", help="Why; for the audit log and webhooks.")]
_FINAL = ("promoted", "rolled-back", "abandoned")
_STOPPED = (*_FINAL, "halted")


def plan_of(text: str) -> dict[str, Any]:
    """Return the plan that `--rollout` and `--plan` name, as the API takes it.

    "default" is the default plan, "1/10m,25%,100%" are its steps, and a name that ends in ".json"
    is a file with a whole plan.

    Raises:
        BadInputError: it is none of these.
    """
    if text == "default":
        return {}
    if not text.endswith(".json"):
        from app.core.rolloutplan import parse_steps

        return {"steps": [step.model_dump(exclude_none=True) for step in parse_steps(text)]}
    try:
        plan = json.loads(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(f"{text} can't be read as JSON: {error}") from error
    if not isinstance(plan, dict):
        raise BadInputError(f"{text} is not a JSON object")
    return plan


def begin(
    server_url: str | None,
    channel: str,
    choice: dict[str, Any],
    plan: dict[str, Any],
) -> Any:
    """Return the rollout that is started; `channel set --rollout` does it, too."""
    return ask(
        server_url, "POST", path_of("channels", channel, "rollouts"), {**choice, "plan": plan}
    )


@rollout.command()
def start(
    channel: Annotated[str, typer.Argument(help="Whose nodes get it.")],
    version: Annotated[str, typer.Argument(help="What they get: go1.27.1.")],
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Repeatable; further releases on offer.")
    ] = None,
    plan: Annotated[
        str,
        typer.Option(
            "--plan",
            help='Steps such as "1/10m,canary/1h,25%,100%", a .json file, or "default".',
        ),
    ] = "default",
    max_failure_percent: Annotated[
        int | None, typer.Option(min=0, max=100, help="More failures among the results halt it.")
    ] = None,
    max_parallel: Annotated[
        int | None, typer.Option(min=1, help="Nodes that change at once.")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option("--window", help='Repeatable: "Mon-Thu 09:00-16:00 Europe/Berlin".'),
    ] = None,
    on_halt: Annotated[str | None, typer.Option("--on-halt", help='"hold" or "rollback".')] = None,
    reason: _Reason = "",
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Start to bring a release to a channel's nodes; everybody else sees it after the last step."""
    options = {
        "max_failure_percent": max_failure_percent,
        "max_parallel": max_parallel,
        "windows": window or None,
        "on_halt": on_halt,
    }
    body = plan_of(plan) | {name: value for name, value in options.items() if value is not None}
    choice = {"current": version, "also": also or [], "reason": reason}
    emit(begin(server_url, channel, choice, body), as_json, rollout_status)


@rollout.command("list")
def list_rollouts(
    channel: Annotated[str | None, typer.Option("--channel", help="Only those of one.")] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List rollouts, the newest first."""
    query = f"?channel={path_of(channel)[1:]}" if channel else ""
    emit(ask_all(server_url, f"/rollouts{query}"), as_json, rollouts)


@rollout.command()
def show(rollout_id: _Id, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show a rollout, the results of its step, and who failed."""
    emit(ask(server_url, "GET", path_of("rollouts", rollout_id)), as_json, rollout_status)


@rollout.command()
def watch(
    rollout_id: _Id,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show each change of a rollout until it ends or halts; ends with 1 unless it was promoted."""
    shown, last = None, ""
    with admin_api(server_url) as api:
        while shown is None or shown["state"] not in _STOPPED:
            if shown is not None:
                time.sleep(every)
            shown = api.ask("GET", path_of("rollouts", rollout_id))
            rollout_id = shown["id"]  # a channel's name may mean a later one
            line = json.dumps(shown) if as_json else rollout_line(shown)
            if line != last:
                print(line)
                sys.stdout.flush()
            last = line
    if shown["state"] != "promoted":
        reason = shown["reason"] or "no reason"
        complain(
            f"rollout {shown['id']} is {shown['state']}: {reason};"
            f" see `moorage rollout show {shown['id']}`"
        )
        raise typer.Exit(Exit.FAILED)


def _act(server_url: str | None, rollout_id: str, action: str, reason: str, as_json: bool) -> None:
    path = path_of("rollouts", rollout_id, action)
    emit(ask(server_url, "POST", path, {"reason": reason}), as_json, rollout_line)


@rollout.command()
def pause(
    rollout_id: _Id, reason: _Reason = "", server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Give no grants until `resume`."""
    _act(server_url, rollout_id, "pause", reason, as_json)


@rollout.command()
def resume(
    rollout_id: _Id, reason: _Reason = "", server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Go on; failures before the halt count no more."""
    _act(server_url, rollout_id, "resume", reason, as_json)


@rollout.command()
def promote(
    rollout_id: _Id, reason: _Reason = "", server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Offer the release to everybody now, without the steps that are left."""
    _act(server_url, rollout_id, "promote", reason, as_json)


@rollout.command()
def halt(
    rollout_id: _Id, reason: _Reason = "", server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Stop a rollout as a failed gate does."""
    _act(server_url, rollout_id, "halt", reason, as_json)


@rollout.command()
def abandon(
    rollout_id: _Id, reason: _Reason = "", server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Give a rollout up; nodes that have the release keep it until the channel's next revision."""
    _act(server_url, rollout_id, "abandon", reason, as_json)
