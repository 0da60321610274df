"""A bounded queue between two threads, which either side may end."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class AbandonedError(Exception):
    """The queue was given up: nobody reads any more."""


class Handover(Generic[Item]):
    """At most `limit` items wait; a full queue makes the writer wait, an empty one the reader."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_ended = False
        self._is_abandoned = False
        self._failure: BaseException | None = None

    def put(self, item: Item) -> None:
        """Add an item.

        Raises:
            AbandonedError: the reader gave up.
        """
        with self._changed:
            while len(self._items) >= self._limit and not self._is_abandoned:
                self._changed.wait()
            if self._is_abandoned:
                raise AbandonedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Item | None:
        """Return the next item; None at the end.

        Raises:
            BaseException: the writer's failure.
            AbandonedError: somebody gave the queue up.
        """
        with self._changed:
            while not self._items and not self._is_ended and not self._is_abandoned:
                self._changed.wait()
            if self._is_abandoned:
                raise AbandonedError
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._failure is not None:
                raise self._failure
            return None

    def end(self, failure: BaseException | None = None) -> None:
        """Say that no item follows; the reader gets failure after the last one."""
        with self._changed:
            self._is_ended, self._failure = True, self._failure or failure
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nobody reads any more."""
        with self._changed:
            self._is_abandoned = True
            self._items.clear()
            self._changed.notify_all()
