"""Order between jobs: a slot starts only when the jobs that it depends on have settled theirs.

Pure: the jobs of a namespace come in by name. This module must not import kopf or kubernetes, or read a
clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from crontabber_operator import bookkeeping
from crontabber_operator.observed import Job


def waits_for(job: Job, slot: datetime, others: Mapping[str, Job]) -> str | None:
    """Say which dependencies hold back `slot` of `job`, as a sentence; None: none.

    A dependency has to have settled its own newest slot at or before `slot`. Slots from before it was made
    don't count: it never had to run them.
    """
    waiting = []
    for name in _names(job):
        other = others.get(name)
        if other is None:
            waiting.append(f"{name}, which does not exist")
            continue
        newest = other.spec.slots.newest_until(slot)
        if newest is not None and bookkeeping.cursor(other, other.status) < newest:
            waiting.append(f"slot {newest:%Y-%m-%dT%H:%MZ} of {name}")
    return f"it waits for {' and for '.join(waiting)}." if waiting else None


def problem(job: Job, others: Mapping[str, Job]) -> tuple[str, str] | None:
    """Find what no waiting mends: reason and message of `Ready=False`, or None.

    `others`: all jobs of the namespace by name, `job` among them or not.
    """
    circle = _circle(job, others)
    if circle:
        path = " → ".join(circle)
        return (
            "DependencyCycle",
            f"spec.dependsOn: {path} is a circle, so none of them can start; remove one of its links.",
        )
    missing = [name for name in _names(job) if name not in others]
    if missing:
        return "DependencyMissing", (
            f"spec.dependsOn: there is no CrontabberJob {' or '.join(missing)} in this namespace that could "
            "run; create it, mend it or remove it from dependsOn."
        )
    return None


def _names(job: Job) -> tuple[str, ...]:
    return tuple(dependency.name for dependency in job.spec.depends_on)


def _circle(job: Job, others: Mapping[str, Job]) -> tuple[str, ...]:
    """Return the names along a way from the job back to itself; empty where there is none."""
    came_from: dict[str, str] = {}
    open_names = [job.name]
    while open_names:
        name = open_names.pop()
        current = job if name == job.name else others.get(name)
        for following in _names(current) if current is not None else ():
            if following == job.name:
                path = [job.name, name]
                while path[-1] in came_from:
                    path.append(came_from[path[-1]])
                if path[-1] != job.name:
                    path.append(job.name)
                return tuple(reversed(path))
            if following not in came_from:
                came_from[following] = name
                open_names.append(following)
    return ()
