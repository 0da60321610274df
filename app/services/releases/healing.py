"""Release files as owners of blobs; see `services/repair.py`."""

from app.core.digest import Digest
from app.db.engine import Session
from app.db.releases import ReleaseTable
from app.services.releases.ingestion import Ingestion
from app.services.repair import BlobOwner


class ReleaseHealing(BlobOwner):
    """Release files as owners of blobs; ingestion fetches a damaged file again."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return the filenames; see `BlobOwner.names_of`."""
        return ReleaseTable(session).names_of(digest)

    async def fetch_again(self, digest: Digest, *, forced: bool) -> None:
        """Ingest the file again; see `BlobOwner.fetch_again`."""
        names = await self._ingestion.names_of(digest)
        await self._ingestion.ensure(names[0], forced=forced)
