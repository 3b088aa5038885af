"""Waits grow, and never past their limit, however long something goes on failing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator.delays import doubled


def test_each_wait_is_twice_the_one_before() -> None:
    """Up to the limit."""
    assert [doubled(1.0, count, 10.0) for count in range(6)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(-1, 10**30), st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_no_number_of_failures_is_too_large(count: int, first: float, longest: float) -> None:
    """A float overflows at 1,024 doublings, which a weekend of retries reaches."""
    assert doubled(first, count, longest) <= longest
    assert doubled(first, count + 1, longest) >= doubled(first, count, longest)
