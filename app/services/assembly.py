"""The services of one process, by group; `app/wiring/` builds them, web and commands use them.

Groups, lower ones first: shared, releases, fleet, publiclog, modules, tenants, sumdb, upkeep. A
service may use those of its own group and of lower ones. `Services` owns their common life: start,
drain, close.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app import logs
from app.core.errors import KeyringError, MoorageError, NotYetError, SettingsError
from app.db.engine import Database
from app.db.installation import database_uid
from app.db.schema import check_schema
from app.db.sqlite import is_sqlite
from app.db.sqlitefile import SqliteFile
from app.services.audit import AuditReader
from app.services.audithead import AuditHead
from app.services.auditwindows import AuditWindows
from app.services.backup.age import BackupAge
from app.services.backup.making import BackupService
from app.services.clock import ClockWatch, Now, Pause
from app.services.collection import Collection
from app.services.datafolder import DataFolder
from app.services.denials import DenialCounter
from app.services.fleet.channels import ChannelService
from app.services.fleet.checkins import CheckIns
from app.services.fleet.enrolment import EnrolmentService
from app.services.fleet.manifests import Manifests
from app.services.fleet.nodes import NodeService
from app.services.fleet.offered import ChannelReader
from app.services.fleet.revisions import Revisions
from app.services.fleet.rollouts import RolloutService
from app.services.fleet.view import FleetView
from app.services.fsck import Fsck
from app.services.generation import GenerationWatch
from app.services.jobs import JobService
from app.services.keyproof import require_key
from app.services.leases import Leases
from app.services.memory import MemoryBudget
from app.services.modules.answers import ModuleAnswers
from app.services.modules.files import ModuleFiles
from app.services.modules.front import ModuleFront
from app.services.modules.githooks import GitHooks
from app.services.modules.gits import GitModules
from app.services.modules.healing import ModuleHealing
from app.services.modules.importing import ModuleImport
from app.services.modules.logpass import LogPass
from app.services.modules.mirrored import MirroredToolchains
from app.services.modules.publishing import Publishing
from app.services.modules.refresh import ModuleRefresh
from app.services.modules.retiring import PublishedVersions
from app.services.modules.toolchains import Toolchains
from app.services.policy import PolicyReader
from app.services.publiclog.checks import LogChecks
from app.services.publiclog.relay import LogRelay
from app.services.refusals import RefusalCounter
from app.services.releases.catalog import CatalogReader
from app.services.releases.derived import DerivedFiles
from app.services.releases.freshness import Freshness
from app.services.releases.images import ReleaseImages
from app.services.releases.index import ReleaseIndexReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.keyring import (
    BUILT_IN,
    SETTING,
    OwnKeyring,
    ReleaseKeyring,
    read_export,
)
from app.services.releases.publishing import OwnReleases
from app.services.releases.scrub import Scrub
from app.services.releases.sync import ReleaseSync
from app.services.releases.withdrawing import Withdrawing
from app.services.releases.zstforms import ZstForms
from app.services.repair import Repair
from app.services.rotation import Rotation
from app.services.secrets import KeySource, SecretBox
from app.services.storemark import StoreMark, require_recorded_blobs
from app.services.sumdb.front import SumdbFront
from app.services.sumdb.fsck import LogFsck
from app.services.sumdb.prefetch import Prefetch
from app.services.sumdb.status import LogStatus
from app.services.tenantlog.log import TenantLogs
from app.services.tenantlog.recover import LogRecovery
from app.services.tenantlog.watch import LogWatch
from app.services.tenants.credentials import CredentialService
from app.services.tenants.document import DocumentService
from app.services.tenants.explain import ExplainService
from app.services.tenants.ownership import OwnershipService
from app.services.tenants.routes import RouteService
from app.services.tenants.rules import RuleService
from app.services.tenants.tenants import TenantService
from app.services.tokens import TokenService
from app.services.upstreams import Upstreams
from app.services.usage import UsageCounter
from app.services.webhooks import Webhooks
from app.settings import Settings
from app.storage.blobstore import BlobStore
from app.storage.hostlocks import HostLocks
from app.storage.objects import ObjectStore
from app.upstream.godev import GoDev
from app.upstream.goproxy import Goproxies
from app.upstream.gpg import Gpg, builtin_key
from app.upstream.http import HttpClient
from app.upstream.url import Url

_log = logs.get("services")


@dataclass(frozen=True, slots=True)
class SharedServices:
    """What every group uses: settings, clock, database, store, and who may do what."""

    settings: Settings
    now: Now
    pause: Pause
    clock: ClockWatch
    file: SqliteFile | None
    folder: DataFolder
    mark: StoreMark | None
    db: Database
    store: BlobStore
    client: HttpClient
    watch: GenerationWatch
    leases: Leases
    locks: HostLocks
    keys: KeySource
    box: SecretBox
    policies: PolicyReader
    usage: UsageCounter
    refusals: RefusalCounter
    denials: DenialCounter
    audit: AuditReader
    audit_head: AuditHead
    heads: ObjectStore

    async def start(self) -> None:
        """Check the database and its schema, and remove what crashes left in the store.

        Raises:
            UnfitDatabaseError: the database is malformed, or not that of the data folder or key.
            SchemaError: the database is at a schema that this program can't serve.
            StoreAwayError: S3 does not answer, and this data directory was not used with it before.
            StorageError: the data directory can't be written.
        """
        if self.file is not None:
            await asyncio.to_thread(self.file.open)
        check_schema(self.db.reader)
        if self.mark is None and not self.folder.is_marked:
            await require_recorded_blobs(self.db, self.store, "MOORAGE_DATA_DIR")
        self.folder.require(await self.db.read(database_uid))
        if self.mark is not None:
            await self.mark.start(self.db, self.store)
        await require_key(self.db, self.keys, is_shared=not is_sqlite(self.db.url))
        await self.store.recover()

    async def prove_store(self) -> None:
        """Prove the store that was away at the start; nothing happens once that is done.

        Raises:
            UnfitDatabaseError: the store is another database's; it stays closed.
            StorageError: the store does not answer.
        """
        if self.mark is not None:
            await self.mark.prove_again(self.db, self.store)

    async def close(self) -> None:
        """Close the client, the store and the database."""
        await self.client.aclose()
        self.store.close()
        self.locks.close()
        await self.db.notices.aclose()
        self.db.close()
        if self.file is not None:
            self.file.close()


@dataclass(frozen=True, slots=True)
class ReleaseServices:
    """Go releases: the index, the keyring, ingestion, and the catalog of what is offered."""

    godev: GoDev
    gpg: Gpg
    keyring: ReleaseKeyring
    reader: ReleaseIndexReader
    ingestion: Ingestion
    derived: DerivedFiles
    zst: ZstForms
    catalog: CatalogReader
    freshness: Freshness
    images: ReleaseImages
    own_keyring: OwnKeyring
    own: OwnReleases
    withdrawing: Withdrawing
    sync: ReleaseSync

    async def start(self, export: Path | None, *, owns_key: bool) -> None:
        """Take over the configured key.

        Args:
            export: the armored export that the settings name; None for the built-in key.
            owns_key: False takes it over only where no key is active.

        Raises:
            SettingsError: the export can't be read.
            KeyringError: the configured key is unusable.
            NotYetError: gpg can't be run, and no key was taken over before.
        """
        armored, source = await _configured_key(export)
        try:
            if owns_key or not await self.keyring.is_active():
                await self.keyring.configure(armored, source)
        except KeyringError as error:
            raise KeyringError(
                f"MOORAGE_RELEASES__KEYRING: {export or 'the built-in key'}: {error}"
            ) from error
        except NotYetError as error:
            # What was verified earlier needs no gpg; only a first start can do nothing without it.
            if not await self.keyring.is_active():
                raise
            _log.error("gpg can't be used; nothing new is verified", error=str(error))

    async def close(self) -> None:
        """Cancel running ingestions and end gpg."""
        await self.ingestion.aclose(drain_s=0)
        self.gpg.close()
        self.own_keyring.close()


@dataclass(frozen=True, slots=True)
class FleetServices:
    """What nodes and CI are to run."""

    channels: ChannelService
    revisions: Revisions
    manifests: Manifests
    offered: ChannelReader
    view: FleetView
    enrolment: EnrolmentService
    nodes: NodeService
    check_ins: CheckIns
    rollouts: RolloutService
    node_rows: AuditWindows

    async def close(self) -> None:
        """End the transaction that serves waiting nodes."""
        await self.check_ins.aclose()


@dataclass(frozen=True, slots=True)
class PublicLogServices:
    """The public checksum databases that are relayed, by name, and checks against them."""

    client: HttpClient
    relays: Mapping[str, LogRelay]
    checks: LogChecks

    async def close(self) -> None:
        """End the relays, then close the client by which they ask."""
        for relay in self.relays.values():
            await relay.aclose()
        await self.client.aclose()


@dataclass(frozen=True, slots=True)
class ModuleServices:
    """Modules: stored files, answers that change, and the front that requests go through."""

    goproxies: Goproxies
    gits: GitModules
    upstreams: Upstreams
    toolchains: Toolchains
    files: ModuleFiles
    answers: ModuleAnswers
    mirrored: MirroredToolchains
    front: ModuleFront
    healing: ModuleHealing
    refresh: ModuleRefresh
    git_hooks: GitHooks
    imports: ModuleImport
    log_pass: LogPass
    memory: MemoryBudget

    async def close(self) -> None:
        """Cancel running fetches, then close the clients by which they ask."""
        await self.front.aclose()
        await self.answers.aclose()
        await self.files.aclose(drain_s=0)
        await self.gits.aclose()
        await self.goproxies.aclose()


@dataclass(frozen=True, slots=True)
class TenantServices:
    """Tenants and what belongs to them; one service per noun."""

    tenants: TenantService
    tokens: TokenService
    rules: RuleService
    ownership: OwnershipService
    routes: RouteService
    credentials: CredentialService
    explain: ExplainService
    documents: DocumentService


@dataclass(frozen=True, slots=True)
class SumdbServices:
    """Checksum databases as clients see them: tenants' own logs, and the front for all logs."""

    logs: TenantLogs
    recovery: LogRecovery
    watch: LogWatch
    fsck: LogFsck
    front: SumdbFront
    status: LogStatus
    prefetch: Prefetch
    publishing: Publishing
    published_versions: PublishedVersions

    async def close(self) -> None:
        """End what runs in the background."""
        await self.front.aclose()


@dataclass(frozen=True, slots=True)
class UpkeepServices:
    """What works on all groups: repair, checks of the whole store, backups, jobs for the leader."""

    repair: Repair
    scrub: Scrub
    fsck: Fsck
    backups: BackupService
    backup_age: BackupAge
    collection: Collection
    rotation: Rotation
    jobs: JobService
    webhooks: Webhooks

    async def close(self) -> None:
        """End running repairs."""
        await self.repair.aclose()


@dataclass(frozen=True, slots=True, repr=False)  # asyncio prints the result of a task that ended
class Services:
    """All services of one process, wired together; `start` before use, `close` after."""

    shared: SharedServices
    releases: ReleaseServices
    fleet: FleetServices
    publiclog: PublicLogServices
    modules: ModuleServices
    tenants: TenantServices
    sumdb: SumdbServices
    upkeep: UpkeepServices

    async def start(self, *, owns_key: bool = True) -> None:
        """Check the schema, remove what crashes left, and take over the configured key.

        Args:
            owns_key: False for commands: their environment may name another key than the
                service's, so they take theirs over only where no key is active.

        Raises:
            UnfitDatabaseError: the database is malformed, or not that of the data folder or key.
            SchemaError: the database is at a schema that this program can't serve.
            SettingsError: the configured key can't be read.
            KeyringError: the configured key is unusable.
            NotYetError: gpg can't be run, and no key was taken over before.
            StoreAwayError: S3 does not answer, and this data directory was not used with it before.
            StorageError: the data directory can't be written.
        """
        await self.shared.start()
        await self.releases.start(self.shared.settings.releases.keyring, owns_key=owns_key)
        await self.shared.watch.poll()

    async def origins(self) -> frozenset[str]:
        """Return the origins of all upstreams that settings or a route name.

        Raises:
            DatabaseBusyError: the routes can't be read.
        """
        settings = self.shared.settings
        releases, logs = settings.releases, settings.sumdb.upstreams
        urls = [releases.index_url, *releases.files_urls, *(log.url for log in logs)]
        if releases.keyring_url is not None:
            urls.append(releases.keyring_url)
        return await self.modules.upstreams.origins() | {Url.parse(url).origin for url in urls}

    def begin_drain(self) -> None:
        """Start no new fetch from an upstream; those that run go on."""
        self.releases.ingestion.begin_drain()
        self.modules.files.begin_drain()
        self.modules.answers.begin_drain()

    async def drain(self, drain_s: float) -> None:
        """Give running fetches their time, then cancel them."""
        await asyncio.gather(
            self.releases.ingestion.aclose(drain_s=drain_s),
            self.modules.files.aclose(drain_s=drain_s),
        )

    async def file_heads(self) -> None:
        """File the newest row of the audit log; the last thing before a clean end."""
        try:
            await self.shared.audit_head.step()
        except MoorageError as error:  # the next process does it
            _log.warning("audit head not filed", error=str(error))

    async def close(self) -> None:
        """End what runs in the background and release everything, higher groups first."""
        await self.upkeep.close()
        await self.sumdb.close()
        await self.fleet.close()
        await self.modules.close()
        await self.publiclog.close()
        await self.releases.close()
        await self.shared.close()


async def _configured_key(path: Path | None) -> tuple[bytes, str]:
    """Return the armored export that settings name, and where it comes from.

    Raises:
        SettingsError: the file can't be read.
    """
    if path is None:
        return builtin_key(), BUILT_IN
    try:
        return await read_export(path), SETTING
    except KeyringError as error:
        raise SettingsError(f"MOORAGE_RELEASES__KEYRING: {error}") from error
