"""What the tests of services share: clocks that stand still, an HTTP client that never waits
between attempts, and looks at what is really on the disk and in the database.
"""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import text

from app.core.audit import AuditRecord
from app.core.digest import Digest
from app.core.releasefile import FileRecord
from app.db.engine import Session
from app.db.releases import ReleaseTable
from app.metrics.meters import meters
from app.services.assembly import Services
from app.services.releases.derived import DerivedFiles
from app.services.releases.healing import DerivedHealing, ReleaseHealing
from app.services.releases.index import ReleaseIndexReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.judging import Judge
from app.services.releases.scrub import Scrub
from app.services.releases.sync import ReleaseSync
from app.services.repair import Repair
from app.storage.blobstore import BlobCondition, BlobStore
from app.upstream.address import AddressGuard, AllowedNetwork
from app.upstream.godev import GoDev
from app.upstream.http import HttpClient
from tests.statements import portable

NAME = "go1.99.1.linux-amd64.tar.gz"
PATH = f"/go/{NAME}"
INDEX_PATH = "/dl/"


class WallClock:
    """A UTC clock that moves only when told to."""

    def __init__(self, at: datetime | None = None) -> None:
        self.at = at or datetime(2026, 11, 23, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **by: float) -> None:
        self.at += timedelta(**by)


class Stopwatch:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Sleeps(list[float]):
    """A sleep that only writes down how long it should have been."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


def rewired(
    services: Services,
    *,
    sleep: Any = None,
    deadline_s: float = 60.0,
    monotonic: Any = None,
    store: BlobStore | None = None,
    **policy: Any,
) -> Services:
    """Return the services with a client that doesn't wait, another policy, clock or store."""
    shared, releases = services.shared, services.releases
    if store is not None:
        shared = replace(shared, store=store)
    settings, db, now = shared.settings, shared.db, shared.now
    client = HttpClient(
        guard=AddressGuard([AllowedNetwork.parse(one) for one in settings.network.allow]),
        user_agent="tests",
        random=Random(0),
        sleep=Sleeps() if sleep is None else sleep,
    )
    godev = GoDev(client, releases.godev.index_url, releases.godev.files_urls, deadline_s)
    derived = DerivedFiles(db, shared.store, now)
    judged_by = replace(releases.ingestion.policy, **policy)
    ingestion = Ingestion(
        db,
        shared.store,
        godev,
        Judge(godev, releases.keyring, releases.own_keyring, derived, judged_by, now),
        shared.leases,
        judged_by,
        now,
        **({} if monotonic is None else {"monotonic": monotonic}),
    )
    reader = ReleaseIndexReader(db, shared.store, godev, now)
    repair = Repair(
        db,
        shared.store,
        (ReleaseHealing(ingestion), DerivedHealing(db, ingestion, derived, releases.zst)),
        now,
    )
    scrub = Scrub(db, shared.store, repair, now, settings.storage.scrub_days)
    sync = ReleaseSync(db, reader, releases.catalog, ingestion, releases.sync._selection)
    return replace(
        services,
        shared=replace(shared, client=client),
        releases=replace(
            releases, godev=godev, ingestion=ingestion, derived=derived, reader=reader, sync=sync
        ),
        upkeep=replace(services.upkeep, repair=repair, scrub=scrub),
    )


async def close_rewired(services: Services) -> None:
    await services.upkeep.repair.aclose()
    await services.releases.ingestion.aclose(drain_s=0)
    await services.shared.client.aclose()


async def record_of(services: Services, name: str = NAME) -> FileRecord:
    record = await services.shared.db.read(lambda s: ReleaseTable(s).get(name))
    assert record is not None, name
    return record


async def records(services: Services) -> dict[str, FileRecord]:
    return {
        r.file.filename: r for r in await services.shared.db.read(lambda s: ReleaseTable(s).all())
    }


async def index_document(services: Services) -> Digest:
    document = (await services.releases.reader.status()).document
    assert document is not None
    return document


async def audit_rows(services: Services) -> list[AuditRecord]:
    """Return every audit row; those of refused calls are written now."""
    await services.shared.refusals.flush(all_windows=True)
    return await services.shared.audit.list(after=0, limit=10_000)


async def audited(services: Services, action: str) -> list[AuditRecord]:
    return [row for row in await audit_rows(services) if row.action == action]


def stored(services: Services) -> set[Digest]:
    """Every blob in the store, the index documents included."""
    return {blob.digest for blob in services.shared.store.walk()}


def staged(services: Services) -> list[Path]:
    """Every staged file, of this process and of dead ones."""
    tmp = services.shared.settings.data_dir / "tmp"
    return [path for path in tmp.glob("*/*") if path.is_file()]


def quarantined(services: Services) -> list[Path]:
    return sorted((services.shared.settings.data_dir / "quarantine").iterdir())


def blob_path(services: Services, digest: Digest) -> Path:
    return services.shared.settings.data_dir / "blobs" / digest.hex[:2] / digest.hex


def spoil(path: Path, content: bytes) -> None:
    """Overwrite a blob behind the store's back; returns once its ctime has moved."""
    before = path.stat().st_ctime_ns
    path.chmod(0o640)
    while True:
        path.write_bytes(content)
        if path.stat().st_ctime_ns != before:
            return


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


async def body_of(services: Services, record: FileRecord) -> bytes:
    """Return what a download of a served file would send."""
    assert record.file.sha256 is not None
    blob = await services.shared.store.open(record.file.sha256, record.file.size_bytes)
    try:
        return bytes(await blob.read(0, record.file.size_bytes))
    finally:
        blob.close()


async def assert_sound(services: Services) -> None:
    """The invariants that hold after whatever went wrong.

    A served file has its bytes, unless it is recorded as damaged; every blob row has its blob;
    nothing is staged; the audit chain holds.
    """
    for name, record in (await records(services)).items():
        assert not record.served or record.has_bytes, name
        if record.has_bytes and not record.damaged:
            assert record.file.sha256 is not None
            condition = await services.shared.store.check(
                record.file.sha256, record.file.size_bytes, deep=True
            )
            assert condition is BlobCondition.OK, name
    report = await services.upkeep.fsck.run(deep=True, repair=False)
    assert [f for f in report.findings if f.harmful] == []
    assert staged(services) == []
    assert (await services.shared.audit.verify())[1] is None


async def assert_nothing_kept(services: Services, name: str = NAME) -> None:
    """Nothing of a file is stored, recorded as stored, or served."""
    record = await record_of(services, name)
    assert not record.served
    assert not record.has_bytes
    assert (record.verdict, record.signature, record.toolchain) == (None, None, None)
    assert stored(services) == {await index_document(services)}
    await assert_sound(services)


async def run_sql(services: Services, statement: str) -> None:
    await services.shared.db.write(lambda s: _execute(s, statement))


def _execute(session: Session, statement: str) -> None:
    session.execute(text(portable(session, statement)))


def count_of(metric: str, **labels: str) -> float:
    return meters().registry.get_sample_value(metric, labels) or 0.0


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
