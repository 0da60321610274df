"""A bare repository on disk that mirrors one repository of one origin; git works on it offline.

git gets packs that are on disk already, and names of objects. It never gets a URL, a credential or
the name of a ref of somebody else as an argument; it has no network protocol, no configuration but
ours, no hooks, no filters, and it never checks anything out. Each run has limits of time, processor
time and memory, and ends with its whole process group.

A mirror is a cache: whatever is wrong with one, it is removed and fetched again. All methods block.

Not here: asking the server (`git`), when a mirror is brought up to date (`services/modules/gits`).
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, cast

from app.core.digest import Digest
from app.core.errors import BadInputError, StorageError, UpstreamContentError
from app.core.gitmodule import Commit, at_second
from app.core.gitrefs import TAGS, GitRefs, check_oid
from app.core.gitzip import TreeFile

MAX_FILE_BYTES = 16 << 20
_MAX_LISTING_BYTES = 128 << 20
_MAX_ERROR_BYTES = 4096
_STATE = "moorage-refs"  # the digest of the refs that the mirror is at, and its packs
_MAX_PACKS = 40
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=",
    "core.bigFileThreshold=32m",
    "core.packedGitLimit=256m",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "transfer.bundleURI=false",
    "uploadpack.packObjectsHook=",
    "pack.threads=1",
    "log.showSignature=false",
)


@dataclass(frozen=True, slots=True)
class GitLimits:
    """What git may use for one repository; sizes in bytes, times in seconds.

    Attributes:
        repository_bytes: of its packs, and of one fetch.
        heap_bytes: memory of one run of git, without the packs that it maps.
        run_s: of one run of git.
        index_s: for taking in a pack.
    """

    repository_bytes: int = 2 << 30
    heap_bytes: int = 1 << 30
    run_s: float = 120.0
    index_s: float = 600.0


class GitRuns:
    """The runs of git for one piece of work, so that all can be ended from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._is_ended = False

    def add(self, process: "subprocess.Popen[bytes]") -> None:
        """Take up a process; after `end` it is killed at once."""
        with self._lock:
            self._processes.add(process)
            if self._is_ended:
                _kill(process)

    def remove(self, process: "subprocess.Popen[bytes]") -> None:
        """Forget a process that was waited for."""
        with self._lock:
            self._processes.discard(process)

    def end(self) -> None:
        """Kill every process that runs, and whatever is added later."""
        with self._lock:
            self._is_ended = True
            for process in self._processes:
                _kill(process)


def kill_group(pid: int) -> None:
    """Kill a process that leads its group, and the group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its group, unless it has ended: then its number may be another's."""
    if process.poll() is None:
        kill_group(process.pid)


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
        self._runs = runs

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
        answer = self._run("cat-file", "--batch-check=%(objectname)", feed=question)
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
                self._run(
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
            self._run("repack", "-a", "-d", "-k", "-q", run_s=self._limits.index_s)
        with _storage_errors():
            _replace(self.folder / _STATE, self._state(refs))

    # Reading

    @contextmanager
    def reading(self, refs: GitRefs) -> Iterator["MirrorReader"]:
        """Return a context with the repository, as the rules of versions read it."""
        with self._started("cat-file", "--batch", stdin=subprocess.PIPE) as process:
            yield MirrorReader(self, refs, process)

    def files(self, commit: str, directory: str) -> list[TreeFile]:
        """Return the files of a directory of a commit, links and submodules among them.

        Raises:
            BadInputError: they are too many.
        """
        check_oid(commit)
        tree = f"{commit}:{directory}" if directory else commit
        listed = self._run(
            "ls-tree", "-r", "-z", "-l", "--full-tree", tree, max_bytes=_MAX_LISTING_BYTES
        )
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
        with self._started(
            *settings, "archive", "--format=tar", "--prefix=prefix/", commit, *paths
        ) as process:
            yield _out(process)
            self._finish(process)

    def merged_tags(self, commit: str) -> list[str]:
        """Return the tags that a commit descends from."""
        check_oid(commit)
        listed = self._run("for-each-ref", "--format=%(refname)", f"--merged={commit}", TAGS)
        names = listed.decode("utf-8", "replace").splitlines()
        return [name.removeprefix(TAGS) for name in names]

    def is_ancestor(self, older: str, commit: str) -> bool:
        """Whether a commit descends from another one."""
        check_oid(older)
        check_oid(commit)
        return self._answers("merge-base", "--is-ancestor", older, commit)

    def is_reachable(self, commit: str) -> bool:
        """Whether a branch or a tag has a commit in its history."""
        check_oid(commit)
        return bool(self._run("for-each-ref", "--count=1", f"--contains={commit}"))

    def full_name(self, short: str) -> str | None:
        """Return the full name of the one commit whose name begins so."""
        if not short.isalnum() or not short.isascii():
            return None
        with suppress(UpstreamContentError):
            verified = self._run("rev-parse", "--verify", "-q", f"{short}^{{commit}}")
            return verified.decode().strip()
        return None

    # Running git

    def _answers(self, *arguments: str) -> bool:
        """Whether git exits with 0; 1 is the other answer."""
        with self._started(*arguments) as process:
            _out(process).read(1)
            return self._finish(process, good=(0, 1)) == 0

    def _run(
        self,
        *arguments: str,
        feed: bytes | None = None,
        stdin: IO[bytes] | None = None,
        max_bytes: int = _MAX_LISTING_BYTES,
        run_s: float | None = None,
    ) -> bytes:
        """Return what git prints.

        Raises:
            UpstreamContentError: git failed, ran out of time or memory, or printed too much.
        """
        source: IO[bytes] | int | None = subprocess.PIPE if feed is not None else stdin
        with self._started(*arguments, stdin=source, run_s=run_s) as process:
            feeder = None
            if feed is not None:
                feeder = threading.Thread(target=_feed, args=(process, feed), daemon=True)
                feeder.start()
            printed = _out(process).read(max_bytes + 1)
            if len(printed) > max_bytes:
                raise BadInputError("the repository's tree is too large")
            self._finish(process)
            if feeder is not None:
                feeder.join()
        return printed

    def _finish(self, process: "subprocess.Popen[bytes]", good: Sequence[int] = (0,)) -> int:
        code = process.wait()
        if code not in good:
            words = _err(process).read(_MAX_ERROR_BYTES).decode("utf-8", "replace")
            # git's words may hold names of a repository: they go to the log, on one line.
            shown = " ".join(words.split())[:300]
            raise UpstreamContentError(f"git could not read the repository: {shown!a}", origin="")
        return code

    @contextmanager
    def _started(
        self,
        *arguments: str,
        stdin: IO[bytes] | int | None = None,
        run_s: float | None = None,
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Return a context with a running git, which is ended when the context is left."""
        if _program("git") is None:
            raise StorageError("git is not installed on this machine; modules from git need it")
        settings = [word for setting in _CONFIG for word in ("-c", setting)]
        seconds = run_s or self._limits.run_s
        heap_bytes, cpu_s = self._limits.heap_bytes, int(seconds) + 1
        try:
            process = subprocess.Popen(
                [
                    *limited(heap_bytes, cpu_s),
                    "git",
                    "--no-replace-objects",
                    "--literal-pathspecs",
                    *settings,
                    *arguments,
                ],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(self.folder),
                cwd=self.folder,
                start_new_session=True,
            )
        except OSError as error:
            raise StorageError(f"git can't be run: {error.strerror}") from error
        self._runs.add(process)
        timer = threading.Timer(seconds, _kill, [process])
        timer.daemon = True
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            self._runs.remove(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()


class MirrorReader:
    """A repository on disk as `core.gitmodule.Repository`; one run of git answers most of it."""

    def __init__(
        self, mirror: GitMirror, refs: GitRefs, process: "subprocess.Popen[bytes]"
    ) -> None:
        self._mirror = mirror
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
        full = name if is_listed else self._mirror.full_name(name)
        if full is None:
            return None
        kind, content = self._object(full)
        if not kind:
            raise UpstreamContentError(
                "the mirror lacks an object that the server lists", origin=""
            )
        if kind != "commit":
            return None
        if not is_listed and not self._mirror.is_reachable(full):
            return None  # what a branch had before it was forced is not there any more
        return Commit(full, at_second(_committed_at(content)))

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file of a commit; see `Repository.read`."""
        key = (commit, path)
        if key not in self._known:
            kind, content = self._object(f"{commit}:{path}")
            self._known[key] = content if kind == "blob" else None
        return self._known[key]

    def tags_behind(self, commit: str) -> list[str]:
        """Return the tags that a commit descends from."""
        return self._mirror.merged_tags(commit)

    def descends(self, commit: str, tag: str) -> bool:
        """Whether a commit descends from a tag."""
        older = self._refs.commit(TAGS + tag)
        return older is not None and self._mirror.is_ancestor(older, commit)

    def _object(self, name: str) -> tuple[str, bytes]:
        """Return kind and content of an object; "" for the kind where there is none."""
        if "\n" in name:
            return "", b""
        try:
            _in(self._process).write(f"{name}\n".encode())
            _in(self._process).flush()
            head = _out(self._process).readline(4096)
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
        content = _out(self._process).read(size + 1)
        if len(content) != size + 1:
            raise UpstreamContentError("git ended early", origin="")
        return words[1].decode(), content[:-1]


def environment(folder: Path | None = None) -> dict[str, str]:
    """Return all that a git program gets of the environment: nothing of the service's own."""
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if folder is not None:
        variables["GIT_DIR"] = str(folder)
    return variables


def limited(heap_bytes: int, cpu_s: int) -> list[str]:
    """Return what precedes a command so that it starts with limits of memory and processor time.

    Debian's prlimit sets them before the command begins; nothing where it is missing.
    """
    prlimit = _program("prlimit")
    if prlimit is None:
        return []
    return [prlimit, f"--data={heap_bytes}", f"--cpu={cpu_s}", "--core=0", "--"]


@cache
def _program(name: str) -> str | None:
    return shutil.which(name)


def _in(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    return cast(IO[bytes], process.stdin)


def _out(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    return cast(IO[bytes], process.stdout)


def _err(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    return cast(IO[bytes], process.stderr)


def _digest(refs: GitRefs) -> str:
    return Digest.of(refs.render()).hex


def _feed(process: "subprocess.Popen[bytes]", content: bytes) -> None:
    with suppress(OSError):
        _in(process).write(content)
        _in(process).close()


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


def _committed_at(commit: bytes) -> int:
    """Return the committer's time in seconds since 1970; 0 if it is malformed."""
    for line in commit.partition(b"\n\n")[0].split(b"\n"):
        if line.startswith(b"committer "):
            words = line.rpartition(b">")[2].split()
            return int(words[0]) if words and words[0].isdigit() and len(words[0]) < 12 else 0
    return 0


def _tree_file(entry: bytes) -> TreeFile:
    """Return a file of a line of ls-tree: "100644 blob OID    SIZE<TAB>PATH"."""
    head, _, path = entry.partition(b"\t")
    mode, kind, _, size = head.split()
    is_regular = kind == b"blob" and mode.startswith(b"100")
    return TreeFile(
        path.decode("utf-8", "surrogateescape"), is_regular, int(size) if size.isdigit() else 0
    )
