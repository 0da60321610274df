"""When a request makes us read the index: never read before, or too old to say "no such file".

404 means known absent. While the index is older than it should be, an unknown name is unknown
rather than absent, so the index is read first; if that fails, the failure is the answer.
"""

from collections.abc import Callable
from datetime import timedelta

from app.core.errors import MoorageError
from app.services.clock import Now
from app.services.releases.catalog import Catalog, CatalogReader
from app.services.releases.index import ReleaseIndexReader


class Freshness:
    """Reads the index on behalf of requests, as seldom as honesty allows.

    Args:
        refresh_s: how old the index may be.
        retry_failed_s: for how long a failed reading is answered from memory.
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
        # The background loop reads every refresh_s; requests step in only when that stopped.
        self._max_age = timedelta(seconds=refresh_s * 1.5 + 5)
        self._retry_failed_s = retry_failed_s
        self._failed: tuple[float, MoorageError] | None = None

    async def first_index(self, catalog: Catalog) -> None:
        """Return once the index was read at least once.

        Raises:
            UpstreamError: it never was, and can't be now.
        """
        if catalog.status.read_at is not None:
            return
        # What is loaded may be half a second old, and the index may have been read since.
        if (await self._catalog.current(fresh=True)).status.read_at is None:
            await self._refresh()

    async def look_again(self) -> bool:
        """Read the index if it is too old to say that something is absent.

        Returns whether there is a newer one than before, whoever read it.

        Raises:
            UpstreamError: it is too old, and can't be read now.
        """
        for fresh in (False, True):
            read_at = (await self._catalog.current(fresh=fresh)).status.read_at
            if read_at is not None and self._now() - read_at < self._max_age:
                return fresh
        await self._refresh()
        return True

    async def _refresh(self) -> None:
        if self._failed is not None and self._monotonic() < self._failed[0]:
            raise self._failed[1].with_traceback(None)
        try:
            await self._reader.refresh()
        except MoorageError as error:
            self._failed = (self._monotonic() + self._retry_failed_s, error)
            raise
        self._failed = None
        await self._catalog.current(fresh=True)
