"""The bounded queue of spans that ended, and the thread that sends them.

Nothing waits for the thread, and no error of the collector reaches a request: spans that can't be
queued or sent are counted.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from app import logs, metrics

if TYPE_CHECKING:
    from app.tracing import Span

Send = Callable[[list["Span"]], int]

QUEUE_SPANS = 8192  # some 10 MiB
BATCH_SPANS = 512
SEND_S = 5.0
"""How long sending one batch may take, all tries included."""

_FLUSH_S = 1.0
_log = logs.get("tracing")


class Exporter:
    """Takes spans from any thread, and sends them from its own.

    Args:
        send: sends a batch; returns how many of its spans were lost.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._ends = threading.Event()
        self._loses = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, ended: "Span") -> None:
        """Take a span, from any thread; drop it where the queue is full."""
        if len(self._queue) >= QUEUE_SPANS:
            metrics.count_spans(1, sent=False)
            return
        self._queue.append(ended)
        if len(self._queue) >= BATCH_SPANS:
            self._wake.set()

    def close(self) -> None:
        """Send what waits, for as long as one batch may take, and end the thread."""
        self._ends.set()
        self._wake.set()
        self._thread.join(SEND_S)
        if left := len(self._queue):
            metrics.count_spans(left, sent=False)

    def _run(self) -> None:
        while not self._ends.is_set():
            self._wake.wait(_FLUSH_S)
            self._wake.clear()
            while self._queue:
                size = min(len(self._queue), BATCH_SPANS)
                self._send_counted([self._queue.popleft() for _ in range(size)])
                if self._loses and self._ends.is_set():
                    return

    def _send_counted(self, batch: "list[Span]") -> None:
        try:
            lost = self._send(batch)
        except Exception:
            # A defect here must cost spans, and not the thread.
            _log.exception("sending traces broke")
            lost = len(batch)
        metrics.count_spans(lost, sent=False)
        metrics.count_spans(len(batch) - lost, sent=True)
        if self._loses != bool(lost):
            self._loses = bool(lost)
            if lost:
                _log.warning("traces are not sent", lost=lost)
            else:
                _log.info("traces are sent again")
