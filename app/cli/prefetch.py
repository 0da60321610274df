"""`moorage sumdb prefetch`: asking the logs beforehand, here or in batches through a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import sumdb_text as text
from app.cli.output import Exit, emit
from app.cli.progress import counted
from app.cli.session import Json, ServerUrl, ask, checked, path_of
from app.core.errors import BadInputError
from app.core.principal import OPERATOR

if TYPE_CHECKING:
    from app.core.gosum import GoSumEntry
    from app.web.admin.models.sumdb import PrefetchIn

_BATCH = 500  # versions in one request to a server, so that there is progress to show


def prefetch(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose rules and log hold.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODULE@VERSION]...", show_default=False)
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
    with counted("versions") as progress:
        size = _BATCH if server_url else len(summed) + len(names or ()) + 1
        batches = _batches(summed, names or [], toolchains, size)
        total = sum(len(batch) for _, batch in batches)
        items: list[dict[str, Any]] = []
        for wanted, _ in batches:
            result = _prefetched(tenant, wanted, server_url, progress)
            items += result["items"]
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
    summed: "tuple[GoSumEntry, ...]", names: list[str], toolchains: bool, size: int
) -> "list[tuple[PrefetchIn, list[object]]]":
    """Return requests of at most size versions, with the versions; toolchains by themselves."""
    from app.core.gosum import format_go_sum
    from app.web.admin.models.sumdb import PrefetchIn

    found: list[tuple[PrefetchIn, list[object]]] = []
    for start in range(0, len(summed), size):
        part = summed[start : start + size]
        body: dict[str, Any] = {"go_sum": format_go_sum(part)}
        found.append((checked(PrefetchIn, body), list(part)))
    for start in range(0, len(names), size):
        some = names[start : start + size]
        found.append((checked(PrefetchIn, {"modules": some}), list(some)))
    if toolchains:
        found.append((checked(PrefetchIn, {"toolchains": True}), []))
    return found


def _prefetched(
    tenant: str, wanted: "PrefetchIn", server_url: str | None, progress: Any
) -> dict[str, Any]:
    from app.web.admin.operations import sumdb as operations

    result = ask(
        server_url,
        "POST",
        path_of("tenants", tenant, "sumdb", "prefetch"),
        lambda c: operations.prefetch(c, OPERATOR, tenant, wanted, progress),
        wanted.model_dump(mode="json"),
        may_be_new=False,
    )
    return dict(result)
