"""The groups of modules: public logs, modules themselves, and checksum databases."""

import time
from collections.abc import Mapping
from functools import partial

from app.core.notekey import parse_vkey
from app.core.privatehost import PrivateHosts
from app.db.engine import Database
from app.db.sqlite import is_sqlite
from app.services.assembly import (
    ModuleServices,
    PublicLogServices,
    ReleaseServices,
    SharedServices,
    SumdbServices,
)
from app.services.clock import Now
from app.services.leases import Turns
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
from app.services.publiclog.checks import LogChecks
from app.services.publiclog.relay import LogRelay
from app.services.quota import Quotas
from app.services.remembered import Remembered
from app.services.slots import Slots
from app.services.sumdb.front import SumdbFront
from app.services.sumdb.fsck import LogFsck
from app.services.sumdb.prefetch import Prefetch
from app.services.sumdb.status import LogStatus
from app.services.tenantlog.head import HeadFiles
from app.services.tenantlog.log import TenantLogs
from app.services.tenantlog.recover import LogRecovery
from app.services.tenantlog.watch import LogWatch
from app.services.upstreams import HostAccess, Upstreams
from app.settings import Settings
from app.upstream.gitprogram import GitLimits
from app.upstream.goproxy import Goproxies
from app.upstream.http import HttpClient
from app.upstream.sumdb import SumdbServer
from app.wiring.upstreams import (
    http_client,
    shared_hosts,
    tenants_client,
    tenants_guard,
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
    gits = _gits(shared, turns, goproxies, bounds)
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


def _gits(
    shared: SharedServices, turns: Turns, goproxies: Goproxies, bounds: dict[str, int]
) -> GitModules:
    settings = shared.settings
    return GitModules(
        shared.db,
        shared.store,
        turns,
        goproxies,
        partial(tenants_guard, settings),
        settings.data_dir / "git",
        GitLimits(repository_bytes=settings.git.repository_bytes),
        time.monotonic,
        shared.now,
        mirrors_bytes=settings.git.mirrors_bytes,
        **bounds,
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


def _relays(
    settings: Settings, client: HttpClient, db: Database, now: Now
) -> Mapping[str, LogRelay]:
    return {
        log.name: LogRelay(log.name, parse_vkey(log.vkey), SumdbServer(client, log.url), db, now)
        for log in settings.sumdb.upstreams
    }
