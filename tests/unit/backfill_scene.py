"""A job and what exists of it, for tables of (time, what exists, what is expected). No cluster, no clock.

Times are written as texts: `10:00` and `10:00:05.5` are on Wednesday 2026-06-03 UTC, `2T10:00` the day before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from crontabber_operator.backfill import decide
from crontabber_operator.decision import Decision
from crontabber_operator.models import Ongoing, Result, Spec, Status
from crontabber_operator.observed import (
    Attempt,
    CronJobSeen,
    Desired,
    Evidence,
    Hold,
    Job,
    Observed,
    Run,
    RunKind,
    Unavailable,
)

NAME = "job"
TEMPLATE = "template-1"
CRONJOB_HASH = "cronjob-1"


def at(text: str) -> datetime:
    """Read a time of the day all tests are about."""
    day, _, clock = text.rpartition("T")
    return datetime.combine(date(2026, 6, int(day or 3)), time.fromisoformat(clock), UTC)


def clock(moment: datetime | None) -> str | None:
    """Write a time as `at` reads it."""
    if moment is None:
        return None
    day = "" if moment.day == 3 else f"{moment.day}T"
    return day + moment.strftime("%H:%M:%S" if moment.second else "%H:%M")


def failure(finished: str, kind: str = "ValueError", result: Result = Result.FAILED) -> Attempt:
    """A pod that failed."""
    return Attempt(result, kind, "no", "Traceback …", at(finished) - timedelta(seconds=3), at(finished))


class Scene:
    """A job made at 09:30, and everything of it."""

    def __init__(self, *, created: str = "09:30", fired: str | None = None, **fields: Any) -> None:
        self.spec = Spec.read({"command": "work", **fields}, name=NAME)
        self.created = at(created)
        self.generation = 1
        self.status = Status()
        self.runs: dict[str, Run] = {}
        self.desired: Desired | Unavailable = Desired(CRONJOB_HASH, TEMPLATE, "schedule-1")
        self.cronjob: CronJobSeen | None = CronJobSeen(
            uid="cronjob",
            resource_version="1",
            ours=True,
            created=self.created,
            hash=CRONJOB_HASH,
            template_hash=TEMPLATE,
            drifted=False,
            slots=self.spec.slots,
            schedule="schedule-1",
            suspended=self.spec.suspend,
            last_schedule=at(fired) if fired else None,
            last_successful=None,
            starts_runs=self.spec.is_plain,
        )
        self.evidence: dict[str, Evidence] = {}
        self.gone: set[str] = set()
        self.absent: str | None = None
        self.replaced: set[str] = set()
        self.taken_names: set[str] = set()
        self.cannot_start: dict[str, str] = {}
        self.left_behind: tuple[str, ...] | None = ()
        self.can_batch = False
        self.progress: dict[str, datetime] = {}
        self.hold: Callable[[datetime], Hold | None] = lambda _slot: None
        self.problem: Unavailable | None = None
        self._uids = (f"uid-{number}" for number in itertools.count(1))

    # --- What exists ---------------------------------------------------------------------------------------

    @property
    def job(self) -> Job:
        """The job as `decide()` gets it."""
        return Job("space", NAME, "owner", "1", self.generation, self.created, self.spec, self.status)

    @property
    def seen(self) -> Observed:
        """What exists as `decide()` gets it."""
        return Observed(
            runs=tuple(self.runs.values()),
            cronjob=self.cronjob,
            desired=self.desired,
            evidence=self.evidence,
            gone=frozenset(self.gone),
            absent=self.absent,
            replaced=frozenset(self.replaced),
            taken_names=frozenset(self.taken_names),
            cannot_start=dict(self.cannot_start),
            left_behind=self.left_behind,
            can_batch=self.can_batch,
            progress=self.progress,
            hold=self.hold,
            problem=self.problem,
        )

    def edit(self, **fields: Any) -> None:
        """Change the spec (its next generation); None removes a field."""
        raw = {"command": self.spec.command}
        for name in ("frequency", "schedule", "backfill", "suspend"):
            value = getattr(self.spec, name)
            if value:
                raw[name] = value
        raw.update(fields)
        self.spec = Spec.read({key: value for key, value in raw.items() if value is not None}, name=NAME)
        self.generation += 1

    def change_cronjob(self, **changes: Any) -> None:
        """Change what the CronJob looks like."""
        assert self.cronjob is not None
        self.cronjob = replace(self.cronjob, **changes)

    def rollout(self, template: str = "template-2") -> None:
        """Give the job a new template; its CronJob has the old one still."""
        assert isinstance(self.desired, Desired)
        self.desired = replace(self.desired, hash=f"cronjob of {template}", template_hash=template)

    def applied(self) -> None:
        """The CronJob was brought to what the spec asks for."""
        assert isinstance(self.desired, Desired)
        self.change_cronjob(
            hash=self.desired.hash,
            template_hash=self.desired.template_hash,
            schedule=self.desired.schedule,
            slots=self.spec.slots,
            suspended=self.spec.suspend,
            drifted=False,
            starts_runs=self.spec.is_plain,
        )

    def native(self, slot: str, **changes: Any) -> Run:
        """The CronJob controller made the Job of a slot (suspended, unless the job is plain)."""
        gated = self.spec.is_gated
        minutes = int(at(slot).timestamp()) // 60
        run = self._run(
            RunKind.NATIVE, f"{NAME}-{minutes}", slot, 0, changes, suspended=gated, released=not gated
        )
        if self.cronjob is not None and (self.cronjob.last_schedule or self.created) < at(slot):
            self.change_cronjob(last_schedule=at(slot))
        return run

    def one_off(self, slot: str, attempt: int = 1, **changes: Any) -> Run:
        """The operator made a one-off."""
        minutes = int(at(slot).timestamp()) // 60
        return self._run(RunKind.ONE_OFF, f"{NAME}-{minutes}-{attempt}", slot, attempt, changes)

    def manual(self, created: str, **changes: Any) -> Run:
        """A person made a Job from the CronJob."""
        return self._run(RunKind.MANUAL, f"by-hand-{len(self.runs)}", created, 0, changes)

    def _run(
        self,
        kind: RunKind,
        name: str,
        slot: str,
        attempt: int,
        changes: dict[str, Any],
        *,
        suspended: bool = True,
        released: bool = False,
    ) -> Run:
        run = Run(
            name=name,
            uid=next(self._uids),
            resource_version="1",
            kind=kind,
            slot=at(slot),
            through=at(slot),
            attempt=attempt,
            template_hash=TEMPLATE,
            created=at(slot),
            suspended=suspended,
            released=released,
            started=at(slot) if released else None,
        )
        return self._put(replace(run, **_read_times(changes)))

    def _put(self, run: Run) -> Run:
        self.runs[run.uid] = run
        return run

    def change(self, run: Run, **changes: Any) -> Run:
        """Something happened to a run."""
        return self._put(replace(self.runs[run.uid], **_read_times(changes)))

    def remove(self, run: Run, *, by_operator: bool = False) -> None:
        """A run is gone, and the API server said so."""
        del self.runs[run.uid]
        self.gone.add(run.uid)
        if by_operator:
            self.replaced.add(run.uid)

    def claimed(self, run: Run, attempt: int = 1, *, released: str | None = None) -> Run:
        """The run was claimed and, where a time is given, released then."""
        self.status = replace(
            self.status,
            ongoing=Ongoing(
                slot=run.slot,
                through=run.through,
                job=run.name,
                uid=run.uid,
                attempt=attempt,
                since=run.slot,
            ),
        )
        if released is None:
            return run
        return self.change(
            run, suspended=False, released=True, claimed=run.slot, started=released, attempt=attempt
        )

    def succeeded(self, run: Run, finished: str) -> Run:
        """The run ended well."""
        return self.change(run, finished=finished, succeeded=True, active=False)

    def failed(self, run: Run, finished: str, *attempts: Attempt) -> Run:
        """The run failed for good."""
        self.evidence[run.uid] = Evidence(failures=attempts or (failure(finished),))
        return self.change(
            run, finished=finished, failed_pods=len(self.evidence[run.uid].failures), active=False
        )

    # --- What is decided -----------------------------------------------------------------------------------

    def decide(self, now: str) -> Decision:
        """Decide, and change nothing."""
        return decide(self.job, self.seen, at(now))

    def take(self, now: str) -> Decision:
        """Decide, and write the status."""
        decision = self.decide(now)
        if decision.status is not None:
            self.status = Status.read(decision.status.write())
            assert self.status == decision.status
        return decision

    def rest(self, now: str) -> Decision:
        """Write statuses until none is left to write: what is told at this time."""
        for _ in range(5):
            decision = self.take(now)
            self.absent = decision.look_for_job or self.absent
            if decision.status is None and decision.look_for_job is None:
                return self.decide(now)
        raise AssertionError("the status never comes to rest")

    def told(self, now: str) -> Status:
        """Return the status at rest."""
        self.rest(now)
        return self.status


def slots(runs: Iterable[Any]) -> list[str | None]:
    """Name runs, new runs or releases by their slot."""
    return [clock(run.slot) for run in runs]


def _read_times(changes: dict[str, Any]) -> dict[str, Any]:
    times = ("slot", "through", "created", "claimed", "started", "finished")
    return {
        name: at(value) if name in times and isinstance(value, str) else value
        for name, value in changes.items()
    }
