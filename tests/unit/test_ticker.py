"""One clock for all resources: each is woken once its time has come, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import ticker as ticker_module
from crontabber_operator.ticker import LONGEST_SLEEP, Ticker
from tests.unit.backfill_scene import at

START = at("10:00")


@pytest.fixture(autouse=True, scope="module")
def _short_sleeps() -> Iterator[None]:
    """A clock that is set by hand is looked at more often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticker_module, "LONGEST_SLEEP", timedelta(milliseconds=1))
        yield


class Hands:
    """A clock that is set by hand, and a ticker on it."""

    def __init__(self) -> None:
        self.now = START
        self.woken: list[str] = []
        self.news = asyncio.Event()
        self.ticker: Ticker[str] = Ticker(self._wake, lambda: self.now)

    def _wake(self, key: str) -> None:
        self.woken.append(key)
        self.news.set()

    async def rest(self) -> None:
        """Let the ticker come to its sleep, several times over."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(30):
            while not condition():
                self.news.clear()
                await self.news.wait()


def run(play: Callable[[Hands], object]) -> Hands:
    """Run a ticker while something is done to it."""

    async def scene() -> Hands:
        hands = Hands()
        task = asyncio.create_task(hands.ticker.run())
        await hands.rest()
        result = play(hands)
        if asyncio.iscoroutine(result):
            await result
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return hands

    return asyncio.run(scene())


def seconds(number: float) -> datetime:
    """Return a time after the start."""
    return START + timedelta(seconds=number)


def test_a_key_is_woken_when_its_time_has_come() -> None:
    """Once."""

    async def play(hands: Hands) -> None:
        hands.ticker.set("a", seconds(10))
        await hands.rest()
        assert hands.woken == []
        hands.now = seconds(10)
        await hands.until(lambda: hands.woken == ["a"])
        hands.now = seconds(20)
        await hands.rest()

    assert run(play).woken == ["a"]


def test_a_time_that_is_past_wakes_at_once() -> None:
    """The ticker doesn't sleep on."""

    async def play(hands: Hands) -> None:
        hands.ticker.set("a", seconds(-5))
        await hands.until(lambda: hands.woken == ["a"])

    run(play)


def test_an_earlier_time_counts_though_a_later_one_was_set() -> None:
    """And the other way round: a key has one time."""

    async def play(hands: Hands) -> None:
        hands.ticker.set("a", seconds(100))
        hands.ticker.set("a", seconds(10))
        hands.ticker.set("b", seconds(10))
        hands.ticker.set("b", seconds(100))
        hands.now = seconds(50)
        await hands.until(lambda: hands.woken == ["a"])
        hands.now = seconds(100)
        await hands.until(lambda: hands.woken == ["a", "b"])

    run(play)


def test_a_time_that_was_removed_wakes_nobody() -> None:
    """The resource is gone."""

    async def play(hands: Hands) -> None:
        hands.ticker.set("a", seconds(1))
        hands.ticker.set("b", seconds(2))
        hands.ticker.set("a", None)
        hands.ticker.set("never set", None)
        hands.now = seconds(5)
        await hands.until(lambda: hands.woken == ["b"])

    run(play)


def test_a_clock_that_is_put_back_wakes_all() -> None:
    """Their times were set by another clock: an hour put back would make each an hour late."""

    async def play(hands: Hands) -> None:
        hands.ticker.set("a", seconds(10))
        hands.ticker.set("b", seconds(1000))
        hands.now = seconds(-3600)
        await hands.until(lambda: sorted(hands.woken) == ["a", "b"])
        hands.ticker.set("a", seconds(-3590))
        hands.now = seconds(-3580)
        await hands.until(lambda: len(hands.woken) == 3)
        await hands.rest()

    assert run(play).woken[2:] == ["a"]


def test_a_clock_that_is_slowed_down_wakes_nobody_early() -> None:
    """That is how a clock is put right that was a little ahead."""

    async def play(hands: Hands) -> None:
        hands.ticker.set("a", seconds(10))
        hands.now = seconds(-0.5)
        await hands.rest()
        assert hands.woken == []
        hands.now = seconds(11)
        await hands.until(lambda: hands.woken == ["a"])

    run(play)
    assert timedelta() < LONGEST_SLEEP <= timedelta(seconds=2)


@given(
    settings=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(min_value=0, max_value=50)), max_size=300
    )
)
def test_of_many_settings_the_last_of_each_key_counts(settings: list[tuple[str, int | None]]) -> None:
    """However often they are moved; what was set before is cleared away."""
    expected: dict[str, int] = {}

    async def play(hands: Hands) -> None:
        for key, after in settings:
            hands.ticker.set(key, None if after is None else seconds(after + 1))
            expected.pop(key, None)
            if after is not None:
                expected[key] = after
        hands.now = seconds(100)
        await hands.until(lambda: len(hands.woken) >= len(expected))

    hands = run(play)
    assert sorted(hands.woken) == sorted(expected)
    assert [expected[key] for key in hands.woken] == sorted(expected.values())
