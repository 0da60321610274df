"""The garbage collector rests while a zip with many entries is checked, and then works again."""

import gc
from collections.abc import Iterator

import pytest

from app.services.modules.checks import _Collector


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_rests_until_the_last_of_several_checks_ends() -> None:
    collector = _Collector()
    with collector.paused(is_needed=True):
        with collector.paused(is_needed=True):
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_check_that_fails_ends_the_rest_too() -> None:
    collector = _Collector()
    with pytest.raises(ValueError, match="damaged"), collector.paused(is_needed=True):
        raise ValueError("damaged")
    assert gc.isenabled()


def test_a_short_check_stops_nothing() -> None:
    with _Collector().paused(is_needed=False):
        assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with _Collector().paused(is_needed=True):
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_checks_that_overlap_for_long_let_the_collector_work() -> None:
    now_s = 1000.0
    collector = _Collector(lambda: now_s)
    with collector.paused(is_needed=True):
        now_s += 31
        with collector.paused(is_needed=True):
            assert gc.isenabled()
