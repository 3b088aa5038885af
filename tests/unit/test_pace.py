"""Questions that can wait take a part of the time at most."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator.memory import PutOff, Start
from crontabber_operator.pace import Pace

RELEASED = datetime(2026, 11, 30, 16, tzinfo=UTC)


class Clock:
    """Goes as a test says."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def asks(pace: Pace, clock: Clock, seconds: float) -> bool:
    """Ask, where one may, which takes so long."""
    with pace.turn() as may_ask:
        if may_ask:
            clock.seconds += seconds
        return may_ask


def test_after_a_slow_answer_there_is_a_long_rest() -> None:
    """A quick one is followed by the next in a moment."""
    clock = Clock()
    pace = Pace(0.1, clock)
    assert asks(pace, clock, 0.02)
    clock.seconds += 0.17
    assert not asks(pace, clock, 0.02)
    clock.seconds += 0.02
    assert asks(pace, clock, 3.0)
    clock.seconds += 26.9
    assert not asks(pace, clock, 0.02)
    clock.seconds += 0.2
    assert asks(pace, clock, 0.02)


def test_nobody_asks_while_an_answer_is_waited_for() -> None:
    """Also where that ends with an error, which counts as well."""
    clock = Clock()
    pace = Pace(0.5, clock)
    with pytest.raises(OSError, match="away"), pace.turn() as may_ask:  # noqa: PT012 - within a turn
        assert may_ask
        assert not asks(pace, clock, 1)
        clock.seconds += 2
        raise OSError("away")
    assert not asks(pace, clock, 1)
    clock.seconds += 2.1
    assert asks(pace, clock, 1)


@given(st.floats(0.01, 1.0), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1))
def test_no_more_than_its_share_is_spent_asking(share: float, tries: list[tuple[float, float]]) -> None:
    """Counted up to the beginning of the last question."""
    clock = Clock()
    pace = Pace(share, clock)
    began, spent, last = clock.seconds, 0.0, 0.0
    for gap, seconds in tries:
        clock.seconds += gap
        before = clock.seconds
        if asks(pace, clock, seconds):
            assert spent <= share * (before - began) + 1e-6
            spent, last = spent + seconds, seconds
    assert last <= spent


def test_what_is_put_off_comes_back_soon_and_later_when_it_is_late_already() -> None:
    """From the first time that it had to stand back; so hundreds who wait cost little."""
    put_off = PutOff.again(None, RELEASED, 1.5)
    assert put_off == PutOff(RELEASED, RELEASED + timedelta(seconds=1.5))
    for late, wait in ((1, 1), (10, 5), (600, 60)):
        now = RELEASED + timedelta(seconds=late)
        assert PutOff.again(put_off, now, 1.0) == PutOff(RELEASED, now + timedelta(seconds=wait))


def test_a_run_that_starts_is_looked_at_when_it_is_due_and_has_its_turn() -> None:
    """What was put off is never looked at before it is due."""
    start = Start(("uid", 1), RELEASED)
    later = start.look_at + timedelta(seconds=3)
    assert replace(start, put_off=PutOff(start.look_at, later)).look_at == later
    assert replace(start, put_off=PutOff(RELEASED, RELEASED)).look_at == start.look_at
