"""The catalogue: every release file, and which ones are offered, in memory for one generation.

The web layer reads only the catalogue, which needs no query while the generation stays the same.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from app import metrics
from app.core.gorelease import Release, Support, support_of, supported_minors
from app.core.goversion import sort_key
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord, FileState, IndexConflict, IndexStatus
from app.db.engine import Database, Session
from app.db.generation import current_generation
from app.db.leases import LeaseTable, lease_time
from app.db.releaseindex import IndexLog
from app.db.releases import ReleaseTable, with_lease
from app.services.clock import Now
from app.services.generation import GenerationWatch, PerGeneration
from app.services.leases import TTL
from app.services.releases.policy import IngestionPolicy


@dataclass(frozen=True)
class Catalog:
    """All release files at one generation.

    Attributes:
        records: by filename; newest release first, files in index order.
        status: the result of reading the index.
        minors: the supported minors, from `supported_minors`.
    """

    generation: int
    records: Mapping[str, FileRecord]
    status: IndexStatus
    policy: IngestionPolicy
    minors: tuple[str, ...] = field(default=())

    def prepare(self) -> None:
        """Compute every view below now: an index may have many files, the event loop no time."""
        _ = (self.offered, self.by_sha256, self.by_version, self.own_releases, self.all_releases)

    def offers(self, record: FileRecord) -> bool:
        """Whether the file is served, or a request for it would start its ingestion."""
        if record.withdrawal is not None:
            return False  # who names the file still gets it, unless it is gone
        if self.policy.serves(record):
            return True
        on_demand = record.state in {FileState.KNOWN, FileState.FETCHING} and record.listed
        return on_demand and self.policy.on_demand and self.policy.refusal(record) is None

    def restricted(self, versions: Collection[str]) -> "Catalog":
        """Return the same catalogue with the files of some releases alone."""
        records = {n: r for n, r in self.records.items() if r.file.version in versions}
        return replace(self, records=records)

    def support(self, version: str) -> Support:
        """Return whether Go's team still supports this release."""
        return support_of(version, self.minors)

    @cached_property
    def offered(self) -> tuple[FileRecord, ...]:
        """The offered files, newest release first."""
        return tuple(r for r in self.records.values() if self.offers(r))

    @cached_property
    def own_releases(self) -> tuple[Release, ...]:
        """The releases among `releases` that are this company's own: these are in no index."""
        return tuple(r for r in self.releases if is_own(r.version))

    @cached_property
    def by_sha256(self) -> Mapping[str, FileRecord]:
        """Files by the hex of their SHA-256; of two files with one digest, an offered one."""
        records = sorted(reversed(list(self.records.values())), key=self.offers)  # noqa: C414 (stable)
        return {r.file.sha256.hex: r for r in records if r.file.sha256}

    @cached_property
    def by_version(self) -> Mapping[str, Sequence[FileRecord]]:
        """All files of each release, newest release first."""
        groups: dict[str, list[FileRecord]] = {}
        for record in self.records.values():
            groups.setdefault(record.file.version, []).append(record)
        return groups

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """Offered files grouped into releases, newest first."""
        return _group_by_release(self.offered)

    @cached_property
    def all_releases(self) -> tuple[Release, ...]:
        """Every known file grouped into releases, newest first."""
        return _group_by_release(tuple(self.records.values()))


def _group_by_release(records: tuple[FileRecord, ...]) -> tuple[Release, ...]:
    groups: dict[str, list[FileRecord]] = {}
    for record in records:
        groups.setdefault(record.file.version, []).append(record)
    return tuple(
        Release(version, group[0].stable, tuple(r.file for r in group))
        for version, group in groups.items()
    )


class CatalogReader:
    """Loads the catalogue after each change of what is stored."""

    def __init__(
        self, db: Database, watch: GenerationWatch, policy: IngestionPolicy, now: Now
    ) -> None:
        self._db = db
        self._watch = watch
        self._policy = policy
        self._now = now
        self._catalog = PerGeneration(db, watch, self._load, lambda: watch.releases)

    @property
    def changed_at(self) -> int:
        """The generation of the last change; answers prepared at an earlier one are not valid."""
        return self._watch.releases

    @property
    def generation(self) -> int:
        """The generation that this process read last."""
        return self._watch.value

    @property
    def policy(self) -> IngestionPolicy:
        """The policy that says which files may be ingested."""
        return self._policy

    async def current(self, *, fresh: bool = False) -> Catalog:
        """Return the catalogue of the present generation; see `PerGeneration.current`."""
        return await self._catalog.current(fresh=fresh)

    def _load(self, session: Session, _before: Catalog | None) -> Catalog:
        generation = current_generation(session)
        records = sorted(
            ReleaseTable(session).all(),
            key=lambda r: (r.file.os, r.file.arch, r.file.kind, r.file.filename),
        )
        records.sort(key=lambda r: sort_key(r.file.version), reverse=True)
        status = IndexLog(session).status()
        if status.read_at is not None:
            metrics.set_index_refreshed(status.read_at.timestamp())
        counts = Counter(record.state for record in records)
        metrics.set_files({state.value: counts[state] for state in FileState})
        catalog = Catalog(
            generation,
            {record.file.filename: record for record in records},
            status,
            self._policy,
            supported_minors([r.file.version for r in records]),
        )
        catalog.prepare()
        return catalog

    async def file(self, filename: str) -> tuple[FileRecord, list[IndexConflict]] | None:
        """Return one file as the database has it now, with the conflicts recorded for it."""

        def work(session: Session) -> tuple[FileRecord, list[IndexConflict]] | None:
            record = ReleaseTable(session).get(filename)
            if record is None:
                return None
            name, now = f"ingest:{filename}", lease_time(session, self._now)
            leased = name in LeaseTable(session).live(name, now, TTL)
            return with_lease(record, leased=leased), IndexLog(session).conflicts(filename)

        return await self._db.read(work)
