"""Many nodes in one process: each asks for a release as `moorage-node` does, all at once.

    python -m tests.e2e.nodeherd PORT FILENAME COUNT

Each node has a connection of its own. It asks for the sum, then for the archive, and when that is
complete for `.tree` and `.chunks`. "asked" is printed once every node has sent its first request,
which waits for a release that the mirror has not fetched yet. At the end comes one JSON object:
`wrong`, what went wrong and how often, and `sums`, how many nodes got pieces of 1 MiB whose SHA-256
are those of `.chunks`, by the SHA-256 of `.chunks`. Nothing is kept: 500 nodes need some MB.
"""

import asyncio
import hashlib
import json
import socket
import sys
from collections import Counter

_PIECE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
# Real nodes have a kernel each. Full buffers of all would pass what one kernel has for TCP
# (`net.ipv4.tcp_mem`), which then drops what has come: some connections stand still for a minute.
_SOCKET_BYTES = 1 << 18


class Node:
    """One connection."""

    def __init__(self, port: int, name: str) -> None:
        self._port, self._name = port, name

    async def connect(self) -> None:
        """Open the connection."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=sock)

    async def ask(self, suffix: str) -> None:
        """Send one request."""
        head = f"GET /dl/{self._name}{suffix} HTTP/1.1\r\nHost: nodes\r\n\r\n"
        self._writer.write(head.encode())
        await self._writer.drain()

    async def head(self) -> int:
        """Return the length of an answer's body.

        Raises:
            ValueError: the answer is not 200.
        """
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head.lower().split(b"\r\n")
        if status.split()[1] != b"200":
            raise ValueError(status.decode())
        return next(int(one[15:]) for one in lines if one.startswith(b"content-length:"))

    async def small(self, suffix: str) -> bytes:
        """Ask for a small file, and return it."""
        await self.ask(suffix)
        return await self.body()

    async def body(self) -> bytes:
        """Return the body of an answer that is short."""
        return await self._reader.readexactly(await self.head())

    async def archive(self) -> bytes:
        """Return the SHA-256 of the archive's pieces, as `.chunks` has them."""
        left = await self.head()
        sums = b""
        while left:
            piece, room = hashlib.sha256(), min(left, _PIECE_BYTES)
            left -= room
            while room:
                part = await self._reader.read(min(room, _READ_BYTES))
                if not part:
                    raise ValueError("truncated")
                piece.update(part)
                room -= len(part)
            sums += piece.digest()
        return sums

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def main(port: int, name: str, count: int) -> None:
    """Run all nodes to their end."""
    nodes = [Node(port, name) for _ in range(count)]
    for node in nodes:
        await node.connect()
    for node in nodes:
        await node.ask(".sha256")
    print("asked", flush=True)
    wrong: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    await asyncio.gather(*(_end(node, sums, wrong) for node in nodes))
    print(json.dumps({"sums": sums, "wrong": wrong}))


async def _end(node: Node, sums: Counter[str], wrong: Counter[str]) -> None:
    """Take the archive and what proves it, and count how that ended."""
    try:
        await node.body()
        await node.ask("")
        pieces = await node.archive()
        tree, chunks = await node.small(".tree"), await node.small(".chunks")
        if chunks != pieces or not tree.startswith(b"{"):
            raise ValueError("other derived files")
        sums[hashlib.sha256(chunks).hexdigest()] += 1
    except (ValueError, OSError, EOFError) as error:
        wrong[str(error)] += 1
    finally:
        node.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
