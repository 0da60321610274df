"""Starting what is measured, and the load. Everything on loopback, everything stopped by its id."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NEEDED = ("nginx", "wrk")
UNVERIFIED = ssl.create_default_context()  # on loopback, what answers is known
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its base URL, with a slash at the end, and the id of its first process."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a load brought.

    Attributes:
        requests_s: answers a second.
        bytes_s: of heads and bodies.
        p99_ms: 99 of 100 answers were complete after so long.
    """

    requests_s: float
    bytes_s: float
    p99_ms: float


def require_programs() -> None:
    """Exit with a message if a program is missing."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        sys.exit(f"bench needs {' and '.join(missing)} (Debian: nginx-light, wrk)")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def cpu_s(pid: int) -> float:
    """Return the CPU seconds, in user mode and in the kernel, of a process and its descendants."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own_s = sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    return own_s + sum(cpu_s(int(child)) for child in children)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(rss_bytes(int(child)) for child in children)


@contextmanager
def nginx(
    root: Path, folder: Path, workers: int, certificate: Path | None = None
) -> Iterator[Served]:
    """Serve root with nginx as its defaults for static files are; yield where.

    With a certificate (a file that has its key, too) it speaks TLS, with the same defaults.
    """
    port = free_port()
    secured = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
    how, tls = ("", "") if certificate is None else ("ssl", secured)
    temps = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"""{user} worker_processes {workers}; daemon off; pid {folder}/nginx.pid;
        error_log {folder}/error.log; events {{ worker_connections 1024; }}
        http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; {temps}
        server {{ listen 127.0.0.1:{port} {how} backlog=4096; {tls} root {root}; }} }}"""
    )
    with _running(["nginx", "-e", f"{folder}/error.log", "-c", str(config)], {}) as pid:
        base = f"http{'s' if certificate else ''}://127.0.0.1:{port}/"
        _wait_for(base, statuses=(200, 403, 404))
        yield Served(base, pid)


@contextmanager
def moorage(
    environment: dict[str, str], workers: int, command: list[str] | None = None
) -> Iterator[Served]:
    """Serve with Moorage; yield where. command: what runs its program, `moorage` by default."""
    port = free_port()
    settings = {
        "MOORAGE_PORT": str(port),
        "MOORAGE_WORKERS": str(workers),
        "MOORAGE_DRAIN_S": "0",
        "MOORAGE_LOG_LEVEL": "warning",
        **environment,
    }
    program = command or [str(Path(sys.executable).parent / "moorage")]
    with _running([*program, "serve"], settings) as pid:
        scheme = "https" if "MOORAGE_TLS__CERT_FILE" in environment else "http"
        base = f"{scheme}://127.0.0.1:{port}/"
        _wait_for(base + "readyz", statuses=(200,))
        yield Served(base, pid)


@contextmanager
def goproxy(binary: Path, upstream: str, folder: Path) -> Iterator[Served]:
    """Serve with goproxy (github.com/goproxy/goproxy), which asks upstream; yield where."""
    port = free_port()
    folder.mkdir()
    command = [str(binary), "server", "--address", f"127.0.0.1:{port}"]
    environment = {
        "GOPROXY": upstream,
        "GOSUMDB": "off",
        "GOENV": "off",
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    with _running([*command, "--cacher-dir", str(folder / "cache")], environment) as pid:
        base = f"http://127.0.0.1:{port}/"
        _wait_for(base, statuses=(400, 404))
        yield Served(base, pid)


@contextmanager
def bare_proxy(upstream: str, folder: Path, workers: int) -> Iterator[Served]:
    """Serve with `bench/bareproxy.py`, which asks upstream; yield where."""
    port = free_port()
    folder.mkdir()
    program = [sys.executable, "-m", "uvicorn", "--factory", "bench.bareproxy:create"]
    options = ["--port", str(port), "--workers", str(workers), "--log-level", "warning"]
    options += ["--no-access-log", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
    environment = {"BARE_UPSTREAM": upstream, "BARE_FOLDER": str(folder)}
    with _running([*program, *options], environment) as pid:
        base = f"http://127.0.0.1:{port}/"
        _wait_for(base, statuses=(404,))
        yield Served(base, pid)


@contextmanager
def upstream(cache: Path, log: Path, *options: str) -> Iterator[str]:
    """Serve a folder like a module cache's cache/download as a GOPROXY; yield the base URL.

    It is a process of its own, lest it share an interpreter with the load; each request is a line
    in log. options are those of `python -m tests.fakes.goproxy`.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.fakes.goproxy", "--port", str(port)]
    with log.open("w") as out, _running([*command, "--dir", str(cache), *options], {}, out):
        base = f"http://127.0.0.1:{port}"
        _wait_for(base, statuses=(404,))
        yield base


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], out: IO[str] | int = subprocess.DEVNULL
) -> Iterator[int]:
    process = subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=out,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait_for(url: str, statuses: tuple[int, ...]) -> None:
    for _ in range(900):
        try:
            with urllib.request.urlopen(url, context=UNVERIFIED) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0
        if status in statuses:
            return
        time.sleep(0.1)
    sys.exit(f"{url} did not come up")


def wrk(url: str, *, connections: int, seconds: int, headers: tuple[str, ...] = ()) -> Load:
    """Load url with one thread; headers are lines such as "Authorization: Basic …".

    A turn with an answer that is not 2xx or 3xx, or with a broken connection, ends the run.
    """
    more = [part for header in headers for part in ("-H", header)]
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    out = subprocess.run([*command, *more, url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or re.search(r"Socket errors: .*(connect|read|write) [1-9]", out):
        sys.exit(f"errors under load:\n{out}")
    requests = re.search(r"Requests/sec:\s+([\d.]+)", out)
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", out)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    if requests is None or transfer is None or slowest is None:
        sys.exit(f"wrk said something else:\n{out}")
    unit = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}[transfer[2]]
    in_ms = {"us": 0.001, "ms": 1, "s": 1000}[slowest[2]]
    return Load(float(requests[1]), float(transfer[1]) * unit, float(slowest[1]) * in_ms)


def cpu_of_load(
    server: Served, url: str, *, connections: int, seconds: int, headers: tuple[str, ...] = ()
) -> tuple[Load, float]:
    """Load url as `wrk` does; return the load and the CPU seconds of the server's processes."""
    before_s = cpu_s(server.pid)
    load = wrk(url, connections=connections, seconds=seconds, headers=headers)
    return load, cpu_s(server.pid) - before_s
