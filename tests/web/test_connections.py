"""How many connections there may be, and that health is answered beyond the limits."""

from pathlib import Path

import pytest

from app.web.connections import Connections, is_health
from app.web.tenancy import Gateways
from tests.web.harbour import assert_one_line, harbour
from tests.web.wire import Caller, request, until

NO_GATEWAYS = Gateways(())


class Extra:
    """A connection beyond the limits; says whether it was cut."""

    is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def opened(connections: Connections, client: str, count: int) -> list[int]:
    """Open connections; return the status that each is refused with, 0 for none."""
    refusals = [connections.open(client) for _ in range(count)]
    return [0 if refusal is None else refusal[0] for refusal in refusals]


def test_an_address_has_its_own_limit() -> None:
    connections = Connections(100, 3, NO_GATEWAYS)
    assert opened(connections, "10.0.0.1", 4) == [0, 0, 0, 429]
    assert opened(connections, "10.0.0.2", 1) == [0]
    connections.close("10.0.0.1")
    assert opened(connections, "10.0.0.1", 2) == [0, 429]


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    connections = Connections(100, 2, NO_GATEWAYS)
    assert opened(connections, "2001:db8::1", 1) == [0]
    assert opened(connections, "2001:db8::2", 2) == [0, 429]
    assert opened(connections, "2001:db8:0:1::1", 1) == [0]
    assert opened(connections, "::ffff:10.0.0.1", 2) == [0, 0]
    assert opened(connections, "10.0.0.1", 1) == [429]


def test_one_address_leaves_connections_for_others() -> None:
    connections = Connections(8, 1000, NO_GATEWAYS)
    assert opened(connections, "10.0.0.1", 6) == [0] * 4 + [503] * 2
    assert opened(connections, "10.0.0.2", 3) == [0] * 2 + [503]
    assert opened(connections, "10.0.0.3", 1) == [0]


def test_a_gateway_may_have_all_connections_that_are_free() -> None:
    connections = Connections(8, 2, Gateways(["10.0.0.1/32"]))
    assert opened(connections, "10.0.0.1", 9) == [0] * 8 + [503]


def test_of_refused_connections_the_oldest_are_cut() -> None:
    connections = Connections(8, 1, NO_GATEWAYS)
    extra = [Extra() for _ in range(70)]
    connections.add_extra(extra[0])
    connections.drop_extra(extra[0])
    for one in extra[1:]:
        connections.add_extra(one)
    assert [one.is_cut for one in extra] == [False] + [True] * 5 + [False] * 64


@pytest.mark.parametrize(
    ("url", "expected"),
    [(b"/healthz", True), (b"/metrics?x=1", True), (b"/healthz/", False), (b"/dl/", False)],
)
def test_health_is_known_by_its_path(url: bytes, expected: bool) -> None:
    assert is_health(url) is expected


async def test_beyond_the_limit_health_is_answered_and_all_else_is_refused(tmp_path: Path) -> None:
    async with harbour(tmp_path, limits={"address_connections": 2}) as site:
        async with site.calling() as one, site.calling() as two:
            await is_served(one)
            for path in ("/healthz", "/readyz", "/version", "/metrics"):
                got = await site.ask(path)
                assert (got.status, got.header("connection")) == (200, "close")
            for path in ("/dl/", "/goproxy/acme/", "/api/v1/tenants"):
                assert_one_line(await site.ask(path), 429)
            await is_served(two)

        async def is_free() -> bool:
            return (await site.ask("/docs")).status == 200

        await until(is_free)


async def test_a_refused_connection_counts_until_it_is_closed(tmp_path: Path) -> None:
    async with harbour(tmp_path, limits={"address_connections": 1}) as site:
        extra = site.application.connections._extra
        async with site.calling() as one, site.calling() as two, site.calling() as three:
            await is_served(one)
            for refused in (two, three):
                await refused.send(request("/dl/"))
                assert (await refused.response()).status == 429
            assert len(extra) == 2

        async def is_closed() -> bool:
            return not extra

        await until(is_closed)


async def is_served(caller: Caller) -> None:
    await caller.send(request("/docs"))
    assert (await caller.response()).status == 200
