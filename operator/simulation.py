"""A job and its runs without a Kubernetes: what `decide()` asks for is done in memory, by its own rules.

It plays the API server, the CronJob controller and the Job controller for one CrontabberJob. `explain` runs
the slots of a real job through it to say what will happen; `run-local` lets it decide and starts the
commands itself. Pure but for its own state: time comes in, nothing is started here. This module must not
import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from crontabber_operator import commands
from crontabber_operator.backfill import decide
from crontabber_operator.decision import (
    ApplyCronJob,
    Decision,
    MoveLastSchedule,
    NewRun,
    Release,
    RemoveFormer,
)
from crontabber_operator.manifests import native_name
from crontabber_operator.models import Status
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
)

STEPS_MAX = 1000
"""More steps without a rest would be a fault of the core."""
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 10, 600
"""The Job controller's waits before it makes a failed pod anew."""

MayStart = Callable[[datetime], Hold | None]


@dataclass(frozen=True, slots=True)
class Start:
    """A command to be started: an attempt at a slot."""

    uid: str
    slot: datetime
    attempt: int
    run_time: str
    last_success: str
    extra_args: tuple[str, ...] = ()
    by_hand: bool = False
    """A run-now: outside the bookkeeping."""


@dataclass(slots=True)
class SimulatedJob:
    """A CrontabberJob with its CronJob and its Jobs."""

    job: Job
    desired: Desired
    runs: dict[str, Run] = field(default_factory=dict)
    cronjob: CronJobSeen | None = None
    evidence: dict[str, Evidence] = field(default_factory=dict)
    next_pod: dict[str, datetime] = field(default_factory=dict)
    """When the Job controller makes a plain run's next pod, by uid."""
    annotations: dict[str, str] = field(default_factory=dict)
    hold: MayStart = lambda _slot: None
    wake_at: datetime | None = None
    decision: Decision = field(default_factory=Decision)
    """The newest one, with nothing left to do."""
    _gone: set[str] = field(default_factory=set)
    _absent: str | None = None
    _replaced: set[str] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def status(self) -> Status:
        """The books."""
        return self.job.status

    def observed(self) -> Observed:
        """Return what exists, as `decide()` gets it."""
        return Observed(
            runs=tuple(self.runs.values()),
            cronjob=self.cronjob,
            desired=self.desired,
            evidence={uid: self.evidence.get(uid, Evidence()) for uid in self.runs},
            gone=frozenset(self._gone),
            absent=self._absent,
            replaced=frozenset(self._replaced),
            hold=self.hold,
        )

    def do_commands(self, now: datetime) -> list[Start]:
        """Do the commands that were given; return those of run-now."""
        started: list[Start] = []
        for _ in range(STEPS_MAX):
            step = commands.next_step(self.job, self.annotations, self.observed(), now)
            if step is None:
                break
            started += self._do_command(step, now)
        return started

    def advance(self, now: datetime) -> list[Start]:
        """Do all that is to be done at `now`; return the commands that start."""
        started = [*self._make_pods(now), *self.do_commands(now)]
        for _ in range(STEPS_MAX):
            started += self._fire(now)
            decision = decide(self.job, self.observed(), now)
            if not self._carry_out(decision, now, started):
                self.decision = decision
                break
        times = [self.decision.wake_at, *self.next_pod.values()]
        self.wake_at = min((time for time in times if time is not None), default=None)
        return started

    def end(self, uid: str, at: datetime, failure: Attempt | None) -> None:
        """The command of a run ended at `at`, well where there is no failure."""
        run = self.runs.get(uid)
        if run is None:
            return
        if failure is None:
            self.runs[uid] = replace(run, finished=at, succeeded=True, active=False)
            if run.kind is RunKind.NATIVE and self.cronjob is not None:
                self.cronjob = replace(self.cronjob, last_successful=at)
            return
        known = self.evidence.get(uid, Evidence())
        self.evidence[uid] = Evidence(failures=(*known.failures, failure))
        failed = replace(run, failed_pods=run.failed_pods + 1, active=False)
        limit = self.job.spec.retry_limit
        is_retried = run.kind is RunKind.NATIVE and not run.attempt
        if is_retried and (limit is None or failed.failed_pods <= limit):
            seconds = min(
                FIRST_BACKOFF_SECONDS * 2 ** min(failed.failed_pods - 1, 16), LONGEST_BACKOFF_SECONDS
            )
            self.next_pod[uid] = at + timedelta(seconds=seconds)
            self.runs[uid] = failed
        else:
            self.runs[uid] = replace(failed, finished=at, reason="BackoffLimitExceeded")

    def interrupt(self, uid: str, now: datetime) -> None:
        """The command of a run was stopped and says nothing about its slot, which is run again."""
        run = self.runs.get(uid)
        if run is not None and run.kind is RunKind.NATIVE and not run.attempt:
            self.runs[uid] = replace(run, active=False)
            self.next_pod[uid] = now
        elif run is not None:
            self._remove(uid)
            claim = self.status.ongoing
            if claim is not None and claim.uid == uid:
                # Now, and not with the next decision: whoever makes that may not know that it was on purpose.
                self.job = replace(self.job, status=replace(self.status, ongoing=None))

    # --- The controllers -------------------------------------------------------------------------------

    def _make_pods(self, now: datetime) -> list[Start]:
        """Be the Job controller: a plain run's failed pod is made anew after a while."""
        started = []
        for uid, at in list(self.next_pod.items()):
            run = self.runs.get(uid)
            if run is None or run.finished is not None:
                del self.next_pod[uid]
            elif at <= now:
                del self.next_pod[uid]
                self.runs[uid] = replace(run, active=True)
                started.append(Start(uid, run.slot, run.failed_pods + 1, "", ""))
        return started

    def _fire(self, now: datetime) -> list[Start]:
        """Be the CronJob controller: of the slots since it fired last, the newest one, unless a run goes on."""
        live, spec = self.cronjob, self.job.spec
        if live is None or live.suspended or live.slots is None:
            return []
        slot = live.slots.newest_until(now)
        if slot is None or slot <= (live.last_schedule or live.created):
            return []
        if any(run.unfinished for run in self.runs.values() if run.kind is not RunKind.ONE_OFF):
            return []
        self.cronjob = live = replace(live, last_schedule=slot)
        deadline = spec.starting_deadline_seconds
        if spec.is_plain and deadline is not None and slot < now - timedelta(seconds=deadline):
            return []
        name = native_name(self.job.name, slot)
        if any(run.name == name for run in self.runs.values()):
            return []
        run = self._add(name, RunKind.NATIVE, NewRun(slot, slot, 0), now, suspended=spec.is_gated)
        if spec.is_gated:
            return []
        return [Start(run.uid, slot, 1, "", "")]

    def _add(self, name: str, kind: RunKind, new: NewRun, now: datetime, *, suspended: bool) -> Run:
        whole = now.replace(microsecond=0)
        run = Run(
            name=name,
            uid=f"{name}-{int(now.timestamp() * 1000)}-{next(self._numbers)}",
            resource_version="1",
            kind=kind,
            slot=new.slot,
            through=new.through,
            attempt=new.attempt,
            template_hash=self.desired.template_hash,
            created=whole,
            suspended=suspended,
            released=not suspended,
            started=None if suspended else whole,
            active=not suspended,
        )
        self.runs[run.uid] = run
        return run

    # --- What is decided ---------------------------------------------------------------------------------

    def _carry_out(self, decision: Decision, now: datetime, started: list[Start]) -> bool:
        """Do a decision; True: something changed."""
        changed = False
        if decision.confirm_gone is not None:
            self._gone.add(decision.confirm_gone)
            return True
        if decision.look_for_job is not None:
            self._absent = decision.look_for_job
            return True
        for run in decision.discard:
            self._remove(run.uid)
            changed = True
        for new in decision.create:
            changed |= self._create(new, now)
        if decision.status is not None:
            self.job = replace(self.job, status=decision.status)
            changed = True
        for release in decision.release:
            started.append(self._release(release, now))
            changed = True
        if decision.cronjob is not None:
            self._do_cronjob(decision.cronjob, now)
            changed = True
        for run in decision.prune:
            self.runs.pop(run.uid, None)
            self.evidence.pop(run.uid, None)
        return changed

    def _create(self, new: NewRun, now: datetime) -> bool:
        name = f"{self.job.name}-{int(new.slot.timestamp()) // 60}-{new.attempt}"
        if any(run.name == name for run in self.runs.values()):
            return False
        self._add(name, RunKind.ONE_OFF, new, now, suspended=True)
        return True

    def _release(self, release: Release, now: datetime) -> Start:
        uid = release.run.uid
        self.runs[uid] = replace(
            self.runs[uid],
            suspended=False,
            released=True,
            active=True,
            attempt=release.attempt,
            claimed=release.claimed,
            started=now.replace(microsecond=0),
        )
        return Start(uid, release.slot, release.attempt, release.run_time, release.last_success)

    def _do_cronjob(self, action: ApplyCronJob | MoveLastSchedule | RemoveFormer, now: datetime) -> None:
        live, spec, desired = self.cronjob, self.job.spec, self.desired
        if isinstance(action, RemoveFormer):
            self.cronjob = None
            return
        if isinstance(action, MoveLastSchedule):
            if action.delete_first is not None:
                self._remove(action.delete_first.uid)
            if live is not None:
                self.cronjob = replace(live, last_schedule=action.to)
            return
        self.cronjob = CronJobSeen(
            uid=live.uid if live is not None else f"{self.job.name}-cronjob",
            resource_version="1",
            ours=True,
            created=live.created if live is not None else now.replace(microsecond=0),
            hash=desired.hash,
            template_hash=desired.template_hash,
            drifted=False,
            slots=spec.slots,
            schedule=desired.schedule,
            suspended=spec.suspend,
            last_schedule=live.last_schedule if live is not None else None,
            last_successful=live.last_successful if live is not None else None,
        )

    def _do_command(self, step: commands.Step, now: datetime) -> list[Start]:
        if step.discard is not None:
            self._remove(step.discard.uid)
            return []
        for annotation in step.remove:
            self.annotations.pop(annotation, None)
        started = []
        if step.run_now is not None:
            asked, spec = step.run_now, self.job.spec
            name = commands.run_now_name(self.job.name, asked.command_id)
            at = asked.run_time.replace(microsecond=0)
            run = self._add(name, RunKind.MANUAL, NewRun(at, at, 1), now, suspended=False)
            written = (spec.written(asked.run_time), spec.written(self.status.last_success_time))
            started = [Start(run.uid, run.slot, 1, *written, asked.extra_args, by_hand=True)]
        if step.status is not None:
            self.job = replace(self.job, status=step.status)
        return started

    def _remove(self, uid: str) -> None:
        """Delete a run on purpose: it is not lost."""
        self.runs.pop(uid, None)
        self.evidence.pop(uid, None)
        self._gone.add(uid)
        self._replaced.add(uid)
