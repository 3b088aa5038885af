"""What a decision consists of: the steps that `decide()` asks for and the shell carries out.

Values only. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crontabber_operator.models import Status
from crontabber_operator.observed import Run


@dataclass(frozen=True, slots=True)
class NewRun:
    """A one-off to be made, suspended."""

    slot: datetime
    through: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Release:
    """Start this run, with these values for its command."""

    run: Run
    slot: datetime
    attempt: int
    run_time: str
    last_success: str
    claimed: datetime | None = None
    """When the run was claimed; None: it was made by hand."""
    plan: str = ""
    """Of a batch: all of its slots, as its runner reads them (batches.py)."""


@dataclass(frozen=True, slots=True)
class ApplyCronJob:
    """Create the CronJob, or bring it to what the spec asks for."""

    only_suspend: bool = False
    """Its pod template isn't known just now; all that can be done is to set `suspend: true`."""


@dataclass(frozen=True, slots=True)
class MoveLastSchedule:
    """Set `lastScheduleTime`: up, so that nothing is invented; back, so that a slot fires again."""

    to: datetime
    delete_first: Run | None = None
    """The run of the slot that is to fire again; it has the name that the new one needs."""
    fires: datetime | None = None
    """The slot that is to fire again. Where another run of it exists, seen or not, nothing is moved."""


@dataclass(frozen=True, slots=True)
class RemoveFormer:
    """Remove the CronJob that a deleted resource of the same name left.

    The garbage collector does that too, mostly at once; after an outage of the API server it can miss it for ever.
    """


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, in this order; `wake_at` is when time alone may change the decision."""

    inspect: tuple[Run, ...] = ()
    """Tell more about these first (did it vanish? how did its pods end?), then decide again."""
    confirm_gone: str | None = None
    """Ask the API server whether the claimed Job with this uid is really gone, then decide again."""
    look_for_job: str | None = None
    """Ask the API server whether it has a Job of this name, which no watch has shown, then decide again."""
    look_for_pods: bool = False
    """Ask the API server for pods that are left of Jobs that are gone, then decide again."""
    discard: tuple[Run, ...] = ()
    """Not needed any more: never released, or retried by Kubernetes for a slot that is settled."""
    create: tuple[NewRun, ...] = ()
    status: Status | None = None
    """None: the status is right as it is."""
    release: tuple[Release, ...] = ()
    cronjob: ApplyCronJob | MoveLastSchedule | RemoveFormer | None = None
    tell: tuple[Run, ...] = ()
    """Made by hand and failed: the books don't tell it, so it is told by itself."""
    prune: tuple[Run, ...] = ()
    """Finished and recorded, beyond the history limits."""
    wake_at: datetime | None = None
    turn: datetime | None = None
    """The slot that has its turn, or waits for it: `seen.hold` was asked, and nothing but other runs holds it."""

    @property
    def asks(self) -> bool:
        """There are questions, and with their answers it is to be decided again."""
        names = (
            self.confirm_gone,
            self.look_for_job,
        )  # an empty one, of a status written by hand, is a question, too
        return bool(self.inspect) or self.look_for_pods or any(name is not None for name in names)


def next_of(now: datetime, *times: datetime | None) -> datetime | None:
    """Return the first of the times that are still to come."""
    return min((time for time in times if time is not None and time > now), default=None)
