"""Prepared answers by path, valid for one policy generation."""

from cachetools import LRUCache

from app.web.responses import Answer

_MAX_ENTRIES = 8192


class HotCache:
    """Answers that need no query, no parsing and no thread."""

    def __init__(self) -> None:
        self._generation = -1
        self._answers: LRUCache[bytes, Answer] = LRUCache(_MAX_ENTRIES)

    def get(self, key: bytes, generation: int) -> Answer | None:
        """Return the answer prepared for key in this generation."""
        if generation != self._generation:
            self._answers.clear()
            self._generation = generation
            return None
        return self._answers.get(key)

    def put(self, key: bytes, generation: int, answer: Answer) -> None:
        """Keep an answer that was prepared from what was true in this generation.

        An answer prepared before a change and finished after it is not kept.
        """
        if generation == self._generation:
            self._answers[key] = answer
