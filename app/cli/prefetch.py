"""`moorage sumdb prefetch`: asking the logs beforehand, in batches."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import sumdb_text as text
from app.cli.api import path_of
from app.cli.output import Exit, emit
from app.cli.progress import counted
from app.cli.session import Json, ServerUrl, admin_api
from app.core.errors import BadInputError

if TYPE_CHECKING:
    from app.core.gosum import GoSumEntry

_BATCH = 500  # versions in one request, so that there is progress to show


def prefetch(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose rules and log hold.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="MODULE@VERSION", show_default=False)
    ] = None,
    go_sum: Annotated[
        Path | None, typer.Option("--go-sum", metavar="FILE", help="All versions of a go.sum.")
    ] = None,
    toolchains: Annotated[
        bool, typer.Option("--toolchains", help="Those of all mirrored release archives.")
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Ask the logs now, so that clients can verify while no log can be reached.

    Ends with 1 if one version failed; those that are private or denied are skipped.
    """
    summed = _go_sum(go_sum) if go_sum is not None else ()
    if not (names or summed or toolchains):
        raise typer.BadParameter("give MODULE@VERSION, --go-sum FILE or --toolchains")
    batches = _batches(summed, names or [], toolchains=toolchains)
    total = sum(size for _, size in batches)
    path = path_of("tenants", tenant, "sumdb", "prefetch")
    items: list[dict[str, Any]] = []
    with counted("versions") as progress, admin_api(server_url) as api:
        for body, _ in batches:
            items += api.ask("POST", path, body)["items"]
            progress(len(items), max(total, len(items)))
    outcomes = {o: sum(i["outcome"] == o for i in items) for o in ("ok", "skipped", "failed")}
    emit({**outcomes, "items": items}, as_json, text.prefetched)
    if outcomes["failed"]:
        raise typer.Exit(Exit.FAILED)


def _go_sum(path: Path) -> "tuple[GoSumEntry, ...]":
    from app.core.gosum import parse_go_sum

    try:
        return parse_go_sum(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadInputError(f"{path}: {why}") from error


def _batches(
    summed: "tuple[GoSumEntry, ...]", names: list[str], *, toolchains: bool
) -> list[tuple[dict[str, Any], int]]:
    """Return the bodies of the requests, with the number of versions in each.

    Toolchains are a request of their own, whose number of versions is not known.
    """
    from app.core.gosum import format_go_sum

    batches: list[tuple[dict[str, Any], int]] = []
    for start in range(0, len(summed), _BATCH):
        part = summed[start : start + _BATCH]
        batches.append(({"go_sum": format_go_sum(part)}, len(part)))
    for start in range(0, len(names), _BATCH):
        some = names[start : start + _BATCH]
        batches.append(({"modules": some}, len(some)))
    if toolchains:
        batches.append(({"toolchains": True}, 0))
    return batches
