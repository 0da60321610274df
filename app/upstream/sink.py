"""Where bodies from upstreams go."""

from typing import Protocol


class Sink(Protocol):
    """Takes a body. An error of the sink reaches the caller unchanged and causes no retry."""

    async def restart(self) -> None:
        """Forget everything: the download begins again."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""


class MemorySink:
    """A sink for small bodies."""

    def __init__(self) -> None:
        self.body = bytearray()

    async def restart(self) -> None:
        """Forget everything; see `Sink`."""
        self.body.clear()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes; see `Sink`."""
        self.body += chunk
