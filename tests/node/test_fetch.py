"""Servers that are too busy: how long a node waits for them, by a clock of the test's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse

import pytest

from app.node import fetch
from app.node.errors import NetworkError
from app.node.fetch import PATIENCE_S, Limits, Servers, Timing
from app.settings.sections.limits import Limits as ServerLimits
from tests.fakes.faults import Fault
from tests.fakes.fleet import FakeFleet, chunks_of
from tests.node.conftest import V1, V2

BUSY = Fault.status(503, b"too many downloads; try again\n", {"Retry-After": "5"})


class Clock:
    """Only sleeping moves it on."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    @contextmanager
    def servers(self, *fakes: FakeFleet) -> Iterator[Servers]:
        timing = Timing(lambda: sum(self.slept), self.slept.append, lambda: 0.5)
        servers = Servers(tuple(fake.base_url for fake in fakes), timing=timing)
        try:
            yield servers
        finally:
            servers.close()


@pytest.fixture
def other() -> Iterator[FakeFleet]:
    with FakeFleet() as fake:
        fake.put_release(V1)
        yield fake


def _pieces(servers: Servers, fleet: FakeFleet, version: str = V1) -> bytes:
    sums = chunks_of(fleet.answer_bytes(version))
    return b"".join(servers.pieces(fleet.path(version), sums))


def test_a_busy_server_is_asked_again_when_it_says(fleet: FakeFleet) -> None:
    clock = Clock()
    fleet.fault(fleet.path(V1), BUSY, times=10)
    with clock.servers(fleet) as servers:
        assert _pieces(servers, fleet) == fleet.answer_bytes(V1)
    assert clock.slept == [7.5] * 10


def test_a_small_file_waits_as_long(fleet: FakeFleet) -> None:
    clock = Clock()
    fleet.fault(fleet.path(V1, ".tree"), BUSY, times=10)
    with clock.servers(fleet) as servers:
        assert servers.get(fleet.path(V1, ".tree")) == fleet.answer_bytes(V1, ".tree")
    assert clock.slept == [7.5] * 10


def test_what_has_come_is_not_fetched_again_after_the_wait(fleet: FakeFleet) -> None:
    clock = Clock()
    fleet.put_release(V2, extra_bytes=3 << 20)
    fleet.fault(fleet.path(V2), Fault.truncate(2_500_000))
    fleet.fault(fleet.path(V2), BUSY, times=5)
    with clock.servers(fleet) as servers:
        assert _pieces(servers, fleet, V2) == fleet.answer_bytes(V2)
    assert servers.received_bytes < len(fleet.answer_bytes(V2)) + fetch.CHUNK_BYTES


def test_another_server_is_asked_before_the_node_waits(fleet: FakeFleet, other: FakeFleet) -> None:
    clock = Clock()
    other.fault(fleet.path(V1), BUSY, times=None)
    with clock.servers(other, fleet) as servers:
        assert _pieces(servers, fleet) == fleet.answer_bytes(V1)
    assert sum(clock.slept) < 5


@pytest.mark.parametrize("suffix", ["", ".tree"])
def test_the_waiting_has_an_end(fleet: FakeFleet, suffix: str) -> None:
    clock = Clock()
    fleet.fault(fleet.path(V1, suffix), BUSY, times=None)
    with (
        clock.servers(fleet) as servers,
        pytest.raises(NetworkError, match="503: too many downloads"),
    ):
        _pieces(servers, fleet) if not suffix else servers.get(fleet.path(V1, suffix))
    assert PATIENCE_S - 7.5 <= sum(clock.slept) <= PATIENCE_S + 1


def test_a_check_in_does_not_wait(fleet: FakeFleet) -> None:
    """The next one comes in a minute anyway."""
    clock = Clock()
    fleet.fault("/fleet/v1/check", BUSY, times=None)
    with clock.servers(fleet) as servers, pytest.raises(NetworkError):
        servers.post("/fleet/v1/check", {})
    assert sum(clock.slept) < 1


@pytest.mark.parametrize("value", ["", "Fri, 27 Nov 2026 00:00:00 GMT", "-5", "5.5", "0", "²"])
def test_without_whole_seconds_there_are_three_tries(fleet: FakeFleet, value: str) -> None:
    clock = Clock()
    fleet.fault(fleet.path(V1), Fault.status(503, b"no\n", {"Retry-After": value}), times=None)
    with clock.servers(fleet) as servers, pytest.raises(NetworkError):
        _pieces(servers, fleet)
    assert len(clock.slept) == 2


@pytest.mark.parametrize("after", [700_000, 200_000])
def test_a_link_that_breaks_within_each_piece_comes_to_an_end(fleet: FakeFleet, after: int) -> None:
    clock = Clock()
    fleet.put_release(V2, extra_bytes=3 << 20)
    fleet.fault(fleet.path(V2), Fault.truncate(after), times=None)
    with clock.servers(fleet) as servers:
        assert _pieces(servers, fleet, V2) == fleet.answer_bytes(V2)
    assert servers.received_bytes == len(fleet.answer_bytes(V2))


def test_tries_that_bring_next_to_nothing_have_an_end(fleet: FakeFleet) -> None:
    clock = Clock()
    fleet.put_release(V2, extra_bytes=3 << 20)
    fleet.fault(fleet.path(V2), Fault.truncate(1000), times=None)
    with clock.servers(fleet) as servers, pytest.raises(NetworkError, match="cut off"):
        _pieces(servers, fleet, V2)
    assert fleet.hits[fleet.path(V2)] == 3


def test_a_server_that_completes_anothers_wrong_piece_is_not_the_one_to_blame(
    fleet: FakeFleet, other: FakeFleet
) -> None:
    clock = Clock()
    for fake in (fleet, other):
        fake.put_release(V2, extra_bytes=3 << 20)
    flip, cut = Fault.flip_byte(10), Fault.truncate(700_000)
    wrong = Fault(cut.kind, lambda reply, to: cut.spoil(flip.spoil(reply, to), to))
    other.fault(fleet.path(V2), wrong, times=None)
    with clock.servers(other, fleet) as servers:
        assert _pieces(servers, fleet, V2) == fleet.answer_bytes(V2)


def test_a_full_server_has_time_to_give_a_file_its_turn(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it has a download wait for 90 s, three times as long as between two bytes."""
    seconds: list[float | None] = []
    getresponse = HTTPConnection.getresponse

    def spied(connection: HTTPConnection) -> HTTPResponse:
        seconds.append(connection.sock.gettimeout())
        return getresponse(connection)

    monkeypatch.setattr(HTTPConnection, "getresponse", spied)
    with Clock().servers(fleet) as servers:
        _pieces(servers, fleet)
        servers.get(fleet.path(V1, ".tree"))
        with pytest.raises(NetworkError):
            servers.post("/fleet/v1/check", {}, tries=1)
        [server] = servers._servers
        servers.get(fleet.path(V1, ".tree"))
        assert server._connection.sock.gettimeout() == Limits().idle_s
    assert seconds == [120.0, 120.0, 30.0, 120.0]
    assert Limits().head_s > ServerLimits().stream_wait_s
