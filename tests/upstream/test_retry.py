"""`app.upstream.retry`."""

from random import Random

import pytest

from app.core.errors import UpstreamContentError
from app.upstream.attempt import FailedAttempt, content_error
from app.upstream.budget import RetryBudget
from app.upstream.retry import full_jitter, retrying
from app.upstream.url import Url

URL = Url.parse("https://up.example/a?token=s3cret")


@pytest.mark.parametrize(
    ("retry", "ceiling"), [(0, 0.1), (1, 0.2), (2, 0.4), (4, 1.6), (5, 2.0), (5000, 2.0)]
)
def test_full_jitter_is_drawn_evenly_below_a_doubling_ceiling(retry, ceiling):
    random = Random(retry)
    drawn = [full_jitter(random, retry) for _ in range(500)]
    assert 0 <= min(drawn) < 0.05 * ceiling
    assert 0.95 * ceiling < max(drawn) <= ceiling


class Attempts:
    """Fails as scripted, then returns 'done'; notes sleeps and restarts in order."""

    def __init__(self, *failures: FailedAttempt) -> None:
        self.failures = list(failures)
        self.made = 0
        self.log: list[object] = []

    async def attempt(self) -> str:
        self.made += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.log.append(seconds)

    async def restart(self) -> None:
        self.log.append("restart")

    async def run(self, *, retries: int = 3, left_s: float = 60.0) -> str:
        return await retrying(
            self.attempt,
            retries=retries,
            budget=RetryBudget(lambda: 0.0),
            left_s=lambda: left_s,
            restart=self.restart,
            random=Random(0),
            sleep=self.sleep,
        )


def again(wait_s: float | None = None) -> FailedAttempt:
    return FailedAttempt(content_error(URL, "broke"), again=True, wait_s=wait_s)


async def test_sleeps_and_restarts_before_every_retry():
    attempts = Attempts(again(), again(2.0))
    assert await attempts.run() == "done"
    first, *rest = attempts.log
    assert isinstance(first, float)
    assert first <= 0.1
    assert rest == ["restart", 2.0, "restart"]


@pytest.mark.parametrize(
    ("failures", "options", "made"),
    [
        ([again() for _ in range(9)], {}, 4),
        ([again() for _ in range(9)], {"retries": 0}, 1),
        ([FailedAttempt(content_error(URL, "broke"))], {}, 1),
        ([again(30.0)] * 9, {}, 4),
        ([again(30.1)], {}, 1),
        ([again(5.0)], {"left_s": 4.0}, 1),
    ],
)
async def test_gives_up_with_the_last_error(failures, options, made):
    attempts = Attempts(*failures)
    with pytest.raises(UpstreamContentError, match=r"^https://up\.example/a broke$"):
        await attempts.run(**options)
    assert attempts.made == made
