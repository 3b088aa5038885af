"""Random walks through the machine of test_backfill_machine.py: fast, and the same for the same seed.

Hypothesis searches better and shrinks what it finds; a walk is what a mutant is tried with.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.unit.test_backfill_machine import SPECS, Machine

Draw = Callable[[random.Random], dict[str, Any]]
WATCHES = ("resources", "jobs", "cronjobs")


def _nothing(_: random.Random) -> dict[str, Any]:
    return {}


def _number(drawn: random.Random) -> dict[str, Any]:
    return {"number": drawn.randrange(8)}


OFTEN: dict[str, tuple[int, Draw]] = {
    "operator_works": (10, lambda r: {"number": r.randrange(8), "up_to_date": r.random() < 0.6}),
    "time_passes": (6, lambda r: {"seconds": r.choice([1, 3, 10, 30, 61, 600, 1800, 3600, 14400, 93600])}),
    "controller_works": (6, lambda r: {"status_lost": r.random() < 0.3}),
    "attempt_ends": (
        6,
        lambda r: {"number": r.randrange(8), "good": r.random() < 0.5, "good_slots": r.randrange(3)},
    ),
    "batch_goes_on": (3, lambda r: {"number": r.randrange(8), "good_slots": r.randrange(3)}),
    "watch_shows": (
        4,
        lambda r: {"number": r.randrange(8), "seen": {kind for kind in WATCHES if r.random() < 0.5}},
    ),
    "operator_crashes": (
        4,
        lambda r: {"number": r.randrange(8), "writes": r.randrange(5), "up_to_date": r.random() < 0.6},
    ),
}
"""What happens in every walk: how often, and with which arguments."""
SOMETIMES: dict[str, Draw] = {
    "kubernetes_retries": _number,
    "mark": lambda r: {
        "ago": r.choice([0, 60, 3600, 3 * 3600, 6 * 3600]),
        "command_id": r.choice([None, "a", "b"]),
    },
    "reset": _nothing,
    "run_now": lambda r: {"value": r.choice(["", "--all", "'"])},
    "mark_wrongly": lambda r: {"value": r.choice(["yesterday", "2099-01-01T00:00:00Z"])},
    "create_from_the_cronjob": _nothing,
    "suspend_or_resume": lambda r: {"suspend": r.random() < 0.5},
    "edit_within_its_kind": _number,
    "edit_to_anything": lambda r: {"kind": r.randrange(len(SPECS))},
    "roll_out": _nothing,
    "web_app_comes_or_goes": lambda r: {"available": r.random() < 0.6},
    "delete_a_job": _number,
    "suspend_a_job": _number,
    "suspend_the_cronjob": _nothing,
}
"""What happens in some walks: each has a few of these."""


def walk(seed: int, steps: int = 45) -> None:
    """Do so many steps, then come to rest. Raises AssertionError (Broken) where a promise is broken."""
    drawn = random.Random(seed)
    machine = Machine()
    machine.begin(kind=drawn.randrange(len(SPECS)), skews=drawn.choice([(0,), (0, 0), (-7,), (-90,), (2,)]))
    choices: dict[str, tuple[int, Draw]] = dict(OFTEN)
    choices |= {name: (1, draw) for name, draw in SOMETIMES.items() if drawn.random() < 0.4}
    names, weights = list(choices), [weight for weight, _ in choices.values()]
    for _ in range(steps):
        name = drawn.choices(names, weights)[0]
        arguments = choices[name][1](drawn)
        if name != "suspend_the_cronjob" or machine.world.cronjob is not None:
            getattr(machine, name)(**arguments)
    machine.teardown()
