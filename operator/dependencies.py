"""Order between jobs: a slot starts only when the jobs that it depends on have settled theirs.

Pure: the jobs of a namespace come in by name. `Dependents` remembers the other direction, whom a change of a
job concerns. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from crontabber_operator import bookkeeping
from crontabber_operator.models import Spec
from crontabber_operator.observed import Hold, Job, Unavailable

MISSING, CYCLE = "DependencyMissing", "DependencyCycle"
"""The reasons of `Ready=False`."""
WAITING = "WaitingForDependency"
"""The reason of `CaughtUp=False`."""

Key = TypeVar("Key", bound=Hashable)


# --- What a job waits for ---------------------------------------------------------------------------------


def hold(job: Job, slot: datetime, others: Mapping[str, Job], known: Unavailable | None) -> Hold | None:
    """Say why `slot` of `job` must not start; None: its dependencies allow it. `known`: what `problem()` found."""
    if known is not None and known.reason == CYCLE:
        return Hold(CYCLE, "its dependsOn is a circle: the condition Ready tells which.")
    return waits_for(job, slot, others)


def waits_for(job: Job, slot: datetime, others: Mapping[str, Job]) -> Hold | None:
    """Say which dependencies hold back `slot` of `job`; None: none.

    A dependency has to have settled its own newest slot at or before `slot`: it succeeded, was marked, or was
    skipped. A slot that was given up after failures counts only once the dependency has succeeded again. While
    a mark-success or reset of it is still to be done, none of its slots is known to be settled.
    Slots from before it was made don't count: it never had to run them.
    """
    waiting = []
    for name in names(job.spec):
        other = others.get(name)
        if other is None:
            waiting.append(f"{name}, which does not exist or can't run")
            continue
        if other.is_commanded:
            waiting.append(f"{name}, whose mark-success or reset is still to be done")
            continue
        newest = other.spec.slots.newest_until(slot)
        if newest is not None and not _is_settled(other, newest):
            waiting.append(f"slot {newest:%Y-%m-%dT%H:%MZ} of {name}")
    return Hold(WAITING, f"it waits for {' and for '.join(waiting)}.") if waiting else None


def problem(job: Job, others: Mapping[str, Job]) -> Unavailable | None:
    """Find what no waiting mends, as `Ready=False` tells it, or None.

    `others`: all jobs of the namespace by name that could run, `job` among them or not. A circle is a mistake
    in a spec (`Stalled`); a job that is missing may just not be applied yet.
    """
    circle = _circle(job, others)
    if circle:
        path = " → ".join(circle)
        return Unavailable(
            CYCLE,
            f"spec.dependsOn: {path} is a circle, so none of them can start; remove one of its links.",
            stalled=True,
        )
    missing = [name for name in names(job.spec) if name not in others]
    if missing:
        return Unavailable(
            MISSING,
            f"spec.dependsOn: there is no CrontabberJob {' or '.join(missing)} in this namespace that could "
            "run; create it, mend it or remove it from dependsOn.",
        )
    return None


def names(spec: Spec) -> tuple[str, ...]:
    """Return the names of the jobs that a spec depends on."""
    return tuple(dependency.name for dependency in spec.depends_on)


def _is_settled(job: Job, slot: datetime) -> bool:
    status = job.status
    if bookkeeping.cursor(job, status) < slot:
        return False
    error, success = status.last_error, status.last_success_time
    failed = status.error_count > 0 and error is not None and error.slot is not None and error.slot >= slot
    return not failed or (success is not None and success >= slot)


def _circle(job: Job, others: Mapping[str, Job]) -> tuple[str, ...]:
    """Return the names along a way from the job back to itself; empty where there is none."""
    came_from: dict[str, str] = {}
    open_names = [job.name]
    while open_names:
        name = open_names.pop()
        current = job if name == job.name else others.get(name)
        for following in names(current.spec) if current is not None else ():
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


# --- Whom it concerns -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Dependents(Generic[Key]):
    """Who depends on whom, from the other side: a projection of the specs, made anew after a restart."""

    _needs: dict[Key, frozenset[Key]] = field(default_factory=dict)
    _needed_by: dict[Key, set[Key]] = field(default_factory=dict)

    def put(self, key: Key, needs: Iterable[Key]) -> None:
        """A job depends on these now, whether they exist or not; on nothing: it is forgotten."""
        after = frozenset(needs)
        before = self._needs.get(key, frozenset())
        if after == before:
            return
        for gone in before - after:
            self._needed_by[gone].discard(key)
            if not self._needed_by[gone]:
                del self._needed_by[gone]
        for new in after - before:
            self._needed_by.setdefault(new, set()).add(key)
        if after:
            self._needs[key] = after
        else:
            self._needs.pop(key, None)

    def of(self, key: Key) -> frozenset[Key]:
        """Return the jobs that depend on this one by name: its slots concern them."""
        return frozenset(self._needed_by.get(key, ()))

    def behind(self, key: Key) -> frozenset[Key]:
        """Return these, and those behind them: whether they are in a circle depends on it."""
        found: set[Key] = set()
        new = [key]
        while new:
            for dependent in self._needed_by.get(new.pop(), ()):
                if dependent not in found:
                    found.add(dependent)
                    new.append(dependent)
        found.discard(key)
        return frozenset(found)
