"""The real command line in real processes, without the second that an interpreter takes to start.

    python -m tests.e2e.warm

reads one request a line from stdin and answers it with one line, both JSON:

    {"argv": […], "environ": {…}, "cwd": …, "out": …, "err": …, "tty": …, "mounting": […]}
        →  {"pid": n}
    {"ask": pid}  →  {"code": n}, negative for a signal, null if it still runs

Each run is a fork of this process, which has imported everything and run a few commands once;
nothing of them still runs. The workers that a fork of `serve` starts are those of the real program:
interpreters of their own.
"""

import ctypes
import gc
import io
import itertools
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tests import compiled
from tests.e2e.hugepages import use_huge_pages
from tests.e2e.process import MOORAGE, ROOT, Ended, Server, Site

_CLONE_NEWNS = 0x20000


def _import_everything() -> None:
    import encodings.idna

    import anyio._backends._asyncio
    import cryptography.x509
    import prometheus_client.asgi
    import rich.progress
    import rich.table
    import uvicorn.lifespan.on
    import uvicorn.loops.uvloop
    import uvicorn.protocols.http.httptools_impl
    import uvloop

    import app.cli.inprocess
    import app.cli.program
    import app.cli.remote
    import app.main
    import app.server
    import app.services.doctor
    import app.settings.reference
    import app.wiring.prerequisites
    from app.cli.program import commands
    from app.metrics.meters import meters
    from app.upstream.wire import trusted_authorities
    from app.web.admin.app import admin_routes

    commands()
    admin_routes().openapi()  # FastAPI makes its routes when they are first looked at
    compiled.share()
    trusted_authorities(None)
    _run_once()
    meters()
    _ = (encodings.idna, anyio._backends._asyncio, cryptography.x509, prometheus_client.asgi)
    _ = (rich.progress, rich.table, uvicorn.lifespan.on, uvloop, app.server, app.main)


# What most commands go through, so that no fork compiles or looks up the same again.
_ONCE = (
    "--help",
    "migrate",
    "tenant create acme",
    "rule add --tenant acme allow example.com/*",
    "rule list --tenant acme",
    "route list --tenant acme",
    "token create --tenant acme --name ci",
    "token list --tenant acme",
    "tenant list --json",
    "audit list",
)


def _run_once() -> None:
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        os.environ |= Site.new(Path(folder)).environ
        for line in _ONCE:
            code, said = _moorage(line.split())
            assert code == 0, f"moorage {line} ended with {code}: {said}"
    assert threading.active_count() == 1, "a fork would miss the other threads"


def _moorage(argv: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code, and what it said."""
    from app.cli import main as moorage

    said = io.StringIO()
    sys.argv = ["moorage", *argv]
    with redirect_stdout(said), redirect_stderr(said):
        try:
            moorage()
        except SystemExit as ended:
            return (
                ended.code if isinstance(ended.code, int) else int(bool(ended.code))
            ), said.getvalue()
    return 0, said.getvalue()


def main() -> None:
    """Answer requests until stdin ends."""
    _import_everything()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Else the first collection of each fork would touch, and so copy, all that was imported.
    gc.collect()
    gc.freeze()
    use_huge_pages()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"code": _code_of(request["ask"])} if "ask" in request else {"pid": _fork(request)}
        print(json.dumps(answer), flush=True)
    for pid in _running - _codes.keys():  # of tests that failed before they stopped it
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


_running: set[int] = set()
_codes: dict[int, int] = {}


def _code_of(pid: int) -> int | None:
    """Return the exit code of a command, None while it runs."""
    if pid not in _codes:
        ended_pid, status = os.waitpid(pid, os.WNOHANG)
        if not ended_pid:
            return None
        _codes[pid] = os.waitstatus_to_exitcode(status)
    return _codes[pid]


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        _codes.pop(pid, None)
        _running.add(pid)
        return pid
    try:
        _become(request)
    finally:
        os._exit(70)


def _become(request: dict[str, Any]) -> None:
    """Turn into `moorage` with these arguments; never returns."""
    from app.cli import main as moorage

    os.setsid()
    terminal = request["tty"]
    _redirect(0, terminal or os.devnull, os.O_RDWR)
    _redirect(1, request["out"] or terminal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _redirect(2, request["err"] or terminal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _mount(request["mounting"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    if os.environ.get("MOORAGE_WORKERS", "1") != "1":
        _forget_metrics()
    sys.argv = ["moorage", *request["argv"]]
    # The workers of `serve` load anew what started it.
    program = sys.modules["__main__"] = ModuleType("__main__")
    program.__file__ = str(MOORAGE)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, "r" if not number else "w", buffering=1, encoding="utf-8")
        for number in range(3)
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        moorage()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code)


def _forget_metrics() -> None:
    """Have metrics loaded anew: at its import prometheus_client counts for one process for good."""
    from app.metrics.meters import meters

    meters.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        del sys.modules[name]


def _mount(commands: list[list[str]]) -> None:
    """Run commands in a namespace of mounts that this process and its children alone see."""
    if not commands:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    for command in (["mount", "--make-rprivate", "/"], *commands):
        subprocess.run(command, check=True)


def _redirect(number: int, path: str, flags: int) -> None:
    # Opening a terminal after setsid() makes it the controlling one: Ctrl-C comes from there.
    descriptor = os.open(path, flags, 0o600)
    os.dup2(descriptor, number)
    os.close(descriptor)


@dataclass(frozen=True)
class Run:
    """One running command."""

    warm: "Warm"
    pid: int
    out: Path | None
    err: Path | None

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> Ended:
        """Wait for its end."""
        code = self.warm.wait(self.pid, seconds)
        if code is None:
            self.send(signal.SIGKILL)
            self.warm.wait(self.pid, 10)
            raise AssertionError(f"it did not end within {seconds} s; {_text(self.err)}")
        return Ended(code, _text(self.out), _text(self.err))


def _text(path: Path | None) -> str:
    return path.read_text() if path is not None and path.exists() else ""


@dataclass(frozen=True)
class Forked:
    """A running command with the methods of a `subprocess.Popen`."""

    run: Run

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.run.pid

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self.run.warm.wait(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code."""
        code = self.run.warm.wait(self.pid, timeout or 60)
        if code is None:
            raise subprocess.TimeoutExpired("moorage", timeout or 60)
        return code

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        self.run.send(sig)


class Warm:
    """Runs commands in forks of one warmed-up process. Threads may share it."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._numbers = itertools.count(1)
        self._turn = threading.Lock()

    def start(
        self,
        site: Site,
        *arguments: str,
        tty: str | None = None,
        mounting: Sequence[Sequence[str]] = (),
    ) -> Run:
        """Start a command; without a terminal its output goes to files.

        Args:
            site: whose environment it gets.
            *arguments: after `moorage`.
            tty: the path of a terminal that becomes its stdin, stdout and stderr.
            mounting: commands that make mounts which it alone sees; the first that fails ends it.
        """
        stem = self._folder / str(next(self._numbers))
        out, err = (None, None) if tty else (stem.with_suffix(".out"), stem.with_suffix(".err"))
        answer = self._ask(
            argv=arguments,
            environ=dict(site.environ),
            cwd=str(site.folder),
            out=str(out) if out else None,
            err=str(err) if err else None,
            tty=tty,
            mounting=[list(command) for command in mounting],
        )
        return Run(self, answer["pid"], out, err)

    def run(self, site: Site, *arguments: str, seconds: float = 60) -> Ended:
        """Run a command to its end."""
        return self.start(site, *arguments).wait(seconds)

    @contextmanager
    def serve(
        self, site: Site, *, mounting: Sequence[Sequence[str]] = (), ready: bool = True
    ) -> Iterator[Server]:
        """Run `moorage serve`; like `Site.serve`, only quicker to start."""
        site.migrate()
        run = self.start(site, "serve", mounting=mounting)
        assert run.err is not None
        with Server(site, Forked(run), run.err.with_suffix("")).kept(ready=ready) as server:
            yield server

    def wait(self, pid: int, seconds: float) -> int | None:
        """Return the exit code of a command, None if it still runs after so many seconds."""
        code: int | None = self._ask(ask=pid)["code"]
        if code is None and seconds > 0:
            _wait_for_end(pid, seconds)
            code = self._ask(ask=pid)["code"]
        return code

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._turn:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "the warmed-up process has ended"
        return json.loads(answer)


def _wait_for_end(pid: int, seconds: float) -> None:
    """Return once a process has ended, or after so many seconds; asking again and again costs."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:  # another thread has asked for its code
        return
    try:
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        waiting.poll(seconds * 1000)
    finally:
        os.close(process)


@contextmanager
def warmed_up() -> Iterator[Warm]:
    """Start the warmed-up process; it and its files are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.warm"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield Warm(process, Path(folder))
            assert process.stdin
            process.stdin.close()
            assert process.wait(30) == 0


@contextmanager
def terminal() -> Iterator[tuple[int, str]]:
    """Yield the near end of a new pseudo-terminal, and the path of its far end."""
    near, far = pty.openpty()
    try:
        yield near, os.ttyname(far)
    finally:
        os.close(far)
        os.close(near)


if __name__ == "__main__":
    main()
