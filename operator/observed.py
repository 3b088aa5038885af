"""What exists, as frozen values: the input of `decide()`.

The shell fills these from the API's objects (projection.py); the core reads nothing else. They hold only
what a decision needs, because the operator keeps one `Run` for each Job of ten thousand resources.
This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from crontabber_operator.models import Result, Spec, Status
from crontabber_operator.schedule import Slots


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
    started: datetime | None = None
    finished: datetime | None = None
    succeeded: bool = False
    reason: str = ""
    """Why the Job as a whole failed, as the Job controller put it."""
    failed_pods: int = 0
    deleting: bool = False

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
    """The CrontabberJob itself. (A Kubernetes Job is a `Run` here.)"""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created: datetime
    spec: Spec
    status: Status


def _may_start(_slot: datetime) -> str | None:
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
    replaced: frozenset[str] = frozenset()
    """Uids of Jobs that the operator deleted to have their slot run anew: not lost."""
    taken_names: frozenset[str] = frozenset()
    """Names that a Job of somebody else has."""
    can_batch: bool = False
    """The runner that takes many slots in one Job is at hand (and the template can carry it)."""
    hold: Callable[[datetime], str | None] = _may_start
    """Why a slot may not start just now (dependencies, a concurrency group), or None."""
