"""The time that counts: the API server's, which may not be this machine's.

Kubernetes fires slots and stamps objects by its own clock. An operator whose clock is ahead would run slots
before their time, and commands would miss the end of what they are to process. So each answer's Date header is
compared with this machine's clock; where the two differ, the API server's counts, and the machine's own is
only used to measure how long ago that was. Setting the machine's clock while the operator runs changes nothing.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

logger = logging.getLogger(__name__)

TOLERANCE_SECONDS = 2.0
"""Clocks that are so near agree: then this machine's, which is exact, counts."""
MOVED_SECONDS = 1.0
"""A machine's clock that moved so far against its own stop-watch was set, or the machine slept."""
ASK_SECONDS = 300.0
"""An API server that was not heard of for so long is asked."""
LOOK_SECONDS = 1.0
DATE_SECONDS = 1.0
"""A Date header is cut to whole seconds."""


def local_time() -> datetime:
    """Read this machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the API server's clock is ahead of the stop-watch, in seconds: between these two."""

    least: float
    most: float

    def and_then(self, newer: _Heard) -> _Heard:
        """Narrow it; what contradicts the newer one was true once."""
        least, most = max(self.least, newer.least), min(self.most, newer.most)
        return _Heard(least, most) if least <= most else newer


class ServerClock:
    """The API server's time, as far as it is known; this machine's until then."""

    def __init__(
        self,
        local: Callable[[], datetime] = local_time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = local
        self.stopwatch = stopwatch
        """Seconds, of no particular time."""
        self._heard: _Heard | None = None
        self._heard_at = 0.0
        self._local_then = 0.0
        self._differs = False

    def heard(self, date: str | None, sent: float) -> None:
        """Take the Date header of an answer to a request that was sent at this time of the stop-watch."""
        try:
            told = email.utils.parsedate_to_datetime(date or "").timestamp()
        except (ValueError, OverflowError):
            return
        received = self.stopwatch()
        newer = _Heard(told - received, told + DATE_SECONDS - sent)
        self._heard = newer if self._heard is None else self._heard.and_then(newer)
        self._heard_at, self._local_then = received, self._local_offset(received)
        self._tell(self._local_then)

    def now(self) -> datetime:
        """Return the time that counts (UTC)."""
        heard = self._heard
        if heard is None:
            return self._local()
        elapsed = self.stopwatch()
        if self._agrees(heard, self._local_offset(elapsed)):
            return self._local()
        return datetime.fromtimestamp(elapsed + (heard.least + heard.most) / 2, UTC)

    @property
    def is_in_doubt(self) -> bool:
        """This machine's clock was set, or the machine slept, or the API server was not heard of for long."""
        elapsed = self.stopwatch()
        moved = abs(self._local_offset(elapsed) - self._local_then)
        return moved > MOVED_SECONDS or elapsed - self._heard_at > ASK_SECONDS

    def _local_offset(self, elapsed: float) -> float:
        return self._local().timestamp() - elapsed

    def _agrees(self, heard: _Heard, offset: float) -> bool:
        return heard.least - TOLERANCE_SECONDS <= offset <= heard.most + TOLERANCE_SECONDS

    def _tell(self, offset: float) -> None:
        heard = self._heard
        if heard is None or self._differs is not self._agrees(heard, offset):
            return
        self._differs = not self._differs
        if self._differs:
            ahead = offset - (heard.least + heard.most) / 2
            logger.warning(
                "This machine's clock is %.0f s %s the API server's, which counts: set this machine's clock",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
            )
        else:
            logger.info("This machine's clock and the API server's agree again")


async def keep(clock: ServerClock, ask: Callable[[], Awaitable[None]]) -> None:
    """Have the API server asked, for ever, where its time is in doubt."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if clock.is_in_doubt:
            await ask()
