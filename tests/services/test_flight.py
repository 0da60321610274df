"""Single flight: one task, many waiters, limits."""

import asyncio
import gc

import pytest

from app.core.errors import OverloadedError, UpstreamError
from app.services.flight import Flight


class Work:
    """Counts its calls and ends when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.done = asyncio.Event()
        self.error = error

    async def __call__(self) -> str:
        self.calls += 1
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return f"result {self.calls}"


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_500_waiters_cause_one_call_and_get_its_result() -> None:
    flight: Flight[str, str] = Flight()
    work = Work()
    waiting = [asyncio.ensure_future(flight.do("key", work)) for _ in range(500)]
    await settled()
    work.done.set()
    assert await asyncio.gather(*waiting) == ["result 1"] * 500
    assert work.calls == 1


async def test_another_key_is_another_call() -> None:
    flight: Flight[str, str] = Flight()
    one, other = Work(), Work()
    waiting = asyncio.gather(flight.do("a", one), flight.do("b", other))
    await settled()
    assert (one.calls, other.calls) == (1, 1)
    other.done.set()
    one.done.set()
    assert await waiting == ["result 1", "result 1"]


async def test_F37_followers_are_served_when_the_leader_is_cancelled() -> None:
    flight: Flight[str, str] = Flight()
    work = Work()
    leader, *followers = (asyncio.ensure_future(flight.do("key", work)) for _ in range(500))
    await settled()
    leader.cancel()
    followers[7].cancel()
    await settled()
    assert leader.cancelled()
    assert followers.pop(7).cancelled()
    work.done.set()
    assert await asyncio.gather(*followers) == ["result 1"] * 498
    assert work.calls == 1


async def test_F36_the_task_goes_on_when_every_waiter_is_cancelled() -> None:
    flight: Flight[str, str] = Flight()
    work = Work()
    waiting = [asyncio.ensure_future(flight.do("key", work)) for _ in range(3)]
    await settled()
    for one in waiting:
        one.cancel()
    await settled()
    late = asyncio.ensure_future(flight.do("key", work))
    await settled()
    work.done.set()
    assert await late == "result 1"


async def test_a_failure_that_nobody_waits_for_any_more_is_not_complained_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flight: Flight[str, str] = Flight()
    work = Work(UpstreamError("gone", origin="https://go.dev"))
    waiting = asyncio.ensure_future(flight.do("key", work))
    await settled()
    waiting.cancel()
    await settled()
    work.done.set()
    await settled()
    gc.collect()
    assert [r for r in caplog.records if r.name == "asyncio"] == []


async def test_F39_the_1001st_waiter_is_turned_away_and_the_others_are_served() -> None:
    flight: Flight[str, str] = Flight()
    work = Work()
    waiting = [asyncio.ensure_future(flight.do("key", work)) for _ in range(1000)]
    await settled()
    with pytest.raises(OverloadedError, match="1000 others wait") as raised:
        await flight.do("key", work)
    assert raised.value.retry_after_s > 0
    waiting.pop().cancel()
    await settled()
    waiting.append(asyncio.ensure_future(flight.do("key", work)))  # there is room again
    await settled()
    work.done.set()
    assert await asyncio.gather(*waiting) == ["result 1"] * 1000


async def test_F39_the_257th_key_is_turned_away_and_the_others_are_served() -> None:
    flight: Flight[int, str] = Flight()
    work = Work()
    waiting = [asyncio.ensure_future(flight.do(key, work)) for key in range(256)]
    await settled()
    with pytest.raises(OverloadedError, match="256 other fetches") as raised:
        await flight.do(256, work)
    assert raised.value.retry_after_s > 0
    waiting.append(asyncio.ensure_future(flight.do(0, work)))  # a known key is no new one
    await settled()
    work.done.set()
    assert len(await asyncio.gather(*waiting)) == 257
    assert work.calls == 256
    assert await flight.do(256, work) == "result 257"


async def test_a_failure_reaches_every_waiter_and_is_not_remembered() -> None:
    flight: Flight[str, str] = Flight()
    error = UpstreamError("down", origin="https://go.dev")
    failing, working = Work(error), Work()
    waiting = [asyncio.ensure_future(flight.do("key", failing)) for _ in range(50)]
    await settled()
    failing.done.set()
    assert await asyncio.gather(*waiting, return_exceptions=True) == [error] * 50
    working.done.set()
    assert await flight.do("key", working) == "result 1"
    assert failing.calls == 1


async def test_a_result_is_not_remembered() -> None:
    flight: Flight[str, str] = Flight()
    work = Work()
    work.done.set()
    assert [await flight.do("key", work) for _ in range(3)] == ["result 1", "result 2", "result 3"]


async def test_closing_waits_for_what_runs() -> None:
    flight: Flight[str, str] = Flight()
    work = Work()
    waiting = asyncio.ensure_future(flight.do("key", work))
    await settled()
    closing = asyncio.ensure_future(flight.aclose(cancel=False))
    await settled()
    assert not closing.done()
    work.done.set()
    await closing
    assert await waiting == "result 1"


async def test_closing_in_a_hurry_cancels_what_runs() -> None:
    flight: Flight[str, str] = Flight()
    waiting = asyncio.ensure_future(flight.do("key", Work()))
    await settled()
    await flight.aclose(cancel=True)
    with pytest.raises(asyncio.CancelledError):
        await waiting
