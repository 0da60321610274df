"""Release files, and what is derived from them, as owners of blobs; see `services/repair.py`."""

from app.core.derived import DerivedKind
from app.core.digest import Digest
from app.core.releasefile import FileRecord
from app.db.derived import DerivedTable
from app.db.engine import Database, Session
from app.db.releases import ReleaseTable
from app.services.releases.derived import DerivedFiles
from app.services.releases.ingestion import Ingestion
from app.services.releases.zstforms import ZstForms
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


class DerivedHealing(BlobOwner):
    """Derived files as owners of blobs; a damaged one is derived anew."""

    def __init__(
        self, db: Database, ingestion: Ingestion, derived: DerivedFiles, zst: ZstForms
    ) -> None:
        self._db = db
        self._ingestion = ingestion
        self._derived = derived
        self._zst = zst

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return names such as "go1.23.1.linux-amd64.tar.gz.tree"; see `BlobOwner.names_of`."""
        return [f"{name}.{kind}" for name, kind in _origins(session, digest)]

    async def fetch_again(self, digest: Digest, *, forced: bool) -> None:
        """Derive each file of the blob anew; a damaged archive is fetched again before.

        Raises:
            MoorageError: see `Ingestion.ensure`; the archive can't be read.
        """
        for name, kind in await self._db.read(lambda s: _origins(s, digest)):
            record = await self._ingestion.ensure(name, forced=forced)
            await self._derive(record, kind)

    async def _derive(self, record: FileRecord, kind: DerivedKind) -> None:
        if kind in {DerivedKind.TREE, DerivedKind.CHUNKS}:
            await self._derived.make(record)
        else:
            await self._zst.heal(record)


def _origins(session: Session, digest: Digest) -> list[tuple[str, DerivedKind]]:
    """Return the name of an archive and the kind, for each derived file with this digest."""
    releases = ReleaseTable(session)
    return [
        (names[0], kind)
        for archive, kind in DerivedTable(session).origins_of(digest)
        if (names := releases.names_of(archive))
    ]
