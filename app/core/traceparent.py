"""The header `traceparent`: which trace a request belongs to. Follows W3C Trace Context, level 1.

Nodes send it with their check-ins and reports, clients may send it with any request, and this
service sends it to upstreams. Not here: spans and new ids, which are `app/tracing/`'s.
"""

import re
from dataclasses import dataclass

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """One span, as those that it asks are told of it.

    Attributes:
        trace_id: 32 lower-case hex characters, not all "0".
        span_id: 16 lower-case hex characters, not all "0".
        is_sampled: whether the span is recorded.
    """

    trace_id: str
    span_id: str
    is_sampled: bool

    @classmethod
    def parse(cls, header: str) -> "TraceParent | None":
        """Return the parsed header, or None: a malformed one is as good as none, says the standard.

        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" is a sampled span.
        """
        match = _FORM.fullmatch(header)
        if match is None:
            return None
        trace, span, flags = match.groups()
        if not trace.strip("0") or not span.strip("0"):
            return None
        return cls(trace, span, bool(int(flags, 16) & _SAMPLED))

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02}"


def trace_id(header: str) -> str:
    """Return the trace id of a `traceparent` header, or "" for a malformed one or none."""
    parsed = TraceParent.parse(header)
    return "" if parsed is None else parsed.trace_id
