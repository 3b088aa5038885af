"""Whether and when a container that ended is started again."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from devcluster.node.restarts import FIRST_DELAY, Backoff, Policy, restarts


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 137, False),
    ],
)
def test_the_policy_decides(policy: Policy, code: int, expected: bool) -> None:
    """The three policies of a pod."""
    assert restarts(policy, code) is expected


def delays(count: int, ran_for: timedelta, backoff: Backoff) -> list[float]:
    """Return so many delays in seconds, of a container that always runs for so long."""
    found = []
    for _ in range(count):
        delay, backoff = backoff.next_delay(ran_for)
        found.append(delay.total_seconds())
    return found


def test_a_crash_loop_slows_down() -> None:
    """The first restart is immediate, then 10 s, doubling up to 5 minutes."""
    assert delays(8, timedelta(0), Backoff()) == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_pull_is_retried_after_ten_seconds_first() -> None:
    """Nothing is immediate there."""
    assert delays(3, timedelta(0), Backoff(FIRST_DELAY)) == [10, 20, 40]


def test_a_container_that_ran_well_starts_over() -> None:
    """Ten minutes are enough."""
    assert delays(4, timedelta(minutes=10), Backoff()) == [0, 0, 0, 0]
    assert all(a < b for a, b in pairwise(delays(5, timedelta(minutes=9), Backoff())))
