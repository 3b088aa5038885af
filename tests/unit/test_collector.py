"""Python looks for garbage less often in an operator, and still finds it."""

from __future__ import annotations

import subprocess
import sys

SCENE = """
import gc, weakref
from crontabber_operator import collector

class Knot:
    def __init__(self):
        self.itself = self

collector.spare()
frozen = gc.get_freeze_count()
first = weakref.ref(Knot())
few = [weakref.ref(Knot()) for _ in range(1000)]
kept = first() is not None
many = [weakref.ref(Knot()) for _ in range(collector.YOUNG_OBJECTS)]
print(frozen > 0, kept, first() is None)
"""


def test_garbage_that_refers_to_itself_is_found_a_little_later() -> None:
    """In a process of its own: what is frozen there would stay so for all other tests."""
    told = subprocess.run([sys.executable, "-c", SCENE], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True", "True"]
