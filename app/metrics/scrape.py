"""The metrics of all processes as text for Prometheus, and how processes share them."""

import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from app.metrics.meters import REFRESHED_AT, meters

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
"""The Content-Type of `render`."""

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_VALUES_FILE = re.compile(r"(counter|histogram|summary|gauge_[a-z]+)_[0-9]+\.db", re.ASCII)


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

    source = meters().registry
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
            if family.name != REFRESHED_AT:
                yield self._without_gone(family)
                continue
            age = GaugeMetricFamily(
                "moorage_index_age_seconds", "Seconds since the index was read."
            )
            for sample in family.samples:
                if sample.value:  # 0: never read, so it has no age
                    age.add_metric([], max(0.0, self._clock() - sample.value))
            yield age
