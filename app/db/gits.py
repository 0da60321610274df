"""Rows of git repositories: the refs that a server listed last, and which commit a version is."""

import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, chunks


class GitListingRow(Base):
    """The refs of one repository of an origin, as they were listed last."""

    __tablename__ = "git_listings"

    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"), primary_key=True)
    repository: Mapped[str] = mapped_column(primary_key=True)
    listed_at: Mapped[datetime]
    url: Mapped[str]
    version: Mapped[int]
    object_format: Mapped[str]
    refs: Mapped[bytes]


class GitPinRow(Base):
    """The commit that the tag of a served version named first: that counts for ever."""

    __tablename__ = "git_pins"

    origin_id: Mapped[int] = mapped_column(ForeignKey("origins.id"), primary_key=True)
    module: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    repository: Mapped[str] = mapped_column(index=True)
    ref: Mapped[str]
    commit: Mapped[str] = mapped_column("commit_id")
    pinned_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class RecordedListing:
    """A listing.

    Attributes:
        repository: what stands for "{path}" in the upstream's URL: "team/x".
        url: where the server's redirects have led.
        version: of git's protocol.
        refs: as `GitRefs.render` writes them, compressed.
    """

    origin_id: int
    repository: str
    listed_at: datetime
    url: str
    version: int
    object_format: str
    refs: bytes

    @staticmethod
    def packed(refs: bytes) -> bytes:
        """Return refs as a row has them."""
        return zlib.compress(refs, 1)

    def unpacked(self) -> bytes:
        """Return the refs as they were rendered."""
        return zlib.decompress(self.refs)


@dataclass(frozen=True, slots=True)
class GitPin:
    """A version whose tag names one commit for ever."""

    origin_id: int
    module: str
    version: str
    repository: str
    ref: str
    commit: str
    pinned_at: datetime


_LISTING = tuple(RecordedListing.__dataclass_fields__)
_PIN = tuple(GitPin.__dataclass_fields__)


class GitTable:
    """The repository of listings and pins."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def listing(self, origin_id: int, repository: str) -> RecordedListing | None:
        """Return the last listing of a repository."""
        row = self._session.get(GitListingRow, (origin_id, repository))
        if row is None:
            return None
        return RecordedListing(**{name: getattr(row, name) for name in _LISTING})

    def save_listing(self, listing: RecordedListing) -> None:
        """Record a listing; it replaces the last one."""
        self._session.merge(GitListingRow(**{name: getattr(listing, name) for name in _LISTING}))
        self._session.flush()

    def forget_listing(self, origin_id: int, repository: str) -> None:
        """Delete the listing of a repository that is not there any more."""
        self._session.execute(
            delete(GitListingRow).where(
                GitListingRow.origin_id == origin_id, GitListingRow.repository == repository
            )
        )

    def repositories(self, origin_id: int) -> list[str]:
        """Return the repositories of an origin that were ever listed and are still there."""
        query = select(GitListingRow.repository).where(GitListingRow.origin_id == origin_id)
        return list(self._session.execute(query).scalars())

    def expire(self, origin_id: int, repositories: Collection[str], at: datetime) -> None:
        """Set the time of some repositories' younger listings back to `at`."""
        for chunk in chunks(repositories):
            self._session.execute(
                update(GitListingRow)
                .where(
                    GitListingRow.origin_id == origin_id,
                    GitListingRow.repository.in_(chunk),
                    GitListingRow.listed_at > at,
                )
                .values(listed_at=at)
            )

    def pin(self, origin_id: int, module: str, version: str) -> GitPin | None:
        """Return the pin of a version."""
        row = self._session.get(GitPinRow, (origin_id, module, version))
        return None if row is None else _pin(row)

    def add_pin(self, pin: GitPin) -> None:
        """Record a pin.

        Raises:
            ConflictError: at the end of the transaction, if another process has recorded one.
        """
        self._session.add(GitPinRow(**{name: getattr(pin, name) for name in _PIN}))
        self._session.flush()

    def pins(self, origin_id: int, repository: str) -> list[GitPin]:
        """Return all pins of a repository."""
        query = select(GitPinRow).where(
            GitPinRow.origin_id == origin_id, GitPinRow.repository == repository
        )
        return [_pin(row) for row in self._session.execute(query).scalars()]


def _pin(row: GitPinRow) -> GitPin:
    return GitPin(**{name: getattr(row, name) for name in _PIN})
