"""`python -m bench.nodeserver FOLDER RATE`: files on loopback, at most RATE bytes a second.

RATE 0 sends by sendfile as fast as it goes. Else a connection gets a slice every 4 ms. It says its
port on the first line of stdout, and ends when stdin ends.
"""

import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

_SLICE_S = 0.004
_REQUEST = re.compile(rb"GET (/[^ ]*) HTTP/1\.[01]\r\n")


def main() -> None:
    """Serve until stdin ends."""
    folder, rate = Path(sys.argv[1]), float(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener, folder, rate), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, folder: Path, rate: float) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_converse, args=(sock, folder, rate), daemon=True).start()


def _converse(sock: socket.socket, folder: Path, rate: float) -> None:
    unread = b""
    with sock:
        while True:
            while b"\r\n\r\n" not in unread:
                more = sock.recv(65536)
                if not more:
                    return
                unread += more
            head, _, unread = unread.partition(b"\r\n\r\n")
            match = _REQUEST.match(head + b"\r\n")
            path = folder / match[1].decode().lstrip("/") if match else folder
            if not path.is_file():
                sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                _send(sock, file.fileno(), size, rate)


def _send(sock: socket.socket, file: int, size: int, rate: float) -> None:
    step = int(rate * _SLICE_S) if rate else size
    offset, due = 0, time.monotonic()
    while offset < size:
        end = min(size, offset + step)
        while offset < end:
            offset += os.sendfile(sock.fileno(), file, offset, end - offset)
        due += (step / rate) if rate else 0.0
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
