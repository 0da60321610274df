"""The module golang.org/toolchain of the mirror's archives: what GOTOOLCHAIN switching asks for.

Each version is derived from an archive that the mirror verified; its zip is built once and kept
like any module's. A tenant's route of exactly `golang.org/toolchain` leads elsewhere instead.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app import logs
from app.core import goversion
from app.core.errors import (
    BadInputError,
    StorageError,
    UnknownError,
    VerificationError,
)
from app.core.goarchive import iter_files
from app.core.goproxy import RequestKind
from app.core.gorelease import ARM_NAMES, ReleaseFileKind
from app.core.logstate import LogState
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord, FileState
from app.core.toolchain import (
    GO_MOD_H1,
    GO_MOD_TEXT,
    MODULE_PATH,
    module_version,
    read_time,
    release_of,
)
from app.core.toolchainzip import ToolchainZip
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.modules import ModuleFile, ModuleTable
from app.db.origins import OriginTable
from app.db.room import Room
from app.services.clock import Now
from app.services.flight import Flight
from app.services.leases import Leases
from app.services.releases.catalog import CatalogReader
from app.services.releases.freshness import Freshness
from app.services.releases.ingestion import Ingestion
from app.services.releases.policy import raise_if_gone, raise_if_held_back
from app.services.slots import FairSemaphore
from app.services.wholeness import Wholeness
from app.storage.blobstore import BlobCondition, BlobStore, StagedBlob

ORIGIN = "mirror:releases"
"""The origin that the built zips are kept under."""
_MAX_BUILDS = 4096  # versions that wait for their build

_log = logs.get("toolchains")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One version of the module and the archive that it is derived from."""

    version: str
    filename: str
    release: str


class Toolchains:
    """Toolchain modules of the release mirror."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        catalog: CatalogReader,
        ingestion: Ingestion,
        freshness: Freshness,
        leases: Leases,
        now: Now,
    ) -> None:
        self._db = db
        self._store = store
        self._catalog = catalog
        self._ingestion = ingestion
        self._freshness = freshness
        self._leases = leases
        self._now = now
        self._wholeness = Wholeness(db, store, now)
        # Each version that is offered may wait for its turn.
        self._flight: Flight[str, ModuleFile] = Flight(max_keys=_MAX_BUILDS)
        # One build at a time: a build uses one core, not all. Waiting clients get turns in turn.
        self._building = FairSemaphore(1, has_reserve=False)
        self._known: tuple[int, Mapping[str, Toolchain]] = (-1, {})
        self._origin: int | None = None

    async def versions(self, version: str = "") -> list[str]:
        """Return the versions of every archive that the mirror offers, oldest Go first.

        Args:
            version: that is looked for; see `_ready`.

        Raises:
            UpstreamError: the index of releases was never read, and can't be now.
        """
        await self._ready(version)
        return list(await self._offered())

    async def stored_versions(self) -> list[str]:
        """Return the versions whose archives are stored: these need nothing from upstream."""
        toolchains = await self._offered()
        catalog = await self._catalog.current()
        records = [(t.version, catalog.records.get(t.filename)) for t in toolchains.values()]
        return [v for v, r in records if r is not None and r.served and r.toolchain is not None]

    async def _ready(self, version: str) -> None:
        """Return once the index of releases is known.

        Args:
            version: that is looked for. An own release needs no index: no upstream knows of it.

        Raises:
            UpstreamError: the index was never read, and can't be now.
        """
        if not is_own(release_of(version)):
            await self._freshness.first_index(await self._catalog.current())

    async def _toolchains(self, version: str = "") -> Mapping[str, Toolchain]:
        """Return the toolchains that are served, by version: the offered ones, and a retired one.

        Args:
            version: that is looked for; see `_ready`. If its release was retired, the toolchains of
                that release are served to whoever names them.

        Raises:
            UpstreamError: the index of releases was never read, and can't be now.
            GoneError: the release was withdrawn.
        """
        await self._ready(version)
        release = release_of(version)
        if not is_own(release):
            return await self._offered()
        records = (await self._catalog.current()).by_version.get(release, ())
        for record in records:
            raise_if_gone(record)
        retired = _toolchains_of([r for r in records if r.withdrawal is not None])
        return {**await self._offered(), **{t.version: t for t in retired}}

    async def _offered(self) -> Mapping[str, Toolchain]:
        """Return the toolchain of every archive that the catalogue offers, by version."""
        catalog = await self._catalog.current()
        if self._known[0] != catalog.generation:
            known = await asyncio.to_thread(_toolchains_of, catalog.offered)
            self._known = (catalog.generation, {t.version: t for t in known})
        return self._known[1]

    async def _record(self, version: str, client: str) -> FileRecord:
        """Return the record of the archive behind a version, ingesting it if settings allow.

        Args:
            version: of the toolchain module.
            client: see `zip`.

        Raises:
            UnknownError: the mirror offers no such archive.
            MoorageError: it can't be had; see `Ingestion.ensure`.
        """
        toolchain = (await self._toolchains(version)).get(version)
        has_index = not is_own(release_of(version))
        if toolchain is None and has_index and await self._freshness.look_again():
            toolchain = (await self._toolchains()).get(version)
        toolchain = toolchain or await self._held_back(version)
        if toolchain is None:
            raise UnknownError(
                f"{MODULE_PATH}@{version} is not offered here: the mirror has no such archive; "
                "see /dl/"
            )
        record = await self._ingestion.ensure(toolchain.filename, client=client)
        raise_if_held_back(record)
        if record.toolchain is None:
            raise VerificationError(f"{toolchain.filename} holds no Go toolchain")
        return record

    async def _held_back(self, version: str) -> Toolchain | None:
        """Return a version that is not offered although its archive is here, or was refused.

        Asking for that archive says why: a 404 would send `go` elsewhere.
        """
        records = (await self._catalog.current()).records.values()
        held = [r for r in records if not r.served and (r.has_bytes or _is_refused(r))]
        return next((t for t in _toolchains_of(held) if t.version == version), None)

    async def h1(self, version: str, *, client: str = "") -> str:
        """Return the h1 of a version's zip, which follows from its archive alone.

        Args:
            version: of the toolchain module.
            client: see `zip`.

        Raises:
            MoorageError: its archive can't be had.
        """
        record = await self._record(version, client)
        if record.toolchain is None or record.toolchain.version != version:
            raise VerificationError(f"{record.file.filename} is not the toolchain {version}")
        return record.toolchain.h1

    async def info(self, version: str) -> bytes:
        """Return the .info of a version. `go` asks for that of linux-amd64, whatever it runs on.

        So the .info exists for every release of which the mirror offers an archive, whatever the
        platform, and no archive is fetched for it. The time is optional: it is left out until an
        archive of the release was ingested.

        Raises:
            UnknownError: the mirror offers no archive of that release.
            MoorageError: its archive can't be read.
        """
        time = await self._time(version)
        info = {"Version": version} | ({"Time": time} if time else {})
        return (json.dumps(info) + "\n").encode()

    async def _time(self, version: str) -> str | None:
        offered = (await self._toolchains(version)).values()
        of_release = [t.filename for t in offered if t.version.startswith(_stem(version))]
        if not of_release:
            raise UnknownError(f"{MODULE_PATH}@{version} is not offered here; see /dl/")
        records = (await self._catalog.current()).records
        stored = [records[name] for name in of_release if records[name].served]
        times = [r.toolchain.time for r in stored if r.toolchain is not None and r.toolchain.time]
        if times or not stored:
            return next(iter(times), None)
        async with self._store.local_file(stored[0].sha256) as path:
            return await asyncio.to_thread(_read_time, path, stored[0])

    async def go_mod(self, version: str) -> bytes:
        """Return the .mod of a version, the same for all.

        Raises:
            UnknownError: the mirror offers no such archive.
        """
        known = await self._toolchains(version)
        if version not in known and not any(v.startswith(_stem(version)) for v in known):
            raise UnknownError(f"{MODULE_PATH}@{version} is not offered here; see /dl/")
        return GO_MOD_TEXT

    async def zip(self, version: str, *, client: str = "") -> ModuleFile:
        """Return the zip of a version, built now if it is not there.

        Args:
            version: of the toolchain module.
            client: the address that asks, "" for background work; clients get their turns of
                fetching and building one after the other.

        Raises:
            UnknownError: the mirror offers no such archive.
            MoorageError: its archive can't be had, or the zip can't be stored.
        """
        record = await self._record(version, client)
        return await self._flight.do(version, lambda: self._build_in_turn(version, record, client))

    async def _build_in_turn(self, version: str, record: FileRecord, client: str) -> ModuleFile:
        # The turn first: who waits for one must not hold, and renew, a lease meanwhile.
        async with self._building.hold(client), self._leases.hold(f"toolchain:{version}"):
            stored = await self._stored(version)
            if stored is not None and not stored.damaged:
                return stored
            if stored is not None:
                condition = await self._wholeness.check(
                    stored.sha256, stored.size_bytes, "before it is built again"
                )
                if condition is BlobCondition.OK:
                    return replace(stored, damaged=False)
            return await self._build(version, record, damaged=stored)

    async def _stored(self, version: str) -> ModuleFile | None:
        origin = await self.origin()
        return await self._db.read(
            lambda s: ModuleTable(s).file(origin, MODULE_PATH, version, RequestKind.ZIP)
        )

    async def origin(self) -> int:
        """Return the id of the origin that toolchain modules are kept under."""
        if self._origin is None:
            # What is stored is served on a full disk, too; this is one row for good.
            self._origin = await self._db.write(
                lambda s: OriginTable(s).origin(ORIGIN), room=Room.BELOW_FLOOR
            )
        return self._origin

    async def _build(
        self, version: str, record: FileRecord, *, damaged: ModuleFile | None
    ) -> ModuleFile:
        if record.toolchain is None or record.toolchain.version != version:
            raise VerificationError(f"{record.file.filename} is not the toolchain {version}")
        builder = ToolchainZip(record.file.version, version)
        async with self._store.stage() as staged:
            async with self._store.local_file(record.sha256) as path:
                await _write(builder, path, record, staged)
            digest = await staged.seal()
            if builder.h1 != record.toolchain.h1:
                raise VerificationError(
                    f"the zip of {version} came out with {builder.h1} instead of "
                    f"{record.toolchain.h1}; the stored archive may be damaged"
                )
            await self._store.commit(staged, digest)
            file = ModuleFile(
                await self.origin(),
                MODULE_PATH,
                version,
                RequestKind.ZIP,
                digest,
                staged.size_bytes,
                self._now(),
                None,
                builder.h1,
                GO_MOD_H1,
                LogState.UNVERIFIED,
            )
        await self._db.write(lambda s: _save(s, file, is_new=damaged is None))
        _log.info("toolchain module built", version=version, h1=file.h1, bytes=file.size_bytes)
        return file


def _save(session: Session, file: ModuleFile, *, is_new: bool) -> None:
    Blobs(session).record(file.sha256, file.size_bytes, file.stored_at)
    if is_new:
        ModuleTable(session).add(file)
    else:
        ModuleTable(session).replace_bytes(file)
        bump_generation(session)


async def _write(builder: ToolchainZip, path: Path, record: FileRecord, staged: StagedBlob) -> None:
    """Write the zip into a staged blob; each piece is made in a thread, and none is kept."""
    with path.open("rb") as stream:
        pieces = builder.pieces(iter_files(stream, record.file.suffix))
        try:
            while (piece := await asyncio.to_thread(_next, pieces)) is not None:
                await staged.write(piece)
        except BadInputError as error:
            raise StorageError(
                f"the stored {record.file.filename} can't be read as an archive: {error}"
            ) from error


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _toolchains_of(records: Iterable[FileRecord]) -> list[Toolchain]:
    """Return the toolchains that archives imply by their names, oldest Go first."""
    toolchains: dict[str, Toolchain] = {}
    archives = [r.file for r in records if r.file.kind is ReleaseFileKind.ARCHIVE]
    for file in sorted(archives, key=lambda f: goversion.sort_key(f.version)):
        if not goversion.is_valid(goversion.from_name(file.version)) or not file.os:
            continue
        goarch = "arm" if file.arch in ARM_NAMES else file.arch
        version = module_version(file.version, file.os, goarch)
        toolchains.setdefault(version, Toolchain(version, file.filename, file.version))
    return list(toolchains.values())


def _is_refused(record: FileRecord) -> bool:
    return record.state is FileState.QUARANTINED


def _stem(version: str) -> str:
    """Return a version without its platform: "v0.0.1-go1.23.1." of "…go1.23.1.linux-amd64"."""
    return version.rpartition(".")[0] + "."


def _read_time(path: Path, record: FileRecord) -> str | None:
    with path.open("rb") as stream:
        return read_time(stream, record.file.suffix)


def instead(versions: list[str], version: str, *, preferred: str = "") -> str | None:
    """Return the Go release to use instead of a denied version: the newest one for its platform.

    Args:
        versions: that the tenant may use.
        version: that it may not.
        preferred: the release to use if it is one of them.
    """
    platform = version.rpartition(".")[2]
    names = [release_of(v) for v in versions if v.endswith(f".{platform}")]
    if preferred in names:
        return preferred
    stable = [n for n in names if not goversion.is_prerelease(n)]
    return max(stable or names, key=goversion.sort_key, default=None)
