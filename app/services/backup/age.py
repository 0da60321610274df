"""How old the newest backup is, as a metric: the leader looks into the place of backups.

The place itself is looked at, not a note about the last run: a backup that was pruned, or never
arrived, is none. A scrape of the metrics reads neither the place nor the database.
"""

import asyncio
from collections.abc import Callable

from app import metrics
from app.services.backup.place import BackupPlace


class BackupAge:
    """Looks for the newest backup of the place that the settings name.

    Args:
        store: "directory" or "s3"; None if the settings name no place.
        place: returns the place; may raise StorageError.
    """

    def __init__(self, store: str | None, place: Callable[[], BackupPlace]) -> None:
        self._store = store
        self._place = place

    async def step(self) -> None:
        """Look once; after a failure the metric stays as it is, and so the backup gets older.

        Raises:
            StorageError: the place can't be read.
        """
        if self._store is not None:
            newest = await asyncio.to_thread(lambda: self._place().newest_at())
            metrics.set_backup(self._store, 0.0 if newest is None else newest.timestamp())
