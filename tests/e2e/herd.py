"""Many clients in one process: each asks for one path and compares every byte that comes.

    python -m tests.e2e.herd PORT PATH CLIENTS FILE

prints "asked" once every client has sent its request, then waits for the answers and prints one
JSON object: how many got which status, and how many bodies are FILE, byte for byte. Nothing is
kept: 500 clients of a large archive need some MB.
"""

import json
import selectors
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_PIECE_BYTES = 1 << 18


@dataclass(eq=False)
class Client:
    """One connection: its head as it came, then how much of the body was right so far."""

    sock: socket.socket
    head: bytes = b""
    position: int = 0
    is_equal: bool = field(default=True)

    def take(self, data: memoryview, expected: bytes) -> None:
        """Look at the next bytes."""
        if b"\r\n\r\n" not in self.head:
            before = len(self.head)
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            end = self.head.index(b"\r\n\r\n") + 4
            self.head, data = self.head[:end], data[end - before :]
        # Compares in place: a copy of each piece would cost as much again.
        self.is_equal = self.is_equal and expected.startswith(data, self.position)
        self.position += len(data)

    @property
    def status(self) -> str:
        """The answer's status, or what is wrong with it."""
        return self.head.split(b" ", 2)[1].decode() if self.head else "no answer"


def main(port: int, path: str, count: int, file: Path) -> None:
    """Run the clients to their end."""
    request = f"GET {path} HTTP/1.1\r\nHost: herd\r\nConnection: close\r\n\r\n".encode()
    clients = [Client(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
    for client in clients:
        client.sock.sendall(request)
    print("asked", flush=True)
    expected = file.read_bytes()
    _read_all(clients, expected)
    whole = sum(c.is_equal and c.position == len(expected) for c in clients)
    print(json.dumps({"statuses": Counter(c.status for c in clients), "whole": whole}))


def _read_all(clients: list[Client], expected: bytes) -> None:
    piece = memoryview(bytearray(_PIECE_BYTES))
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.sock.setblocking(False)
            selector.register(client.sock, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select():
                client = key.data
                try:
                    count = client.sock.recv_into(piece)
                except ConnectionError:
                    count = 0
                if count:
                    client.take(piece[:count], expected)
                else:
                    selector.unregister(client.sock)
                    client.sock.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
