"""Clients as simple as can be, so that what is measured is the server: raw sockets and threads."""

import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

_BUFFER_BYTES = 1024 * 1024


def body_of(url: str, header: str) -> bytes:
    """Return the body of a GET; header is a line such as "Authorization: Basic …"."""
    name, _, value = header.partition(": ")
    with urllib.request.urlopen(urllib.request.Request(url, headers={name: value})) as answer:
        body: bytes = answer.read()
        return body


def download_s(url: str, clients: int) -> float:
    """Return the seconds in which so many clients, starting at once, have the whole body.

    An answer that is not a 200, or is cut short, ends the run.
    """
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(_drain(url)), daemon=True)
        for _ in range(clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began
    if len(sizes) < clients:
        sys.exit(f"{clients - len(sizes)} of {clients} downloads of {url} failed")
    return took_s


def _drain(url: str) -> int:
    """Read a body away; return its length."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with _asked(url) as sock:
        head = b""
        while b"\r\n\r\n" not in head:
            got = sock.recv(65536)
            if not got:
                raise ConnectionError("closed within the head")
            head += got
        head, _, body = head.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if b" 200 " not in lines[0]:
            raise ConnectionError(f"answered {lines[0]!r}")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        have = len(body)
        while have < length:
            got_bytes = sock.recv_into(buffer)
            if not got_bytes:
                raise ConnectionError("cut short")
            have += got_bytes
        return length


@contextmanager
def asking(urls: list[str]) -> Iterator[None]:
    """Have all URLs asked for inside the context; an answer before its end ends the run."""
    with ExitStack() as stack:
        socks = [stack.enter_context(_asked(url)) for url in urls]
        time.sleep(0.5)  # until the server has them all
        yield
        for sock in socks:
            sock.setblocking(False)
            try:
                said = sock.recv(1024)
            except BlockingIOError:
                continue
            sys.exit(f"a slow answer came early: {said!r}")


def _asked(url: str) -> socket.socket:
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port or 80))
    sock.sendall(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
    )
    return sock
