"""`moorage fsck`: does the store hold what the database promises?"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Exit, emit, table
from app.cli.progress import counted
from app.cli.session import Here, Json, local
from app.core.size import human_bytes

if TYPE_CHECKING:
    from app.cli.output import Shown
    from app.services.fsck import FsckReport


def fsck(
    deep: Annotated[bool, typer.Option("--deep", help="Hash every byte.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Do what is said.")] = False,
    _here: Here = None,
    as_json: Json = False,
) -> None:
    """Find orphans, missing, short and damaged blobs, and say what repairing would do.

    The database is checked first, and the tenants' logs last. Ends with 1 if something that should
    be served can't be.
    """
    with counted("blobs") as progress:
        report = local(
            lambda services: services.upkeep.fsck.run(deep=deep, repair=repair, progress=progress)
        )
    emit(_shape(report, repaired=repair), as_json, _render)
    if not report.clean:
        raise typer.Exit(Exit.FAILED)


def _shape(report: "FsckReport", *, repaired: bool) -> dict[str, Any]:
    return {
        "checked": report.checked,
        "logs": report.logs,
        "deep": report.deep,
        "clean": report.clean,
        "repaired": repaired,
        "findings": [
            {
                "problem": f.problem,
                "object": f.object,
                "files": list(f.names),
                "size_bytes": f.size_bytes,
                "action": f.action,
                "result": f.result,
                "healed": f.healed,
            }
            for f in report.findings
        ],
    }


def _render(result: dict[str, Any]) -> "Shown":
    how = "hashed" if result["deep"] else "present with the right size"
    if not result["findings"]:
        logs = f"; logs of tenants: {result['logs']}, whole" if result["logs"] else ""
        return f"clean: {result['checked']} blobs, all {how}{logs}"
    rows = [
        (
            f["problem"],
            f["object"],
            ", ".join(f["files"]) or "-",
            human_bytes(f["size_bytes"]),
            f["result"] or f["action"],
        )
        for f in result["findings"]
    ]
    shown = table(("PROBLEM", "OBJECT", "FILES", "SIZE", "REPAIR"), rows)
    return shown, f"{result['checked']} blobs checked; {_summary(result)}"


def _summary(result: dict[str, Any]) -> str:
    """Return how much of the findings was repaired."""
    if not result["repaired"]:
        return "nothing was changed; `moorage fsck --repair` does what is said"
    count = len(result["findings"])
    healed = sum(f["healed"] for f in result["findings"])
    return "all done" if healed == count else f"done: {healed} of {count}, not done: the others"
