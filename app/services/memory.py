"""How much memory the bodies of requests under way may take together."""

from collections import Counter


class MemoryBudget:
    """A number of bytes that all requests of a process share.

    A tenant gets bytes only while it then holds no more than are left. So one busy tenant holds
    half of the budget at most, two hold a third each, and a tenant that asks rarely gets its bytes.
    Nobody waits: whoever gets nothing puts the body on disk instead.
    """

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._held_bytes: Counter[str] = Counter()

    @property
    def left_bytes(self) -> int:
        """What can still be taken."""
        return self._left_bytes

    def take(self, size_bytes: int, tenant: str) -> bool:
        """Reserve bytes for a tenant. Return False, and reserve nothing, if that is too much."""
        if self._held_bytes[tenant] + size_bytes > self._left_bytes - size_bytes:
            return False
        self._left_bytes -= size_bytes
        self._held_bytes[tenant] += size_bytes
        return True

    def give_back(self, size_bytes: int, tenant: str) -> None:
        """Return bytes that were taken."""
        self._left_bytes += size_bytes
        self._held_bytes[tenant] -= size_bytes
        if not self._held_bytes[tenant]:
            del self._held_bytes[tenant]
