"""One process over two fake upstreams."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.goproxy import FakeGoproxy
from tests.services.modules.bench import Bench, process


@pytest.fixture
def fake() -> Iterator[FakeGoproxy]:
    with FakeGoproxy() as server:
        yield server


@pytest.fixture
def second() -> Iterator[FakeGoproxy]:
    """Another upstream."""
    with FakeGoproxy() as server:
        yield server


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with process(tmp_path) as made:
        yield made
