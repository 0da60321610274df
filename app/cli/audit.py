"""`moorage audit`: what was changed, by whom, and whether the record is whole."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Exit, emit, table
from app.cli.session import Json, local

if TYPE_CHECKING:
    from rich.table import Table

audit = typer.Typer(name="audit", help="The record of changes.", no_args_is_help=True)


@audit.command("list")
def list_rows(
    after: Annotated[int, typer.Option("--after", help="Only rows after this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000)] = 1000,
    as_json: Json = False,
) -> None:
    """List changes, oldest first."""
    records = local(lambda s: s.audit.list(after=after, limit=limit), may_be_new=False)
    shape = [
        {
            "seq": r.seq,
            "at": r.at,
            "actor": r.actor,
            "action": r.action,
            "object": r.object,
            "detail": r.detail,
        }
        for r in records
    ]
    emit(shape, as_json, _listed)


def _listed(result: list[dict[str, Any]]) -> "Table":
    rows = [
        (
            r["seq"],
            f"{r['at']:%Y-%m-%d %H:%M:%S}",
            r["actor"],
            r["action"],
            r["object"],
            r["detail"],
        )
        for r in result
    ]
    return table(("SEQ", "AT", "ACTOR", "ACTION", "OBJECT", "DETAIL"), rows)


@audit.command()
def verify(as_json: Json = False) -> None:
    """Check the hash chain; ends with 1 at the first row that was changed, removed or moved."""
    rows, broken = local(lambda s: s.audit.verify(), may_be_new=False)
    emit(
        {"rows": rows, "intact": broken is None, "first_break": broken},
        as_json,
        lambda _: f"intact: {rows} rows" if broken is None else f"broken at row {broken}",
    )
    if broken is not None:
        raise typer.Exit(Exit.FAILED)
