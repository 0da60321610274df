"""Rows of denials: how often which requests of a tenant were refused, by day.

The number of rows of a tenant and day is bounded, because whoever may ask can ask for any module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base

OTHERS = "(others)"
"""The module of the row that counts what has no row of its own; no module path has parentheses."""


class DenialRow(Base):
    """Number of refused requests on a day (UTC), by tenant, token, module and rule.

    Names instead of foreign keys: a count stays after its tenant and its token are deleted.
    """

    __tablename__ = "denials"

    day: Mapped[date] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(primary_key=True)
    module: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    last_at: Mapped[datetime]
    last_request: Mapped[str]


@dataclass(frozen=True, slots=True, order=True)
class Denial:
    """What was refused to whom, and by what.

    Attributes:
        tenant: whose content was asked for.
        token: the id of a token that is valid for the tenant, or "".
        module: its path; "" where the caller may not use the tenant at all; or `OTHERS`.
        rule: what decided: "rule 7", "default", "token"; "" if no rule decided.
    """

    tenant: str
    token: str = ""
    module: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class DenialCount:
    """How often, and the last time: UTC, and the id of the request in the log."""

    count: int
    last_at: datetime
    last_request: str

    def plus(self, later: "DenialCount") -> "DenialCount":
        """Return the sum, with the last time of the later one."""
        return DenialCount(self.count + later.count, later.last_at, later.last_request)


DenialKey = tuple[date, str, str, str, str]
"""Day, tenant, token, module and rule of a row."""


class DenialTable:
    """The repository of denials."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, day: date, counts: Mapping[Denial, DenialCount], *, most: int) -> None:
        """Add to the counts of a day.

        Args:
            day: UTC.
            counts: what is added.
            most: rows of a tenant and day, without the one for all others.
        """
        # In a fixed order, so that two processes never wait for each other's rows.
        rows: list[dict[str, Any]] = []
        for tenant, denials in groupby(sorted(counts), lambda denial: denial.tenant):
            own = {denial: counts[denial] for denial in denials}
            for denial, count in sorted(self._bounded(day, tenant, own, most).items()):
                rows.append(
                    {
                        "day": day,
                        "tenant": denial.tenant,
                        "token": denial.token,
                        "module": denial.module,
                        "rule": denial.rule,
                        "count": count.count,
                        "last_at": count.last_at,
                        "last_request": count.last_request,
                    }
                )
        if not rows:
            return
        is_postgresql = self._session.get_bind().dialect.name == "postgresql"
        insert: Any = postgresql_insert if is_postgresql else sqlite_insert
        statement = insert(DenialRow)
        more = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["day", "tenant", "token", "module", "rule"],
            set_={
                "count": DenialRow.count + more.count,
                "last_at": more.last_at,
                "last_request": more.last_request,
            },
        )
        self._session.execute(statement, rows)

    def _bounded(
        self, day: date, tenant: str, counts: Mapping[Denial, DenialCount], most: int
    ) -> dict[Denial, DenialCount]:
        """Return the counts of a tenant; those for which no row is free are those of `OTHERS`."""
        query = select(DenialRow.token, DenialRow.module, DenialRow.rule).where(
            DenialRow.day == day, DenialRow.tenant == tenant, DenialRow.module != OTHERS
        )
        present = {Denial(tenant, *row) for row in self._session.execute(query)}
        free = most - len(present)
        bounded: dict[Denial, DenialCount] = {}
        for denial, count in counts.items():
            if denial not in present and denial.module != OTHERS:
                free -= 1
            others = denial not in present and free < 0
            key = Denial(tenant, module=OTHERS) if others else denial
            bounded[key] = bounded[key].plus(count) if key in bounded else count
        return bounded

    def of(
        self,
        *,
        tenant: str | None,
        token: str | None,
        module: str | None,
        since: date | None,
        limit: int,
        after: DenialKey | None = None,
    ) -> list[tuple[date, Denial, DenialCount]]:
        """Return counts: the newest day first, then by tenant, token, module and rule."""
        rest = (DenialRow.tenant, DenialRow.token, DenialRow.module, DenialRow.rule)
        query = select(DenialRow).order_by(DenialRow.day.desc(), *rest).limit(limit)
        for column, value in (
            (DenialRow.tenant, tenant),
            (DenialRow.token, token),
            (DenialRow.module, module),
        ):
            if value is not None:
                query = query.where(column == value)
        if since is not None:
            query = query.where(DenialRow.day >= since)
        if after is not None:
            day, *key = after
            is_later = (DenialRow.day == day) & (tuple_(*rest) > tuple_(*key))
            query = query.where((DenialRow.day < day) | is_later)
        return [_denial(row) for row in self._session.execute(query).scalars()]

    def forget(self, before: date) -> None:
        """Remove the counts of days before one."""
        self._session.execute(delete(DenialRow).where(DenialRow.day < before))


def _denial(row: DenialRow) -> tuple[date, Denial, DenialCount]:
    denial = Denial(row.tenant, row.token, row.module, row.rule)
    return row.day, denial, DenialCount(row.count, row.last_at, row.last_request)
