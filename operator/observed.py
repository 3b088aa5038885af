"""What exists, as frozen values: the input of `decide()`.

The shell fills these from the API's objects (projection.py); the core reads nothing else. They hold only
what a decision needs, because the operator keeps one `Run` for each Job of ten thousand resources.
This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from crontabber_operator.models import Result, Spec, Status
from crontabber_operator.schedule import Slots

SECOND = timedelta(seconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + SECOND
SKEW_MAX = timedelta(minutes=5)
"""No clocks are believed to be further apart: what proves more is a forgery or a mistake."""


class RunKind(StrEnum):
    """Who made the Job."""

    NATIVE = "native"
    """The CronJob controller, for its slot."""
    ONE_OFF = "one-off"
    """The operator, for a missed slot or a further attempt."""
    MANUAL = "manual"
    """A person (`run-now`, `kubectl create job --from`): outside the bookkeeping."""


@dataclass(frozen=True, slots=True)
class Run:
    """One Job of the resource."""

    name: str
    uid: str
    resource_version: str
    kind: RunKind
    slot: datetime
    through: datetime
    """The last of the consecutive slots that this Job covers; `slot` for all but batches."""
    attempt: int
    """0 while a native Job was not released: its number is given at the release."""
    template_hash: str
    created: datetime
    suspended: bool
    released: bool
    """It was released at some time, by the operator or by hand; such a Job is never touched again."""
    by_hand: bool = False
    """A person, or Kueue, released it before the operator did: its command was told neither slot nor last success."""
    claimed: datetime | None = None
    """When it had been claimed, as its release says; None: by hand, or by an operator that did not say it yet."""
    started: datetime | None = None
    finished: datetime | None = None
    succeeded: bool = False
    reason: str = ""
    """Why the Job as a whole failed, as the Job controller put it."""
    failed_pods: int = 0
    active: bool = False
    """A pod of it exists that has not ended."""
    ready: bool = False
    """A pod of it runs."""
    told: int = 0
    """Of a run made by hand: so many of its failures were told."""
    output_told: str = ""
    """How far its output was told when an operator ended, as that wrote it."""
    deleting: bool = False
    queue: str = ""
    """The queue of Kueue that it is in: Kueue, and nobody else, starts it and may stop it again."""

    @property
    def unfinished(self) -> bool:
        """It may still run, or does."""
        return self.finished is None

    @property
    def failed(self) -> bool:
        """It ended without success."""
        return self.finished is not None and not self.succeeded

    @property
    def running(self) -> bool:
        """It was released and has not ended; also where someone suspended it again."""
        return self.released and self.unfinished

    @property
    def is_starting(self) -> bool:
        """It was released, and no pod of it runs yet (or any more), as far as the Job shows."""
        return self.running and not self.ready and not self.deleting

    @property
    def failures(self) -> int:
        """How many attempts of it failed; one that failed as a whole may have left no pod."""
        return max(self.failed_pods, int(self.failed))

    @property
    def is_untold(self) -> bool:
        """It was made by hand, so no books hold its failures, and one of them was not told yet."""
        return self.kind is RunKind.MANUAL and self.failures > self.told and not self.deleting

    @property
    def waiting(self) -> bool:
        """It was never released and could be."""
        return self.kind is not RunKind.MANUAL and self.unfinished and not self.released and not self.deleting

    @property
    def between_attempts(self) -> bool:
        """Its attempts failed so far, none goes on, and Kubernetes by itself will make another.

        So only a plain job's run: what the operator released (and gave an attempt) is never retried.
        """
        return (
            self.kind is RunKind.NATIVE
            and self.running
            and not self.attempt
            and self.failed_pods > 0
            and not self.active
            and not self.deleting
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended, as its pod tells."""

    result: Result
    type: str
    value: str
    traceback: str
    started: datetime | None
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the pods of one Job tell; gathered only when `decide()` asks for it."""

    failures: tuple[Attempt, ...] = ()
    """The failed attempts that can still be seen, oldest first."""
    good_started: datetime | None = None
    """When the attempt that succeeded was started."""
    last_good_slot: datetime | None = None
    """Of a batch that stopped: the last slot that succeeded."""


@dataclass(frozen=True, slots=True)
class CronJobSeen:
    """The CronJob of the resource's name."""

    uid: str
    resource_version: str
    ours: bool
    """It was made for this very resource."""
    created: datetime
    hash: str
    """The hash that the operator wrote when it last applied it; empty: never."""
    template_hash: str
    drifted: bool
    """Somebody else wrote into its spec since."""
    slots: Slots | None
    """None where its schedule can't be read (then somebody else wrote it)."""
    schedule: str
    """Schedule and time zone as the controller reads them."""
    suspended: bool
    last_schedule: datetime | None
    last_successful: datetime | None
    written: datetime | None = None
    """When the operator last made, replaced, suspended or resumed it, or moved what it fired last."""
    active: bool = False
    """The controller knows of a Job of it that has not ended."""
    starts_runs: bool = False
    """Its Jobs start by themselves: it is that of a plain job (still)."""
    former: bool = False
    """It was made for a resource of this name that is gone."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The CronJob that the resource asks for, reduced to what a decision compares."""

    hash: str
    template_hash: str
    schedule: str
    """As `CronJobSeen.schedule`."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why no CronJob can be made or changed just now; what exists goes on."""

    reason: str
    """CamelCase, the reason of `Ready=False`."""
    message: str
    stalled: bool = False
    """A person must change the spec."""


@dataclass(frozen=True, slots=True)
class Job:
    """The CrontabberJob itself; a Kubernetes Job is a `Run` here."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created: datetime
    spec: Spec
    status: Status
    is_commanded: bool = False
    """A mark-success or reset is still to be done: which of its slots are due is not known before."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a slot that is due does not start just now."""

    reason: str
    """CamelCase, the reason of `CaughtUp=False`."""
    message: str
    """The rest of a sentence: "1 slot is due; …"."""
    is_turn: bool = False
    """Only other runs of the namespace are in its way: it waits for its turn among them."""


def _may_start(_slot: datetime) -> Hold | None:
    return None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything else that a decision depends on."""

    runs: tuple[Run, ...] = ()
    cronjob: CronJobSeen | None = None
    desired: Desired | Unavailable = field(default_factory=lambda: Unavailable("Unknown", ""))
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """By the Job's uid."""
    gone: frozenset[str] = frozenset()
    """Uids of Jobs of which the API server itself said that they don't exist."""
    absent: str | None = None
    """The name of a Job that was looked for: the API server itself has none of this resource's."""
    replaced: frozenset[str] = frozenset()
    """Uids of Jobs that the operator deleted to have their slot run anew: not lost."""
    cannot_start: Mapping[str, str] = field(default_factory=dict)
    """Why the pod of a run that was released can't start, in a line; by the Job's uid."""
    taken_names: frozenset[str] = frozenset()
    """Names that a Job of somebody else has."""
    progress: Mapping[str, datetime] = field(default_factory=dict)
    """Of batches that go on: the last slot that succeeded so far, by the Job's uid."""
    left_behind: tuple[str, ...] | None = ()
    """The pods that have not ended although their Jobs are gone; None: that is not known yet."""
    can_batch: bool = False
    """The runner that takes many slots in one Job is at hand (and the template can carry it)."""
    hold: Callable[[datetime], Hold | None] = _may_start
    """Why a slot may not start just now for other jobs (dependencies, a group, a limit), or None. Only answers."""
    problem: Unavailable | None = None
    """What is wrong with the jobs that this one depends on, and no waiting mends."""


def latest_proof(seen: Observed, now: datetime) -> datetime:
    """Return the later of the operator's clock and what exists.

    What the API server stamped is past; a slot that the CronJob controller fired is due.
    """
    stamps = [now, *(run.created for run in seen.runs)]
    fired = [run.slot for run in seen.runs if run.kind is RunKind.NATIVE]
    if seen.cronjob is not None:
        stamps.append(seen.cronjob.created)
        if seen.cronjob.last_schedule is not None:
            fired.append(seen.cronjob.last_schedule)
    latest = max(stamps)
    return (
        max(latest, *(slot if slot - latest <= SKEW_MAX else latest for slot in fired)) if fired else latest
    )


@dataclass(frozen=True, slots=True)
class View:
    """All that one decision is made from."""

    job: Job
    seen: Observed
    now: datetime
    """The later of the clock and what exists proves."""
    of: str
    """What a run runs, generation and template: attempts count against the retries only until it changes."""
    newest: datetime | None
    """The newest slot that is due."""
    upcoming: datetime | None
    """The first slot that is not due yet."""

    @classmethod
    def of_job(cls, job: Job, seen: Observed, clock: datetime) -> Self:
        """Look at a job; `clock` is the operator's (aware)."""
        now = latest_proof(seen, clock)
        slots = job.spec.slots
        return cls(job, seen, now, _running_what(job, seen), slots.newest_until(now), slots.next_after(now))

    def before_newest(self) -> Self:
        """Return what was to be seen just before the newest slot fell due."""
        if self.newest is None:
            return self
        before = self.newest - SECOND
        return replace(
            self, now=before, newest=self.job.spec.slots.newest_until(before), upcoming=self.newest
        )

    @property
    def spec(self) -> Spec:
        """The job's spec."""
        return self.job.spec

    @property
    def desired(self) -> Desired | None:
        """The CronJob that the spec asks for; None while that can't be told."""
        return self.seen.desired if isinstance(self.seen.desired, Desired) else None

    @property
    def waiting(self) -> list[Run]:
        """The runs that were never released and could be."""
        return [run for run in self.seen.runs if run.waiting]

    def run(self, uid: str) -> Run | None:
        """Return the run with this uid, if it is seen."""
        return next((run for run in self.seen.runs if run.uid == uid), None)

    def is_outdated(self, run: Run) -> bool:
        """Tell whether a run has another template than the job has now."""
        return self.desired is not None and run.template_hash != self.desired.template_hash

    def is_slot(self, time: datetime) -> bool:
        """Tell whether the schedule, as it is now, has this slot."""
        slots = self.spec.slots
        if time < _EARLIEST:
            return False
        # Around an unusual clock change it depends on where one starts which slots there are.
        return slots.newest_until(time) == time or slots.next_after(time - SECOND) == time


def _running_what(job: Job, seen: Observed) -> str:
    known = job.status.retry.of if job.status.retry is not None else ""
    if isinstance(seen.desired, Desired):
        template = seen.desired.template_hash
    elif known.startswith(f"{job.generation}/"):
        return known  # what is unknown just now did not change
    else:
        template = seen.cronjob.template_hash if seen.cronjob is not None else ""
    return f"{job.generation}/{template}"
