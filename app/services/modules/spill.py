"""A sink for bodies of unknown length: short ones stay in memory, longer ones go to a staged blob.

So a stalled download holds little memory, and a short body costs no file. What is held in memory is
taken from the budget of the process; where the tenant's share is used up, a short body is staged,
too.
"""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from app.core.digest import Digest
from app.core.errors import StorageError
from app.services.memory import MemoryBudget
from app.storage.blobstore import BlobStore, StagedBlob


class SpillSink:
    """Takes one body. A context manager: at its end an uncommitted staged blob is removed.

    Args:
        store: where a long body is staged.
        budget: of the process.
        memory_bytes: the longest body that stays in memory.
        tenant: whose share of the budget is used.
    """

    def __init__(
        self, store: BlobStore, budget: MemoryBudget, memory_bytes: int, tenant: str
    ) -> None:
        self._store = store
        self._budget = budget
        self._tenant = tenant
        self._memory_bytes = memory_bytes
        self._memory = bytearray()
        self._staged: StagedBlob | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._empty()
        await self._stack.__aexit__(kind, error, trace)

    def _empty(self) -> None:
        self._budget.give_back(len(self._memory), self._tenant)
        self._memory.clear()

    @property
    def is_staged(self) -> bool:
        """Whether the body lies on disk, so that `read` blocks."""
        return self._staged is not None

    @property
    def size_bytes(self) -> int:
        """The length of the body so far."""
        return len(self._memory) if self._staged is None else self._staged.size_bytes

    async def restart(self) -> None:
        """Forget everything: the download begins again."""
        self._empty()
        if self._staged is not None:
            await self._staged.restart()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            StorageError: they can't be staged.
        """
        if self._staged is None:
            is_short = len(self._memory) + len(chunk) <= self._memory_bytes
            if is_short and self._budget.take(len(chunk), self._tenant):
                self._memory += chunk
                return
            self._staged = await self._stack.enter_async_context(self._store.stage())
            await self._staged.write(bytes(self._memory))
            self._empty()
        await self._staged.write(chunk)

    async def seal(self) -> None:
        """Make the whole body readable; no write follows.

        Raises:
            StorageError: the last bytes can't be staged.
        """
        if self._staged is not None:
            await self._staged.seal()

    def read(self) -> bytes:
        """Return the whole body, once sealed. Blocks where the body is staged.

        Raises:
            StorageError: the staged file can't be read.
        """
        if self._staged is None:
            return bytes(self._memory)
        try:
            return self._staged.path.read_bytes()
        except OSError as error:
            raise StorageError(f"a staged file can't be read back: {error.strerror}") from error

    async def commit(self, digest: Digest) -> None:
        """Make the sealed body a durable blob.

        Raises:
            StorageError: the body can't be made durable.
        """
        if self._staged is None:
            await self._store.put(self.read())
        else:
            await self._store.commit(self._staged, digest)
