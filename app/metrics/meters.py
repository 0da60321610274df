"""What is measured: every metric's name, meaning, labels and buckets.

prometheus_client reads the environment at its import, and then counts for one process or for
several. So the first use of a metric imports it, not this module.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from app import __version__

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REFRESHED_AT = "moorage_index_refreshed_timestamp_seconds"

# From a tile of the same data centre to an archive over a slow line.
_UPSTREAM_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# A hit takes microseconds, unless its blob must be opened or its stream waits for a turn.
HIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 90)
_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
DATABASE_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15)
_INGESTION_BUCKETS_S = (0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900)


@dataclass(frozen=True, slots=True)
class Meters:
    """All metrics of the service. `meters` says what each of them means."""

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
    declining_nodes: "Gauge"
    node_events: "Counter"
    grants: "Counter"
    rollout_changes: "Counter"
    check_ins: "Counter"
    webhooks: "Counter"
    spans: "Counter"
    certificate_expires_at: "Gauge"
    publications: "Counter"


@cache
def meters() -> Meters:
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
    return Meters(
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
            buckets=HIT_BUCKETS_S,
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
            buckets=DATABASE_BUCKETS_S,
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
        refreshed_at=gauge(REFRESHED_AT, "When the release index was last read, Unix time."),
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
        declining_nodes=gauge(
            "moorage_fleet_declining_nodes",
            "Held nodes that decline what they are offered: it was rolled back by hand on them.",
            "channel",
        ),
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
    return meters().registry
