"""The identity of a database, which the data folder that belongs to it carries, too."""

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class InstallationRow(Base):
    """The only row (id 1); the migration that makes the table inserts it with a random uid."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str]


def database_uid(session: Session) -> str:
    """Return the database's identity, 32 hex characters; a backup has that of its original."""
    return session.execute(select(InstallationRow.uid)).scalar_one()
