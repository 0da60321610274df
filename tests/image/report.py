"""What the proof of the image says, and how it waits for services."""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection

_START_S = 60.0


class Report:
    """Prints each claim with whether it holds."""

    def __init__(self) -> None:
        self.failed = 0

    def claim(self, text: str, holds: bool, because: object = "") -> None:
        self.failed += not holds
        print(f"{'ok    ' if holds else 'FAILED'}  {text}{f': {because}' if because else ''}")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
        return port


def status_of(port: int, path: str = "/readyz", trust: ssl.SSLContext | None = None) -> int | None:
    """Return the status of a path, by TLS if an authority is trusted; None without an answer."""
    if trust is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
    else:
        connection = HTTPSConnection("127.0.0.1", port, timeout=5, context=trust)
    try:
        with closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status
    except (ConnectionError, TimeoutError):
        return None


def until(holds: Callable[[], bool]) -> bool:
    """Ask four times a second until it holds; False after a minute."""
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.25)
    return False
