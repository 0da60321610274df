import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import (
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamUnavailableError,
)
from app.upstream.address import Url
from app.upstream.breaker import Verdict
from app.upstream.retry import (
    BodyMeter,
    FailedAttempt,
    Limits,
    Pace,
    RetryBudget,
    check_body_head,
    content_error,
    full_jitter,
    refusal,
    retry_after_s,
    retrying,
    whole_seconds,
)

# 1994-11-06 08:49:30 GMT; RFC 9110, section 5.6.7 writes 08:49:37 in three ways.
NOW = 784111770.0
URL = Url.parse("https://up.example/a?token=s3cret")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        ("3600", 3600.0),
        (" 120 ", 120.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 7.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 7.0),
        ("Sun Nov  6 08:49:37 1994", 7.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("2 s", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_F49_retry_after_is_seconds_or_a_date_and_garbage_is_none(value, seconds):
    assert retry_after_s(value, NOW) == seconds


@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ \S*"))
def test_F49_no_retry_after_value_raises_or_is_negative(value):
    seconds = retry_after_s(value, NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@pytest.mark.parametrize(("seconds", "whole"), [(None, 30), (0.0, 1), (1.2, 2), (7.0, 7)])
def test_whole_seconds_round_up_to_at_least_one(seconds, whole):
    assert whole_seconds(seconds, 30) == whole


@pytest.mark.parametrize(
    ("retry", "ceiling"), [(0, 0.1), (1, 0.2), (2, 0.4), (4, 1.6), (5, 2.0), (5000, 2.0)]
)
def test_full_jitter_is_drawn_evenly_below_a_doubling_ceiling(retry, ceiling):
    random = Random(retry)
    drawn = [full_jitter(random, retry) for _ in range(500)]
    assert 0 <= min(drawn) < 0.05 * ceiling
    assert 0.95 * ceiling < max(drawn) <= ceiling


def test_budget_is_a_floor_of_ten_and_a_tenth_of_the_calls_in_the_window():
    now = [0.0]
    budget = RetryBudget(lambda: now[0])
    assert [budget.take_retry() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(20):
        budget.count_call()
    assert [budget.take_retry() for _ in range(3)] == [True, True, False]
    now[0] = 310.0
    assert [budget.take_retry() for _ in range(11)] == [True] * 10 + [False]


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


@pytest.mark.parametrize(
    ("status", "error", "verdict", "is_tried_again"),
    [
        (404, UpstreamAbsentError, Verdict.SUCCESS, False),
        (410, UpstreamAbsentError, Verdict.SUCCESS, False),
        (400, UpstreamError, Verdict.SUCCESS, False),
        (401, UpstreamError, Verdict.SUCCESS, False),
        (403, UpstreamError, Verdict.SUCCESS, False),
        (451, UpstreamError, Verdict.SUCCESS, False),
        (408, UpstreamUnavailableError, Verdict.FAILURE, True),
        (429, UpstreamUnavailableError, Verdict.THROTTLE, True),
        (500, UpstreamUnavailableError, Verdict.FAILURE, True),
        (501, UpstreamUnavailableError, Verdict.FAILURE, False),
        (503, UpstreamUnavailableError, Verdict.FAILURE, True),
        (203, UpstreamContentError, Verdict.IGNORED, False),
        (204, UpstreamContentError, Verdict.IGNORED, False),
        (206, UpstreamContentError, Verdict.IGNORED, False),
        (304, UpstreamContentError, Verdict.IGNORED, False),
    ],
)
def test_every_status_has_one_meaning(status, error, verdict, is_tried_again):
    failed = refusal(URL, status, {}, NOW)
    assert type(failed.error) is error
    assert (failed.verdict, failed.again) == (verdict, is_tried_again)
    assert isinstance(failed.error, UpstreamError)
    assert failed.error.status == status
    assert str(failed.error).startswith(f"https://up.example/a answered {status}")


def test_F49_the_upstreams_wait_is_passed_on():
    failed = refusal(URL, 503, {"retry-after": "3600"}, NOW)
    assert isinstance(failed.error, UpstreamUnavailableError)
    assert (failed.wait_s, failed.error.retry_after_s) == (3600.0, 3600)


@pytest.mark.parametrize(
    ("headers", "exact", "trouble"),
    [
        ({}, None, None),
        ({"content-length": "10"}, None, None),
        ({"content-length": "10"}, 10, None),
        ({"content-encoding": "identity"}, None, None),
        ({"content-length": "11"}, None, "more than the limit of 10"),
        ({"content-length": "9"}, 10, "9 bytes instead of 10"),
        ({"content-encoding": "gzip"}, None, "encoded"),
        ({"content-encoding": "identity, br"}, None, "encoded"),
    ],
)
def test_F42_F59_a_body_is_judged_by_its_headers_first(headers, exact, trouble):
    if trouble is None:
        check_body_head(URL, headers, 10, exact)
        return
    with pytest.raises(FailedAttempt, match=trouble) as caught:
        check_body_head(URL, headers, 10, exact)
    assert not caught.value.again


def test_pace_judges_whole_windows_of_waiting():
    pace = Pace(100, 30.0)
    assert pace.is_kept(0, 29.0)
    assert pace.is_kept(3000, 1.0)
    assert pace.is_kept(10**9, 0.0)
    assert pace.is_kept(0, 30.0)
    assert not pace.is_kept(2999, 30.0)


@pytest.mark.parametrize(
    ("most", "exact", "chunks", "trouble", "is_tried_again"),
    [
        (10, None, [], None, False),
        (10, None, [4, 6], None, False),
        (10, 10, [4, 6], None, False),
        (10, None, [4, 7], "more than 10 bytes", False),
        (99, 10, [4, 7], "more than 10 bytes", False),
        (10, 99, [4, 7], "more than 10 bytes", False),
        (99, 10, [4, 5], "ended after 9 of 10 bytes", True),
        (99, 10, [], "ended after 0 of 10 bytes", True),
    ],
)
def test_F41_F42_a_body_is_judged_while_it_comes(most, exact, chunks, trouble, is_tried_again):
    meter = BodyMeter(URL, most, exact, None)
    if trouble is None:
        for chunk in chunks:
            meter.count(chunk, 10**6)
        assert meter.finish() == meter.size_bytes == sum(chunks)
        return
    with pytest.raises(FailedAttempt, match=trouble) as caught:
        for chunk in chunks:
            meter.count(chunk, 10**6)
        meter.finish()
    assert type(caught.value.error) is UpstreamContentError
    assert caught.value.again is is_tried_again


def test_F43_a_body_below_the_minimum_rate_is_a_failure_that_is_not_tried_again():
    meter = BodyMeter(URL, 10**6, None, Limits(rate_bytes_s=100, rate_window_s=30.0))
    meter.count(2999, 29.0)
    with pytest.raises(FailedAttempt, match="less than 100 bytes per second") as caught:
        meter.count(0, 1.0)
    assert (caught.value.verdict, caught.value.again) == (Verdict.FAILURE, False)
