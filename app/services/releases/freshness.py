"""When a request reads the index: if no index was ever read, or if the index is too old for a 404.

404 means known absent. An old index cannot say that a file is absent, so the index is read first.
If that fails, the failure is the answer.
"""

from collections.abc import Callable
from datetime import timedelta

from app.core.errors import MoorageError, StorageFullError
from app.services.clock import Now
from app.services.releases.catalog import Catalog, CatalogReader
from app.services.releases.index import ReleaseIndexReader

_ZERO = timedelta(0)


class Freshness:
    """Reads the index for requests, but only if an honest answer needs a newer one.

    Args:
        refresh_s: seconds between two reads by the background loop.
        retry_failed_s: seconds for which a failed read is answered from memory.
    """

    def __init__(
        self,
        reader: ReleaseIndexReader,
        catalog: CatalogReader,
        now: Now,
        monotonic: Callable[[], float],
        *,
        refresh_s: float,
        retry_failed_s: float,
    ) -> None:
        self._reader = reader
        self._catalog = catalog
        self._now = now
        self._monotonic = monotonic
        # The background loop reads every refresh_s. Only if that stopped, requests read the index.
        self._max_age = timedelta(seconds=refresh_s * 1.5 + 5)
        self._retry_failed_s = retry_failed_s
        self._failed: tuple[float, MoorageError] | None = None

    async def first_index(self, catalog: Catalog) -> None:
        """Make sure that the index was read at least once.

        Raises:
            UpstreamError: the index was never read, and can't be read now.
        """
        if catalog.status.read_at is not None:
            return
        # The loaded catalogue may be half a second old; another process may have read the index.
        if (await self._catalog.current(fresh=True)).status.read_at is None:
            await self._refresh()

    async def look_again(self) -> bool:
        """Read the index if it is too old to say that a file is absent.

        Returns whether the index is newer than the caller's, no matter which process read it.

        Raises:
            UpstreamError: the index is too old, and can't be read now.
        """
        for fresh in (False, True):
            read_at = (await self._catalog.current(fresh=fresh)).status.read_at
            # An age below zero: a clock was ahead when the index was read, and nobody knows how old
            # the index is.
            if read_at is not None and _ZERO <= self._now() - read_at < self._max_age:
                return fresh
        await self._refresh()
        return True

    async def _refresh(self) -> None:
        if self._failed is not None and self._monotonic() < self._failed[0]:
            raise self._failed[1].with_traceback(None)
        try:
            await self._reader.refresh()
        except StorageFullError:  # the disk may have room again in the next second
            raise
        except MoorageError as error:
            self._failed = (self._monotonic() + self._retry_failed_s, error)
            raise
        self._failed = None
        await self._catalog.current(fresh=True)
