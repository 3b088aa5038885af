"""Whether and when a container that ended is started again. Pure.

The delays are the kubelet's: the first restart is immediate, then 10 s, doubling up to 5 minutes, counted
from the container's end; a container that ran for 10 minutes starts over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Policy = Literal["Always", "OnFailure", "Never"]

FIRST_DELAY = timedelta(seconds=10)
LONGEST_DELAY = timedelta(minutes=5)
FORGIVEN_AFTER = timedelta(minutes=10)


def restarts(policy: Policy, exit_code: int) -> bool:
    """Tell whether a container with this policy that ended with this code is started again."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay before the next try, which doubles with every try.

    Frozen, so the next one is another Backoff.
    """

    delay: timedelta = timedelta(0)
    first: timedelta = FIRST_DELAY
    longest: timedelta = LONGEST_DELAY

    def next_delay(self, ran_for: timedelta = timedelta(0)) -> tuple[timedelta, Backoff]:
        """Return how long to wait after a try that lasted `ran_for`, and the backoff for the one after."""
        delay = timedelta(0) if ran_for >= FORGIVEN_AFTER else self.delay
        following = min(delay * 2 if delay else self.first, self.longest)
        return delay, Backoff(following, self.first, self.longest)
