"""The groups of services that a process has, one function per group.

`app/services/assembly.py` says what each group holds. Not here: the groups of releases
(`releases.py`) and of modules (`modules.py`).
"""

import asyncio
import time
from functools import partial
from random import Random

from app.core.privatehost import PrivateHosts
from app.core.retention import RetentionPolicy
from app.db.sqlite import is_sqlite
from app.services.assembly import (
    ModuleServices,
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
from app.services.fsck import Fsck
from app.services.garbage import BlobMarks, Garbage
from app.services.generation import GenerationWatch
from app.services.jobs import SYNC, JobService
from app.services.leases import Leases
from app.services.policy import PolicyReader
from app.services.refusals import RefusalCounter
from app.services.releases.healing import DerivedHealing, ReleaseHealing
from app.services.releases.retention import ReleaseRetention
from app.services.releases.scrub import Scrub
from app.services.releases.sync import run_sync
from app.services.repair import Repair
from app.services.retention import Retention
from app.services.rotation import Rotation
from app.services.secrets import SecretBox
from app.services.tenants.checks import RouteCheck
from app.services.tenants.credentials import CredentialService
from app.services.tenants.document import DocumentService
from app.services.tenants.explain import ExplainService
from app.services.tenants.ownership import OwnershipService
from app.services.tenants.routes import RouteService
from app.services.tenants.rules import RuleService
from app.services.tenants.tenants import TenantService
from app.services.tokens import TokenService
from app.services.upstreams import HostAccess
from app.services.usage import UsageCounter
from app.services.webhooks import Webhooks
from app.settings import Settings
from app.storage.hostlocks import HostLocks
from app.wiring.folder import _sqlite_file, backup_place, prepare_data_dir
from app.wiring.modules import build_modules, build_publiclog, build_sumdb
from app.wiring.releases import build_fleet, build_releases
from app.wiring.stores import blob_store, heads_of_logs, key_source, open_database, store_mark
from app.wiring.upstreams import (
    address_guard,
    http_client,
    public_upstream,
    shared_hosts,
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


def _retention(settings: Settings) -> RetentionPolicy:
    rules = settings.retention
    return RetentionPolicy(
        unused_days=rules.unused_days,
        max_age_days=rules.max_age_days,
        versions=rules.versions,
        max_bytes=rules.max_bytes,
    )


def _backup_store(settings: Settings) -> str | None:
    """Return what kind of place of backups the settings name; None for none."""
    url = settings.backup.url
    if url is None:
        return None
    return "directory" if url.startswith("/") else "s3"
