"""Revisions of a git repository: what a tag, a branch or the beginning of a commit's name leads to.

Follows cmd/go/internal/modfetch/codehost (git.go: stat, statLocal). Not here: which version a
revision is (`gitmodule`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import UnknownError
from app.core.gitrefs import HEAD, HEADS, TAGS
from app.core.gitrepository import Commit, Repository

_MIN_HASH_DIGITS = 7
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_SHORT = 12


@dataclass(frozen=True, slots=True)
class CodeRevision:
    """A revision: RevInfo of codehost."""

    commit: Commit
    tags: Sequence[str]
    version: str  # the tag that was asked for, else the commit's name
    ref: str

    @property
    def short(self) -> str:
        """The beginning of the commit's name that pseudo-versions have."""
        return self.commit.id[:_SHORT]


class GitRevisions:
    """The revisions of a repository; each is looked up once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._cached: dict[str, CodeRevision] = {}

    def find(self, rev: str) -> CodeRevision:
        """Return a revision (codehost's Stat): a tag, a branch, HEAD, or a commit's name."""
        if rev not in self._cached:
            self._cached[rev] = self._look_up(rev)
        return self._cached[rev]

    def _look_up(self, rev: str) -> CodeRevision:
        refs = self._repository.refs
        for ref in (TAGS + rev, HEADS + rev):
            if (oid := refs.commit(ref)) is not None:
                return self._at(oid, rev if ref.startswith(TAGS) else oid, ref, rev)
        if rev == HEAD and (oid := refs.commit(HEAD)) is not None:
            return self._at(oid, oid, "", rev)
        if not (_MIN_HASH_DIGITS <= len(rev) <= 64 and _HEX.fullmatch(rev)):
            raise _unknown(rev)
        named = sorted((ref, oid) for ref, oid in refs.commits().items() if oid.startswith(rev))
        if len({oid for _, oid in named}) > 1:
            raise UnknownError(f"{rev} is the beginning of several commits' names")
        if named:
            ref, oid = named[0]
            return self._at(oid, oid, "" if ref == HEAD else ref, rev)
        return self._at(rev, rev, "", rev)

    def _at(self, oid: str, version: str, ref: str, rev: str) -> CodeRevision:
        commit = self._repository.commit(oid)
        if commit is None:
            raise _unknown(rev)
        if commit.id.startswith(version):
            version = commit.id
        tags = self._repository.refs.tags_at(commit.id)
        return CodeRevision(commit, tags, version if version in tags else commit.id, ref)


def _unknown(rev: str) -> UnknownError:
    return UnknownError(f"unknown revision {rev[:100]}")
