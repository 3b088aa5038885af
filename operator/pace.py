"""How often what can wait is asked of the API server: the slower its answers, the more seldom.

Where it is slow because it has much to do, many runs are late at once, and asking after each of them would keep it
so. This takes a given part of the time at most, whoever asks. Decides nothing.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator


class Pace:
    """Lets one ask at a time, and nobody for some time after that."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`share`: the part of the time that is spent waiting for answers, above 0 and at most 1; `clock`: seconds."""
        self._rest = 1 / share - 1
        self._clock = clock
        self._free_at = 0.0

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Yield whether it is one's turn to ask; what is done within is taken for asking."""
        began = self._clock()
        if began < self._free_at:
            yield False
            return
        self._free_at = math.inf
        try:
            yield True
        finally:
            ended = self._clock()
            self._free_at = ended + self._rest * (ended - began)
