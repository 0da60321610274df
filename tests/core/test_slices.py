"""Sorting in steps."""

from hypothesis import given
from hypothesis import strategies as st

from app.core.slices import sorted_in_slices


@given(st.lists(st.integers(0, 50)))
def test_few_items_are_sorted_and_their_list_is_left_empty(items: list[int]) -> None:
    expected = sorted(items)
    assert list(sorted_in_slices(items)) == expected
    assert items == []


def test_many_items_are_in_order_over_all_slices() -> None:
    items = [(n * 7919) % 20_011 for n in range(20_000)]
    assert list(sorted_in_slices(list(items))) == sorted(items)
