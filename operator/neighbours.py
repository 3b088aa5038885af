"""What a job has to do with the others of its namespace: whom it waits for, and who waits for it.

The shell around dependencies.py and admission.py. All that they judge by is read from the store, so a restart
changes nothing. Nothing is asked of the API server here, and nothing is started or woken: whom a change
concerns is returned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from crontabber_operator import bookkeeping, dependencies
from crontabber_operator.admission import Admission, Waiting
from crontabber_operator.decision import Decision
from crontabber_operator.dependencies import Dependents
from crontabber_operator.models import InvalidSpec, LastError, Spec
from crontabber_operator.observed import Hold, Job, Observed, Unavailable, View
from crontabber_operator.store import Key, Resource, Store


class JobsOfNamespace(Mapping[str, Job]):
    """The CrontabberJobs of a namespace that could run, by name; read from the store when asked for."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace

    def __getitem__(self, name: str) -> Job:
        resource = self._store.resource(Key(self._namespace, name))
        if resource is None or resource.deleting or isinstance(resource.spec, InvalidSpec):
            raise KeyError(name)
        return resource.job()

    def __iter__(self) -> Iterator[str]:
        keys = self._store.keys()
        return (key.name for key in keys if key.namespace == self._namespace and key.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Told:
    """What of a job concerns those that depend on it."""

    generation: int
    cursor: datetime | None
    failing: LastError | None
    needs: tuple[str, ...]
    is_commanded: bool


class Neighbours:
    """Knows who waits for whom."""

    def __init__(self, store: Store, limit: int | None, clock: Callable[[], datetime]) -> None:
        """`limit`: so many runs of a namespace go on at a time (None: any number)."""
        self._store = store
        self._limit = limit
        self._clock = clock
        self._dependents: Dependents[Key] = Dependents()
        self._lines: dict[str, Admission[Key]] = {}
        self._told: dict[Key, _Told | None] = {}
        """Of jobs that others depend on; None: there is none that can run."""
        self._is_started = False

    # --- Before a decision -------------------------------------------------------------------------------

    def begins(self, key: Key) -> None:
        """A pass of this job begins: from here on it has to be told of what it depends on."""
        if not self._is_started:
            self._is_started = True
            self._fill_lines()
        needs = [Key(key.namespace, name) for name in _needs(self._store.resource(key))]
        self._dependents.put(key, needs)
        for need in needs:
            if need not in self._told:
                self._told[need] = _told(self._store.resource(need))

    def look(self, job: Job, seen: Observed) -> Observed:
        """Return what exists together with what the neighbours allow."""
        problem = self.problem(job)
        return replace(seen, hold=self.hold(job, problem), problem=problem)

    def problem(self, job: Job) -> Unavailable | None:
        """Find what is wrong with the jobs that this one depends on."""
        if not job.spec.depends_on:
            return None
        return dependencies.problem(job, JobsOfNamespace(self._store, job.namespace))

    def hold(self, job: Job, problem: Unavailable | None) -> Callable[[datetime], Hold | None]:
        """Return what says why a slot of this job may not start; it only answers."""

        def why(slot: datetime) -> Hold | None:
            others = JobsOfNamespace(self._store, job.namespace)
            return dependencies.hold(job, slot, others, problem) or self._turn(job, slot)

        return why

    def _turn(self, job: Job, slot: datetime) -> Hold | None:
        if not self._takes_turns(job.spec):
            return None
        return self._line(job.namespace).keeps_waiting(
            _waiting(job, slot), self._store.occupied(job.namespace)
        )

    def _takes_turns(self, spec: Spec) -> bool:
        return spec.is_gated and (self._limit is not None or spec.concurrency_group is not None)

    # --- After it ----------------------------------------------------------------------------------------

    def decided(self, job: Job, decision: Decision) -> None:
        """Take note of a decision before anything else is decided: whom it lets start has its place from now on."""
        key = Key(job.namespace, job.name)
        if decision.turn is not None and self._takes_turns(job.spec):
            line, running = self._line(job.namespace), self._store.occupied(job.namespace)
            line.asks(_waiting(job, decision.turn), running)
        elif job.namespace in self._lines:
            self._lines[job.namespace].leaves(key)

    def rests(self, key: Key, *, failed: bool = False) -> set[Key]:
        """A pass of this job is over; return whom to wake because of what changed.

        `failed`: it did not get as far as it wanted, and keeps nobody waiting meanwhile.
        """
        return (self._tell_dependents(key) | self._tell_line(key, failed=failed)) - {key}

    def _tell_dependents(self, key: Key) -> set[Key]:
        resource = self._store.resource(key)
        if resource is None:
            self._dependents.put(key, ())
        if not self._dependents.of(key):
            self._told.pop(key, None)
            return set()
        before, after = self._told.get(key), _told(resource)
        if before == after:
            return set()
        self._told[key] = after
        if before is None or after is None or before.needs != after.needs:
            return set(self._dependents.behind(key))
        return set(self._dependents.of(key))

    def _tell_line(self, key: Key, *, failed: bool) -> set[Key]:
        line = self._lines.get(key.namespace)
        if line is None:
            return set()
        line.has_started(key)
        resource = self._store.resource(key)
        if failed or resource is None or resource.deleting or isinstance(resource.spec, InvalidSpec):
            line.leaves(key)
        running = self._store.occupied(key.namespace)
        woken = line.invite(running)
        if line.is_empty() and not running:
            del self._lines[key.namespace]
        return woken

    # --- The line of a namespace -------------------------------------------------------------------------

    def _line(self, namespace: str) -> Admission[Key]:
        return self._lines.setdefault(namespace, Admission(self._limit))

    def _fill_lines(self) -> None:
        """Have all wait that seem to: after a start the first to ask must not go before those with an older slot.

        Each is looked at in its own pass soon, and leaves the line where it can't start. So this is done
        before the first pass of all, and never again.
        """
        now, keys = self._clock(), self._store.keys()
        for key in keys:
            resource = self._store.resource(key)
            if resource is None or resource.deleting or isinstance(resource.spec, InvalidSpec):
                continue
            if resource.spec.suspend or not self._takes_turns(resource.spec):
                continue
            if key in self._store.occupied(key.namespace):
                continue
            job = resource.job()
            try:
                due = bookkeeping.head(View.of_job(job, Observed(), now), job.status)
            except Exception as error:  # noqa: BLE001 - its own pass will tell it in full
                logger.info("%s/%s: what is due can't be told: %s", key.namespace, key.name, error)
                continue
            if due is not None:
                self._line(key.namespace).expects(_waiting(job, due))


def _waiting(job: Job, slot: datetime) -> Waiting[Key]:
    return Waiting(slot, Key(job.namespace, job.name), job.spec.concurrency_group)


def _needs(resource: Resource | None) -> tuple[str, ...]:
    if resource is None or isinstance(resource.spec, InvalidSpec):
        return ()
    return dependencies.names(resource.spec)


def _told(resource: Resource | None) -> _Told | None:
    if resource is None or resource.deleting or isinstance(resource.spec, InvalidSpec):
        return None
    status = resource.status
    return _Told(
        generation=resource.generation,
        cursor=status.settled_through,
        failing=status.last_error if status.error_count else None,
        needs=_needs(resource),
        is_commanded=resource.is_commanded,
    )
