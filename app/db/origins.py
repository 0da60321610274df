"""Rows of origins: an upstream as identity, under which content is stored."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.giturl import is_git
from app.core.published import is_published
from app.core.routing import RecordedRoute, RecordedUpstream
from app.db.base import Base, chunks, insert_all


class OriginRow(Base):
    """An origin; never deleted.

    `key` is the URL, with "#<credential id>" where one is sent: an id is never used again; and with
    " forks" where content may declare another name, which a route without `forks` must not serve.
    The key of a git upstream also has the number of elements of the route's pattern: "{path}" in
    the URL stands for what is below them.
    Published modules are one origin, whoever has the route.
    Without a credential it ends in " tenants" where no platform admin wrote the URL: a platform
    admin's route may bring in content from the own network, which such a route must not serve.
    """

    __tablename__ = "origins"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)


class OriginTable:
    """The repository of origins."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def ids_of(self, keys: Collection[str]) -> dict[str, int]:
        """Return the ids of origins by key, recording those that are used for the first time."""
        ids = self._known(keys)
        new = sorted(set(keys) - set(ids))
        insert_all(self._session, OriginRow, [{"key": key} for key in new])
        return ids | self._known(new)

    def _known(self, keys: Collection[str]) -> dict[str, int]:
        ids: dict[str, int] = {}
        for chunk in chunks(keys):
            query = select(OriginRow.key, OriginRow.id).where(OriginRow.key.in_(chunk))
            ids |= {row.key: row.id for row in self._session.execute(query)}
        return ids

    def origin(self, key: str) -> int:
        """Return the id of an origin, recording it at its first use."""
        return self.ids_of([key])[key]

    def known_origin(self, key: str) -> int | None:
        """Return the id of an origin, or None if it was never used."""
        return self._known([key]).get(key)


def origin_key(route: RecordedRoute, upstream: RecordedUpstream) -> str:
    """Return the key of the origin that an upstream is, in a route."""
    key = upstream.url
    if is_published(key):  # whose a module is, its owned prefix says
        return key
    if is_git(key):  # which repository a module is in depends on the prefix
        key += " by go-import" if upstream.vanity else f" below {route.pattern.elements}"
    if upstream.credential_id is not None:
        key += f"#{upstream.credential_id}"
    elif not upstream.is_platforms:
        key += " tenants"
    return f"{key} forks" if route.forks else key
