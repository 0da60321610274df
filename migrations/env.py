"""Alembic's environment: synchronous, on the connection that `app.db.schema` passes in."""

from alembic import context
from sqlalchemy import Connection

from app.db.base import Base, UtcDateTime


def _render_item(kind: str, item: object, autogen: object) -> str | bool:
    if kind == "type" and isinstance(item, UtcDateTime):
        autogen.imports.add("from app.db.base import UtcDateTime")  # type: ignore[attr-defined]
        return "UtcDateTime()"
    return False


def run(connection: Connection) -> None:
    """Run the revisions on connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=_render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


open_connection = context.config.attributes.get("connection")
if open_connection is None:
    raise SystemExit("use `moorage migrate`, which knows the settings")
run(open_connection)
