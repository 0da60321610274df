"""Rows of own releases that were taken back. Never deleted: their names are never free again."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.withdrawal import Withdrawal, WithdrawalState
from app.db.base import Base


class WithdrawalRow(Base):
    """The state of one release."""

    __tablename__ = "release_withdrawals"

    release: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    reason: Mapped[str]
    changed_at: Mapped[datetime]


class WithdrawalTable:
    """The repository of releases that were taken back."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, release: str) -> Withdrawal | None:
        """Return what became of a release; None while it is offered."""
        row = self._session.get(WithdrawalRow, release)
        return None if row is None else _withdrawal(row)

    def all(self) -> Mapping[str, Withdrawal]:
        """Return every withdrawal, by release."""
        rows = self._session.execute(select(WithdrawalRow)).scalars()
        return {row.release: _withdrawal(row) for row in rows}

    def put(self, withdrawal: Withdrawal) -> None:
        """Record what became of a release, in the place of an earlier state."""
        row = self._session.get(WithdrawalRow, withdrawal.release)
        if row is None:
            row = WithdrawalRow(release=withdrawal.release)
            self._session.add(row)
        row.state, row.reason = withdrawal.state.value, withdrawal.reason
        row.changed_at = withdrawal.at
        self._session.flush()


def _withdrawal(row: WithdrawalRow) -> Withdrawal:
    return Withdrawal(row.release, WithdrawalState(row.state), row.reason, row.changed_at)
