"""How much memory the bodies of requests under way may take together."""


class MemoryBudget:
    """A number of bytes that all requests of a process share.

    Nobody waits for it: who gets nothing puts the body on disk instead.
    """

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes

    @property
    def left_bytes(self) -> int:
        """What can still be taken."""
        return self._left_bytes

    def take(self, size_bytes: int) -> bool:
        """Reserve bytes. Return False, and reserve nothing, if fewer are left."""
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Return bytes that were taken."""
        self._left_bytes += size_bytes
