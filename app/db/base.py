"""The declarative base: naming convention, UTC-only datetimes, and how rows and nouns meet.

A column has the name of the noun's field, so that reading and writing need no list of fields:
`columns_for` says what to select, `values_for` what to write.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Dialect,
    MetaData,
    String,
    Table,
    TypeDecorator,
    bindparam,
    insert,
    inspect,
    select,
    true,
    update,
)
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from app.core.errors import ConflictError
from app.core.noun import Noun

NAMING_CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime; a naive one is refused rather than guessed at."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return value in UTC (naive for SQLite, which keeps no zone)."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime reached the database")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return value as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of every row."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: dict[Any, Any] = {datetime: UtcDateTime}  # noqa: RUF012 (SQLAlchemy's form)


def table_of(row: type[Base]) -> Table:
    """Return the table of a row: statements on tables cost a third of the CPU of the ORM's objects.

    They are for what every miss asks.
    """
    return cast(Table, row.__table__)


class WordSet(TypeDecorator[list[str]]):
    """A sorted list of words, stored as one text with spaces between them."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> str | None:
        """Return the text."""
        return None if value is None else " ".join(sorted(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[str] | None:
        """Return the words."""
        return None if value is None else value.split()


Revisions = Sequence[tuple[int, int, datetime]]
"""Id, revision and time of creation of each row of a table: equal only if no row has changed."""

T = TypeVar("T")
_CHUNK = 10_000  # values in one IN; SQLite takes 32,766 of them


def columns_for(row: type[Base], noun: type[Noun]) -> list[InstrumentedAttribute[Any]]:
    """Return the columns of a row that have the name of one of the noun's fields."""
    names = (attribute.key for attribute in inspect(row).column_attrs)
    return [getattr(row, name) for name in names if name in noun.model_fields]


def values_for(row: type[Base], noun: Noun) -> dict[str, Any]:
    """Return what a noun says, by the columns that have the names of its fields; without the id."""
    names = {attribute.key for attribute in inspect(row).column_attrs}
    return noun.model_dump(include=names - {"id"})


def revisions_of(session: Session, row: Any) -> Revisions:
    """Return the revisions of all rows of a table, in the order of their ids."""
    columns = (row.id, row.revision, row.created_at)
    return [tuple(r) for r in session.execute(select(*columns).order_by(row.id))]


def insert_all(session: Session, row: type[Base], values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with one statement for each thousand."""
    if values:
        # Else the rows would be split by which of their values are None.
        session.execute(insert(row), values, execution_options={"render_nulls": True})


def save_revisions(session: Session, row: Any, values: Sequence[Mapping[str, Any]]) -> None:
    """Update rows by their ids, each only if it is at the revision before the new one.

    Raises:
        ConflictError: a row was changed or removed meanwhile.
    """
    if not values:
        return
    columns = inspect(row).columns
    names = [name for name in values[0] if name != "id"]
    changed = {columns[n]: bindparam(f"new_{n}", type_=columns[n].type) for n in names}
    is_seen = columns.id == bindparam("row_id"), columns.revision == bindparam("seen_revision")
    parameters = [
        {f"new_{name}": one[name] for name in names}
        | {"row_id": one["id"], "seen_revision": one["revision"] - 1}
        for one in values
    ]
    statement = update(row.__table__).where(*is_seen).values(changed)
    result = session.connection().execute(
        statement, parameters, execution_options={"preserve_rowcount": True}
    )
    if result.rowcount != len(values):
        raise ConflictError("it was changed or removed meanwhile; look at it again")


def inserted_ids(
    session: Session,
    row: Any,
    values: Sequence[Mapping[str, Any]],
    key: Sequence[InstrumentedAttribute[Any]],
) -> list[int]:
    """Insert rows with one statement for each thousand; return their ids in the order of values.

    Args:
        session: the transaction.
        row: the class of the rows.
        values: by the names of columns.
        key: columns by which the new rows differ: SQLite returns ids in no order, but with these.
    """
    if not values:
        return []
    rows = session.execute(
        insert(row).returning(row.id, *key), values, execution_options={"render_nulls": True}
    )
    ids = {tuple(rest): row_id for row_id, *rest in rows}
    return [ids[tuple(one[column.key] for column in key)] for one in values]


def is_one_of(column: Any, values: Collection[Any] | None) -> ColumnElement[bool]:
    """Return the condition that a column has one of some values; None stands for every row."""
    return true() if values is None else column.in_(values)


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Yield values in lists that fit into one statement each."""
    listed = list(values)
    for start in range(0, len(listed), _CHUNK):
        yield listed[start : start + _CHUNK]
