"""Messages of nodes: what is taken, what is cleaned, what is refused."""

from typing import Any

import pytest

from app.core.errors import BadInputError
from app.core.fleetmessages import CheckIn, Enrolment, Event, Report
from app.core.noun import checked

CHECK: dict[str, Any] = {
    "node": "0123456789abcdef",
    "program": "0.1.0",
    "channel": "stable",
    "current": "go1.23.1",
    "installed": ["go1.23.1", "go1.22.0"],
    "seen_revision": 7,
    "drift": False,
    "facts": {"os": "linux", "arch": "amd64", "hostname": "web-1", "python": "3.11.7"},
    "last": {"grant": "ab", "result": "failed", "stage": "tested", "reason": "exit\x1b[31m 1"},
    "declined": {"version": "go1.23.2", "revision": 6},
    "clock": "2026-11-27T12:00:00Z",
}


def test_a_check_in_is_read_and_a_later_programs_fields_are_ignored() -> None:
    check = checked(CheckIn, CHECK | {"colour": "red", "last": CHECK["last"] | {"more": 1}})
    assert check.installed == ("go1.23.1", "go1.22.0")
    assert check.last is not None
    assert check.last.reason == "exit [31m 1"  # nothing that a terminal acts on


@pytest.mark.parametrize("field", ["current", "last", "declined", "clock"])
def test_what_a_new_node_lacks_may_be_null(field: str) -> None:
    checked(CheckIn, CHECK | {field: None})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node", "../x"),
        ("node", None),
        ("node", "a" * 33),
        ("current", "1.23.1"),
        ("current", "go1.23.1/../x"),
        ("installed", ["go1.23.1"] * 101),
        ("seen_revision", -1),
        ("seen_revision", 2**31),
        ("seen_revision", True),
        ("drift", "no"),
        ("declined", "go1.23.2"),
        ("declined", {"version": "go1.23.2"}),
        ("declined", {"version": "1.23.2", "revision": 6}),
        ("declined", {"version": "go1.23.2", "revision": -1}),
        ("facts", {f"f{n}": "" for n in range(17)}),
        ("facts", {"os": "x" * 201}),
        ("facts", {"OS": "x"}),
        ("facts", {"os": 1}),
        ("last", {"grant": "ab", "result": "perhaps"}),
        ("clock", "yesterday"),
    ],
)
def test_a_malformed_check_in_is_refused(field: str, value: object) -> None:
    with pytest.raises(BadInputError):
        checked(CheckIn, CHECK | {field: value})


def test_a_report_names_an_event() -> None:
    report = checked(
        Report, {"node": "ab", "grant": "cd", "event": "downloaded", "seconds": {"network": 1.25}}
    )
    assert (report.event, report.seconds) == (Event.DOWNLOADED, {"network": 1.25})
    for values in ({"event": "exploded"}, {"seconds": {"network": float("nan")}}):
        with pytest.raises(BadInputError):
            checked(Report, {"node": "ab", "event": "failed"} | values)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, "\x1b[31m"])
def test_a_node_has_a_printable_name(name: str) -> None:
    with pytest.raises(BadInputError):
        checked(Enrolment, {"token": "t", "name": name})
