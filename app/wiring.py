"""The one file that picks concrete stores, clients and services."""

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from app import __version__, logs, metrics
from app.core.errors import BadInputError, KeyringError, NotYetError, SettingsError, StorageError
from app.core.gorelease import ReleaseFileKind
from app.core.notekey import parse_vkey
from app.core.selection import Selection
from app.db.engine import Database, is_sqlite
from app.db.schema import check_schema, upgrade
from app.services.audit import AuditReader
from app.services.clock import Now, utc_now
from app.services.fsck import Fsck
from app.services.generation import GenerationWatch
from app.services.jobs import SYNC, JobService
from app.services.leases import Leases, Turns
from app.services.modules.answers import Absences, ModuleAnswers
from app.services.modules.files import ModuleFiles
from app.services.modules.front import ModuleFront
from app.services.modules.healing import ModuleHealing
from app.services.modules.logpass import LogPass
from app.services.modules.refresh import ModuleRefresh
from app.services.modules.toolchains import Toolchains
from app.services.policy import PolicyReader
from app.services.publiclog.checks import LogChecks
from app.services.publiclog.relay import LogRelay
from app.services.releases.catalog import CatalogReader
from app.services.releases.freshness import Freshness
from app.services.releases.healing import ReleaseHealing
from app.services.releases.index import ReleaseIndexReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.keyring import BUILT_IN, SETTING, ReleaseKeyring, read_export
from app.services.releases.policy import IngestionPolicy
from app.services.releases.scrub import Scrub
from app.services.releases.sync import ReleaseSync, run_sync
from app.services.repair import Repair
from app.services.secrets import KEY_BYTES, SecretBox, parse_key
from app.services.slots import Slots
from app.services.sumdb.front import SumdbFront
from app.services.sumdb.fsck import LogFsck
from app.services.sumdb.prefetch import Prefetch
from app.services.sumdb.status import LogStatus
from app.services.tenantlog.head import HeadFiles
from app.services.tenantlog.log import TenantLogs
from app.services.tenants.document import DocumentService
from app.services.tenants.explain import ExplainService
from app.services.tenants.routes import CredentialService, RouteService
from app.services.tenants.rules import OwnershipService, RuleService
from app.services.tenants.tenants import TenantService
from app.services.tokens import TokenService
from app.services.upstreams import Upstreams
from app.services.usage import UsageCounter
from app.settings import Settings
from app.storage import durable
from app.storage.blobstore import BlobStore
from app.storage.hostlocks import HostLocks
from app.storage.local import LocalBlobStore
from app.upstream.address import AddressGuard, AllowedNetwork
from app.upstream.godev import GoDev
from app.upstream.goproxy import Goproxies
from app.upstream.gpg import Gpg, builtin_key
from app.upstream.http import HttpClient
from app.upstream.retry import Limits as UpstreamLimits
from app.upstream.sumdb import SumdbServer

_log = logs.get("wiring")


@dataclass(frozen=True)
class Services:
    """Everything that a process needs, wired together; `start` before use, `close` after."""

    settings: Settings
    now: Now
    db: Database
    store: BlobStore
    client: HttpClient
    godev: GoDev
    gpg: Gpg
    watch: GenerationWatch
    leases: Leases
    locks: HostLocks
    keyring: ReleaseKeyring
    reader: ReleaseIndexReader
    ingestion: Ingestion
    catalog: CatalogReader
    freshness: Freshness
    sync: ReleaseSync
    repair: Repair
    scrub: Scrub
    fsck: Fsck
    policies: PolicyReader
    tokens: TokenService
    tenants: TenantService
    rules: RuleService
    ownership: OwnershipService
    routes: RouteService
    credentials: CredentialService
    files: ModuleFiles
    answers: ModuleAnswers
    modules: ModuleFront
    refresh: ModuleRefresh
    explain: ExplainService
    documents: DocumentService
    goproxies: Goproxies
    log_client: HttpClient
    relays: Mapping[str, LogRelay]
    logs: TenantLogs
    log_fsck: LogFsck
    log_status: LogStatus
    prefetch: Prefetch
    log_pass: LogPass
    sumdb: SumdbFront
    toolchains: Toolchains
    usage: UsageCounter
    jobs: JobService
    audit: AuditReader

    async def start(self, *, owns_key: bool = True) -> None:
        """Check the schema, clear what crashes left, and take over the configured key.

        Args:
            owns_key: False for commands: their environment may name another key than the
                service's, so they take theirs over only where there is none yet.

        Raises:
            SchemaError: the database is not at the schema of this program.
            KeyringError: the configured key is unusable.
            NotYetError: gpg can't be run, and no key was taken over before.
            StorageError: the data directory can't be written.
        """
        check_schema(self.db.engine)
        await self.store.recover()
        armored, source = await _configured_key(self.settings.releases.keyring)
        try:
            if owns_key or not await self.keyring.is_active():
                await self.keyring.configure(armored, source)
        except NotYetError as error:
            # What was verified earlier needs no gpg; only a first start can do nothing without it.
            if not await self.keyring.is_active():
                raise
            _log.error("gpg can't be used; nothing new is verified", error=str(error))
        await self.watch.poll()

    def begin_drain(self) -> None:
        """Start no new fetch from an upstream; those that run go on."""
        self.ingestion.begin_drain()
        self.files.begin_drain()
        self.answers.begin_drain()

    async def drain(self, drain_s: float) -> None:
        """Give running fetches their time, then cancel them."""
        await asyncio.gather(
            self.ingestion.aclose(drain_s=drain_s), self.files.aclose(drain_s=drain_s)
        )

    async def close(self) -> None:
        """End what runs in the background and release everything."""
        await self.repair.aclose()
        await self.modules.aclose()
        await self.answers.aclose()
        await self.sumdb.aclose()
        await self.drain(0)
        # After the fetches that ask them, before the client by which they ask.
        for relay in self.relays.values():
            await relay.aclose()
        await self.goproxies.aclose()
        await self.log_client.aclose()
        await self.client.aclose()
        self.gpg.close()
        self.store.close()
        self.locks.close()
        self.db.close()


def prepare_data_dir(settings: Settings) -> bool:
    """Create the data directory (0700); return whether it is new.

    Raises:
        StorageError: it can't be created.
    """
    new = not settings.data_dir.exists()
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (settings.data_dir / "keys").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"MOORAGE_DATA_DIR: {settings.data_dir} can't be created: {error.strerror}"
        ) from error
    return new


def migrate(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to this program's schema; return (before, after)."""
    prepare_data_dir(settings)
    db = Database(settings.resolved_database_url)
    try:
        return upgrade(db.engine)
    finally:
        db.close()


def build(settings: Settings, *, now: Now = utc_now) -> Services:
    """Wire everything together; nothing is started and nothing is connected yet."""
    prepare_data_dir(settings)
    db = Database(settings.resolved_database_url)
    store = LocalBlobStore(
        settings.data_dir,
        min_free_fraction=settings.storage.min_free_percent / 100,
    )
    releases = settings.releases
    client = _http_client(settings)
    godev = GoDev(
        client, releases.index_url, tuple(releases.files_urls), float(releases.archive_deadline_s)
    )
    gpg = Gpg(
        home_parent=settings.data_dir / "keys",
        pinned=frozenset(releases.pinned_fingerprints),
        now=now,
    )
    watch = GenerationWatch(db)
    leases = Leases(db, now)
    locks = HostLocks(settings.data_dir / "turns.lock")
    keyring = ReleaseKeyring(db, gpg, now)
    reader = ReleaseIndexReader(db, store, godev, now)
    policy = _ingestion_policy(settings)
    ingestion = Ingestion(db, store, godev, keyring, leases, policy, now)
    catalog = CatalogReader(db, watch, policy, now)
    freshness = Freshness(
        reader,
        catalog,
        now,
        time.monotonic,
        refresh_s=releases.refresh_s,
        retry_failed_s=releases.retry_failed_s,
    )
    sync = ReleaseSync(reader, catalog, ingestion, _selection(settings))
    policies = PolicyReader(db, watch)
    box = SecretBox(_secrets_key(settings))
    goproxies = Goproxies(partial(_http_client, settings))
    slots = Slots()
    absences = Absences(time.monotonic)
    limits = settings.limits
    bounds = {"max_waiters": limits.waiters_per_key, "max_queue": limits.cold_queue}
    # Whoever shares an SQLite file is on this host, and has this data directory.
    turns: Turns = locks if is_sqlite(settings.resolved_database_url) else leases
    # Its own connections: a slow log must not hold those that archives need.
    log_client = _http_client(settings)
    relays = _relays(settings, log_client, db, now)
    log_checks = LogChecks(list(relays.values()))
    files = ModuleFiles(db, store, turns, slots, log_checks, now, **bounds)
    answers = ModuleAnswers(db, turns, slots, absences, now, **bounds)
    sources = Upstreams(goproxies, box)
    heads = HeadFiles(settings.data_dir / "keys" / "logs")
    log_fsck = LogFsck(db, heads)
    logs = TenantLogs(db, box, heads, now, settings.sumdb.log_name)
    toolchains = Toolchains(db, store, catalog, ingestion, freshness, leases, now)
    front = ModuleFront(db, files, answers, absences, sources, toolchains, now, limits.tenant_cold)
    sumdb = SumdbFront(relays, logs, log_checks, front)
    routes = RouteService(db, _guard(settings), now)
    modules = ModuleHealing(db, policies, files, sources, toolchains, limits.tenant_cold)
    repair = Repair(db, store, (ReleaseHealing(ingestion), modules), now)
    tenants = TenantService(db, routes, now, settings.modules.upstream)
    rules, ownership = RuleService(db, now), OwnershipService(db, now)
    return Services(
        settings=settings,
        now=now,
        db=db,
        store=store,
        client=client,
        godev=godev,
        gpg=gpg,
        watch=watch,
        leases=leases,
        locks=locks,
        keyring=keyring,
        reader=reader,
        ingestion=ingestion,
        catalog=catalog,
        freshness=freshness,
        sync=sync,
        repair=repair,
        scrub=Scrub(db, store, repair, now, settings.storage.scrub_days),
        fsck=Fsck(db, store, repair, log_fsck, now),
        policies=policies,
        tokens=TokenService(db, policies, now),
        tenants=tenants,
        rules=rules,
        ownership=ownership,
        routes=routes,
        credentials=CredentialService(db, box, now),
        files=files,
        answers=answers,
        modules=front,
        refresh=ModuleRefresh(db, policies, front, files, sources, now),
        explain=ExplainService(db, policies, now),
        documents=DocumentService(db, tenants, rules, ownership, routes),
        goproxies=goproxies,
        log_client=log_client,
        relays=relays,
        logs=logs,
        log_pass=LogPass(db, files, log_checks, policies, now),
        sumdb=sumdb,
        log_fsck=log_fsck,
        log_status=LogStatus(db, relays),
        prefetch=Prefetch(db, policies, sumdb, relays, toolchains, now),
        toolchains=toolchains,
        usage=UsageCounter(db, now),
        jobs=JobService(db, {SYNC: partial(run_sync, sync)}, now),
        audit=AuditReader(db),
    )


def _relays(
    settings: Settings, client: HttpClient, db: Database, now: Now
) -> Mapping[str, LogRelay]:
    return {
        log.name: LogRelay(log.name, parse_vkey(log.vkey), SumdbServer(client, log.url), db, now)
        for log in settings.sumdb.upstreams
    }


def _guard(settings: Settings) -> AddressGuard:
    return AddressGuard([AllowedNetwork.parse(text) for text in settings.network.allow])


def _http_client(
    settings: Settings, limits: UpstreamLimits | None = None, ca_pem: str = ""
) -> HttpClient:
    return HttpClient(
        guard=_guard(settings),
        user_agent=f"Moorage/{__version__}",
        random=Random(),  # noqa: S311 (jitter, not secrets)
        ca_file=settings.network.ca_file,
        ca_pem=ca_pem,
        observe=metrics.observe_upstream,
        on_breaker=lambda origin, is_open: metrics.set_breaker(origin, is_open=is_open),
        limits=limits or UpstreamLimits(),
    )


def _secrets_key(settings: Settings) -> bytes:
    """Return the key that seals secrets; its file is made at the first start.

    Raises:
        StorageError: the file can't be made or read.
        SettingsError: the file does not hold a key.
    """
    if settings.secrets_key is not None:
        return parse_key(settings.secrets_key)
    path = settings.data_dir / "keys" / "secrets.key"
    made = base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
    try:
        with durable.storage_errors("make keys/secrets.key"):
            durable.create_once(path, made)
            return parse_key(path.read_text())
    except BadInputError as error:
        raise SettingsError(f"{path}: {error}") from error


def _ingestion_policy(settings: Settings) -> IngestionPolicy:
    return IngestionPolicy(
        sha256_only=frozenset(settings.releases.sha256_only),
        on_demand=settings.releases.select.on_demand,
        parallel=settings.releases.parallel,
        retry_failed_s=settings.releases.retry_failed_s,
        max_waiters=settings.limits.waiters_per_key,
        max_queue=settings.limits.cold_queue,
    )


def _selection(settings: Settings) -> Selection:
    select = settings.releases.select
    return Selection(
        stable_only=select.stable_only,
        minors=select.minors,
        patches=select.patches,
        os=frozenset(select.os),
        arch=frozenset(select.arch),
        kinds=frozenset(ReleaseFileKind(kind) for kind in select.kinds),
        pins=tuple(select.pins),
    )


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
