"""Runs of the `git` program, offline, on one repository.

git gets names of objects. It never gets a URL, a credential or the name of a ref of somebody else
as an argument; it has no network protocol, no configuration but ours, no hooks, no filters, and it
never checks anything out. Each run has limits of time, processor time and memory, and ends with its
whole process group. All functions block.

Not here: what git is asked about a mirror (`gitmirror`, `gitreader`).
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

from app.core.errors import BadInputError, StorageError, UpstreamContentError

MAX_PRINTED_BYTES = 128 << 20
_MAX_ERROR_BYTES = 4096
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


class GitProgram:
    """The program, for one repository.

    Args:
        folder: of the repository.
        limits: of each run.
        runs: where they are counted.
    """

    def __init__(self, folder: Path, limits: GitLimits, runs: GitRuns) -> None:
        self._folder = folder
        self._limits = limits
        self._runs = runs

    def answers(self, *arguments: str) -> bool:
        """Whether git exits with 0; 1 is the other answer."""
        with self.started(*arguments) as process:
            out_of(process).read(1)
            return self.finish(process, good=(0, 1)) == 0

    def run(
        self,
        *arguments: str,
        feed: bytes | None = None,
        stdin: IO[bytes] | None = None,
        max_bytes: int = MAX_PRINTED_BYTES,
        run_s: float | None = None,
    ) -> bytes:
        """Return what git prints.

        Raises:
            UpstreamContentError: git failed, ran out of time or memory, or printed too much.
        """
        source: IO[bytes] | int | None = subprocess.PIPE if feed is not None else stdin
        with self.started(*arguments, stdin=source, run_s=run_s) as process:
            feeder = None
            if feed is not None:
                feeder = threading.Thread(target=_feed, args=(process, feed), daemon=True)
                feeder.start()
            printed = out_of(process).read(max_bytes + 1)
            if len(printed) > max_bytes:
                raise BadInputError("the repository's tree is too large")
            self.finish(process)
            if feeder is not None:
                feeder.join()
        return printed

    def finish(self, process: "subprocess.Popen[bytes]", good: Sequence[int] = (0,)) -> int:
        """Wait for a process; return the code that it exits with.

        Raises:
            UpstreamContentError: the code is none of the good ones.
        """
        code = process.wait()
        if code not in good:
            words = _err(process).read(_MAX_ERROR_BYTES).decode("utf-8", "replace")
            # git's words may hold names of a repository: they go to the log, on one line.
            shown = " ".join(words.split())[:300]
            raise UpstreamContentError(f"git could not read the repository: {shown!a}", origin="")
        return code

    @contextmanager
    def started(
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
                env=environment(self._folder),
                cwd=self._folder,
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


def in_of(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    """Return what a process reads."""
    return cast(IO[bytes], process.stdin)


def out_of(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    """Return what a process prints."""
    return cast(IO[bytes], process.stdout)


def _err(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    return cast(IO[bytes], process.stderr)


def _feed(process: "subprocess.Popen[bytes]", content: bytes) -> None:
    with suppress(OSError):
        in_of(process).write(content)
        in_of(process).close()
