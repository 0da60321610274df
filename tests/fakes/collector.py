"""An OTLP/HTTP receiver on a loopback port, which decodes the real protobuf. Kept are spans.

with Collector() as collector:
    ...  # point MOORAGE_OTEL__ENDPOINT at collector.url
    spans = collector.wait_for(lambda spans: len(spans) == 3)
"""

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_PATIENCE_S = 60.0  # nothing here takes this long unless it hangs


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it came; ids in hex, parent "" at a root."""

    trace: str
    span: str
    parent: str
    name: str
    kind: int
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    seconds: float


class Collector:
    """The receiver. `status` is what it answers; after a test has set it, nothing is kept."""

    def __init__(self) -> None:
        self.status = 200
        self.requests = 0
        self.headers: dict[str, str] = {}
        self._spans: list[ReceivedSpan] = []
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces", self.path
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.headers = {k.lower(): v for k, v in self.headers.items()}
                collector._take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """What MOORAGE_OTEL__ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans so far: a copy."""
        with self._changed:
            return list(self._spans)

    def wait_for(self, claim: Callable[[list[ReceivedSpan]], bool]) -> list[ReceivedSpan]:
        """Block until the claim about all spans holds, and return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: claim(self._spans), _PATIENCE_S):
                names = [one.name for one in self._spans]
                raise TimeoutError(f"not seen in {_PATIENCE_S} s; spans: {names}")
            return list(self._spans)

    def _take(self, body: bytes) -> None:
        decoded = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.requests += 1
            if self.status == 200:
                for of_resource in decoded.resource_spans:
                    resource = _values(of_resource.resource.attributes)
                    for of_scope in of_resource.scope_spans:
                        self._spans += [_received(one, resource) for one in of_scope.spans]
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        status=span.status.code,
        attributes=_values(span.attributes),
        resource=resource,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def main() -> None:
    """Take spans until the process is ended; the first line of stdout is the URL."""
    with Collector() as collector:
        print(collector.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
