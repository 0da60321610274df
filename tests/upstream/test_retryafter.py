"""`app.upstream.retryafter`."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.retryafter import retry_after_s, whole_seconds

# 1994-11-06 08:49:30 GMT; RFC 9110, section 5.6.7 writes 08:49:37 in three ways.
NOW = 784111770.0


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
