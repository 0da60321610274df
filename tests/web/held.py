"""A blob store that takes its time, for tests of what changes meanwhile."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.digest import Digest
from app.storage.blobstore import BlobStore, OpenBlob
from tests.web.wire import Site


class HeldStore:
    """A store in which opening a blob takes until it is released, as if all bytes were hashed."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.opening = asyncio.Event()
        self.released = asyncio.Event()
        self.opened = 0

    async def open(self, digest: Digest, size_bytes: int) -> OpenBlob:
        self.opening.set()
        await self.released.wait()
        self.opened += 1
        return await self._store.open(digest, size_bytes)


@contextmanager
def held_opening(site: Site) -> Iterator[HeldStore]:
    """Hold the blobs that a site opens to send them."""
    sender = site.application.surfaces.downloads._sender
    store = sender._store
    held = HeldStore(store)
    sender._store = held  # type: ignore[assignment]
    try:
        yield held
    finally:
        held.released.set()
        sender._store = store
