"""Every metric of the service, with Prometheus' names and base units (seconds, bytes).

Here: counting what happens at most some times a second. Not here: what each metric means
(`meters.py`), what every request counts (`hotpath.py`), what Prometheus reads (`scrape.py`).

Names and units follow https://prometheus.io/docs/practices/naming/. Label values are closed sets or
configured origins, never values of clients.
"""

from collections.abc import Mapping

from app.metrics.meters import meters


def observe_loop_lag(seconds: float) -> None:
    """Count how late the event loop of this process came to what was due."""
    meters().loop_lag.observe(seconds)


def set_streams(count: int) -> None:
    """Set the number of bodies that this process is sending."""
    meters().streams.set(count)


def observe_upstream(origin: str, outcome: str, seconds: float) -> None:
    """Count an exchange with an upstream.

    origin is "https://go.dev". outcome is "ok", "abandoned", "open" (the breaker refused, so that
    no length is counted) or the class name of an error.
    """
    meters().upstream_requests.labels(origin, outcome).inc()
    if outcome != "open":
        meters().upstream_seconds.observe(seconds)


def set_breaker(origin: str, *, is_open: bool) -> None:
    """Set whether this process leaves an upstream alone."""
    meters().breaker_open.labels(origin).set(is_open)


def set_files(counts: Mapping[str, int]) -> None:
    """Set the number of release files by state; counts must name every state, even with 0."""
    for state, count in counts.items():
        meters().files.labels(state).set(count)


def observe_ingestion(outcome: str, seconds: float) -> None:
    """Count an ingestion that ended: outcome is a file's state or the class name of an error."""
    meters().ingestions.labels(outcome).inc()
    meters().ingestion_seconds.observe(seconds)


def count_index_refresh(outcome: str) -> None:
    """Count a read of the release index: "accepted", "refused" or "failed"."""
    meters().refreshes.labels(outcome).inc()


def set_index_refreshed(at_s: float) -> None:
    """Set when the index was last read, Unix time in seconds; `render` computes the age.

    An age set by a process would stop growing when the process hangs, and raise no alarm.
    """
    meters().refreshed_at.set(at_s)


def set_refresh_interval(seconds: float) -> None:
    """Set how often the index is read, so that an alert knows when the index is old."""
    meters().refresh_interval.set(seconds)


def set_manifests_expiry(at_s: float) -> None:
    """Set when the first manifest of a channel expires, Unix time; infinite without channels."""
    meters().manifests_expire_at.set(at_s)


def count_publication(outcome: str) -> None:
    """Count an upload of a module: "published", "same" or the class name of an error."""
    meters().publications.labels(outcome).inc()


def set_certificate_expiry(at_s: float) -> None:
    """Set when the server's certificate expires, Unix time; not called without TLS."""
    meters().certificate_expires_at.set(at_s)


def set_backup(store: str, at_s: float) -> None:
    """Set when the newest backup was made, Unix time; not called without a place of backups.

    Args:
        store: of the backups: "directory" or "s3".
        at_s: 0 for no backup.
    """
    meters().backup_at.labels(store).set(at_s)


def count_index_conflict() -> None:
    """Count a recorded hash that the index contradicts."""
    meters().conflicts.inc()


def count_index_skipped(key: str, count: int) -> None:
    """Count entries of the index that were skipped because of a key; see `SkippedEntries`."""
    meters().skipped.labels(key).inc(count)


def count_blob_damaged() -> None:
    """Count a blob that is missing or is not its digest's bytes."""
    meters().damaged.inc()


def count_module_fetch(kind: str, outcome: str) -> None:
    """Count a fetch of a module's file: outcome is "ok" or the class name of an error."""
    meters().module_fetches.labels(kind, outcome).inc()


def count_module_conflict() -> None:
    """Count module content that contradicts what is recorded."""
    meters().module_conflicts.inc()


def count_log_refusal() -> None:
    """Count an answer of a checksum database that did not verify."""
    meters().log_refusals.inc()


def set_storage_free(count_bytes: int) -> None:
    """Set the number of free bytes of the file system of blobs."""
    meters().free_bytes.set(count_bytes)


def count_garbage(*, condemned: int, deleted: int, freed_bytes: int) -> None:
    """Count blobs that a collection of garbage condemned and deleted."""
    meters().garbage.labels("condemned").inc(condemned)
    meters().garbage.labels("deleted").inc(deleted)
    meters().garbage_bytes.inc(freed_bytes)


def set_refusing_logs(count: int) -> None:
    """Set the number of tenants' logs that refuse to grow."""
    meters().refusing_logs.set(count)


def set_notes(notes: Mapping[str, bool]) -> None:
    """Set about which subjects an operator has to act; notes must name every subject."""
    for about, is_noted in notes.items():
        meters().notes.labels(about).set(is_noted)


def set_nodes(by_state: Mapping[tuple[str, str], int], declining: Mapping[str, int]) -> None:
    """Set the number of nodes by channel and state, and of nodes that decline a release.

    Both must name every channel, even with 0.
    """
    for (channel, state), count in by_state.items():
        meters().nodes.labels(channel, state).set(count)
    for channel, count in declining.items():
        meters().declining_nodes.labels(channel).set(count)


def count_node_event(channel: str, event: str) -> None:
    """Count an event that a node of a channel reported: "failed"."""
    meters().node_events.labels(channel, event).inc()


def count_grant(channel: str, outcome: str) -> None:
    """Count a grant to a node ("out"), or its result ("succeeded", "failed", "withdrawn")."""
    meters().grants.labels(channel, outcome).inc()


def count_rollout_change(channel: str, change: str) -> None:
    """Count a change of a channel's rollout, by its audit action: "rollout.halt"."""
    meters().rollout_changes.labels(channel, change).inc()


def count_webhook(*, delivered: bool) -> None:
    """Count a message that was sent to a webhook."""
    meters().webhooks.labels("delivered" if delivered else "failed").inc()


def count_spans(count: int, *, sent: bool) -> None:
    """Count spans that the collector took, or that were lost; may be called in any thread."""
    meters().spans.labels("sent" if sent else "lost").inc(count)
