"""The one file that picks concrete stores, clients and services: one function per group.

`app/services/assembly.py` says what each group holds.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

from app import __version__, metrics
from app.core.backup import blob_key
from app.core.digest import Digest
from app.core.errors import BadInputError, SettingsError, StorageError
from app.core.gorelease import ReleaseFileKind
from app.core.notekey import parse_vkey
from app.core.privatehost import PrivateHosts
from app.core.retention import RetentionPolicy
from app.core.routing import Upstream
from app.core.selection import Selection
from app.db.engine import Database, WaitLimits, is_sqlite, sqlite_path
from app.db.schema import upgrade
from app.db.sqlitefile import SqliteFile
from app.services.assembly import (
    FleetServices,
    ModuleServices,
    PublicLogServices,
    ReleaseServices,
    Services,
    SharedServices,
    SumdbServices,
    TenantServices,
    UpkeepServices,
)
from app.services.audit import AuditReader
from app.services.audithead import AuditHead
from app.services.backup import restoring
from app.services.backup.making import BackupService
from app.services.backup.place import BackupPlace
from app.services.clock import ClockWatch, Monotonic, Now, Pause, utc_now
from app.services.collection import GC, Collection
from app.services.datafolder import DataFolder, StoreMark
from app.services.denials import DenialCounter
from app.services.fleet.channels import ChannelService
from app.services.fleet.checkins import CheckIns
from app.services.fleet.manifests import Manifests
from app.services.fleet.nodes import NodeService
from app.services.fleet.offered import ChannelReader
from app.services.fleet.progress import Progress
from app.services.fleet.revisions import Revisions
from app.services.fleet.rollouts import RolloutService
from app.services.fleet.view import FleetView
from app.services.fsck import Fsck
from app.services.garbage import BlobMarks, Garbage
from app.services.generation import GenerationWatch
from app.services.jobs import SYNC, JobService
from app.services.leases import Leases, Turns
from app.services.modules.answers import Absences, ModuleAnswers
from app.services.modules.files import ModuleFiles
from app.services.modules.front import ModuleFront
from app.services.modules.githooks import GitHooks
from app.services.modules.gits import GitModules
from app.services.modules.healing import ModuleHealing
from app.services.modules.importing import ModuleImport
from app.services.modules.lists import Lists
from app.services.modules.logpass import LogPass
from app.services.modules.mirrored import MirroredToolchains
from app.services.modules.publishing import Publishing
from app.services.modules.refresh import ModuleRefresh
from app.services.modules.toolchains import Toolchains
from app.services.policy import PolicyReader
from app.services.publiclog.checks import LogChecks
from app.services.publiclog.relay import LogRelay
from app.services.quota import Quotas
from app.services.refusals import RefusalCounter
from app.services.releases.catalog import CatalogReader
from app.services.releases.derived import DerivedFiles
from app.services.releases.freshness import Freshness
from app.services.releases.healing import DerivedHealing, ReleaseHealing
from app.services.releases.images import ReleaseImages
from app.services.releases.index import ReleaseIndexReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.judging import Judge
from app.services.releases.keyring import OwnKeyring, ReleaseKeyring
from app.services.releases.policy import IngestionPolicy
from app.services.releases.publishing import OwnReleases
from app.services.releases.recompress import Recompressor
from app.services.releases.retention import ReleaseRetention
from app.services.releases.scrub import Scrub
from app.services.releases.sync import ReleaseSync, run_sync
from app.services.releases.zstforms import ZstForms
from app.services.remembered import Remembered
from app.services.repair import Repair
from app.services.retention import Retention
from app.services.rotation import Rotation
from app.services.secrets import GivenKeys, KeyFile, KeySource, SecretBox, parse_key
from app.services.slots import Slots
from app.services.sumdb.front import SumdbFront
from app.services.sumdb.fsck import LogFsck
from app.services.sumdb.prefetch import Prefetch
from app.services.sumdb.status import LogStatus
from app.services.tenantlog.head import HeadFiles
from app.services.tenantlog.log import TenantLogs
from app.services.tenantlog.recover import LogRecovery
from app.services.tenantlog.watch import LogWatch
from app.services.tenants.checks import RouteCheck
from app.services.tenants.credentials import CredentialService
from app.services.tenants.document import DocumentService
from app.services.tenants.explain import ExplainService
from app.services.tenants.ownership import OwnershipService
from app.services.tenants.routes import RouteService
from app.services.tenants.rules import RuleService
from app.services.tenants.tenants import TenantService
from app.services.tokens import TokenService
from app.services.upstreams import HostAccess, Upstreams
from app.services.usage import UsageCounter
from app.services.webhooks import Webhooks
from app.settings import Settings
from app.settings.values import backup_url, parse_storage_url
from app.storage import durable
from app.storage.blobstore import BlobStore, Reclaim
from app.storage.cache import BlobCache
from app.storage.freespace import FreeSpace
from app.storage.hostlocks import HostLocks
from app.storage.local import LocalBlobStore
from app.storage.objects import LocalObjects, ObjectStore, S3Objects
from app.storage.private import make_private_file, tighten
from app.storage.reserve import Reserve
from app.storage.s3 import S3BlobStore
from app.storage.s3client import S3Client, S3Place
from app.upstream.address import AddressGuard, AllowedNetwork, OwnListener, Url
from app.upstream.gitmirror import GitLimits
from app.upstream.godev import GoDev
from app.upstream.goproxy import Goproxies
from app.upstream.gpg import Gpg
from app.upstream.http import HttpClient
from app.upstream.limits import UpstreamLimits
from app.upstream.sumdb import SumdbServer


def prepare_data_dir(settings: Settings) -> bool:
    """Create the data directory (0700); return whether it is new.

    Raises:
        StorageError: it can't be created.
    """
    new = not settings.data_dir.exists()
    if (settings.data_dir / restoring.MARK).exists():
        raise StorageError(
            "MOORAGE_DATA_DIR: a restore has begun there and did not end; run `moorage restore` "
            "again with the same backup, it goes on where it stopped"
        )
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (settings.data_dir / "keys").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"MOORAGE_DATA_DIR: {settings.data_dir} can't be created: {error.strerror}"
        ) from error
    return new


def migrate(settings: Settings, *, bind: bool = False) -> tuple[str | None, str]:
    """Bring the database to this program's schema; return (before, after).

    Args:
        settings: of this installation.
        bind: the operator says that database, -wal and data folder belong together.

    Raises:
        UnfitDatabaseError: the database is malformed, or beside the -wal of another file.
        SchemaError: a newer program has migrated the database.
    """
    prepare_data_dir(settings)
    file = _sqlite_file(settings)
    if file is not None:
        file.open(is_trusted=bind)
    db = _database(settings)
    try:
        revisions = upgrade(db.engine)
        if bind:
            asyncio.run(_bind(settings, db))
        return revisions
    finally:
        db.close()
        if file is not None:
            file.close()


async def _bind(settings: Settings, db: Database) -> None:
    """Say that the database, the data folder and the store belong together."""
    await db.write(DataFolder(settings.data_dir, utc_now).bind)
    mark = _store_mark(settings)
    if mark is not None:
        await mark.bind(db)


def backup_place(settings: Settings, url: str | None) -> BackupPlace:
    """Return the place of backups that a command or the settings name.

    Args:
        settings: of this installation.
        url: of the command; None takes that of the settings.

    Raises:
        BadInputError: neither names one, or the command's is malformed.
        StorageError: the folder can't be made.
    """
    url = url or settings.backup.url
    if url is None:
        raise BadInputError(
            "name the place of the backups: --store /backups, or set MOORAGE_BACKUP__URL"
        )
    try:
        url = backup_url(url)
    except ValueError as error:
        raise BadInputError(f"--store: {error}") from error
    if url.startswith("/"):
        return BackupPlace(LocalObjects(Path(url)))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return BackupPlace(
        S3Objects(S3Client(_s3_place(settings, bucket, prefix.strip("/"))), "moorage-backups")
    )


def restore(
    settings: Settings,
    place: BackupPlace,
    backup_id: str,
    *,
    secrets_key: Path | None,
    heads: Path | None,
    progress: restoring.Progress,
) -> restoring.Restored:
    """Put a backup back into the empty data directory and database that the settings name.

    Args:
        settings: of the new installation.
        place: where the backup is.
        backup_id: of the backup, or "latest".
        secrets_key: a copy of keys/secrets.key, which is put back too.
        heads: a folder with newer heads than the backup's.
        progress: is called with (blobs put back, blobs in all).

    Raises:
        ConflictError: the data directory or the database is not empty.
        BadInputError: the backup or a file that was named is damaged.
    """
    url, folder = settings.resolved_database_url, settings.data_dir
    backup = place.get(backup_id)
    restoring.require_empty(folder, url, backup.id)
    if secrets_key is not None:
        prepare_data_dir(settings)
        with durable.storage_errors(f"take over {secrets_key}"):
            key = secrets_key.read_bytes()
            for line in key.decode("ascii", "replace").split() or [""]:
                parse_key(line)
            durable.replace_file(folder / "keys" / "secrets.key", key)
    client = _s3_client(settings)

    def put_blob(digest: Digest, path: Path) -> None:
        if client is None:
            restoring.put_local_blob(folder, digest, path)
        else:
            client.put_file(blob_key(digest), path)

    return restoring.restore(
        place,
        backup,
        folder,
        url,
        put_blob,
        _heads(settings),
        heads_folder=heads,
        progress=progress,
    )


def _sqlite_file(settings: Settings) -> SqliteFile | None:
    path = sqlite_path(settings.resolved_database_url)
    return None if path is None else SqliteFile(path)


def build(
    settings: Settings,
    *,
    now: Now = utc_now,
    pause: Pause = asyncio.sleep,
    monotonic: Monotonic = time.monotonic,
) -> Services:
    """Wire everything together; nothing is started and nothing is connected yet.

    Args:
        settings: of this installation.
        now: the wall clock, UTC.
        pause: waits so many seconds between two tries at an upstream.
        monotonic: seconds of a clock that only grows; tells when the wall clock was set.
    """
    prepare_data_dir(settings)
    shared = build_shared(settings, now, pause, monotonic)
    releases = build_releases(shared)
    fleet = build_fleet(shared, releases)
    publiclog = build_publiclog(shared)
    modules = build_modules(shared, releases, publiclog)
    tenants = build_tenants(shared)
    sumdb = build_sumdb(shared, publiclog, modules)
    upkeep = build_upkeep(shared, releases, modules, sumdb)
    return Services(shared, releases, fleet, publiclog, modules, tenants, sumdb, upkeep)


def build_shared(
    settings: Settings, now: Now, pause: Pause, monotonic: Monotonic
) -> SharedServices:
    """Return what every group uses."""
    db = _database(settings)
    # Only processes of this host change an SQLite file, and they have it as long as this one.
    bridged_s = None if is_sqlite(db.url) else float(settings.database.outage_s)
    watch = GenerationWatch(db, bridged_s, monotonic)
    heads = _heads(settings)
    keys = _key_source(settings)
    return SharedServices(
        settings=settings,
        now=now,
        pause=pause,
        clock=ClockWatch(now, monotonic),
        file=_sqlite_file(settings),
        folder=DataFolder(settings.data_dir, now),
        mark=_store_mark(settings),
        db=db,
        store=_blob_store(settings, BlobMarks(db, now).reclaim),
        client=_http_client(settings, pause),
        watch=watch,
        leases=Leases(db, now),
        locks=HostLocks(settings.data_dir / "turns.lock"),
        keys=keys,
        box=SecretBox(source=keys),
        policies=PolicyReader(db, watch),
        usage=UsageCounter(db, now),
        refusals=RefusalCounter(db, now),
        denials=DenialCounter(db, now),
        audit=AuditReader(db),
        audit_head=AuditHead(db, heads, now),
        heads=heads,
    )


def build_releases(shared: SharedServices) -> ReleaseServices:
    """Return the group that mirrors and verifies Go releases."""
    settings, db, now = shared.settings, shared.db, shared.now
    releases = settings.releases
    godev = GoDev(
        shared.client,
        releases.index_url,
        tuple(releases.files_urls),
        float(releases.archive_deadline_s),
    )
    gpg = Gpg(
        home_parent=settings.data_dir / "keys",
        pinned=frozenset(releases.pinned_fingerprints),
        now=now,
    )
    keyring = ReleaseKeyring(db, gpg, now)
    reader = ReleaseIndexReader(db, shared.store, godev, now)
    policy = _ingestion_policy(settings)
    derived = DerivedFiles(db, shared.store, now)
    own_keyring = _own_keyring(settings, now)
    judge = Judge(godev, keyring, own_keyring, derived, policy, now)
    ingestion = Ingestion(db, shared.store, godev, judge, shared.leases, policy, now)
    catalog = CatalogReader(db, shared.watch, policy, now)
    freshness = Freshness(
        reader,
        catalog,
        now,
        time.monotonic,
        refresh_s=releases.refresh_s,
        retry_failed_s=releases.retry_failed_s,
    )
    return ReleaseServices(
        godev=godev,
        gpg=gpg,
        keyring=keyring,
        reader=reader,
        ingestion=ingestion,
        derived=derived,
        zst=ZstForms(db, shared.store, _recompressor(settings), now),
        catalog=catalog,
        freshness=freshness,
        images=ReleaseImages(db, catalog, now),
        own_keyring=own_keyring,
        own=OwnReleases(db, shared.store, judge, own_keyring, shared.leases, now),
        sync=ReleaseSync(db, reader, catalog, ingestion, _selection(settings)),
    )


def build_fleet(shared: SharedServices, releases: ReleaseServices) -> FleetServices:
    """Return the group that says what nodes are to run."""
    policy = releases.catalog.policy
    manifests = Manifests(shared.db, shared.box, policy, shared.now)
    revisions = Revisions(manifests, policy, _selection(shared.settings))
    db, now, check_s = shared.db, shared.now, float(shared.settings.fleet.check_s)
    progress = Progress(revisions, check_s)
    view = FleetView(db, shared.watch, progress, now)
    rollouts = RolloutService(db, shared.watch, revisions, progress, now)
    return FleetServices(
        channels=ChannelService(db, manifests, revisions, now, rollouts.roll_back_open),
        revisions=revisions,
        manifests=manifests,
        offered=ChannelReader(db, shared.watch),
        view=view,
        nodes=NodeService(db, view, manifests, now, check_s),
        check_ins=CheckIns(db, view, progress, now, shared.pause),
        rollouts=rollouts,
    )


def build_publiclog(shared: SharedServices) -> PublicLogServices:
    """Return the relays of public checksum databases."""
    # Its own connections: a slow log must not hold those that archives need.
    client = _http_client(shared.settings, shared.pause)
    relays = _relays(shared.settings, client, shared.db, shared.now)
    return PublicLogServices(client, relays, LogChecks(list(relays.values())))


def build_modules(
    shared: SharedServices, releases: ReleaseServices, publiclog: PublicLogServices
) -> ModuleServices:
    """Return the group that fetches, checks and serves modules."""
    settings, db, store, now = shared.settings, shared.db, shared.store, shared.now
    limits = settings.limits
    # The slots bound the queue, and fairly; the flights' own bound is never met before that.
    bounds = {"max_waiters": limits.waiters_per_key, "max_queue": 8 * limits.cold_queue}
    # Whoever shares an SQLite file is on this host, and has this data directory.
    on_one_host = is_sqlite(settings.resolved_database_url)
    turns: Turns = shared.locks if on_one_host else shared.leases
    slots = Slots(
        fetches=limits.fetches,
        memory_bytes=limits.memory_bytes,
        wait_s=float(limits.cold_wait_s),
        places=limits.cold_queue,
    )
    remembered = Remembered(db, shared.watch)
    absences, lists = Absences(time.monotonic), Lists(slots.checks)
    goproxies = Goproxies(partial(_tenants_client, settings, shared.pause))
    access = HostAccess(PrivateHosts(_shared_hosts(settings)))
    gits = GitModules(
        db,
        store,
        turns,
        goproxies,
        partial(_tenants_guard, settings),
        settings.data_dir / "git",
        GitLimits(repository_bytes=settings.git.repository_bytes),
        time.monotonic,
        now,
        mirrors_bytes=settings.git.mirrors_bytes,
        **bounds,
    )
    upstreams = Upstreams(goproxies, shared.box, limits.tenant_cold, shared.policies, access, gits)
    quotas = Quotas(db)
    files = ModuleFiles(db, store, turns, slots, publiclog.checks, now, quotas=quotas, **bounds)
    answers = ModuleAnswers(db, remembered, store, turns, slots, absences, lists, now, **bounds)
    toolchains = Toolchains(
        db, store, releases.catalog, releases.ingestion, releases.freshness, shared.leases, now
    )
    mirrored = MirroredToolchains(toolchains)
    refresh = ModuleRefresh(
        db, shared.policies, files, absences, gits, upstreams, shared.usage, now
    )
    return ModuleServices(
        goproxies=goproxies,
        gits=gits,
        upstreams=upstreams,
        toolchains=toolchains,
        files=files,
        answers=answers,
        mirrored=mirrored,
        front=ModuleFront(
            db, remembered, files, answers, absences, upstreams, mirrored, lists, shared.usage, now
        ),
        healing=ModuleHealing(db, shared.policies, files, upstreams, toolchains),
        refresh=refresh,
        imports=ModuleImport(
            db,
            shared.policies,
            files,
            settings.limits.tenant_cold,
            has_log=bool(settings.sumdb.upstreams),
        ),
        git_hooks=GitHooks(db, shared.box, shared.policies, refresh.note_push, now),
        log_pass=LogPass(db, files, publiclog.checks, shared.policies, now),
        memory=slots.memory,
    )


def build_tenants(shared: SharedServices) -> TenantServices:
    """Return the group that records tenants and what belongs to them."""
    settings, db, now = shared.settings, shared.db, shared.now
    access = HostAccess(PrivateHosts(_shared_hosts(settings)))
    check = RouteCheck(_guard(settings), access)
    return TenantServices(
        tenants=TenantService(db, check, now, _public_upstream(settings)),
        tokens=TokenService(db, now),
        rules=RuleService(db, now),
        ownership=OwnershipService(db, now),
        routes=RouteService(db, check, now),
        credentials=CredentialService(db, shared.box, now),
        explain=ExplainService(db, shared.policies, access, shared.usage, now),
        documents=DocumentService(db, check, shared.box, now),
    )


def build_sumdb(
    shared: SharedServices, publiclog: PublicLogServices, modules: ModuleServices
) -> SumdbServices:
    """Return the group that serves checksum databases, relayed ones and tenants' own."""
    settings, db, now = shared.settings, shared.db, shared.now
    heads = HeadFiles(shared.heads)
    logs = TenantLogs(db, shared.box, heads, now, settings.sumdb.log_name)
    relays = publiclog.relays
    front = SumdbFront(relays, logs, publiclog.checks, modules.front, modules.mirrored)
    return SumdbServices(
        logs=logs,
        recovery=LogRecovery(db, logs, heads, now),
        watch=LogWatch(db, heads),
        fsck=LogFsck(db, heads),
        front=front,
        status=LogStatus(db, relays),
        prefetch=Prefetch(db, shared.policies, front, relays, modules.toolchains, now),
        publishing=Publishing(
            db, shared.store, shared.policies, modules.files, modules.upstreams, logs, now
        ),
    )


def build_upkeep(
    shared: SharedServices,
    releases: ReleaseServices,
    modules: ModuleServices,
    sumdb: SumdbServices,
) -> UpkeepServices:
    """Return what works on all groups."""
    settings, db, store, now = shared.settings, shared.db, shared.store, shared.now
    owners = (
        ReleaseHealing(releases.ingestion),
        DerivedHealing(db, releases.ingestion, releases.derived, releases.zst),
        modules.healing,
    )
    repair = Repair(db, store, owners, now)
    garbage = Garbage(db, store, now)
    release_retention = ReleaseRetention(
        db, releases.sync, releases.catalog, now, is_on=settings.retention.releases
    )
    collection = Collection(Retention(db, _retention(settings), now), release_retention, garbage)
    return UpkeepServices(
        repair=repair,
        scrub=Scrub(db, store, repair, now, settings.storage.scrub_days),
        fsck=Fsck(db, store, repair, releases.derived, sumdb.fsck, garbage, now),
        backups=BackupService(db, store, shared.heads, shared.leases, settings.data_dir, now),
        collection=collection,
        rotation=Rotation(db, shared.keys, now),
        jobs=JobService(db, {SYNC: partial(run_sync, releases.sync), GC: collection.run_job}, now),
        webhooks=Webhooks(
            db,
            shared.box,
            shared.client,
            now,
            Random().random,  # noqa: S311 (jitter, not secrets)
        ),
    )


def _relays(
    settings: Settings, client: HttpClient, db: Database, now: Now
) -> Mapping[str, LogRelay]:
    return {
        log.name: LogRelay(log.name, parse_vkey(log.vkey), SumdbServer(client, log.url), db, now)
        for log in settings.sumdb.upstreams
    }


def _blob_store(settings: Settings, reclaim: Reclaim) -> BlobStore:
    free = _min_free_fraction(settings)
    client = _s3_client(settings)
    if client is None:
        return LocalBlobStore(settings.data_dir, min_free_fraction=free, reclaim=reclaim)
    # A folder of its own: blobs of an earlier local store are no cache, and are never evicted.
    cache = BlobCache(settings.data_dir / "cache", min_free_fraction=free)
    return S3BlobStore(client, cache, settings.storage.cache_bytes, reclaim=reclaim)


def _s3_client(settings: Settings) -> S3Client | None:
    """Return a client of the bucket; None if blobs are in the data directory."""
    bucket = parse_storage_url(settings.storage.url)
    return None if bucket is None else S3Client(_s3_place(settings, *bucket))


def _heads(settings: Settings) -> ObjectStore:
    """Return where the heads of logs are: beside the database, and where all replicas see them."""
    client = _s3_client(settings)
    if client is None:
        return LocalObjects(settings.data_dir / "keys" / "logs")
    return S3Objects(client, "heads")


def _store_mark(settings: Settings) -> StoreMark | None:
    """Return the mark of the store; None where nobody but this data directory can have blobs."""
    client = _s3_client(settings)
    if client is not None:
        return StoreMark(S3Objects(client, "marks"))
    if is_sqlite(settings.resolved_database_url):
        return None
    return StoreMark(LocalObjects(settings.data_dir / "keys" / "store"))


def _s3_place(settings: Settings, bucket: str, prefix: str) -> S3Place:
    s3 = settings.storage.s3
    return S3Place(bucket, prefix, s3.endpoint, s3.region, s3.access_key, s3.secret_key)


def _database(settings: Settings) -> Database:
    """Return the database; an SQLite file has a floor of free space and a reserve beside it."""
    url = settings.resolved_database_url
    path = sqlite_path(url)
    if path is None:
        waits = settings.database
        limits = WaitLimits(waits.connect_s, waits.lock_s, waits.statement_s, waits.idle_s)
        return Database(url, limits=limits)
    # SQLite gives its other files the mode of the first. Earlier versions left that to the umask.
    for name in ("", "-wal", "-shm", ".reserve"):
        with suppress(OSError):
            tighten(path.with_name(path.name + name))
    make_private_file(path)
    space = FreeSpace(path.parent, _min_free_fraction(settings))
    reserve = Reserve(path.with_name(f"{path.name}.reserve"), space)
    reserve.open()
    return Database(url, reserve)


def _min_free_fraction(settings: Settings) -> float:
    return settings.storage.min_free_percent / 100


def _public_upstream(settings: Settings) -> Upstream:
    modules = settings.modules
    return Upstream(url=modules.upstream, redirect_to=frozenset(modules.redirect_to))


def _shared_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the private hosts that every tenant may have: its catch-all route leads to one."""
    url = Url.parse(settings.modules.upstream)
    host = f"[{url.host}]" if ":" in url.host else url.host
    return *settings.network.tenant_hosts, f"{host}:{url.port}"


def _guard(settings: Settings, hosts: PrivateHosts | None = None) -> AddressGuard:
    url = None if settings.public_url is None else Url.parse(settings.public_url)
    public = None if url is None else (url.host, url.port)
    return AddressGuard(
        [AllowedNetwork.parse(text) for text in settings.network.allow],
        hosts=hosts,
        own=OwnListener(settings.port, public),
    )


def _tenants_client(
    settings: Settings,
    pause: Pause,
    limits: UpstreamLimits,
    ca_pem: str,
    private_hosts: tuple[str, ...] | None,
) -> HttpClient:
    """Return a client of an upstream of those tenants that have these private hosts, or all."""
    if private_hosts is None:
        return _http_client(settings, pause, limits, ca_pem)
    hosts = PrivateHosts((*_shared_hosts(settings), *private_hosts))
    return _http_client(settings, pause, limits, ca_pem, hosts)


def _tenants_guard(settings: Settings, private_hosts: tuple[str, ...] | None) -> AddressGuard:
    """Return the guard of connections that are not HTTP; as `_tenants_client`."""
    if private_hosts is None:
        return _guard(settings)
    return _guard(settings, PrivateHosts((*_shared_hosts(settings), *private_hosts)))


def _http_client(
    settings: Settings,
    pause: Pause,
    limits: UpstreamLimits | None = None,
    ca_pem: str = "",
    hosts: PrivateHosts | None = None,
) -> HttpClient:
    return HttpClient(
        guard=_guard(settings, hosts),
        user_agent=f"Moorage/{__version__}",
        random=Random(),  # noqa: S311 (jitter, not secrets)
        sleep=pause,
        ca_file=settings.network.ca_file,
        ca_pem=ca_pem,
        observe=metrics.observe_upstream,
        on_breaker=lambda origin, is_open: metrics.set_breaker(origin, is_open=is_open),
        limits=limits or UpstreamLimits(),
    )


def _key_source(settings: Settings) -> KeySource:
    """Return what has the keys that seal secrets; a file is made at the first start.

    Raises:
        StorageError: the file can't be made or read.
        SettingsError: the file does not hold a key; the database is one that several hosts can use
            and the key is no setting.
    """
    if settings.secrets_key is not None:
        keys = [settings.secrets_key, settings.secrets_key_before]
        return GivenKeys(*(parse_key(key) for key in keys if key is not None))
    if not is_sqlite(settings.resolved_database_url):
        raise SettingsError(
            "MOORAGE_SECRETS_KEY: replicas that share a database need one key from outside; make"
            " it with `openssl rand -base64 32`, or give that of keys/secrets.key in the data dir"
        )
    try:
        return KeyFile(settings.data_dir / "keys" / "secrets.key")
    except BadInputError as error:
        raise SettingsError(f"keys/secrets.key in the data directory: {error}") from error


def _retention(settings: Settings) -> RetentionPolicy:
    rules = settings.retention
    return RetentionPolicy(
        unused_days=rules.unused_days,
        max_age_days=rules.max_age_days,
        versions=rules.versions,
        max_bytes=rules.max_bytes,
    )


def _recompressor(settings: Settings) -> Recompressor | None:
    zstd = settings.releases.zstd
    return Recompressor(zstd.level, zstd.niceness) if zstd.enabled else None


def _own_keyring(settings: Settings, now: Now) -> OwnKeyring:
    releases = settings.releases
    if not releases.own_fingerprints:
        return OwnKeyring(None, None)
    pinned = frozenset(releases.own_fingerprints)
    gpg = Gpg(home_parent=settings.data_dir / "keys", pinned=pinned, now=now)
    return OwnKeyring(gpg, releases.own_keyring)


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
