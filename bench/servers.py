"""Starting what is measured, and the load. Everything on loopback, everything stopped by its id."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("nginx", "wrk")


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


@contextmanager
def nginx(root: Path, folder: Path, workers: int) -> Iterator[str]:
    """Serve root with nginx as its defaults for static files are; yield the base URL."""
    port = free_port()
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
        server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }} }}"""
    )
    with _running(["nginx", "-e", f"{folder}/error.log", "-c", str(config)], {}):
        base = f"http://127.0.0.1:{port}/"
        _wait_for(base, statuses=(200, 403, 404))
        yield base


@contextmanager
def moorage(environment: dict[str, str], workers: int) -> Iterator[str]:
    """Serve with Moorage; yield the base URL."""
    port = free_port()
    settings = {
        "MOORAGE_PORT": str(port),
        "MOORAGE_WORKERS": str(workers),
        "MOORAGE_DRAIN_S": "0",
        "MOORAGE_LOG_LEVEL": "warning",
        **environment,
    }
    with _running([str(Path(sys.executable).parent / "moorage"), "serve"], settings):
        base = f"http://127.0.0.1:{port}/"
        _wait_for(base + "readyz", statuses=(200,))
        yield base


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait_for(url: str, statuses: tuple[int, ...]) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0
        if status in statuses:
            return
        time.sleep(0.1)
    sys.exit(f"{url} did not come up")


def wrk(url: str, *, connections: int, seconds: int) -> tuple[float, float]:
    """Load url; return (requests/s, body and head bytes/s).

    A turn with an answer that is not 2xx or 3xx, or with a broken connection, ends the run.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or re.search(r"Socket errors: .*(connect|read|write) [1-9]", out):
        sys.exit(f"errors under load:\n{out}")
    requests = re.search(r"Requests/sec:\s+([\d.]+)", out)
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", out)
    if requests is None or transfer is None:
        sys.exit(f"wrk said something else:\n{out}")
    unit = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}[transfer[2]]
    return float(requests[1]), float(transfer[1]) * unit
