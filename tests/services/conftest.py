"""Services whose HTTP client never waits between attempts, over the real fake upstream."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.services.assembly import Services
from tests.conftest import MakeServices
from tests.services.bench import close_rewired, rewired

Rewire = Callable[..., Services]


@pytest.fixture
async def rewire() -> AsyncIterator[Rewire]:
    """Return `bench.rewired`; what it makes is closed at the end."""
    async with AsyncExitStack() as stack:

        def make(services: Services, **more: Any) -> Services:
            made = rewired(services, **more)
            stack.push_async_callback(close_rewired, made)
            return made

        yield make


@pytest.fixture
async def quick(start_services: MakeServices, rewire: Rewire) -> Services:
    """Started services with a client that never waits."""
    return rewire(await start_services())
