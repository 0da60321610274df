"""`moorage token`: admin tokens."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import emit, table
from app.cli.session import Json, local

if TYPE_CHECKING:
    from rich.table import Table

    from app.db.tokens import RecordedToken

token = typer.Typer(name="token", help="Tokens of the admin API.", no_args_is_help=True)


@token.command()
def create(
    name: Annotated[str, typer.Option("--name", help="Whose it is, for listings.")] = "admin",
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="For how many days it is valid.")
    ] = 365,
    as_json: Json = False,
) -> None:
    """Make an admin token and print it, this once; only its hash is stored."""
    expires_at = datetime.now(UTC) + timedelta(days=days)
    made, secret = local(lambda s: s.tokens.create(name, expires_at=expires_at))
    emit({**_shape(made), "token": secret}, as_json, lambda result: str(result["token"]))


@token.command("list")
def list_tokens(as_json: Json = False) -> None:
    """List tokens; their secrets are not known to anybody but their owners."""
    found = local(lambda s: s.tokens.all(), may_be_new=False)
    emit([_shape(t) for t in found], as_json, _listed)


@token.command()
def revoke(token_id: str, as_json: Json = False) -> None:
    """Revoke a token at once."""
    local(lambda s: s.tokens.revoke(token_id), may_be_new=False)
    emit({"id": token_id, "revoked": True}, as_json, lambda _: f"token {token_id} is revoked")


def _shape(made: "RecordedToken") -> dict[str, Any]:
    return {
        "id": made.id,
        "name": made.name,
        "scopes": sorted(made.scopes),
        "created_at": made.created_at,
        "expires_at": made.expires_at,
        "revoked_at": made.revoked_at,
    }


def _listed(result: list[dict[str, Any]]) -> "Table":
    rows = [
        (
            t["id"],
            t["name"],
            " ".join(t["scopes"]),
            _day(t["created_at"]),
            _day(t["expires_at"]),
            _day(t["revoked_at"]),
        )
        for t in result
    ]
    return table(("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "REVOKED"), rows)


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else "-"
