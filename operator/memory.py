"""What the operator keeps in mind of a resource beside what exists.

Losing it in a restart changes nothing: it saves asking again, and no decision is right only because of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from crontabber_operator.batches import Progress
from crontabber_operator.observed import Desired, Evidence, Run, Unavailable
from crontabber_operator.pod_starts import CannotStart, look_at

FIRST_LOOK = timedelta(seconds=1)
LONGEST_LOOK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the pods of a Job told."""

    ending: tuple[int, bool]
    """What it was asked at: asked again when this has changed."""
    evidence: Evidence
    outdated_pods: tuple[tuple[str, str], ...]
    """Name and uid of the failed pods but the newest: deleted when they are in the books."""


@dataclass(frozen=True, slots=True)
class PutOff:
    """What needs no hurry, and it was others' turn."""

    since: datetime
    """When it was put off first."""
    until: datetime

    @classmethod
    def again(cls, former: PutOff | None, now: datetime, spread: float) -> Self:
        """Put it off, the first time or again: for a moment at first, longer where it is late already."""
        since = former.since if former is not None else now
        return cls(since, now + spread * _spaced((now - since) / 2))


@dataclass(frozen=True, slots=True)
class Start:
    """A run that was released and doesn't run yet."""

    attempt: tuple[str, int]
    """The claim's uid and attempt."""
    since: datetime
    looked_at: datetime | None = None
    """When its pods were read."""
    found: CannotStart | None = None
    put_off: PutOff | None = None

    @property
    def look_at(self) -> datetime:
        """When its pods are to be read, the first time or again."""
        due = look_at(self.since, self.looked_at)
        return due if self.put_off is None else max(due, self.put_off.until)


PROGRESS_EVERY = timedelta(seconds=2)
"""So often the output of a batch is read, to see how far it has come."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of many slots that goes on."""

    uid: str
    looked_at: datetime
    lines: int
    """So many lines from the end of its output were read; more next time, where no marker was among them."""
    pod: tuple[str, str, str] | None = None
    """Name, container and nonce, once there is one."""
    progress: Progress = field(default_factory=lambda: Progress(None))

    @property
    def look_at(self) -> datetime:
        """When its output is to be read again."""
        return self.looked_at + PROGRESS_EVERY


@dataclass(frozen=True, slots=True)
class NoBatch:
    """Why missed slots can't share a Job, though the spec asks for it."""

    message: str
    until: datetime
    """Then it is tried again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A plan that the API server refused, told until it is tried again."""

    hash: str
    told: Unavailable
    count: int
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """The pods that had not ended although their Jobs are gone, when they were looked for."""

    pods: tuple[str, ...]
    since: datetime
    """When the first of them was found."""
    looked_at: datetime

    @property
    def look_at(self) -> datetime:
        """When they are to be looked for again: soon at first, then ever less often."""
        return self.looked_at + _spaced((self.looked_at - self.since) / 4)


@dataclass(slots=True)
class Memory:
    """What is kept in mind of one resource."""

    failures: int = 0
    looked_at: int = -1
    """How many changes of it (`Store.changes`) there had been when it was last looked at."""
    rests_until: float = 0.0
    """After an error that nobody expects: not before this time of the event loop."""
    unread: bool = False
    """Something that a watch showed could not be taken."""
    gone: set[str] = field(default_factory=set)
    absent: str | None = None
    """The name of a Job that was looked for in vain."""
    read_for: tuple[str, str] | None = None
    """The id and name of the command for which all that runs was read anew."""
    replaced: set[str] = field(default_factory=set)
    taken_names: set[str] = field(default_factory=set)
    inspected: dict[str, Inspected] = field(default_factory=dict)
    """By the Job's uid."""
    unread_logs: int = 0
    """How often in a row the log of a failed pod could not be read."""
    refusal: Refusal | None = None
    verified: str = ""
    """The CronJob's resourceVersion after the last repair that changed nothing."""
    desired: tuple[tuple[int, str], Desired | Unavailable] | None = None
    checked_at: datetime | None = None
    running: frozenset[str] = frozenset()
    """The uids of the runs that went on when it was last looked."""
    left_behind: LeftBehind | None = None
    """None: nobody has looked since the start, or since a run vanished in the middle."""
    unsure_since: float = field(default_factory=time.monotonic)
    """When that was, by the monotonic clock."""
    start: Start | None = None
    """Of the claimed run, while it starts."""
    put_off: PutOff | None = None
    """Telling a status that only counts more slots than the one that is written."""
    batch: Batch | None = None
    """Of the claimed run, where it covers many slots."""
    no_batch: NoBatch | None = None
    told_of_batch: set[str] = field(default_factory=set)
    """What was told of batches already."""

    def forget_pods(self) -> None:
        """A run has vanished, in the middle perhaps: it is not known any more which pods are left."""
        self.left_behind = None
        self.unsure_since = time.monotonic()


def ending(run: Run) -> tuple[int, bool]:
    """What evidence about a run depends on."""
    return run.failed_pods, run.finished is not None


def _spaced(waited: timedelta) -> timedelta:
    """Return how long to wait until the next look: soon at first, then ever less often."""
    return min(max(waited, FIRST_LOOK), LONGEST_LOOK)
