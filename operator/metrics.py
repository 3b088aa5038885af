"""What Prometheus is told: counted from what the reconciler tells, read from the store when it is asked for.

What a job is in (missed, overdue, errors, times) comes from the store at the moment of the scrape, so it is right after
a restart. What happened is counted where it was written: two operators count nothing twice, and a
restart starts at 0, as Prometheus expects. A job that is gone is told no more. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib import metadata
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from crontabber_operator.cluster import ApiError
from crontabber_operator.exposition import Counts, JobSample, exposition
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.listening import Listener
from crontabber_operator.models import InvalidSpec, Status
from crontabber_operator.observed import Run
from crontabber_operator.store import Key, Resource, Store

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SLICE_JOBS: Final = 20
LATENCY_BUCKETS: Final = (0.5, 1, 2, 5, 10, 30, 60, 300, 900)
PASS_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)


class Metrics(Listener):
    """The metrics of one operator."""

    def __init__(self, store: Store, figures: KnownFigures, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._counts: dict[Key, Counts] = {}
        self._figures = figures
        self._failing: set[Key] = set()
        self._leads = False
        self._registry = registry = CollectorRegistry()
        # They double the series, for what Prometheus finds out by itself.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        info = Gauge(
            "crontabber_operator_info", "Always 1; the operator's version.", ["version"], registry=registry
        )
        info.labels(metadata.version("crontabber-operator")).set(1)
        self._latency = Histogram(
            "crontabber_release_latency_seconds",
            "From when a run that the operator starts could start until it did; to the second.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._passes = Histogram(
            "crontabber_reconcile_duration_seconds",
            "How long a look at a resource took, with all that was done, where it ended well.",
            buckets=PASS_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "crontabber_reconcile_errors",
            "Looks that ended with an error: the HTTP status, Unreachable, or Unexpected (a defect).",
            ["reason"],
            registry=registry,
        )
        for reason in ("Unreachable", "Unexpected"):
            self._errors.labels(reason)
        failing = Gauge(
            "crontabber_reconcile_failing_resources",
            "Resources whose last look ended with an error; it is tried again.",
            registry=registry,
        )
        failing.set_function(lambda: len(self._failing))
        leader = Gauge(
            "crontabber_operator_leader",
            "1 where this operator decides, and tells of jobs; 0 where it stands by.",
            registry=registry,
        )
        leader.set_function(lambda: int(self._leads))

    # --- What is heard -----------------------------------------------------------------------------------

    def leading(self, leads: bool) -> None:
        """Tell of jobs only where this operator decides: two must not tell of the same."""
        self._leads = leads
        if not leads:
            self._counts.clear()
            self._failing.clear()

    def passed(self, key: Key, seconds: float) -> None:
        """Count a look."""
        self._failing.discard(key)
        self._passes.observe(seconds)

    def failed(self, key: Key, error: Exception, delay_seconds: float) -> None:  # noqa: ARG002 - the listener's
        """Count an error."""
        self._failing.add(key)
        reason = "Unexpected"
        if isinstance(error, ApiError):
            reason = str(error.status) if error.status else "Unreachable"
        self._errors.labels(reason).inc()

    def released(self, resource: Resource, run: Run) -> None:
        """Measure how long a run waited for the operator."""
        waited = self._clock() - _could_start(resource, run)
        self._latency.observe(max(waited.total_seconds(), 0.0))

    def status_written(self, before: Resource, status: Status, runs: Sequence[Run]) -> None:  # noqa: ARG002
        """Count what ended and what was skipped."""
        self._counts_of(before).add(before.status, status)

    def forgotten(self, key: Key) -> None:
        """Tell no more of a resource."""
        self._counts.pop(key, None)
        self._failing.discard(key)

    # --- What is told ------------------------------------------------------------------------------------

    def text(self) -> Iterator[bytes]:
        """Write all metrics, in slices between which others may work; an empty one is only a pause."""
        now = self._clock()
        samples: list[JobSample] = []
        for number, key in enumerate(self._store.keys() if self._leads else (), start=1):
            resource = self._store.resource(key)
            if resource is not None:
                samples.append(
                    JobSample.of(resource, self._figures.of(resource, now), self._counts_of(resource))
                )
            if number % SLICE_JOBS == 0:
                yield b""
        for lines in exposition(samples, now):
            yield lines.encode()
        yield generate_latest(self._registry)

    def _counts_of(self, resource: Resource) -> Counts:
        key = Key.of(resource.owner)
        counts = self._counts.get(key)
        if counts is None or counts.uid != resource.owner.uid:
            counts = self._counts[key] = Counts(resource.owner.uid)
        return counts


def _could_start(resource: Resource, run: Run) -> datetime:
    """Return since when only the operator kept a run waiting, as far as the books and the Job show."""
    status, times = resource.status, [run.slot, run.created]
    if status.history and status.history[0].finished is not None:
        times.append(status.history[0].finished)
    if status.retry is not None and status.retry.not_before is not None:
        times.append(status.retry.not_before)
    spec = resource.spec
    takes_turns = not isinstance(spec, InvalidSpec) and (
        spec.depends_on or spec.concurrency_group is not None
    )
    if takes_turns and status.ongoing is not None and status.ongoing.since is not None:
        times.append(status.ongoing.since)  # before its claim it waited for other jobs
    return max(times)
