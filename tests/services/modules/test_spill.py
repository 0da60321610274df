"""Bodies of unknown length: in memory up to a limit, beyond it in a staged blob."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.digest import Digest
from app.core.errors import StorageError
from app.services.memory import MemoryBudget
from app.services.modules.spill import SpillSink
from tests.services.bench import staged, stored
from tests.services.modules.bench import Bench, process

LIMIT = 100
BUDGET = MemoryBudget(1 << 20)
SHORT, LONG = b"s" * LIMIT, b"l" * (LIMIT + 1)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    async with process(tmp_path) as bench:
        yield bench


async def write(sink: SpillSink, body: bytes, step: int) -> None:
    for start in range(0, len(body), step):
        await sink.write(body[start : start + step])


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("body", [b"", b"x", SHORT, LONG, LONG * 50], ids=len)
async def test_the_body_is_what_was_written_wherever_it_lies(
    one: Bench, body: bytes, step: int
) -> None:
    async with SpillSink(one.services.shared.store, BUDGET, LIMIT, "acme") as sink:
        await write(sink, body, step)
        assert sink.size_bytes == len(body)
        await sink.seal()
        assert sink.read() == body
        assert (staged(one.services) == []) is (len(body) <= LIMIT)
        assert sink.is_staged is (len(body) > LIMIT)
        await sink.commit(Digest.of(body))
    assert stored(one.services) == {Digest.of(body)}
    assert staged(one.services) == []


@pytest.mark.parametrize("first", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("second", [SHORT, LONG], ids=["short", "long"])
async def test_a_download_that_begins_again_forgets_what_came(
    one: Bench, first: bytes, second: bytes
) -> None:
    async with SpillSink(one.services.shared.store, BUDGET, LIMIT, "acme") as sink:
        await write(sink, first, 9)
        await sink.restart()
        await write(sink, second.upper(), 9)
        await sink.seal()
        assert sink.read() == second.upper()


async def test_what_is_not_committed_leaves_nothing(one: Bench) -> None:
    async with SpillSink(one.services.shared.store, BUDGET, LIMIT, "acme") as sink:
        await write(sink, LONG, 9)
    await one.assert_untouched()


async def test_a_staged_body_that_is_gone_is_an_error_of_the_storage(one: Bench) -> None:
    async with SpillSink(one.services.shared.store, BUDGET, LIMIT, "acme") as sink:
        await write(sink, LONG, 9)
        await sink.seal()
        [path] = staged(one.services)
        path.unlink()
        with pytest.raises(StorageError, match="can't be read back"):
            sink.read()


async def test_what_lies_in_memory_comes_out_of_the_budget_and_goes_back(one: Bench) -> None:
    store, budget = one.services.shared.store, MemoryBudget(4 * LIMIT)

    def sink(tenant: str) -> SpillSink:
        return SpillSink(store, budget, LIMIT, tenant)

    async with sink("acme") as first, sink("acme") as second:
        await write(first, SHORT, 9)
        await write(second, SHORT, 9)
        assert budget.left_bytes == 2 * LIMIT
        async with sink("acme") as third, sink("globex") as other:
            await write(third, b"x", 1)
            assert third.is_staged
            await write(other, SHORT, 9)
            assert not other.is_staged
        await second.restart()
        assert budget.left_bytes == 3 * LIMIT
        await write(first, b"more", 9)
        assert first.is_staged
        assert budget.left_bytes == 4 * LIMIT
        await write(second, SHORT, 9)
    assert budget.left_bytes == 4 * LIMIT
