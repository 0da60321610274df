"""Lists of versions: parsed once, filtered once for the same rules, large ones in a thread.

A list may have hundreds of thousands of versions. On the event loop, parsing or filtering such a
list would make every other request of the process wait.
"""

import asyncio
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TypeVar

from cachetools import LRUCache

from app.core.digest import Digest
from app.core.goproxy import check_list, commits_of, newest, render_list, versions_of
from app.services.authorization import Permission
from app.services.modules.spill import SpillSink
from app.services.slots import FairSemaphore

T = TypeVar("T")

_INLINE_BYTES = 4096  # some 300 versions: a few milliseconds
_KEPT_VERSIONS = 500_000  # over all parsed lists, some 50 MiB
_KEPT_BYTES = 16 * 1024 * 1024  # over all lists as some tenant sees them


class Lists:
    """The parsed lists of one process.

    Args:
        checks: the turns of work that costs CPU.
    """

    def __init__(self, checks: FairSemaphore) -> None:
        self._checks = checks
        self._parsed: LRUCache[tuple[str, Digest], Sequence[str]] = LRUCache(
            _KEPT_VERSIONS, getsizeof=lambda versions: len(versions) + 1
        )
        # What may be seen follows from the rules: tenants with the same rules share it.
        self._visible: LRUCache[tuple[str, Digest, Permission], bytes] = LRUCache(
            _KEPT_BYTES, getsizeof=lambda body: len(body) + 1
        )
        self._lock = Lock()

    async def read_checked(self, sink: SpillSink, module: str, tenant: str) -> bytes:
        """Return the body of a finished download, which is a list of versions of a module.

        Raises:
            BadInputError: the body is no such list.
            StorageError: the body can't be read back.
        """
        await sink.seal()

        def work() -> bytes:
            body = sink.read()
            check_list(body)
            self._versions(body, module)
            return body

        return await self._work(sink.size_bytes, tenant, work)

    async def visible(self, body: bytes, module: str, permission: Permission, tenant: str) -> bytes:
        """Return a list without the versions that may not be seen."""

        def work() -> bytes:
            key = (module, Digest.of(body), permission)
            with self._lock:
                known = self._visible.get(key)
            if known is not None:
                return known
            versions = self._versions(body, module)
            visible = render_list(v for v in versions if permission.decide(v).allowed)
            if len(visible) < _KEPT_BYTES:
                with self._lock:
                    self._visible[key] = visible
            return visible

        return await self._work(len(body), tenant, work)

    async def newest_visible(
        self, body: bytes, module: str, permission: Permission, tenant: str
    ) -> str | None:
        """Return the newest version that may be seen, else the newest commit of the list."""

        def work() -> str | None:
            versions = self._versions(body, module)
            version = newest(v for v in versions if permission.decide(v).allowed)
            if version is not None:
                return version
            commits = reversed(commits_of(body, module))
            return next((v for v in commits if permission.decide(v).allowed), None)

        return await self._work(len(body), tenant, work)

    async def _work(self, size_bytes: int, tenant: str, work: Callable[[], T]) -> T:
        if size_bytes <= _INLINE_BYTES:
            return work()
        async with self._checks.hold(tenant):
            return await asyncio.to_thread(work)

    def _versions(self, body: bytes, module: str) -> Sequence[str]:
        """Return the versions of a list, parsed the first time.

        Two threads may parse the same body at once; both get the same.
        """
        key = (module, Digest.of(body))
        with self._lock:
            known = self._parsed.get(key)
        if known is not None:
            return known
        versions = tuple(versions_of(body, module))
        if len(versions) < _KEPT_VERSIONS:
            with self._lock:
                self._parsed[key] = versions
        return versions
