"""A mirror on disk as the rules of versions read it; one run of git answers most of it.

Not here: bringing a mirror up to date, its trees and archives (`gitmirror`). All methods block.
"""

import subprocess
from contextlib import suppress

from app.core.errors import BadInputError, UpstreamContentError
from app.core.gitrefs import TAGS, GitRefs, check_oid
from app.core.gitrepository import Commit, at_second
from app.upstream.gitprogram import GitProgram, in_of, out_of

MAX_FILE_BYTES = 16 << 20


class MirrorReader:
    """A repository on disk as `core.gitmodule.Repository`; one run of git answers most of it."""

    def __init__(self, git: GitProgram, refs: GitRefs, process: "subprocess.Popen[bytes]") -> None:
        self._git = git
        self._refs = refs
        self._process = process
        self._commits: dict[str, Commit | None] = {}
        self._known: dict[tuple[str, str], bytes | None] = {}

    @property
    def refs(self) -> GitRefs:
        """The branches and tags."""
        return self._refs

    def commit(self, name: str) -> Commit | None:
        """Return the commit of a name; see `Repository.commit`."""
        if name not in self._commits:
            self._commits[name] = self._read_commit(name)
        return self._commits[name]

    def _read_commit(self, name: str) -> Commit | None:
        is_listed = name in self._refs.objects
        full = name if is_listed else self._full_name(name)
        if full is None:
            return None
        kind, content = self._object(full)
        if not kind:
            raise UpstreamContentError(
                "the mirror lacks an object that the server lists", origin=""
            )
        if kind != "commit":
            return None
        if not is_listed and not self._is_reachable(full):
            return None  # what a branch had before it was forced is not there any more
        return Commit(full, at_second(_committed_at(content)))

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file of a commit; see `Repository.read`."""
        if path.startswith("../"):
            return None
        key = (commit, path)
        if key not in self._known:
            kind, content = self._object(f"{commit}:{path}")
            self._known[key] = content if kind == "blob" else None
        return self._known[key]

    def tags_behind(self, commit: str) -> list[str]:
        """Return the tags that a commit descends from."""
        check_oid(commit)
        listed = self._git.run("for-each-ref", "--format=%(refname)", f"--merged={commit}", TAGS)
        names = listed.decode("utf-8", "replace").splitlines()
        return [name.removeprefix(TAGS) for name in names]

    def descends(self, commit: str, tag: str) -> bool:
        """Whether a commit descends from a tag."""
        older = self._refs.commit(TAGS + tag)
        if older is None:
            return False
        check_oid(older)
        check_oid(commit)
        return self._git.answers("merge-base", "--is-ancestor", older, commit)

    def _is_reachable(self, commit: str) -> bool:
        """Whether a branch or a tag has a commit in its history."""
        check_oid(commit)
        return bool(self._git.run("for-each-ref", "--count=1", f"--contains={commit}"))

    def _full_name(self, short: str) -> str | None:
        """Return the full name of the one commit whose name begins so."""
        if not short.isalnum() or not short.isascii():
            return None
        with suppress(UpstreamContentError):
            verified = self._git.run("rev-parse", "--verify", "-q", f"{short}^{{commit}}")
            return verified.decode().strip()
        return None

    def _object(self, name: str) -> tuple[str, bytes]:
        """Return kind and content of an object; "" for the kind where there is none."""
        if "\n" in name:
            return "", b""
        try:
            in_of(self._process).write(f"{name}\n".encode())
            in_of(self._process).flush()
            head = out_of(self._process).readline(4096)
        except OSError as error:
            raise UpstreamContentError("git ended early", origin="") from error
        words = head.split()
        if len(words) != 3 or not words[2].isdigit():
            if head.endswith((b" missing\n", b" ambiguous\n")):
                return "", b""
            raise UpstreamContentError("git ended early", origin="")
        size = int(words[2])
        if size > MAX_FILE_BYTES:
            raise BadInputError(f"a file has more than {MAX_FILE_BYTES} bytes")
        content = out_of(self._process).read(size + 1)
        if len(content) != size + 1:
            raise UpstreamContentError("git ended early", origin="")
        return words[1].decode(), content[:-1]


def _committed_at(commit: bytes) -> int:
    """Return the committer's time in seconds since 1970; 0 if it is malformed."""
    for line in commit.partition(b"\n\n")[0].split(b"\n"):
        if line.startswith(b"committer "):
            words = line.rpartition(b">")[2].split()
            return int(words[0]) if words and words[0].isdigit() and len(words[0]) < 12 else 0
    return 0
