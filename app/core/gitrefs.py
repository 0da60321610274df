"""The branches and tags of a git repository, and the sums of them that `go` writes into Origin.

Follows git-check-ref-format(1), and cmd/go/internal/modfetch/codehost (git.go:
loadRefs, Tags). Not here: asking a server (`gitprotocol`), tags as versions (`gitmodule`).
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from app.core import pseudo, semver
from app.core.errors import BadInputError

HEAD = "HEAD"
HEADS = "refs/heads/"
TAGS = "refs/tags/"
MAX_REF_BYTES = 1024
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)|\.(?:/|\Z)|/\Z")


@dataclass(frozen=True)
class GitRefs:
    """The refs of a repository at one moment.

    Attributes:
        ids: by ref ("HEAD", "refs/heads/main", "refs/tags/v1.0.0"): the object that the ref names.
        peeled: by tag, of annotated tags: the object behind the tag object.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    peeled: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_sha256(self) -> bool:
        """Whether the repository's objects have SHA-256 names."""
        return any(len(oid) == 64 for oid in self.ids.values())

    def commit(self, ref: str) -> str | None:
        """Return what a ref leads to, behind a tag object; None if there is no such ref."""
        return self.peeled.get(ref) or self.ids.get(ref)

    @cached_property
    def objects(self) -> frozenset[str]:
        """The objects that refs name, and those behind tag objects."""
        return frozenset({*self.ids.values(), *self.peeled.values()})

    @cached_property
    def _tags_at(self) -> dict[str, list[str]]:
        by_commit: dict[str, list[str]] = {}
        for name, oid in sorted(self.tags().items()):
            by_commit.setdefault(oid, []).append(name)
        return by_commit

    def tags_at(self, commit: str) -> list[str]:
        """Return the tags of a commit, sorted."""
        return self._tags_at.get(commit, [])

    def commits(self) -> dict[str, str]:
        """Return `commit` of all refs."""
        return {**self.ids, **self.peeled}

    def tags(self, prefix: str = "") -> dict[str, str]:
        """Return the commits of the tags whose names begin with a prefix."""
        start = TAGS + prefix
        return {
            ref[len(TAGS) :]: self.peeled.get(ref, oid)
            for ref, oid in self.ids.items()
            if ref.startswith(start)
        }

    def tag_sum(self, prefix: str) -> str:
        """Return Origin.TagSum: a hash of the version tags with a prefix."""
        folder = prefix[: prefix.rfind("/") + 1]
        whole = hashlib.sha256()
        for name, oid in sorted(self.tags(prefix).items(), key=lambda tag: tag[0].encode()):
            if _is_version_tag(name.removeprefix(folder)):
                whole.update(f"{_quoted(name)} {oid}\n".encode())
        return "t1:" + base64.b64encode(whole.digest()).decode()

    def render(self) -> bytes:
        """Return the refs as lines, which `parse_refs` reads; equal refs give equal bytes."""
        lines = [
            " ".join(filter(None, (oid, ref, self.peeled.get(ref))))
            for ref, oid in sorted(self.ids.items())
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def parse_refs(body: bytes) -> GitRefs:
    """Return the refs that `GitRefs.render` wrote."""
    ids, peeled = {}, {}
    for line in body.decode().splitlines():
        oid, ref, *behind = line.split(" ")
        ids[ref] = oid
        if behind:
            peeled[ref] = behind[0]
    return GitRefs(ids, peeled)


def gather(advertised: Iterable[tuple[str, str, str | None]]) -> GitRefs:
    """Return the branches, tags and HEAD among (object, ref, peeled object), all checked.

    Other refs (pull requests) are passed over, and so are names that git itself could not store.

    Raises:
        BadInputError: an object's name is malformed, or a ref comes twice.
    """
    ids: dict[str, str] = {}
    peeled: dict[str, str] = {}
    lengths = set()
    for oid, ref, behind in advertised:
        for name in filter(None, (oid, behind)):
            check_oid(name)
            lengths.add(len(name))
        if ref != HEAD and not (ref.startswith((HEADS, TAGS)) and is_ref(ref)):
            continue
        if ref in ids:
            raise BadInputError("the server lists a ref twice")
        ids[ref] = oid
        if behind and ref.startswith(TAGS):
            peeled[ref] = behind
    if len(lengths) > 1:
        raise BadInputError("the server mixes SHA-1 and SHA-256 names")
    return GitRefs(ids, peeled)


def check_oid(text: str) -> None:
    """Return if text is the full name of an object: 40 or 64 hexadecimal digits, lower case.

    Raises:
        BadInputError: it is not.
    """
    if not _OID.fullmatch(text):
        raise BadInputError(f"{text[:70]!a} is not the name of a git object")


def is_ref(name: str) -> bool:
    """Whether git accepts the name of a ref: no "..", control character, "-" at its beginning.

    Stricter than git in one way: an element may not begin with a hyphen.
    """
    if not name.startswith("refs/") or len(name.encode("utf-8", "replace")) > MAX_REF_BYTES:
        return False
    return not _BAD_IN_REF.search(name) and "/-" not in name


def _quoted(name: str) -> str:
    """Return a tag's name as Go's %q prints it; no ref has a backslash or a control character."""
    return '"' + name.replace('"', '\\"') + '"'


def _is_version_tag(tag: str) -> bool:
    canonical = semver.canonical(tag)
    return bool(canonical) and tag.startswith(canonical) and not pseudo.is_pseudo(tag)
