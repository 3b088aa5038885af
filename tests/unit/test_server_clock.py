"""The API server's clock counts, whatever this machine's says, and as exactly as answers can tell it."""

from __future__ import annotations

import asyncio
import email.utils
import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import server_clock
from crontabber_operator.server_clock import ASK_SECONDS, TOLERANCE_SECONDS, ServerClock, keep

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class World:
    """A machine and an API server, each with its clock."""

    def __init__(self, local_ahead_seconds: float = 0.0, fraction: float = 0.25) -> None:
        self.true = NOON + timedelta(seconds=fraction)
        self.elapsed = 1000.0
        self.local_ahead = timedelta(seconds=local_ahead_seconds)
        self.server_ahead = timedelta()
        self.clock = ServerClock(lambda: self.true + self.local_ahead, lambda: self.elapsed)

    def pass_(self, seconds: float) -> None:
        """Let time pass, everywhere."""
        self.true += timedelta(seconds=seconds)
        self.elapsed += seconds

    def request(self, there: float = 0.01, back: float = 0.01) -> None:
        """Make a request."""
        sent = self.elapsed
        self.pass_(there)
        date = email.utils.format_datetime(
            (self.true + self.server_ahead).replace(microsecond=0), usegmt=True
        )
        self.pass_(back)
        self.clock.heard(date, sent)

    @property
    def error_seconds(self) -> float:
        """What the clock is ahead of the API server's."""
        return (self.clock.now() - self.true - self.server_ahead).total_seconds()


def test_until_an_answer_came_this_machines_clock_is_all_there_is() -> None:
    """And it is not in the way."""
    assert World(300).error_seconds == 300


@pytest.mark.parametrize("ahead", [300.0, -300.0, 86400.0 * 366, 5.0, -5.0])
def test_a_wrong_clock_is_put_right_by_the_first_answer(ahead: float) -> None:
    """To a second, as a Date header tells it."""
    world = World(ahead)
    world.request()
    assert abs(world.error_seconds) < 1


def test_a_clock_that_agrees_is_left_alone() -> None:
    """It is more exact than a header in seconds."""
    world = World(0.4)
    world.request()
    assert world.error_seconds == pytest.approx(0.4)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 5.0, -5.0])
def test_a_clock_that_is_set_meanwhile_changes_nothing(jump: float) -> None:
    """Neither forth nor back, not even before the next answer; and the API server is asked soon."""
    world = World()
    world.request()
    world.pass_(10)
    assert not world.clock.is_in_doubt
    world.local_ahead = timedelta(seconds=jump)
    assert abs(world.error_seconds) < 1
    assert world.clock.is_in_doubt
    world.request()
    assert abs(world.error_seconds) < 1
    assert not world.clock.is_in_doubt
    world.local_ahead = timedelta()
    world.request()
    assert world.error_seconds == 0


def test_a_machine_that_slept_learns_the_time_from_the_next_answer() -> None:
    """Its stop-watch stood still."""
    world = World()
    world.request()
    world.true += timedelta(hours=8)
    assert world.clock.is_in_doubt
    world.request()
    assert world.error_seconds == 0


def test_where_the_api_servers_clock_is_set_it_is_followed() -> None:
    """It stamps all objects."""
    world = World()
    world.request()
    world.server_ahead = timedelta(minutes=10)
    world.request()
    assert abs(world.error_seconds) < 1
    world.server_ahead = timedelta(minutes=-10)
    world.request()
    assert abs(world.error_seconds) < 1


def test_an_api_server_that_was_not_heard_of_for_long_is_asked() -> None:
    """Stop-watches drift."""
    world = World()
    world.request()
    world.pass_(ASK_SECONDS - 1)
    assert not world.clock.is_in_doubt
    world.pass_(2)
    assert world.clock.is_in_doubt


@pytest.mark.parametrize("date", [None, "", "yesterday", "Tue, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_that_is_none_is_not_heard(date: str | None) -> None:
    """A proxy may answer anything."""
    world = World()
    world.request()
    world.clock.heard(date, world.elapsed)
    assert world.error_seconds == 0


@given(
    st.floats(-1e6, 1e6),
    st.floats(0, 0.999),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=20),
)
def test_the_error_is_never_more_than_the_best_answer_leaves(
    ahead: float, fraction: float, requests: list[tuple[float, float, float]]
) -> None:
    """Answers only ever narrow what is known."""
    world = World(ahead, fraction)
    for pause, there, back in requests:
        world.pass_(pause)
        world.request(there, back)
    best = 1 + min(there + back for _, there, back in requests)
    assert abs(world.error_seconds) <= max(best, TOLERANCE_SECONDS + best) + 1e-3


def test_a_wrong_clock_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its direction; and once more when it is right again."""
    caplog.set_level(logging.INFO)
    world = World(-300)
    for _ in range(3):
        world.request()
    world.local_ahead = timedelta()
    world.request()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "300 s behind the API server's" in told[0]
    assert "agree again" in told[1]


def test_a_doubtful_clock_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is sure does not."""
    monkeypatch.setattr(server_clock, "LOOK_SECONDS", 0)
    world = World()
    world.request()
    asked: list[float] = []

    async def ask() -> None:
        asked.append(world.elapsed)
        world.request()
        raise asyncio.CancelledError

    async def run() -> None:
        task = asyncio.create_task(keep(world.clock, ask))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not asked
        world.local_ahead = timedelta(minutes=5)
        await asyncio.wait({task})

    asyncio.run(run())
    assert len(asked) == 1
