"""The identity of a database, which the data folder that belongs to it carries, too."""

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base


class InstallationRow(Base):
    """The only row (id 1); the migration that makes the table inserts it with a random uid.

    Attributes:
        uid: of the database.
        store: the id of the store that has the blobs; None: any.
        key_canary: sealed under the key of all secrets; None: none was sealed yet.
        audit_head_kept: whether a row of the audit log was ever kept outside the database.
        oldest_program: the newest revision of the oldest program that can serve this schema. A
            migration that takes something away raises it.
    """

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str]
    store: Mapped[str | None]
    key_canary: Mapped[bytes | None]
    audit_head_kept: Mapped[bool | None]
    oldest_program: Mapped[str] = mapped_column(server_default="0017")


def database_uid(session: Session) -> str:
    """Return the database's identity, 32 hex characters; a backup has that of its original."""
    return session.execute(select(InstallationRow.uid)).scalar_one()


def bound_store(session: Session) -> str | None:
    """Return the id of the store that has this database's blobs; None if none was bound yet."""
    return session.execute(select(InstallationRow.store)).scalar_one()


def first_store(session: Session, store: str) -> str:
    """Return the id of the store that has the blobs; bind this one if none was bound yet."""
    row = InstallationRow
    session.execute(update(row).where(row.store.is_(None)).values(store=store))
    return session.execute(select(row.store)).scalar_one() or store


def bind_store(session: Session, store: str) -> None:
    """Say that this store has the blobs from now on."""
    session.execute(update(InstallationRow).values(store=store))


def first_key_canary(session: Session, sealed: bytes) -> bytes:
    """Return the canary that was sealed first under the key of all secrets; this one if none was.

    Whoever can open it has the key.
    """
    row = InstallationRow
    session.execute(update(row).where(row.key_canary.is_(None)).values(key_canary=sealed))
    return session.execute(select(row.key_canary)).scalar_one() or sealed


def replace_key_canary(session: Session, sealed: bytes) -> None:
    """Keep a canary that is sealed under another key."""
    session.execute(update(InstallationRow).values(key_canary=sealed))


def audit_head_was_kept(session: Session) -> bool:
    """Return whether the audit log's newest row was ever kept outside the database."""
    return bool(session.execute(select(InstallationRow.audit_head_kept)).scalar_one())


def note_audit_head_kept(session: Session) -> None:
    """Say that a row of the audit log is kept outside the database from now on."""
    session.execute(update(InstallationRow).values(audit_head_kept=True))
