"""Prepared answers by key, valid until a change concerns them, bounded in bytes."""

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
        since: returns the generation of the last change that concerns an answer.
        max_bytes: what all answers together may hold.
    """

    def __init__(
        self, size_of: Callable[[V], int], since: Callable[[V], int], max_bytes: int = MAX_BYTES
    ) -> None:
        self._since = since
        self._answers: LRUCache[bytes, tuple[int, V]] = LRUCache(
            max_bytes, lambda entry: size_of(entry[1]) + _ENTRY_BYTES
        )

    def get(self, key: bytes) -> V | None:
        """Return the answer prepared for key, if no change has concerned it since."""
        try:
            generation, answer = self._answers[key]  # get() would look for the key once more
        except KeyError:
            return None
        if generation < self._since(answer):
            self.drop(key)
            return None
        return answer

    def put(self, key: bytes, generation: int, answer: V) -> None:
        """Keep an answer that was prepared from what was true in this generation.

        An answer prepared before a change and finished after it is not kept.
        """
        if generation >= self._since(answer):
            self._answers[key] = generation, answer

    def clear(self) -> None:
        """Forget every answer."""
        self._answers.clear()

    def drop(self, key: bytes) -> None:
        """Forget an answer that no longer holds."""
        self._answers.pop(key, None)
