"""A git repository as the rules of versions see it: refs, commits, files of commits.

Not here: the rules (`gitmodule`), a repository on disk (`upstream/gitreader`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from app.core.gitrefs import GitRefs


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit.

    Attributes:
        id: its full name, 40 or 64 hexadecimal digits.
        time: the committer's, UTC, to the second.
    """

    id: str
    time: datetime


class Repository(Protocol):
    """A repository that is here with all its branches and tags. Its methods block."""

    @property
    def refs(self) -> GitRefs:
        """The branches and tags."""

    def commit(self, name: str) -> Commit | None:
        """Return the commit of a full or shortened name; None if there is none, or several."""

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file of a commit, as it is stored; None if there is no such file."""

    def tags_behind(self, commit: str) -> list[str]:
        """Return the names of the tags that a commit descends from, its own included."""

    def descends(self, commit: str, tag: str) -> bool:
        """Whether a commit descends from a tag."""


class ObjectsNeededError(Exception):
    """Refs alone do not answer the question."""


class RefsOnly:
    """A repository of which only the refs are known; every other question is an error."""

    def __init__(self, refs: GitRefs) -> None:
        self.refs = refs

    def commit(self, name: str) -> Commit | None:
        """See `Repository`."""
        raise ObjectsNeededError

    def read(self, commit: str, path: str) -> bytes | None:
        """See `Repository`."""
        raise ObjectsNeededError

    def tags_behind(self, commit: str) -> list[str]:
        """See `Repository`."""
        raise ObjectsNeededError

    def descends(self, commit: str, tag: str) -> bool:
        """See `Repository`."""
        raise ObjectsNeededError


def at_second(seconds: int) -> datetime:
    """Return a time of git, seconds since 1970, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
