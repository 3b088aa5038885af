"""Have kopf come to its first picture in a time that is proportional to what there is.

kopf has every object of a first listing wait until all of them are indexed, and wakes all that wait whenever one
more is listed or indexed: with ten thousand resources and as many CronJobs that is minutes of nothing else. Who
waits need only be woken where the answer changes. kopf has no setting for that. Decides nothing.
"""

from __future__ import annotations

from kopf._cogs.aiokits import aiotoggles
from kopf._cogs.aiokits.aiotoggles import Toggle, ToggleSet


async def _make_toggle(self: ToggleSet, val: bool = False, *, name: str | None = None) -> Toggle:
    toggle = Toggle(val, name=name, condition=self._condition)
    async with self._condition:
        was_on = self.is_on()
        self._toggles.add(toggle)
        if self.is_on() != was_on:
            self._condition.notify_all()
    return toggle


async def _drop_toggle(self: ToggleSet, toggle: Toggle) -> None:
    async with self._condition:
        was_on = self.is_on()
        self._toggles.discard(toggle)
        if self.is_on() != was_on:
            self._condition.notify_all()


def hurry() -> None:
    """Have those who wait for a set of toggles woken only when the set as a whole is turned on or off."""
    aiotoggles.ToggleSet.make_toggle = _make_toggle  # type: ignore[method-assign]
    aiotoggles.ToggleSet.drop_toggle = _drop_toggle  # type: ignore[method-assign]
