"""Every metric of the service, with Prometheus' names and base units (seconds, bytes).

prometheus_client reads the environment at its import, and then counts for one process or for
several. So the first use of a metric imports it, not this module. The parent of several workers
calls `prepare_multiprocess` before anything else here.

Names and units follow https://prometheus.io/docs/practices/naming/. Label values are closed sets or
configured origins, never values of clients.
"""

import os
import re
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import __version__

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
"""The Content-Type of `render`."""

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_VALUES_FILE = re.compile(r"(counter|histogram|summary|gauge_[a-z]+)_[0-9]+\.db", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REFRESHED_AT = "moorage_index_refreshed_timestamp_seconds"

# From a tile of the same data centre to an archive over a slow line.
_UPSTREAM_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# A hit takes microseconds, unless its blob must be opened or its stream waits for a turn.
_HIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 90)
_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_DATABASE_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15)
_INGESTION_BUCKETS_S = (0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900)


@dataclass(frozen=True, slots=True)
class _Meters:
    registry: "CollectorRegistry"
    requests: "Counter"
    response_bytes: "Counter"
    streams: "Gauge"
    hot: "Counter"
    hit_seconds: "Histogram"
    loop_lag: "Histogram"
    database_seconds: "Histogram"
    upstream_requests: "Counter"
    upstream_seconds: "Histogram"
    breaker_open: "Gauge"
    files: "Gauge"
    ingestions: "Counter"
    ingestion_seconds: "Histogram"
    refreshes: "Counter"
    backup_at: "Gauge"
    refreshed_at: "Gauge"
    refresh_interval: "Gauge"
    skipped: "Counter"
    conflicts: "Counter"
    damaged: "Counter"
    module_fetches: "Counter"
    module_conflicts: "Counter"
    decisions: "Counter"
    tenant_requests: "Counter"
    tenant_bytes: "Counter"
    log_refusals: "Counter"
    free_bytes: "Gauge"
    garbage: "Counter"
    garbage_bytes: "Counter"
    notes: "Gauge"
    refusing_logs: "Gauge"
    manifests_expire_at: "Gauge"
    nodes: "Gauge"
    node_events: "Counter"
    grants: "Counter"
    rollout_changes: "Counter"
    check_ins: "Counter"
    webhooks: "Counter"
    spans: "Counter"
    certificate_expires_at: "Gauge"
    publications: "Counter"


@cache
def _meters() -> _Meters:
    """Return all metrics; the first call makes them.

    The registry is private, so that it holds our metrics alone.
    """
    import prometheus_client
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()

    def counter(name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=registry)

    def gauge(name: str, meaning: str, *labels: str) -> Gauge:
        # The value describes the whole service; of several processes, the last one knows best.
        return Gauge(name, meaning, labels, registry=registry, multiprocess_mode="mostrecent")

    build = Gauge(
        "moorage_build_info",
        "The running version.",
        ["version"],
        registry=registry,
        multiprocess_mode="max",
    )
    build.labels(__version__).set(1)
    return _Meters(
        registry=registry,
        requests=counter(
            "moorage_http_requests", "Requests answered.", "surface", "method", "status"
        ),
        response_bytes=counter("moorage_http_response_bytes", "Body bytes sent.", "surface"),
        streams=Gauge(
            "moorage_http_streams",
            "Bodies being sent.",
            registry=registry,
            multiprocess_mode="livesum",
        ),
        hot=counter("moorage_hot_cache", "Lookups of prepared answers.", "result"),
        hit_seconds=Histogram(
            "moorage_hit_seconds",
            "Time from the head of a request to the first byte of a prepared answer.",
            ["surface"],
            registry=registry,
            buckets=_HIT_BUCKETS_S,
        ),
        loop_lag=Histogram(
            "moorage_event_loop_lag_seconds",
            "How late a process came to what was due, once a second.",
            registry=registry,
            buckets=_LAG_BUCKETS_S,
        ),
        database_seconds=Histogram(
            "moorage_database_seconds",
            "Length of a unit of work of the database, the wait for its turn included.",
            ["kind"],
            registry=registry,
            buckets=_DATABASE_BUCKETS_S,
        ),
        upstream_requests=counter(
            "moorage_upstream_requests", "Exchanges with upstreams.", "origin", "outcome"
        ),
        upstream_seconds=Histogram(
            "moorage_upstream_request_seconds",
            "Length of an exchange with an upstream.",
            registry=registry,
            buckets=_UPSTREAM_BUCKETS_S,
        ),
        breaker_open=Gauge(
            "moorage_upstream_breaker_open",
            "1 while an upstream is left alone.",
            ["origin"],
            registry=registry,
            multiprocess_mode="livemax",
        ),
        files=gauge("moorage_releases_files", "Release files by state.", "state"),
        ingestions=counter("moorage_release_ingestions", "Ingestions that ended.", "outcome"),
        ingestion_seconds=Histogram(
            "moorage_release_ingestion_seconds",
            "Length of an ingestion.",
            registry=registry,
            buckets=_INGESTION_BUCKETS_S,
        ),
        refreshes=counter("moorage_index_refresh", "Reads of the release index.", "outcome"),
        manifests_expire_at=gauge(
            "moorage_channel_manifests_expiry_timestamp_seconds",
            "When the first manifest of a channel expires, Unix time.",
        ),
        publications=counter(
            "moorage_module_publications", "Uploads of modules that ended.", "outcome"
        ),
        certificate_expires_at=gauge(
            "moorage_tls_certificate_expiry_timestamp_seconds",
            "When the server's own certificate expires, Unix time.",
        ),
        backup_at=gauge(
            "moorage_backup_last_completed_timestamp_seconds",
            "When the newest backup in MOORAGE_BACKUP__URL was made, Unix time; 0: there is none.",
            "store",
        ),
        refreshed_at=gauge(_REFRESHED_AT, "When the release index was last read, Unix time."),
        refresh_interval=gauge(
            "moorage_index_refresh_interval_seconds", "Time between two reads of the index."
        ),
        skipped=counter(
            "moorage_index_skipped", "Entries and keys of the index not understood.", "key"
        ),
        conflicts=counter("moorage_index_conflicts", "Recorded hashes that the index contradicts."),
        damaged=counter("moorage_blobs_damaged", "Blobs found missing or damaged."),
        module_fetches=counter(
            "moorage_module_fetches", "Module files fetched from upstreams.", "kind", "outcome"
        ),
        module_conflicts=counter(
            "moorage_module_conflicts", "Module contents that contradict what is recorded."
        ),
        tenant_requests=counter(
            "moorage_tenant_requests", "Requests of tenants, as decided.", "tenant", "outcome"
        ),
        tenant_bytes=counter(
            "moorage_tenant_response_bytes", "Body bytes sent to tenants.", "tenant"
        ),
        log_refusals=counter(
            "moorage_sumdb_refusals", "Answers of checksum databases that did not verify."
        ),
        decisions=counter(
            "moorage_authorizations", "Decisions about tenants' requests.", "outcome"
        ),
        free_bytes=gauge("moorage_storage_free_bytes", "Free bytes of the file system of blobs."),
        garbage=counter("moorage_gc_blobs", "Blobs that were condemned and deleted.", "what"),
        garbage_bytes=counter("moorage_gc_freed_bytes", "Bytes of deleted blobs."),
        refusing_logs=gauge(
            "moorage_sumdb_logs_refusing", "Tenants' logs that are not written to."
        ),
        nodes=gauge("moorage_fleet_nodes", "Nodes by channel and state.", "channel", "state"),
        node_events=counter(
            "moorage_fleet_reports", "Events that nodes reported.", "channel", "event"
        ),
        grants=counter(
            "moorage_fleet_grants",
            "Grants: out, succeeded, failed, withdrawn.",
            "channel",
            "outcome",
        ),
        rollout_changes=counter(
            "moorage_fleet_rollout_changes", "Changes of rollouts.", "channel", "change"
        ),
        check_ins=counter("moorage_fleet_check_ins", "Check-ins of nodes.", "action"),
        webhooks=counter("moorage_webhooks", "Messages sent to webhooks.", "result"),
        spans=counter("moorage_trace_spans", "Spans that were sent or lost.", "result"),
        notes=gauge("moorage_notes", "1 while /readyz has a note about the subject.", "about"),
    )


def registry() -> "CollectorRegistry":
    """Return the private registry that all metrics are in."""
    return _meters().registry


def count_request(surface: str, method: str, status: int, body_bytes: int) -> None:
    """Count an answered request and the bytes of its body that were sent.

    surface is the part of the URL map: "downloads", "goproxy", "home", "admin". A method that HTTP
    does not define counts as "other".
    """
    method_label = method if method in _METHODS else "other"
    _pending[_request, surface, method_label, status] += 1
    _pending[_response_bytes, surface] += body_bytes


# The hot path counts in this dictionary, at a tenth of the cost of a counter, whose value may be in
# a file that processes share.
_pending: dict[tuple[Any, ...], int] = defaultdict(int)


def flush() -> None:
    """Add the counts of the hot path to the metrics. Call it in the thread that counts."""
    for (surface, tenant), hits in _instant.items():
        hits.flush(surface, tenant)
    _instant.clear()
    for kind, times in _database_times.items():
        times.flush(_meters().database_seconds.labels(kind))
    _database_times.clear()
    for (child, *labels), count in _pending.items():
        child(*labels).inc(count)
    _pending.clear()


class _Times:
    """Observations that a histogram gets at the next flush; their number takes no memory."""

    __slots__ = ("_bounds_s", "counts", "seconds")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Take one observation."""
        self.seconds += seconds
        if seconds <= self._bounds_s[0]:
            self.counts[0] += 1
        else:
            self.counts[bisect_left(self._bounds_s, seconds)] += 1

    def flush(self, histogram: "Histogram") -> None:
        """Add all observations at once, which `observe` can't."""
        histogram._sum.inc(self.seconds)
        for bucket, count in zip(histogram._buckets, self.counts, strict=True):
            if count:
                bucket.inc(count)


class _InstantHits:
    """Plain GETs of one surface and tenant that were answered from memory since the last flush."""

    __slots__ = ("body_bytes", "count", "times")

    def __init__(self) -> None:
        self.count = self.body_bytes = 0
        self.times = _Times(_HIT_BUCKETS_S)

    def flush(self, surface: str, tenant: str) -> None:
        """Count the hits in every metric that they belong to."""
        if tenant:
            _pending[_decision, "allowed"] += self.count
            _pending[_tenant_request, tenant, "allowed"] += self.count
            _pending[_tenant_bytes, tenant] += self.body_bytes
        _pending[_request, surface, "GET", 200] += self.count
        _pending[_response_bytes, surface] += self.body_bytes
        _pending[_hot, "hit"] += self.count
        self.times.flush(_hit_seconds(surface))


_instant: dict[tuple[str, str], _InstantHits] = defaultdict(_InstantHits)


def count_instant(surface: str, tenant: str, body_bytes: int, began_s: float) -> None:
    """Count a plain GET that was answered from memory with status 200, and its time until now.

    One call for all metrics of a hit: each dictionary costs as much as the clock.

    Args:
        surface: "downloads" or "goproxy".
        tenant: whose answer it is; "" for a download.
        body_bytes: of the answer.
        began_s: when the request came, by `time.monotonic`.
    """
    hits = _instant[surface, tenant]
    hits.count += 1
    hits.body_bytes += body_bytes
    hits.times.add(time.monotonic() - began_s)


def observe_hit(surface: str, seconds: float) -> None:
    """Count the time until the first byte of a prepared answer that went through ASGI."""
    _hit_seconds(surface).observe(seconds)


def observe_loop_lag(seconds: float) -> None:
    """Count how late the event loop of this process came to what was due."""
    _meters().loop_lag.observe(seconds)


def observe_database(kind: str, seconds: float) -> None:
    """Count a unit of work of the database, "read" or "write", at the next flush.

    The parent of several workers uses the database before `prepare_multiprocess`.
    """
    _database_times[kind].add(seconds)


_database_times: dict[str, _Times] = defaultdict(lambda: _Times(_DATABASE_BUCKETS_S))


@cache
def _hit_seconds(surface: str) -> "Histogram":
    return _meters().hit_seconds.labels(surface)


# labels() costs more than inc(), so that the children for the hot path are cached.
@cache
def _request(surface: str, method: str, status: int) -> "Counter":
    return _meters().requests.labels(surface, method, str(status))


@cache
def _response_bytes(surface: str) -> "Counter":
    return _meters().response_bytes.labels(surface)


@cache
def _hot(result: str) -> "Counter":
    return _meters().hot.labels(result)


def count_hot(*, hit: bool) -> None:
    """Count a lookup in the cache of prepared answers."""
    _pending[_hot, "hit" if hit else "miss"] += 1


def set_streams(count: int) -> None:
    """Set the number of bodies that this process is sending."""
    _meters().streams.set(count)


def observe_upstream(origin: str, outcome: str, seconds: float) -> None:
    """Count an exchange with an upstream.

    origin is "https://go.dev". outcome is "ok", "abandoned", "open" (the breaker refused, so that
    no length is counted) or the class name of an error.
    """
    _meters().upstream_requests.labels(origin, outcome).inc()
    if outcome != "open":
        _meters().upstream_seconds.observe(seconds)


def set_breaker(origin: str, *, is_open: bool) -> None:
    """Set whether this process leaves an upstream alone."""
    _meters().breaker_open.labels(origin).set(is_open)


def set_files(counts: Mapping[str, int]) -> None:
    """Set the number of release files by state; counts must name every state, even with 0."""
    for state, count in counts.items():
        _meters().files.labels(state).set(count)


def observe_ingestion(outcome: str, seconds: float) -> None:
    """Count an ingestion that ended: outcome is a file's state or the class name of an error."""
    _meters().ingestions.labels(outcome).inc()
    _meters().ingestion_seconds.observe(seconds)


def count_index_refresh(outcome: str) -> None:
    """Count a read of the release index: "accepted", "refused" or "failed"."""
    _meters().refreshes.labels(outcome).inc()


def set_index_refreshed(at_s: float) -> None:
    """Set when the index was last read, Unix time in seconds; `render` computes the age.

    An age set by a process would stop growing when the process hangs, and raise no alarm.
    """
    _meters().refreshed_at.set(at_s)


def set_refresh_interval(seconds: float) -> None:
    """Set how often the index is read, so that an alert knows when the index is old."""
    _meters().refresh_interval.set(seconds)


def set_manifests_expiry(at_s: float) -> None:
    """Set when the first manifest of a channel expires, Unix time; infinite without channels."""
    _meters().manifests_expire_at.set(at_s)


def count_publication(outcome: str) -> None:
    """Count an upload of a module: "published", "same" or the class name of an error."""
    _meters().publications.labels(outcome).inc()


def set_certificate_expiry(at_s: float) -> None:
    """Set when the server's certificate expires, Unix time; not called without TLS."""
    _meters().certificate_expires_at.set(at_s)


def set_backup(store: str, at_s: float) -> None:
    """Set when the newest backup was made, Unix time; not called without a place of backups.

    Args:
        store: of the backups: "directory" or "s3".
        at_s: 0 for no backup.
    """
    _meters().backup_at.labels(store).set(at_s)


def count_index_conflict() -> None:
    """Count a recorded hash that the index contradicts."""
    _meters().conflicts.inc()


def count_index_skipped(key: str, count: int) -> None:
    """Count entries of the index that were skipped because of a key; see `SkippedEntries`."""
    _meters().skipped.labels(key).inc(count)


def count_blob_damaged() -> None:
    """Count a blob that is missing or is not its digest's bytes."""
    _meters().damaged.inc()


def count_module_fetch(kind: str, outcome: str) -> None:
    """Count a fetch of a module's file: outcome is "ok" or the class name of an error."""
    _meters().module_fetches.labels(kind, outcome).inc()


def count_module_conflict() -> None:
    """Count module content that contradicts what is recorded."""
    _meters().module_conflicts.inc()


def count_log_refusal() -> None:
    """Count an answer of a checksum database that did not verify."""
    _meters().log_refusals.inc()


@cache
def _decision(outcome: str) -> "Counter":
    return _meters().decisions.labels(outcome)


@cache
def _tenant_request(tenant: str, outcome: str) -> "Counter":
    return _meters().tenant_requests.labels(tenant, outcome)


@cache
def _tenant_bytes(tenant: str) -> "Counter":
    return _meters().tenant_bytes.labels(tenant)


def count_decision(tenant: str, body_bytes: int, *, allowed: bool) -> None:
    """Count a decision about a request for a tenant's module.

    Args:
        tenant: an existing one; "" where there is none: strangers must not make labels.
        body_bytes: of the answer.
        allowed: the request was not refused.
    """
    outcome = "allowed" if allowed else "denied"
    _pending[_decision, outcome] += 1
    if tenant:
        _pending[_tenant_request, tenant, outcome] += 1
        _pending[_tenant_bytes, tenant] += body_bytes


def set_storage_free(count_bytes: int) -> None:
    """Set the number of free bytes of the file system of blobs."""
    _meters().free_bytes.set(count_bytes)


def count_garbage(*, condemned: int, deleted: int, freed_bytes: int) -> None:
    """Count blobs that a collection of garbage condemned and deleted."""
    meters = _meters()
    meters.garbage.labels("condemned").inc(condemned)
    meters.garbage.labels("deleted").inc(deleted)
    meters.garbage_bytes.inc(freed_bytes)


def set_refusing_logs(count: int) -> None:
    """Set the number of tenants' logs that refuse to grow."""
    _meters().refusing_logs.set(count)


def set_notes(notes: Mapping[str, bool]) -> None:
    """Set about which subjects an operator has to act; notes must name every subject."""
    for about, is_noted in notes.items():
        _meters().notes.labels(about).set(is_noted)


def set_nodes(counts: Mapping[tuple[str, str], int]) -> None:
    """Set the number of nodes by channel and state; counts must name every pair, even with 0."""
    for (channel, state), count in counts.items():
        _meters().nodes.labels(channel, state).set(count)


def count_node_event(channel: str, event: str) -> None:
    """Count an event that a node of a channel reported: "failed"."""
    _meters().node_events.labels(channel, event).inc()


def count_grant(channel: str, outcome: str) -> None:
    """Count a grant to a node ("out"), or its result ("succeeded", "failed", "withdrawn")."""
    _meters().grants.labels(channel, outcome).inc()


def count_rollout_change(channel: str, change: str) -> None:
    """Count a change of a channel's rollout, by its audit action: "rollout.halt"."""
    _meters().rollout_changes.labels(channel, change).inc()


@cache
def _check_in(action: str) -> "Counter":
    return _meters().check_ins.labels(action)


def count_check_in(action: str) -> None:
    """Count a check-in by its answer: "stay", "update" or "hold"."""
    _pending[_check_in, action] += 1


def count_webhook(*, delivered: bool) -> None:
    """Count a message that was sent to a webhook."""
    _meters().webhooks.labels("delivered" if delivered else "failed").inc()


def count_spans(count: int, *, sent: bool) -> None:
    """Count spans that the collector took, or that were lost; may be called in any thread."""
    _meters().spans.labels("sent" if sent else "lost").inc(count)


def prepare_multiprocess(directory: Path) -> None:
    """Make this process and its children share their metrics through files in directory.

    The directory is created (0700). Values of an earlier run are removed, other files are kept.
    Call it once, in the parent, before anything is counted.

    Raises:
        RuntimeError: prometheus_client is imported already, and counts for one process.
        OSError: the directory can't be used.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("metrics were used before prepare_multiprocess")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in directory.iterdir():
        if _VALUES_FILE.fullmatch(file.name):
            file.unlink()
    os.environ[_DIRECTORY] = str(directory)


def forget_process(pid: int) -> None:
    """Drop the streams and breakers of a dead process; its counters stay."""
    if directory := os.environ.get(_DIRECTORY):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


def render(clock: Callable[[], float] = time.time, origins: Collection[str] | None = None) -> bytes:
    """Return all metrics of all processes in Prometheus' text format.

    Call `flush` first; other processes flush every second.

    Args:
        clock: Unix time in seconds, for the age of the index.
        origins: the upstreams that are shown: "https://go.dev". None shows all that were asked
            since the start, those that no route leads to any more, too.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    source = _meters().registry
    if directory := os.environ.get(_DIRECTORY):
        source = CollectorRegistry()
        MultiProcessCollector(source, directory)  # type: ignore[no-untyped-call]
    return generate_latest(_Shown(source, clock, origins))


class _Shown:
    """The metrics of a registry, as they are shown.

    With the age of the index instead of the time of its reading, and without upstreams that are
    gone. Metrics that processes share can't be removed, so that they are left out here.
    """

    def __init__(
        self,
        source: "CollectorRegistry",
        clock: Callable[[], float],
        origins: Collection[str] | None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._origins = origins

    def _without_gone(self, family: "Metric") -> "Metric":
        if self._origins is None or not any("origin" in s.labels for s in family.samples):
            return family
        shown = copy(family)
        # A breaker's origin may end in "#" and the id of a credential.
        shown.samples = [
            s for s in family.samples if s.labels["origin"].partition("#")[0] in self._origins
        ]
        return shown

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        for family in self._source.collect():
            if family.name != _REFRESHED_AT:
                yield self._without_gone(family)
                continue
            age = GaugeMetricFamily(
                "moorage_index_age_seconds", "Seconds since the index was read."
            )
            for sample in family.samples:
                if sample.value:  # 0: never read, so it has no age
                    age.add_metric([], max(0.0, self._clock() - sample.value))
            yield age
