"""Single flight: many callers want one result, one task makes it.

The task belongs to nobody: a caller that goes away, even the first, cancels nothing for the
others. Once the last caller has gone the task still runs to its end, so that the work is not lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from app.core.errors import OverloadedError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flight(Generic[K, V]):
    """One running task per key.

    Args:
        max_waiters: callers per key, beyond which OverloadedError is raised.
        max_keys: keys in flight at once, beyond which a new key is refused.
    """

    def __init__(self, *, max_waiters: int = 1000, max_keys: int = 256) -> None:
        self._max_waiters = max_waiters
        self._max_keys = max_keys
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._waiters: dict[K, int] = {}
        self._unasked: set[K] = set()

    async def do(self, key: K, work: Callable[[], Awaitable[V]], *, is_unasked: bool = False) -> V:
        """Return the result of the task running for key, starting work() if there is none.

        Args:
            key: what is wanted.
            work: makes it.
            is_unasked: nobody waits for it yet: it takes no place that others want, and is not
                begun while half of the places are taken.

        Raises:
            OverloadedError: too many wait already.
            Exception: whatever work() raised, for every caller alike.
        """
        task = self._tasks.get(key)
        if task is None:
            taken = len(self._tasks) - len(self._unasked)
            if is_unasked and 2 * len(self._tasks) >= self._max_keys:
                raise OverloadedError("too much is under way to fetch ahead")
            if taken >= self._max_keys:
                raise OverloadedError(f"{self._max_keys} other fetches are under way; try again")
            task = asyncio.ensure_future(self._run(key, work))
            task.add_done_callback(_look)
            self._tasks[key] = task
            if is_unasked:
                self._unasked.add(key)
        if self._waiters.get(key, 0) >= self._max_waiters:
            raise OverloadedError(f"{self._max_waiters} others wait for the same file; try again")
        self._waiters[key] = self._waiters.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiters[key] -= 1
            if not self._waiters[key]:
                del self._waiters[key]

    async def _run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        try:
            return await work()
        finally:
            del self._tasks[key]
            self._unasked.discard(key)

    async def drain(self, drain_s: float) -> None:
        """Give the running tasks drain_s seconds, then cancel them."""
        try:
            async with asyncio.timeout(drain_s):
                await self.aclose(cancel=False)
        except TimeoutError:
            await self.aclose(cancel=True)

    async def aclose(self, *, cancel: bool) -> None:
        """Wait for the running tasks, cancelling them first if asked to."""
        tasks = list(self._tasks.values())
        if cancel:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look(task: asyncio.Task[V]) -> None:
    """See a failure for which nobody waits any more, lest asyncio complain about it."""
    if not task.cancelled():
        task.exception()
