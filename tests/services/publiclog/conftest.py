"""A fake public log, and relays of it over one database: each is a process of its own."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from app.core.notekey import parse_vkey
from app.db.engine import Database
from app.services.publiclog.relay import LogRelay
from app.upstream.limits import UpstreamLimits
from app.upstream.sumdb import SumdbServer
from tests.fakes.sumdb import FakeSumdb
from tests.services.bench import Stopwatch, WallClock
from tests.services.modules.bench import _client
from tests.services.publiclog.bench import Relaying


@pytest.fixture
def log() -> Iterator[FakeSumdb]:
    with FakeSumdb() as started:
        yield started


Relay = Callable[[], Relaying]


@pytest.fixture
async def make_relay(database_url: str, log: FakeSumdb) -> AsyncIterator[Relay]:
    """Return a function that makes a relay of the fake log, over the one database."""
    async with AsyncExitStack() as stack:

        def make() -> Relaying:
            db = Database(database_url)
            stack.callback(db.close)
            client = _client(UpstreamLimits(), "")
            stack.push_async_callback(client.aclose)
            server, verifier = SumdbServer(client, log.url), parse_vkey(log.vkey)
            clock = Stopwatch()
            relay = LogRelay(log.name, verifier, server, db, WallClock(), clock=clock)
            stack.push_async_callback(relay.aclose)
            return Relaying(relay, db, clock)

        yield make


@pytest.fixture
def relaying(make_relay: Relay) -> Relaying:
    return make_relay()
