"""All chance of a run comes from its seed, and every kind of fault comes up before one comes up again."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence


class Bag:
    """Gives the kinds in a random order, all of them before any again. Safe to use from several threads."""

    def __init__(self, seed: object, kinds: Sequence[str]) -> None:
        """Fill it."""
        self._random = random.Random(str(seed))
        self._kinds = list(kinds)
        self._next = self._draw()
        self._lock = threading.Lock()

    def take(self) -> str:
        """Return the next kind."""
        with self._lock:
            return next(self._next)

    def _draw(self) -> Iterator[str]:
        while True:
            yield from self._random.sample(self._kinds, len(self._kinds))


class Tally:
    """Counts what was done, by kind. Safe to use from several threads."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, count: int = 1) -> None:
        """Count one more."""
        with self._lock:
            self._counts[kind] += count

    def counts(self) -> dict[str, int]:
        """Return all counts, by name."""
        with self._lock:
            return dict(sorted(self._counts.items()))
