"""`moorage gc`: removing what nobody needs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.job import followed
from app.cli.output import Exit, complain, emit
from app.cli.progress import busy, watched
from app.cli.session import Json, ServerUrl, admin_api, local
from app.core.errors import BadInputError
from app.core.size import human_bytes

if TYPE_CHECKING:
    from app.cli.output import Shown


def gc(
    run: Annotated[bool, typer.Option("--run", help="Condemn and delete.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what --run does.")] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Let go of module zips by MOORAGE_RETENTION__*, and collect blobs that nothing names.

    A blob is condemned first, and deleted by a run a day later.
    """
    if run == dry_run:
        raise BadInputError("say either --dry-run or --run")
    if dry_run:
        with busy("looking at what is stored"), admin_api(server_url) as api:
            result = api.ask("GET", "/gc")
    elif server_url:
        result = _run_there(server_url)
    else:
        with watched("blobs") as watch:
            result = local(
                lambda services: services.upkeep.collection.run("cli", watch),
                interrupted="the next `moorage gc --run` goes on",
            )
    emit(result, as_json, _shown)


def _run_there(server_url: str) -> Any:
    with admin_api(server_url) as api:
        job = api.ask("POST", "/gc")
        complain(f"job {job['id']} was queued; waiting for it (Ctrl-C leaves it running)")
        job = followed(api, job)
    if job["state"] == "failed":
        complain(job["result"]["error"])
        raise typer.Exit(Exit.FAILED)
    return job["result"]


def _shown(result: dict[str, Any]) -> "Shown":
    would = "would be " if result["dry_run"] else ""
    lines = [
        f"{would}let go: {result['let_go']['zips']} module zips, "
        f"{human_bytes(result['let_go']['bytes'])}",
        f"{would}let go: {result['let_go_releases']['files']} release files, "
        f"{human_bytes(result['let_go_releases']['bytes'])}",
        f"{would}condemned: {_count(result['condemned'])}",
        f"{would}deleted: {_count(result['deleted'])}",
        f"waiting for their day to pass: {_count(result['waiting'])}",
    ]
    return "\n".join(lines)


def _count(kind: dict[str, Any]) -> str:
    return f"{kind['blobs']} blobs, {human_bytes(kind['bytes'])}"
