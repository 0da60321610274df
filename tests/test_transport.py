"""How much a client must take of an answer, without sockets."""

import pytest

from app.transport import Intake

KIB = 1024
SPAN_S = 60


@pytest.mark.parametrize(
    ("taking", "enough"),
    [
        (0, SPAN_S * 8 * KIB),
        (1, SPAN_S * 8 * KIB),
        (64, SPAN_S * 8 * KIB),
        (128, SPAN_S * 4 * KIB),
        (512, SPAN_S * KIB),
        (10_000_000, SPAN_S),
    ],
)
def test_many_clients_together_must_take_as_much_as_64(taking: int, enough: int) -> None:
    intake = Intake(SPAN_S)
    assert intake.spans(1000, None, taking) == 1
    assert intake.spans(1000 + enough - 1, None, taking) == 1
    assert intake.spans(1000 + enough, None, taking) == 2


@pytest.mark.parametrize("taking", [1, 500, 10_000_000])
def test_a_client_that_takes_nothing_ends_no_span(taking: int) -> None:
    intake = Intake(SPAN_S)
    assert {intake.spans(5, None, taking) for _ in range(100)} == {1}


def test_clients_that_join_within_a_span_count() -> None:
    intake = Intake(SPAN_S)
    assert intake.spans(0, None, 1) == 1
    assert intake.spans(SPAN_S * KIB, None, 1) == 1
    assert intake.spans(SPAN_S * KIB, None, 512) == 2


def test_the_rest_of_an_answer_is_enough() -> None:
    intake = Intake(SPAN_S)
    assert intake.spans(0, 100, 1) == 1
    assert intake.spans(99, 1, 1) == 1
    assert intake.spans(100, 50, 1) == 2
