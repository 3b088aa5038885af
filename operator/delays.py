"""How long to wait before something is tried again: each time twice as long, up to a limit.

PURE. Nothing is waited for here.
"""

from __future__ import annotations

_DOUBLINGS_MAX = 30
"""Enough for any limit here. A float overflows at 1,024 doublings, a timedelta at 46: a weekend of retries."""


def doubled(first: float, doublings: int, longest: float) -> float:
    """Return `first`, doubled so often, and at most `longest`; all in the same unit."""
    return min(first * 2.0 ** min(max(doublings, 0), _DOUBLINGS_MAX), longest)
