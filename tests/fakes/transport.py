"""A transport without a socket."""

import asyncio
from collections.abc import Iterable


class KeptTransport(asyncio.Transport):
    """Takes bytes and keeps them.

    Attributes:
        calls: the pieces of each write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[bytes | bytearray | memoryview]] = []
        self._is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a piece."""
        self.calls.append([data])

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep several pieces of one call."""
        self.calls.append(list(pieces))

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def can_write_eof(self) -> bool:
        """Whether it can be closed in one direction: no."""
        return False

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Take note of it."""
        self._is_closed = True
