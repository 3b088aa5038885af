"""One clock for all resources: a heap of times at which something may change by time alone."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

LONGEST_SLEEP = timedelta(seconds=1)
"""The wall clock can jump; it is looked at so often."""
PUT_BACK = timedelta(seconds=1)
"""A clock that is slowed down to the right time is not meant."""

Key = TypeVar("Key")


class Ticker(Generic[Key]):
    """Calls `wake(key)` when the time set for a key has come. A key has at most one time.

    A clock that was put back makes all times wrong: then all are woken, to set them anew.
    """

    def __init__(self, wake: Callable[[Key], None], clock: Callable[[], datetime]) -> None:
        self._wake = wake
        self._clock = clock
        self._times: dict[Key, datetime] = {}
        self._heap: list[tuple[datetime, int, Key]] = []
        self._count = 0
        self._earlier = asyncio.Event()

    def set(self, key: Key, at: datetime | None) -> None:
        """Set, move or (None) remove the time of a key."""
        if at is None:
            self._times.pop(key, None)
            return
        if self._times.get(key) == at:
            return
        self._times[key] = at
        # The count settles ties, so that keys are never compared; what was set before is left to rot.
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        if self._heap[0][1] == self._count:
            self._earlier.set()
        if len(self._heap) > 64 + 4 * len(self._times):
            self._heap = [(time, number, key) for number, (key, time) in enumerate(self._times.items())]
            self._count = len(self._heap)
            heapq.heapify(self._heap)

    def clear(self) -> None:
        """Remove all times."""
        self._times.clear()
        self._heap.clear()

    def is_late(self, by: timedelta) -> bool:
        """Tell whether a key should have been woken so long ago."""
        return bool(self._heap) and self._clock() - self._heap[0][0] > by

    def _wake_all(self) -> None:
        keys = list(self._times)
        self._times.clear()
        self._heap.clear()
        for key in keys:
            self._wake(key)

    async def run(self) -> None:
        """Wake keys for ever, each within a moment of its time."""
        before = self._clock()
        while True:
            now = self._clock()
            if now < before - PUT_BACK:
                self._wake_all()
            before = now
            while self._heap and self._heap[0][0] <= now:
                at, _, key = heapq.heappop(self._heap)
                if self._times.get(key) == at:
                    del self._times[key]
                    self._wake(key)
            pause = min(self._heap[0][0] - now, LONGEST_SLEEP) if self._heap else LONGEST_SLEEP
            self._earlier.clear()
            try:
                async with asyncio.timeout(max(pause.total_seconds(), 0.001)):
                    await self._earlier.wait()
            except TimeoutError:
                continue
