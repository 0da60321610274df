"""The groups of Go releases: mirroring and verifying them, and what a fleet of nodes runs."""

import time

from app.core.gorelease import ReleaseFileKind
from app.core.selection import Selection
from app.services.assembly import (
    FleetServices,
    ReleaseServices,
    SharedServices,
)
from app.services.auditwindows import AuditWindows
from app.services.clock import Now
from app.services.fleet import noderows
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
from app.services.releases.catalog import CatalogReader
from app.services.releases.derived import DerivedFiles
from app.services.releases.freshness import Freshness
from app.services.releases.images import ReleaseImages
from app.services.releases.index import ReleaseIndexReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.judging import Judge
from app.services.releases.keyring import OwnKeyring, ReleaseKeyring
from app.services.releases.policy import IngestionPolicy
from app.services.releases.publishing import OwnReleases
from app.services.releases.recompress import Recompressor
from app.services.releases.sync import ReleaseSync
from app.services.releases.withdrawing import Withdrawing
from app.services.releases.zstforms import ZstForms
from app.settings import Settings
from app.upstream.godev import GoDev
from app.upstream.gpg import Gpg


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
    node_rows = AuditWindows(
        db, now, noderows.WINDOW, at_once=noderows.AT_ONCE, most=noderows.MAX_SOURCES
    )
    progress = Progress(revisions, check_s, node_rows)
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
        node_rows=node_rows,
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
