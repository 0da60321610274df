"""The groups of services that a process has, one function per group.

`app/services/assembly.py` says what each group holds.
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from random import Random

from app.core.gorelease import ReleaseFileKind
from app.core.notekey import parse_vkey
from app.core.privatehost import PrivateHosts
from app.core.retention import RetentionPolicy
from app.core.selection import Selection
from app.db.engine import Database
from app.db.sqlite import is_sqlite
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
from app.services.backup.age import BackupAge
from app.services.backup.making import BackupService
from app.services.clock import ClockWatch, Monotonic, Now, Pause, utc_now
from app.services.collection import GC, Collection
from app.services.datafolder import DataFolder
from app.services.denials import DenialCounter
from app.services.fleet.channels import ChannelService
from app.services.fleet.checkins import CheckIns
from app.services.fleet.enrolment import EnrolmentService
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
from app.services.modules.retiring import PublishedVersions
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
from app.services.releases.withdrawing import Withdrawing
from app.services.releases.zstforms import ZstForms
from app.services.remembered import Remembered
from app.services.repair import Repair
from app.services.retention import Retention
from app.services.rotation import Rotation
from app.services.secrets import SecretBox
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
from app.storage.hostlocks import HostLocks
from app.upstream.gitprogram import GitLimits
from app.upstream.godev import GoDev
from app.upstream.goproxy import Goproxies
from app.upstream.gpg import Gpg
from app.upstream.http import HttpClient
from app.upstream.sumdb import SumdbServer
from app.wiring.folder import _sqlite_file, backup_place, prepare_data_dir
from app.wiring.stores import blob_store, heads_of_logs, key_source, open_database, store_mark
from app.wiring.upstreams import (
    address_guard,
    http_client,
    public_upstream,
    shared_hosts,
    tenants_client,
    tenants_guard,
)


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
    db = open_database(settings)
    # Only processes of this host change an SQLite file, and they have it as long as this one.
    bridged_s = None if is_sqlite(db.url) else float(settings.database.outage_s)
    watch = GenerationWatch(db, bridged_s, monotonic)
    mark = store_mark(settings)
    heads = heads_of_logs(settings, mark)
    keys = key_source(settings)
    return SharedServices(
        settings=settings,
        now=now,
        pause=pause,
        clock=ClockWatch(now, monotonic),
        file=_sqlite_file(settings),
        folder=DataFolder(settings.data_dir, now),
        mark=mark,
        db=db,
        store=blob_store(settings, BlobMarks(db, now).reclaim, mark),
        client=http_client(settings, pause),
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
        withdrawing=Withdrawing(db, now),
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
        enrolment=EnrolmentService(db, manifests, now),
        nodes=NodeService(db, view, now, check_s),
        check_ins=CheckIns(db, view, progress, now, shared.pause),
        rollouts=rollouts,
    )


def build_publiclog(shared: SharedServices) -> PublicLogServices:
    """Return the relays of public checksum databases."""
    # Its own connections: a slow log must not hold those that archives need.
    client = http_client(shared.settings, shared.pause)
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
    goproxies = Goproxies(partial(tenants_client, settings, shared.pause))
    access = HostAccess(PrivateHosts(shared_hosts(settings)))
    gits = GitModules(
        db,
        store,
        turns,
        goproxies,
        partial(tenants_guard, settings),
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
    access = HostAccess(PrivateHosts(shared_hosts(settings)))
    check = RouteCheck(address_guard(settings), access)
    return TenantServices(
        tenants=TenantService(db, check, now, public_upstream(settings)),
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
        watch=LogWatch(db, logs, heads),
        fsck=LogFsck(db, heads),
        front=front,
        status=LogStatus(db, relays),
        prefetch=Prefetch(db, shared.policies, front, relays, modules.toolchains, now),
        publishing=Publishing(
            db, shared.store, shared.policies, modules.files, modules.upstreams, logs, now
        ),
        published_versions=PublishedVersions(shared.db, shared.policies, shared.now),
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
        backup_age=BackupAge(_backup_store(settings), lambda: backup_place(settings, None)),
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


def _backup_store(settings: Settings) -> str | None:
    """Return what kind of place of backups the settings name; None for none."""
    url = settings.backup.url
    if url is None:
        return None
    return "directory" if url.startswith("/") else "s3"
