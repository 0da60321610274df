"""A cold module costs few hops to threads: each is a wake-up, and competes for the interpreter."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.goproxy import GoproxyRequest
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.services.modules.bench import INFO, MOD, ZIP, Bench

NAME, V = "example.com/cold", "v1.0.0"


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count hops by the names of the threads: "db-read"."""
    counts: Counter[str] = Counter()
    submit = ThreadPoolExecutor.submit

    def counted(pool: ThreadPoolExecutor, *call: object) -> object:
        counts[pool._thread_name_prefix] += 1
        return submit(pool, *call)  # type: ignore[arg-type]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    yield counts


async def test_the_three_files_of_a_cold_module_take_few_look_ups(
    bench: Bench, fake: FakeGoproxy, hops: Counter[str]
) -> None:
    fake.put(module(NAME, V))
    await bench.tenant("acme", fake)
    caller = await bench.asking()
    hops.clear()
    for kind in (INFO, MOD, ZIP):
        await bench.front.answer(caller, GoproxyRequest(NAME, kind, V))
        await asyncio.gather(*bench.front._versions.ahead)
    # A look-up for the .info, and one for each file in its turn; what a zip must not contradict.
    assert hops["db-read"] == 5
    # The zip is written and hashed; it becomes a blob.
    assert hops["blobs"] == 2
    assert fake.hits == {f"/{NAME}/@v/{V}.{kind}": 1 for kind in (INFO, MOD, ZIP)}
