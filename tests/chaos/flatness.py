"""PURE. Says whether what was measured over time stays where it is, or grows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WARM_UP = 0.4
"""This part of the time is left out: caches fill, every job has its history and its Jobs."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through what was measured after the warm-up."""

    level: float
    """The median."""
    growth: float
    """What the line rises by in the time after the warm-up, as a part of the level."""


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Fit a line (Theil and Sen: the median of all slopes, which single peaks don't move). Needs three points."""
    begin = points[0][0] + WARM_UP * (points[-1][0] - points[0][0])
    kept = [point for point in points if point[0] >= begin]
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(kept)
        for later in kept[number + 1 :]
        if later[0] > earlier[0]
    ]
    level = statistics.median(value for _, value in kept)
    rise = statistics.median(slopes) * (kept[-1][0] - kept[0][0])
    return Trend(level, rise / level if level else rise)
