"""`app.upstream.body`."""

import pytest

from app.core.errors import UpstreamContentError
from app.upstream.attempt import FailedAttempt
from app.upstream.body import BodyMeter, Pace, check_body_head
from app.upstream.breaker import Verdict
from app.upstream.limits import UpstreamLimits
from app.upstream.url import Url

URL = Url.parse("https://up.example/a?token=s3cret")


@pytest.mark.parametrize(
    ("headers", "exact", "trouble"),
    [
        ({}, None, None),
        ({"content-length": "10"}, None, None),
        ({"content-length": "10"}, 10, None),
        ({"content-encoding": "identity"}, None, None),
        ({"content-length": "11"}, None, "more than the limit of 10"),
        ({"content-length": "9"}, 10, "9 bytes instead of 10"),
        ({"content-encoding": "gzip", "content-length": "11"}, 10, None),
        ({"content-encoding": "br"}, None, "encoded"),
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
    meter = BodyMeter(URL, 10**6, None, UpstreamLimits(rate_bytes_s=100, rate_window_s=30.0))
    meter.count(2999, 29.0)
    with pytest.raises(FailedAttempt, match="less than 100 bytes per second") as caught:
        meter.count(0, 1.0)
    assert (caught.value.verdict, caught.value.again) == (Verdict.FAILURE, False)
