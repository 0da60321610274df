"""Prepared answers by key, valid for one policy generation, bounded in bytes."""

from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import LRUCache

V = TypeVar("V")

MAX_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 1024  # of an answer's headers and objects


class HotCache(Generic[V]):
    """Answers that need no query, no parsing and no thread.

    Args:
        size_of: returns how many bytes of body an answer holds.
        max_bytes: what all answers together may hold.
    """

    def __init__(self, size_of: Callable[[V], int], max_bytes: int = MAX_BYTES) -> None:
        self._generation = -1
        self._answers: LRUCache[bytes, V] = LRUCache(
            max_bytes, lambda answer: size_of(answer) + _ENTRY_BYTES
        )

    def get(self, key: bytes, generation: int) -> V | None:
        """Return the answer prepared for key in this generation."""
        if generation != self._generation:
            self._answers.clear()
            self._generation = generation
            return None
        return self._answers.get(key)

    def put(self, key: bytes, generation: int, answer: V) -> None:
        """Keep an answer that was prepared from what was true in this generation.

        An answer prepared before a change and finished after it is not kept.
        """
        if generation == self._generation:
            self._answers[key] = answer

    def clear(self) -> None:
        """Forget every answer."""
        self._answers.clear()

    def drop(self, key: bytes) -> None:
        """Forget an answer that no longer holds."""
        self._answers.pop(key, None)
