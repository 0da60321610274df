"""The header `traceparent`, with the examples of W3C Trace Context, section 3.2."""

import pytest

from app.core.traceparent import TraceParent, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("03", True)])
def test_a_well_formed_header_is_parsed(flags: str, is_sampled: bool) -> None:
    assert TraceParent.parse(f"00-{TRACE}-{SPAN}-{flags}") == TraceParent(TRACE, SPAN, is_sampled)


def test_a_header_is_written_as_it_was_read() -> None:
    for header in (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"):
        assert str(TraceParent.parse(header)) == header


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x" * 10_000,
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01\n",
        *(f"00-{TRACE}-{SPAN}-01"[:n] for n in range(55)),
    ],
)
def test_a_malformed_header_is_as_good_as_none(header: str) -> None:
    assert TraceParent.parse(header) is None
    assert trace_id(header) == ""
