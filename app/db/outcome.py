"""The outcome of a call in a thread, as a future of the event loop that waits for it.

Not `run_in_executor`: its two linked futures cost as much CPU as a short query.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from app.core.errors import DatabaseBusyError

T = TypeVar("T")

NO_ANSWER = (
    "the database does not answer; a change may still be made: look at the present state before"
    " you try again"
)


def new_outcome() -> asyncio.Future[Any]:
    """Return a future of the running loop, for one call.

    A caller may go away before the call ends. Its error is then observed here: asyncio would log
    a traceback.
    """
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    outcome.add_done_callback(_observe)
    return outcome


async def wait_for(outcome: asyncio.Future[T], wait_s: float | None) -> T:
    """Return the outcome's result. A caller that is cancelled leaves the call running.

    Args:
        outcome: of a call.
        wait_s: how long to wait; None waits without limit.

    Raises:
        DatabaseBusyError: the call did not end in time.
    """
    if wait_s is None:
        return await asyncio.shield(outcome)
    done, _ = await asyncio.wait([outcome], timeout=wait_s)
    if not done:
        raise DatabaseBusyError(NO_ANSWER)
    return outcome.result()


def call_for(outcome: asyncio.Future[T], call: Callable[[], T]) -> None:
    """Settle an outcome with that of call(). In a thread."""
    try:
        result = call()
    except BaseException as error:
        settle(outcome, error)
    else:
        settle(outcome, None, result)


def settle(
    outcome: asyncio.Future[Any], error: BaseException | None, result: object = None
) -> None:
    """Pass an outcome from a thread to the loop that waits for it; only the first call counts."""
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        outcome.get_loop().call_soon_threadsafe(_set, outcome, error, result)


def _set(outcome: asyncio.Future[Any], error: BaseException | None, result: object) -> None:
    if outcome.done():
        return
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)


def _observe(outcome: asyncio.Future[Any]) -> None:
    if not outcome.cancelled():
        outcome.exception()
