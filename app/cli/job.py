"""`moorage job`: work that a server was asked for, and how far it is."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import releases_text
from app.cli.api import path_of
from app.cli.interrupt import interruptible
from app.cli.output import Exit, emit, table
from app.cli.progress import of_job, progress_label
from app.cli.session import Json, ServerUrl, admin_api, ask_all
from app.core.size import human_bytes

if TYPE_CHECKING:
    from app.cli.api import Api
    from app.cli.output import Shown

_POLL_S = 1.0
_UNFINISHED = {"queued", "running"}

job = typer.Typer(name="job", help="Work that runs on a server.", no_args_is_help=True)


@job.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="How many at most.")] = 20,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first, and how far each is."""
    emit(ask_all(server_url, "/jobs", most=limit), as_json, _jobs)


@job.command()
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="As `moorage job list` shows it.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end, and end with 1 if it failed.")
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show one job: its files while it runs, what it did once it has ended."""
    with admin_api(server_url) as api:
        result = api.ask("GET", path_of("jobs", job_id))
        if wait:
            result = followed(api, result)
    emit(result, as_json, _job)
    if wait and has_failed(result):
        raise typer.Exit(Exit.FAILED)


def followed(api: "Api", job: Any) -> Any:
    """Return a job when it has ended; show its progress meanwhile.

    Ctrl-C or SIGTERM end the program, and leave the job running.
    """
    if job["state"] not in _UNFINISHED:
        return job
    with (
        interruptible(f"the job goes on there, see `moorage job show {job['id']}`"),
        of_job(job["kind"]) as report,
    ):
        while job["state"] in _UNFINISHED:
            report(job["progress"])
            time.sleep(_POLL_S)
            job = api.ask("GET", path_of("jobs", job["id"]))
        report(job["progress"])
    return job


def has_failed(job: Any) -> bool:
    """Whether a job failed, or one of its files."""
    return job["state"] == "failed" or bool(job["result"].get("failed"))


def _jobs(result: list[dict[str, Any]]) -> "Shown":
    if not result:
        return "no job was asked for yet; `moorage releases sync --server URL` asks for one"
    rows = [
        (one["id"], _what(one), one["state"], one["actor"], _second(one["created_at"]), _far(one))
        for one in result
    ]
    return table(("ID", "JOB", "STATE", "ASKED BY", "ASKED AT", "PROGRESS"), rows)


def _job(result: dict[str, Any]) -> str:
    lines = [
        ("job", f"{result['id']}: {_what(result)}"),
        ("state", result["state"]),
        ("asked", f"{_second(result['created_at'])} by {result['actor']}"),
        ("began", _second(result["started_at"])),
        ("ended", _second(result["finished_at"])),
        ("progress", "" if _has_report(result) else _far(result)),
    ]
    current = (result["progress"] or {}).get("current", [])
    lines += [("now" if place == 0 else "", name) for place, name in enumerate(current)]
    text = "\n".join(f"{name:<10}{value}" for name, value in lines if value)
    return f"{text}\n{releases_text.synced(result['result'])}" if _has_report(result) else text


def _what(job: dict[str, Any]) -> str:
    return " ".join([job["kind"], *job["names"]])


def _far(job: dict[str, Any]) -> str:
    """Return how far a job is, in a few words."""
    if job["state"] == "failed":
        return str(job["result"]["error"])
    if _has_report(job):
        count = {key: len(job["result"][key]) for key in ("fetched", "present", "failed")}
        return f"{count['fetched']} fetched, {count['present']} were here, {count['failed']} failed"
    if job["state"] == "done" and "condemned" in job["result"]:
        kinds = ("condemned", "deleted", "waiting")
        return ", ".join(f"{job['result'][kind]['blobs']} {kind}" for kind in kinds)
    progress = job["progress"]
    if progress is None or (job["state"] != "running" and not progress["files"]):
        return ""
    label = progress_label(job["kind"], progress)
    if not progress["total_bytes"]:
        return label
    done, total = human_bytes(progress["done_bytes"]), human_bytes(progress["total_bytes"])
    return f"{label}, {done} of {total}"


def _has_report(job: dict[str, Any]) -> bool:
    return job["state"] == "done" and "fetched" in job["result"]


def _second(at: str | None) -> str:
    return at[:19].replace("T", " ") if at else ""
