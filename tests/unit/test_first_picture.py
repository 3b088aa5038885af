"""Who waits for kopf's first picture is woken when it is complete, and not for each object of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from kopf._cogs.aiokits.aiotoggles import ToggleSet

from crontabber_operator import first_picture

WAITING = 50


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have kopf hurry as long as a test runs."""
    for name in ("make_toggle", "drop_toggle"):
        monkeypatch.setattr(ToggleSet, name, getattr(ToggleSet, name))
    first_picture.hurry()


def test_who_waits_is_woken_once() -> None:
    """Looked at a few times by each, however many toggles come and go meanwhile."""
    looks = 0

    def all_on(states: Iterable[bool]) -> bool:
        nonlocal looks
        looks += 1
        return all(states)

    async def session() -> list[int]:
        toggles = ToggleSet(all_on)
        first = await toggles.make_toggle()
        waiting = [asyncio.create_task(toggles.wait_for(True)) for _ in range(WAITING)]
        more = [await toggles.make_toggle() for _ in range(WAITING)]
        for toggle in (first, *more[:-1]):
            await toggles.drop_toggle(toggle)
            await asyncio.sleep(0)
        done = [sum(task.done() for task in waiting)]
        await toggles.drop_toggle(more[-1])
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        return [*done, sum(task.done() for task in waiting)]

    assert asyncio.run(session()) == [0, WAITING]
    assert looks < 10 * WAITING  # as kopf has it: the square


def test_a_set_that_is_turned_off_again_wakes_who_waits_for_that() -> None:
    """It is no one-way street."""

    async def session() -> None:
        toggles = ToggleSet(all)
        assert toggles.is_on()
        waiting = asyncio.create_task(toggles.wait_for(False))
        await asyncio.sleep(0)
        toggle = await toggles.make_toggle()
        await asyncio.wait_for(waiting, 10)
        again = asyncio.create_task(toggles.wait_for(True))
        await asyncio.sleep(0)
        await toggle.turn_to(True)
        await asyncio.wait_for(again, 10)

    asyncio.run(session())
