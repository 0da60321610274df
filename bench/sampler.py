"""`python -m bench.sampler URL SECONDS`: print how long one client waits for an answer, as JSON.

It is a process of its own, so that no work of the benchmark delays it: the URL is asked for every
10 ms on one connection. Where an answer takes longer than that, each sample that was due meanwhile
counts with the rest of the wait, or a stop of a second would count once.
"""

import json
import socket
import sys
import time
from urllib.parse import urlsplit

PERIOD_S = 0.01
_LONGEST_S = 120.0


def sample(url: str, seconds: float) -> list[float]:
    """Return the milliseconds of each sample; an answer that is not 200 ends the run."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port or 80), timeout=_LONGEST_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    waits_ms: list[float] = []
    began = time.perf_counter()
    due = began
    with sock:
        while due < began + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            asked = time.perf_counter()
            sock.sendall(request)
            _read_answer(sock)
            wait_s = time.perf_counter() - asked
            due = asked
            while wait_s > 0:
                waits_ms.append(wait_s * 1000)
                wait_s -= PERIOD_S
                due += PERIOD_S
    return waits_ms


def _read_answer(sock: socket.socket) -> None:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _received(sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        sys.exit(f"the victim was answered {head!r}")
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _received(sock)


def _received(sock: socket.socket) -> bytes:
    part = sock.recv(65536)
    if not part:
        sys.exit("the victim's connection was closed")
    return part


if __name__ == "__main__":
    json.dump(sample(sys.argv[1], float(sys.argv[2])), sys.stdout)
