"""Git repositories that are made by a script: the same commits, with the same names, every time.

    repo = GitRepo()
    first = repo.commit("main", {"go.mod": "module git.corp.example/x\n", "x.go": "package x\n"})
    repo.tag("v1.0.0", first)
    repo.write(folder / "x.git")

Not here: serving them (`git`).
"""

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

START = 1_700_000_000  # 2023-11-14, seconds since 1970
_STEP_S = 3_600
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Submodule:
    """A commit of another repository."""

    oid: str = "1234567890123456789012345678901234567890"


Content = str | bytes | Link | Submodule | None
"""Of a file; None removes it."""


class GitRepo:
    """A repository that is being made; commits are known by their marks, 1 and up."""

    def __init__(self) -> None:
        self._stream = bytearray(b"feature done\n")
        self._marks = 0
        self._heads: dict[str, int] = {}
        self._tags: list[tuple[str, str]] = []
        self._signed: list[tuple[str, str, str]] = []
        self.head = "main"
        self.object_format = "sha1"

    def commit(
        self,
        branch: str,
        files: Mapping[str, Content],
        *,
        merges: int | None = None,
        start: int | None = None,
        at: int | None = None,
    ) -> int:
        """Make a commit on a branch; return its mark.

        Args:
            branch: begins without a parent, or at `start`.
            files: what changes.
            merges: the mark of a second parent.
            start: the mark of the first parent of a new branch.
            at: seconds since 1970.
        """
        self._marks += 1
        time = START + self._marks * _STEP_S if at is None else at
        parent = self._heads.get(branch, start)
        self._say(f"commit refs/heads/{branch}\nmark :{self._marks}\n")
        self._say(f"committer A <a@corp.example> {time} +0200\n")
        self._data(f"commit {self._marks}\n".encode())
        if parent is not None:
            self._say(f"from :{parent}\n")
        if merges is not None:
            self._say(f"merge :{merges}\n")
        for path, content in files.items():
            self._change(path, content)
        self._heads[branch] = self._marks
        return self._marks

    def _change(self, path: str, content: Content) -> None:
        if content is None:
            self._say(f"D {path}\n")
        elif isinstance(content, Submodule):
            self._say(f"M 160000 {content.oid} {path}\n")
        elif isinstance(content, Link):
            self._say(f"M 120000 inline {path}\n")
            self._data(content.target.encode())
        else:
            self._say(f"M 100644 inline {path}\n")
            self._data(content.encode() if isinstance(content, str) else content)

    def tag(self, name: str, mark: int, *, annotated: bool = False) -> None:
        """Give a commit a tag."""
        if annotated:
            self._say(f"tag {name}\nfrom :{mark}\n")
            self._say(f"tagger A <a@corp.example> {START + mark * _STEP_S + 60} +0000\n")
            self._data(f"{name}\n".encode())
        else:
            self._say(f"reset refs/tags/{name}\nfrom :{mark}\n\n")

    def tag_object(self, name: str, of: str) -> None:
        """Give any object a tag when the repository is written; of: "HEAD^{tree}"."""
        self._tags.append((name, of))

    def sign(self, name: str, of: str, *, by: str) -> None:
        """Give a commit a tag with a signature when the repository is written.

        Args:
            name: of the tag.
            of: what git calls the commit: "main".
            by: "openpgp" or "ssh"; the key is made anew each time.
        """
        self._signed.append((name, of, by))

    def _say(self, text: str) -> None:
        self._stream += text.encode()

    def _data(self, content: bytes) -> None:
        self._stream += b"data %d\n%b\n" % (len(content), content)

    def write(self, folder: Path) -> Path:
        """Make the bare repository, or add to one; return its folder."""
        if not folder.exists():
            run_git(
                folder, "init", "-q", "--bare", f"--object-format={self.object_format}", str(folder)
            )
        run_git(folder, "symbolic-ref", "HEAD", f"refs/heads/{self.head}")
        feed = bytes(self._stream) + b"done\n"
        run_git(folder, "fast-import", "--quiet", "--force", feed=feed)
        for name, of in self._tags:
            run_git(folder, "update-ref", f"refs/tags/{name}", self.oid(folder, of))
        for name, of, by in self._signed:
            _sign(folder, name, of, by)
        return folder

    @staticmethod
    def oid(folder: Path, name: str) -> str:
        """Return the full name of an object of a written repository."""
        return run_git(folder, "rev-parse", name).strip()


def _sign(folder: Path, name: str, of: str, by: str) -> None:
    """Make a signed tag, with a key that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="signer") as home:
        environment = _ENVIRONMENT | {"HOME": home, "GNUPGHOME": home, "GIT_DIR": str(folder)}
        key = "a@corp.example"
        if by == "ssh":
            key = f"{home}/key"
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]
        else:
            make = ["gpg", "--batch", "-q", "--passphrase", "", "--quick-gen-key", key, "ed25519"]
        settings = (
            f"gpg.format={by}",
            f"user.signingkey={key}",
            f"user.email={key}",
            "user.name=A",
        )
        tag = ["git", *(word for s in settings for word in ("-c", s)), "tag", "-s", "-m", name]
        commands = [make, [*tag, name, of]]
        if by != "ssh":
            commands.append(["gpgconf", "--kill", "all"])
        for command in commands:
            subprocess.run(command, env=environment, check=True, capture_output=True)


def run_git(folder: Path, *arguments: str, feed: bytes | None = None) -> str:
    """Run git on a bare repository; return what it prints."""
    done = subprocess.run(
        ["/usr/bin/git", *arguments],
        env=_ENVIRONMENT | ({} if arguments[0] == "init" else {"GIT_DIR": str(folder)}),
        input=feed,
        stdin=None if feed is not None else subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"git {arguments[0]}: {done.stderr.decode()[:1000]}")
    return done.stdout.decode()
