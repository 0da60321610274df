"""A bare repository on disk that mirrors one repository of one origin; git works on it offline.

A mirror is a cache: whatever is wrong with one, it is removed and fetched again. All methods block.

Not here: asking the server (`git`), how git is run (`gitprogram`), single objects (`gitreader`),
when a mirror is brought up to date (`services/modules/gitmirrors`).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from app.core.digest import Digest
from app.core.errors import StorageError, UpstreamContentError
from app.core.gitrefs import GitRefs, check_oid
from app.core.gitzip import TreeFile
from app.upstream.gitprogram import GitLimits, GitProgram, GitRuns, out_of
from app.upstream.gitreader import MirrorReader

_STATE = "moorage-refs"  # the digest of the refs that the mirror is at, and its packs
_MAX_PACKS = 40


class GitMirror:
    """One mirror.

    Args:
        folder: of the mirror; need not exist.
        limits: of the runs of git.
        runs: where they are counted.
    """

    def __init__(self, folder: Path, limits: GitLimits, runs: GitRuns) -> None:
        self.folder = folder
        self._limits = limits
        self._git = GitProgram(folder, limits, runs)

    # State

    def is_at(self, refs: GitRefs) -> bool:
        """Whether the mirror has everything behind these refs, and no pack was lost since."""
        return _text_of(self.folder / _STATE) == self._state(refs)

    def _state(self, refs: GitRefs) -> str:
        packs = sorted((self.folder / "objects/pack").glob("*.pack"))
        lines = [_digest(refs), *(f"{pack.name} {pack.stat().st_size}" for pack in packs)]
        return "".join(f"{line}\n" for line in lines)

    def tips(self) -> list[str]:
        """Return the objects that the mirror's refs name, those of the last refs first."""
        with suppress(OSError):
            text = (self.folder / "packed-refs").read_text()
            return list(dict.fromkeys(line.partition(" ")[0] for line in text.splitlines()[::-1]))
        return []

    def touch(self) -> None:
        """Note that the mirror was used."""
        with suppress(OSError):
            os.utime(self.folder)

    def remove(self) -> None:
        """Remove the mirror."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # Taking in

    def prepare(self, *, is_sha256: bool) -> None:
        """Make the folder if it is not there, and remove what a killed fetch left.

        Raises:
            StorageError: it can't be made.
        """
        version, extension = (
            (1, "[extensions]\n\tobjectFormat = sha256\n") if is_sha256 else (0, "")
        )
        config = f"[core]\n\trepositoryFormatVersion = {version}\n\tbare = true\n{extension}"
        with _storage_errors():
            for name in ("objects/pack", "refs", "info"):
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.folder / "HEAD").exists() or _text_of(self.folder / "config") != config:
                (self.folder / "config").write_text(config)
                # As `go` does: an archive is the same whoever makes it.
                attributes = "* -export-subst -export-ignore\n"
                (self.folder / "info/attributes").write_text(attributes)
                (self.folder / "HEAD").write_text("ref: refs/heads/moorage-none\n")
            self._remove_unfinished()
        self.touch()

    def lacking(self, oids: Sequence[str]) -> list[str]:
        """Return those of some objects that the mirror does not have."""
        question = "".join(f"{oid}\n" for oid in oids).encode()
        answer = self._git.run("cat-file", "--batch-check=%(objectname)", feed=question)
        lines = answer.decode().splitlines()
        return [line.partition(" ")[0] for line in lines if line.endswith(" missing")]

    def take_in(self, pack: Path) -> None:
        """Take in a pack, whose objects git hashes one by one.

        Raises:
            UpstreamContentError: it is no pack, or too large when it is unpacked.
        """
        limit = f"--max-input-size={self._limits.repository_bytes}"
        try:
            with pack.open("rb") as stream:
                self._git.run(
                    "index-pack", "--stdin", "--fix-thin", "--threads=1", limit,
                    stdin=stream, run_s=self._limits.index_s,
                )  # fmt: skip
        finally:
            self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Remove what a failed or killed `take_in` left."""
        for left in (self.folder / "objects/pack").glob("tmp_*"):
            left.unlink(missing_ok=True)

    def settle(self, refs: GitRefs) -> None:
        """Record that the mirror is at some refs; they replace all earlier ones.

        Raises:
            UpstreamContentError: an object that a ref names is not there.
        """
        named = sorted(refs.objects)
        if named and self.lacking(named):
            raise UpstreamContentError(
                "the git server lists objects that it does not send", origin=""
            )
        lines = [f"{oid} {ref}" for ref, oid in sorted(refs.ids.items()) if ref.startswith("refs/")]
        with _storage_errors():
            _replace(self.folder / "packed-refs", "".join(f"{line}\n" for line in lines))
        if len(list((self.folder / "objects/pack").glob("*.pack"))) > _MAX_PACKS:
            self._git.run("repack", "-a", "-d", "-k", "-q", run_s=self._limits.index_s)
        with _storage_errors():
            _replace(self.folder / _STATE, self._state(refs))

    # Reading

    @contextmanager
    def reading(self, refs: GitRefs) -> Iterator[MirrorReader]:
        """Return a context with the repository, as the rules of versions read it."""
        with self._git.started("cat-file", "--batch", stdin=subprocess.PIPE) as process:
            yield MirrorReader(self._git, refs, process)

    def files(self, commit: str, directory: str) -> list[TreeFile]:
        """Return the files of a directory of a commit, links and submodules among them.

        Raises:
            BadInputError: they are too many.
        """
        check_oid(commit)
        tree = f"{commit}:{directory}" if directory else commit
        listed = self._git.run("ls-tree", "-r", "-z", "-l", "--full-tree", tree)
        return [_tree_file(entry) for entry in listed.split(b"\0") if entry]

    @contextmanager
    def archive(self, commit: str, directory: str) -> Iterator[IO[bytes]]:
        """Return a context with a tar of a directory of a commit, names below "prefix/".

        This is the command that `go` runs, with the same settings: so the line ends that
        .gitattributes asks for are the same.
        """
        check_oid(commit)
        settings = ("-c", "core.autocrlf=input", "-c", "core.eol=lf")
        paths = ("--", directory) if directory else ()
        with self._git.started(
            *settings, "archive", "--format=tar", "--prefix=prefix/", commit, *paths
        ) as process:
            yield out_of(process)
            self._git.finish(process)


def _digest(refs: GitRefs) -> str:
    return Digest.of(refs.render()).hex


def _replace(path: Path, text: str) -> None:
    staged = path.with_name(f"{path.name}.new")
    staged.write_text(text)
    staged.replace(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the mirror of a repository can't be written: {error.strerror}"
        ) from error


def _tree_file(entry: bytes) -> TreeFile:
    """Return a file of a line of ls-tree: "100644 blob OID    SIZE<TAB>PATH"."""
    head, _, path = entry.partition(b"\t")
    mode, kind, _, size = head.split()
    is_regular = kind == b"blob" and mode.startswith(b"100")
    return TreeFile(
        path.decode("utf-8", "surrogateescape"), is_regular, int(size) if size.isdigit() else 0
    )
