"""What the hot path counts: in dictionaries of the process, which `flush` adds to the metrics.

A count here takes a tenth of the time of a counter, whose value may be in a file that processes
share. Each process flushes every second.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any

from app.metrics.meters import DATABASE_BUCKETS_S, HIT_BUCKETS_S, meters

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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
        self.times = _Times(HIT_BUCKETS_S)

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


_pending: dict[tuple[Any, ...], int] = defaultdict(int)
_instant: dict[tuple[str, str], _InstantHits] = defaultdict(_InstantHits)
_database_times: dict[str, _Times] = defaultdict(lambda: _Times(DATABASE_BUCKETS_S))


def count_request(surface: str, method: str, status: int, body_bytes: int) -> None:
    """Count an answered request and the bytes of its body that were sent.

    surface is the part of the URL map: "downloads", "goproxy", "home", "admin". A method that HTTP
    does not define counts as "other".
    """
    method_label = method if method in _METHODS else "other"
    _pending[_request, surface, method_label, status] += 1
    _pending[_response_bytes, surface] += body_bytes


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


def count_hot(*, hit: bool) -> None:
    """Count a lookup in the cache of prepared answers."""
    _pending[_hot, "hit" if hit else "miss"] += 1


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


def count_check_in(action: str) -> None:
    """Count a check-in by its answer: "stay", "update" or "hold"."""
    _pending[_check_in, action] += 1


def observe_database(kind: str, seconds: float) -> None:
    """Count a unit of work of the database, "read" or "write", at the next flush.

    The parent of several workers uses the database before `prepare_multiprocess`.
    """
    _database_times[kind].add(seconds)


def flush() -> None:
    """Add the counts of the hot path to the metrics. Call it in the thread that counts."""
    for (surface, tenant), hits in _instant.items():
        hits.flush(surface, tenant)
    _instant.clear()
    for kind, times in _database_times.items():
        times.flush(meters().database_seconds.labels(kind))
    _database_times.clear()
    for (child, *labels), count in _pending.items():
        child(*labels).inc(count)
    _pending.clear()


@cache
def _hit_seconds(surface: str) -> "Histogram":
    return meters().hit_seconds.labels(surface)


# labels() costs more than inc(), so that the children for the hot path are cached.
@cache
def _request(surface: str, method: str, status: int) -> "Counter":
    return meters().requests.labels(surface, method, str(status))


@cache
def _response_bytes(surface: str) -> "Counter":
    return meters().response_bytes.labels(surface)


@cache
def _hot(result: str) -> "Counter":
    return meters().hot.labels(result)


@cache
def _decision(outcome: str) -> "Counter":
    return meters().decisions.labels(outcome)


@cache
def _tenant_request(tenant: str, outcome: str) -> "Counter":
    return meters().tenant_requests.labels(tenant, outcome)


@cache
def _tenant_bytes(tenant: str) -> "Counter":
    return meters().tenant_bytes.labels(tenant)


@cache
def _check_in(action: str) -> "Counter":
    return meters().check_ins.labels(action)
