"""`app.upstream.budget`."""

from app.upstream.budget import RetryBudget


def test_budget_is_a_floor_of_ten_and_a_tenth_of_the_calls_in_the_window():
    now = [0.0]
    budget = RetryBudget(lambda: now[0])
    assert [budget.take_retry() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(20):
        budget.count_call()
    assert [budget.take_retry() for _ in range(3)] == [True, True, False]
    now[0] = 310.0
    assert [budget.take_retry() for _ in range(11)] == [True] * 10 + [False]
