"""How often Python looks for garbage that refers to itself.

By default after every 700 objects that are made and not yet let go, and now and then among all that there are. An
operator makes a hundred from each object that a listing brings, and keeps few of them, none of which refers to
itself: half of the time in which JSON is read would go into looking (docs/performance.md). What does, such as the
traceback of an error, is still found, a little later; the memory that it may hold until then is some MB.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 20_000
ROUNDS = 3
"""After so many rounds among the young the older ones are looked at, too: what outlives a round must not wait long."""


def spare() -> None:
    """Look for garbage less often, and never again among what is there now: modules, and what they hold."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, ROUNDS, ROUNDS)
