"""Moorage in real processes: an installation, its commands, its server.

Nothing of the test's own environment is inherited but PATH. A server is stopped by SIGTERM to its
own process id; then its exit code must be 0 and no process of its session may be left.
"""

import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import migrated_url

MOORAGE = Path(sys.executable).parent / "moorage"
ROOT = Path(__file__).parents[2]
_PORTS = random.Random(os.getpid())


def text_of(value: Any) -> str:
    """Return a setting's value as the environment holds it."""
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value)


def names(**settings: Any) -> dict[str, str]:
    """Return variables: `names(releases__parallel=2)` is {"MOORAGE_RELEASES__PARALLEL": "2"}."""
    return {f"MOORAGE_{name.upper()}": text_of(value) for name, value in settings.items()}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Site:
    """One installation.

    Attributes:
        folder: the data directory, and what processes write, are below it.
        environ: all that its processes find in their environment.
    """

    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def new(
        cls, folder: Path, fake: FakeGodev | None = None, signer: Signer | None = None, **more: Any
    ) -> "Site":
        """Return one whose upstream is the fake, and whose pinned key is the signer's."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        environ |= names(data_dir=folder / "data", port=0, drain_s=0, log_format="json")
        # Beside other tests, a minute of the processor for a form that nobody asks for.
        environ |= names(sumdb__upstreams=[], releases__zstd__enabled=False)
        if fake is not None:
            environ |= names(
                releases__index_url=fake.index_url,
                releases__files_urls=[fake.files_url],
                releases__retry_failed_s=0,
                releases__keyring_url="",
                network__allow=["127.0.0.0/8"],
                network__tenant_hosts=["127.0.0.1", "localhost"],
            )
        if signer is not None:
            keyring = folder / "keyring.asc"
            keyring.write_bytes(signer.export)
            environ |= names(
                releases__keyring=keyring, releases__pinned_fingerprints=[signer.primary]
            )
        return cls(folder, environ | names(**more))

    def but(self, **settings: Any) -> "Site":
        """Return the same installation with other settings."""
        return replace(self, environ={**self.environ, **names(**settings)})

    def without(self, *variables: str) -> "Site":
        """Return the same installation without some variables."""
        kept = {name: text for name, text in self.environ.items() if name not in variables}
        return replace(self, environ=kept)

    @property
    def data_dir(self) -> Path:
        """Blobs, database, keys."""
        return Path(self.environ["MOORAGE_DATA_DIR"])

    def migrate(self) -> None:
        """Put a migrated database where the first start would make one, which takes it longer."""
        if not self.data_dir.exists() and not any(
            name.startswith("MOORAGE_DATABASE_URL") for name in self.environ
        ):
            self.data_dir.mkdir(mode=0o700, parents=True)
            migrated_url(self.data_dir / "moorage.db")

    def run(self, *arguments: str, timeout_s: float = 120) -> Ended:
        """Run the real program to its end."""
        done = subprocess.run(
            [str(MOORAGE), *arguments],
            env=dict(self.environ),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def serve(self, *, under: tuple[str, ...] = (), ready: bool = True) -> "Iterator[Server]":
        """Run `moorage serve`; it is stopped, if it still runs, at the end.

        Args:
            under: a program that executes the rest of the line, such as ("unshare", "--mount").
            ready: wait for /readyz.
        """
        self.migrate()
        logs = self.folder / f"serve-{time.monotonic_ns()}"
        command = [*under, str(MOORAGE), "serve"]
        with logs.with_suffix(".out").open("wb") as out, logs.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                command,
                env=dict(self.environ),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        with Server(self, process, logs).kept(ready=ready) as server:
            yield server


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Process(Protocol):
    """What is needed of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


@dataclass(eq=False)
class Server:
    """A running `moorage serve`."""

    site: Site
    process: Process
    logs: Path
    is_ended: bool = field(default=False, init=False)

    @contextmanager
    def kept(self, *, ready: bool) -> "Iterator[Server]":
        """Keep it running inside the context, from readiness on if asked for; stop it cleanly."""
        try:
            if ready:
                self.wait_ready()
            yield self
        except BaseException:
            self.kill()
            raise
        if not self.is_ended:
            self.stop()

    @property
    def pid(self) -> int:
        """Its process id; with several workers that of the supervisor."""
        return self.process.pid

    @property
    def err(self) -> str:
        """What it wrote on stderr: the greeting, and complaints."""
        path = self.logs.with_suffix(".err")
        return path.read_text() if path.exists() else ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged."""
        lines = self.logs.with_suffix(".out").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def port(self) -> int:
        """The port that the greeting names."""
        match = re.search(r"listens on http://[^ ]*:(\d+),", self.err)
        assert match, self.err
        return int(match[1])

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The admin token of the first start."""
        match = re.search(r"^ {4}(\S+)$", self.err, re.MULTILINE)
        assert match, self.err
        return match[1]

    def wait_ready(self) -> None:
        """Return once /readyz says so."""
        wait_until(lambda: self.ended() or "listens on" in self.err, "the greeting")
        wait_until(lambda: self.ended() or self.is_ready(), "readiness")
        assert not self.ended(), self.told()

    def is_ready(self) -> bool:
        """Whether /readyz answers 200 now."""
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def told(self) -> str:
        """Return everything it wrote, for whoever reads a failed test."""
        return self.err + self.logs.with_suffix(".out").read_text()

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Reply:
        """Return the answer to one request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            all_headers = {"Connection": "close", **(headers or {})}
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, all_headers)
            with connection.getresponse() as answer:
                return Reply(answer.status, answer.headers, answer.read())

    def get(self, path: str, **headers: str) -> Reply:
        """Return the answer to a GET."""
        return self.request("GET", path, headers)

    def admin(self, method: str, path: str, body: Any = None) -> Reply:
        """Return the answer to a request with the token of the first start."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return self.request(method, f"/api/v1{path}", headers, body)

    def workers(self) -> list[int]:
        """Return the process ids of the workers, started by the supervisor."""
        children = [pid for pid, stat in processes().items() if stat.parent == self.pid]
        return [pid for pid in children if b"spawn_main" in _command_line(pid)]

    def resident_bytes(self) -> int:
        """Return VmRSS, of the supervisor and its workers together."""
        return sum(memory(pid, "VmRSS") for pid in (self.pid, *self.workers()))

    def send(self, number: int) -> None:
        """Send a signal to its own process."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 120) -> None:
        """Stop it; its exit code must be 0, and nothing that it started may be left."""
        self.send(number)
        self.wait_stopped(timeout_s)

    def wait_stopped(self, timeout_s: float = 120) -> None:
        """Wait for a clean end."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            output = self.told()
            self.kill()
            raise AssertionError(f"it did not stop within {timeout_s} s\n{output}") from None
        self.is_ended = True
        assert code == 0, f"exit code {code}\n{self.told()}"
        wait_until(lambda: not self.left_behind(), "the end of its children")
        # uvicorn logs a traceback for each request that it had to cut.
        if "timeout graceful shutdown exceeded" not in self.told():
            assert "Traceback" not in self.told(), self.told()

    def kill(self) -> None:
        """End it and its children by SIGKILL, as a machine that loses power would."""
        for pid in {self.pid, *self.left_behind()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(30)
        self.is_ended = True

    def left_behind(self) -> list[int]:
        """Return the processes of its session."""
        return [
            pid
            for pid, stat in processes().items()
            if stat.session == self.pid and stat.state not in "ZX"
        ]


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc says of a process."""

    state: str
    parent: int
    session: int


def processes() -> dict[int, Stat]:
    """Return every process by its id."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent, _group, session = (
                    (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
                )
            except (OSError, IndexError):
                continue
            stats[int(entry.name)] = Stat(state, int(parent), int(session))
    return stats


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def memory(pid: int, name: str) -> int:
    """Return a field of /proc/<pid>/status in bytes: VmRSS, or its peak VmHWM."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def forget_peak(pid: int) -> None:
    """Set VmHWM back to VmRSS."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def wait_until(claim: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    """Return once claim holds."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"{what} was not seen within {timeout_s} s"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody listens on, below those that the kernel gives to clients."""
    while True:
        port = _PORTS.randrange(15000, 32000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def soft_limit_of_open_files(count: int) -> Iterator[None]:
    """Give this process, and those that it starts, so many open files to begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"needs 4096 file descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def blobs(data_dir: Path) -> list[Path]:
    """Return the stored blobs."""
    return sorted(path for path in (data_dir / "blobs").rglob("*") if path.is_file())


def staged(data_dir: Path) -> list[Path]:
    """Return staged files that are still there."""
    return [path for path in (data_dir / "tmp").rglob("*") if path.is_file() and not _lock(path)]


def _lock(path: Path) -> bool:
    return path.suffix == ".lock" or path.name.startswith(".new-")
