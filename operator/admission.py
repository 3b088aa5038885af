"""Who may start next where only so many runs of a namespace may go on at once.

Two things limit it: of a `concurrencyGroup` one run goes on at a time, and the operator's setting
`--max-concurrent-runs-per-namespace` limits all of them. Of the jobs that could start, the one with the
oldest slot goes first; one whose group is taken does not keep the others waiting.

What runs is never remembered here: it comes in, read from the claims and Jobs that exist. What is remembered
(who waits, who is just being started) may be lost at any moment: who waits asks again.

What holds: one operator never starts a run while the limit is reached, wherever it or its predecessors were
killed, because each run was claimed in its status before it was released. Two operators at once know of each
other's claims only as fast as their watches show them (mostly some milliseconds): in that moment each of them
may start one run too many. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from crontabber_operator.models import Spec, Status
from crontabber_operator.observed import Hold, Run, RunKind

WAITING_FOR_GROUP, WAITING_FOR_LIMIT = "WaitingForConcurrencyGroup", "WaitingForNamespaceLimit"
"""The reasons of `CaughtUp=False`."""


class _Sortable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


Key = TypeVar("Key", bound=_Sortable)


class Waiting(NamedTuple, Generic[Key]):
    """A job that could start a slot, if it were not for other runs. In the order in which they go."""

    slot: datetime
    key: Key
    group: str | None


def occupies(spec: Spec, status: Status, runs: Iterable[Run]) -> bool:
    """Tell whether a job has a place: it runs, or its claimed run is about to be released.

    A run that goes on counts although it was marked or reset. A plain job's run counts while it has a pod,
    though nothing holds it back. What a person starts (`run-now`) never counts.
    """
    if spec.is_gated and status.ongoing is not None:
        return True
    return any(run.running and run.kind is not RunKind.MANUAL and not run.between_attempts for run in runs)


def may_start(
    waiting: Iterable[Waiting[Key]], running: Mapping[Key, str | None], limit: int | None
) -> Iterator[Key]:
    """Yield the jobs that may start now. `waiting` is sorted; `running` has the group of each that runs."""
    taken = {group for group in running.values() if group is not None}
    free = None if limit is None else limit - len(running)
    for one in waiting:
        if free is not None and free <= 0:
            return
        if one.key in running or one.group in taken:
            continue
        if one.group is not None:
            taken.add(one.group)
        if free is not None:
            free -= 1
        yield one.key


def keeps_waiting(
    one: Waiting[Key], line: Iterable[Waiting[Key]], running: Mapping[Key, str | None], limit: int | None
) -> Hold | None:
    """Say why a job may not start now; None: it may. `line` is sorted, this one in it or not."""
    others = {key: group for key, group in running.items() if key != one.key}
    taken = {group for group in others.values() if group is not None}
    if one.group in taken:
        return group_hold(one.group)
    free = None if limit is None else limit - len(others)
    for other in line:
        if free is not None and free <= 0:
            break
        if other.key == one.key:
            continue  # its own place, perhaps from before its group was edited
        if not other < one:
            return None
        if other.key in others or other.group in taken:
            continue
        if other.group is not None and other.group == one.group:
            return group_hold(one.group)
        taken |= {other.group} if other.group is not None else set()
        free = None if free is None else free - 1
    return limit_hold(limit) if limit is not None and free is not None and free <= 0 else None


def group_hold(group: str) -> Hold:
    """Tell that a job waits for its group. Whoever is in its way, the sentence stays true."""
    message = f"it waits for its turn: of concurrencyGroup {group} one run goes on at a time, the oldest slot first."
    return Hold(WAITING_FOR_GROUP, message, is_turn=True)


def limit_hold(limit: int) -> Hold:
    """Tell that a job waits for the namespace's limit."""
    runs = "1 run" if limit == 1 else f"{limit} runs"
    message = (
        f"it waits for its turn: at most {runs} of this namespace go on at a time, the oldest slot first."
    )
    return Hold(WAITING_FOR_LIMIT, message, is_turn=True)


@dataclass(slots=True)
class Admission(Generic[Key]):
    """The line of one namespace."""

    limit: int | None
    _line: list[Waiting[Key]] = field(default_factory=list)
    """Sorted."""
    _places: dict[Key, Waiting[Key]] = field(default_factory=dict)
    """Who is in the line, by key."""
    _starting: dict[Key, str | None] = field(default_factory=dict)
    """Who was let in and has not shown its claim yet."""
    _invited: set[Key] = field(default_factory=set)
    """Who was told that it may start, and has not asked since."""
    _invited_for: Mapping[Key, str | None] | None = None
    """What ran when that was found out last; None: something else has changed since."""

    def keeps_waiting(self, one: Waiting[Key], running: Mapping[Key, str | None]) -> Hold | None:
        """Say why a job may not start now; changes nothing."""
        if one.key in self._starting and self._starting[one.key] == one.group:
            return None
        return keeps_waiting(one, self._line, self._taken(running), self.limit)

    def asks(self, one: Waiting[Key], running: Mapping[Key, str | None]) -> None:
        """Take note that a job wants to start, just after `keeps_waiting()` was asked: it starts, or waits."""
        is_refused = self.keeps_waiting(one, running) is not None
        self._invited.discard(one.key)
        if is_refused and self._places.get(one.key) == one:
            return
        self.leaves(one.key)
        if is_refused:
            self._wait(one)
        else:
            self._starting[one.key] = one.group

    def expects(self, one: Waiting[Key]) -> None:
        """A job seems to be about to ask: nobody with a newer slot goes before it meanwhile."""
        self.leaves(one.key)
        self._wait(one)

    def leaves(self, key: Key) -> None:
        """A job does not wait any more, and is not about to start."""
        self.has_started(key)
        self._invited.discard(key)
        place = self._places.pop(key, None)
        if place is not None:
            self._invited_for = None
            del self._line[bisect.bisect_left(self._line, place)]

    def has_started(self, key: Key) -> None:
        """From here on only what exists tells whether the job runs."""
        if key in self._starting:
            del self._starting[key]
            self._invited_for = None

    def waits(self, key: Key) -> Waiting[Key] | None:
        """Return a job's place in the line."""
        return self._places.get(key)

    def invite(self, running: Mapping[Key, str | None]) -> set[Key]:
        """Return who may start now, each once until it asks or leaves: it must be woken.

        `running` has to be another mapping where something of it has changed.
        """
        if running is self._invited_for:
            return set()
        self._invited_for = running
        free = set(may_start(self._line, self._taken(running), self.limit))
        new = free - self._invited
        self._invited |= new
        return new

    def is_empty(self) -> bool:
        """Nobody waits or is about to start."""
        return not (self._line or self._starting)

    def _wait(self, one: Waiting[Key]) -> None:
        self._places[one.key] = one
        bisect.insort(self._line, one)

    def _taken(self, running: Mapping[Key, str | None]) -> Mapping[Key, str | None]:
        return {**running, **self._starting} if self._starting else running
