"""A request of the release surfaces in the log: its id, and one line at its end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from app import logs
from app.web.streaming import Scope


@dataclass(slots=True)
class RequestLine:
    """What the line says of the answer.

    Attributes:
        began_s: when the request came, by `time.monotonic`.
        status: of the answer.
        sent_bytes: of the body.
        more: further facts.
    """

    began_s: float
    status: int = 0
    sent_bytes: int = 0
    more: dict[str, str] = field(default_factory=dict)


@contextmanager
def request_line(log: Any, scope: Scope, client: str) -> Iterator[RequestLine]:
    """Return a context with a request id, which writes a request's line unless it is left by error.

    Args:
        log: of the surface.
        scope: of the request.
        client: the address that asks; "" if it is unknown.
    """
    token = logs.request_id.set(token_hex(8))
    line = RequestLine(time.monotonic())
    try:
        yield line
        log.info(
            "request",
            method=scope["method"],
            path=scope["raw_path"].decode("ascii", "backslashreplace"),
            status=line.status,
            bytes=line.sent_bytes,
            seconds=round(time.monotonic() - line.began_s, 3),
            client=client or None,
            **line.more,
        )
    finally:
        logs.request_id.reset(token)
