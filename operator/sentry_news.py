"""What is worth telling Sentry: failed runs, recoveries, and what an app can't report by itself.

PURE. `failed_runs()` and `status_news()` say what there is to tell, from what the operator has at hand anyway;
`is_worth_reporting()` leaves out what the app reports by itself. Nothing that is told holds the value of an
environment variable but `PodTold.secrets`, which are there to be masked.

It must not import kopf, kubernetes or sentry_sdk, or read a clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from crontabber_operator.bookkeeping import failed_unseen, new_entries, says_cannot_start
from crontabber_operator.manifests import command_container
from crontabber_operator.masking import known_secrets
from crontabber_operator.models import HistoryEntry, ReportErrors, Result, Status
from crontabber_operator.observed import Attempt, Evidence, Job, Run, RunKind
from crontabber_operator.pod_starts import CannotStart, Why, never_started, terminated, why_not
from crontabber_operator.times import format_time
from crontabber_operator.tracebacks import Ending, read

Body = Mapping[str, Any]

LOGGER: Final = "crontabber"
DSN_VARIABLE: Final = "SENTRY_DSN"
OUTPUT_MAX_CHARACTERS: Final = 64 * 1024
"""So much of the end of an output is told."""

TOLD_AGAIN_FOR: Final = timedelta(minutes=5)
"""What the books have known no longer than this is told again by an operator that was just started."""

_IDS = uuid.UUID("6f3f5f0e-7c8e-5f0b-9d0a-0c6c2a1f6b1d")
"""Where the ids of events and check-ins come from: the same thing told again has the same id, and Sentry drops it."""


# --- What there is to tell --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTold:
    """The CrontabberJob that something is told about."""

    namespace: str
    name: str
    command: str
    args: tuple[str, ...] = ()
    report_errors: ReportErrors = ReportErrors.AUTO
    deadline_seconds: int = 7200

    @classmethod
    def of(cls, job: Job) -> JobTold:
        """Take what is told from the resource."""
        return cls(
            namespace=job.namespace,
            name=job.name,
            command=job.spec.command,
            args=job.spec.args,
            report_errors=job.spec.report_errors,
            deadline_seconds=job.spec.active_deadline_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTold:
    """What is told of the pod that ended."""

    name: str
    uid: str
    image: str = ""
    exit_code: int | None = None
    why: Why | None = None
    """A word and a sentence, where the pod itself and not the command was at fault."""
    app_reports: bool = False
    """Its own SENTRY_DSN is set: the app reports what it can."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that are masked wherever they were printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """One failed attempt."""

    job: JobTold
    slot: datetime
    attempt: int
    """From 1."""
    run: str
    """The Kubernetes Job's name."""
    run_uid: str
    ended: Attempt
    through: datetime | None = None
    """The last slot of a batch."""
    pod: PodTold | None = None
    """None where no pod was left to be looked at."""
    output: str = field(default="", repr=False)
    """The end of what was printed, as it was."""
    history: tuple[HistoryEntry, ...] = ()
    """The runs before, newest first."""
    goes_on: bool = False
    """It has not ended: its pod can't start, and Kubernetes goes on trying."""
    by_hand: bool = False
    """A person asked for it; it is outside of the bookkeeping."""

    @property
    def event_id(self) -> str:
        """Return the same id for the same attempt, whoever tells of it, and when."""
        identity = f"pod/{self.pod.uid}" if self.pod is not None else f"{self.run_uid}/{self.attempt}"
        return _id(f"failed/{identity}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A job that had failed succeeded again."""

    job: JobTold
    slot: datetime
    attempt: int
    failures: int
    """So many runs in a row had failed."""
    run: str
    at: datetime | None = None
    last_type: str = ""
    last_value: str = ""
    since: datetime | None = None
    """When the first failure was that is remembered."""

    @property
    def event_id(self) -> str:
        """Return the same id for the same recovery, whoever tells of it, and when."""
        job = f"{self.job.namespace}/{self.job.name}"
        return _id(f"recovered/{job}/{self.run}/{format_time(self.slot)}/{self.attempt}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorError:
    """Something went wrong in the operator itself."""

    message: str
    """What was logged, before its parameters were filled in where there are any."""
    logger: str = LOGGER
    level: str = "error"
    """As Sentry calls it: warning, error or fatal."""
    traceback: str = field(default="", repr=False)
    at: datetime | None = None
    shown: str = ""
    """What was logged, complete."""


def failed_runs(
    job: Job,
    run: Run,
    pods: Iterable[Body],
    outputs: Mapping[str, str],
    evidence: Evidence,
    events: Mapping[str, Iterable[Body]] = MappingProxyType({}),
) -> Iterator[FailedRun]:
    """Yield the failed attempts of a run that are not in the books yet, oldest first.

    Of a run made by hand, which has no books: those that were not told yet. `pods` are those of the run's Job,
    `outputs` the ends of what they printed by uid, and `evidence` what failures.py read from both; `job` is the
    resource as it was before these attempts were recorded. `events` are the Events of pods that `never_started`,
    by uid: without them such a failure has no more exact name.
    """
    failed = sorted((pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"), key=_age)
    recorded = [entry.finished for entry in job.status.history if entry.job == run.name and entry.finished]
    known_until = max(recorded, default=None)
    told = JobTold.of(job)
    slot = _failing_slot(job, run, evidence)
    gone = max(0, run.failed_pods - len(failed))
    pairs = zip(failed, evidence.failures, strict=False)
    for number, (pod, attempt) in enumerate(pairs, start=gone + 1):
        if known_until is not None and attempt.finished is not None and attempt.finished <= known_until:
            continue
        seen = read_pod(pod, events.get(pod["metadata"]["uid"], ()))
        if number <= run.told or (seen.why is not None and _is_told_waiting(job, run, number)):
            continue
        yield FailedRun(
            job=told,
            slot=slot,
            through=run.through if run.through > run.slot else None,
            attempt=run.attempt or number,
            run=run.name,
            run_uid=run.uid,
            ended=attempt,
            pod=seen,
            output=outputs.get(pod["metadata"]["uid"], "")[-OUTPUT_MAX_CHARACTERS:],
            history=job.status.history,
            by_hand=run.kind is RunKind.MANUAL,
        )
    if run.failed and not failed and not recorded and not run.told:
        yield FailedRun(
            job=told,
            slot=slot,
            attempt=run.attempt or max(1, run.failed_pods),
            run=run.name,
            run_uid=run.uid,
            ended=failed_unseen(run),
            history=job.status.history,
            by_hand=run.kind is RunKind.MANUAL,
        )


def not_starting(job: Job, run: Run, pod: Body, found: CannotStart) -> FailedRun | None:
    """Return what there is to tell of a run whose pod can't start; None where it was told before.

    Told as soon as it is known, instead of when its time is up; it is that attempt's one event.
    """
    claim = job.status.ongoing
    attempt = claim.attempt if claim is not None and claim.uid == run.uid else run.failed_pods + 1
    if _is_told_waiting(job, run, attempt):
        return None
    kind, _ = found.why
    return FailedRun(
        job=JobTold.of(job),
        slot=run.slot,
        through=run.through if run.through > run.slot else None,
        attempt=run.attempt or attempt,
        run=run.name,
        run_uid=run.uid,
        ended=Attempt(Result.FAILED, kind, found.message, "", run.started, None),
        pod=replace(read_pod(pod), why=found.why),
        history=job.status.history,
        goes_on=True,
    )


def _is_told_waiting(job: Job, run: Run, attempt: int) -> bool:
    """Whether the books say already that the pod of this attempt can't start: then it was told, too."""
    claim = job.status.ongoing
    return (
        says_cannot_start(job.status)
        and claim is not None
        and claim.uid == run.uid
        and claim.attempt == (run.attempt or attempt)
    )


def status_news(job: Job, after: Status) -> Iterator[FailedRun | Recovered]:
    """Yield what only the books tell: Jobs that vanished, and the recovery from failures.

    `job` has the status of before. Called after the new status was written.
    """
    before = job.status
    told = JobTold.of(job)
    failures, last = before.error_count, before.last_error
    for entry in reversed(new_entries(before, after)):
        if entry.result is not Result.SUCCEEDED:
            failures += 1
        elif failures:
            yield Recovered(
                job=told,
                slot=entry.slot,
                attempt=entry.attempt,
                failures=failures,
                run=entry.job,
                at=entry.finished,
                last_type=last.type if last is not None else "",
                last_value=last.value if last is not None and last.value != last.type else "",
                since=_failing_since(before),
            )
            failures = 0
        if entry.result is Result.LOST:
            claim = before.ongoing
            uid = claim.uid if claim is not None and claim.job == entry.job else entry.job
            ended = Attempt(Result.LOST, "Lost", entry.message, "", entry.started, entry.finished)
            yield FailedRun(
                job=told,
                slot=entry.slot,
                attempt=entry.attempt,
                run=entry.job,
                run_uid=uid,
                ended=ended,
                history=before.history,
            )


def before_recent(job: Job, runs: Iterable[Run], now: datetime) -> Job:
    """Return a resource as it was before what its books say of the last minutes, as far as the runs still exist.

    An operator that was killed right after it wrote the books may not have told that. The next one tells failures
    and check-ins again, under the same ids.
    """
    names = {run.name for run in runs}
    claim = job.status.ongoing
    is_new = claim is not None and claim.since is not None and now - claim.since <= TOLD_AGAIN_FOR
    older = tuple(entry for entry in job.status.history if not _is_recent(entry, names, now))
    if not is_new and len(older) == len(job.status.history):
        return job
    return replace(job, status=replace(job.status, history=older, ongoing=None if is_new else claim))


def _is_recent(entry: HistoryEntry, names: Container[str], now: datetime) -> bool:
    # Of a Job that vanished, only the books of before knew the uid, and so the id of what was told.
    return (
        entry.result is not Result.LOST
        and entry.job in names
        and entry.finished is not None
        and now - entry.finished <= TOLD_AGAIN_FOR
    )


def _failing_slot(job: Job, run: Run, evidence: Evidence) -> datetime:
    """Return the slot that failed: of a batch, the one behind the last good one."""
    good = evidence.last_good_slot
    if good is not None and run.slot <= good < run.through:
        return job.spec.slots.next_after(good) or run.slot
    return run.slot


def _failing_since(status: Status) -> datetime | None:
    failing = []
    for entry in status.history:
        if entry.result is Result.SUCCEEDED:
            break
        failing.append(entry.finished or entry.started)
    return next((time for time in reversed(failing) if time is not None), None)


def _age(pod: Body) -> tuple[str, str]:
    return pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]


def _id(identity: str) -> str:
    return uuid.uuid5(_IDS, identity).hex


def trace_id(run_uid: str, attempt: int) -> str:
    """Return the id by which Sentry ties a check-in to the errors of the same attempt."""
    return _id(f"trace/{run_uid}/{attempt}")


def check_in_id(run_uid: str, attempt: int) -> str:
    """Return the id of an attempt's check-in, the same in whichever operator's life it starts and ends."""
    return _id(f"check-in/{run_uid}/{attempt}")


# --- Reading a pod ----------------------------------------------------------------------------------------


def read_pod(pod: Body, events: Iterable[Body] = ()) -> PodTold:
    """Take what is told from a pod, as the API has it. `events`: its Events, needed where it never started."""
    spec = pod.get("spec") or {}
    container = command_container(spec["containers"]) if spec.get("containers") else {}
    environment = [
        variable
        for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for variable in one.get("env") or ()
    ]
    given = [*(container.get("command") or ()), *(container.get("args") or ())]
    code = None if never_started(pod) else terminated(pod).get("exitCode")
    return PodTold(
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        image=str(container.get("image") or ""),
        exit_code=code if isinstance(code, int) else None,
        why=why_not(pod, events),
        app_reports=sets_dsn(container),
        secrets=known_secrets(given, environment),
    )


def sets_dsn(container: Body, known_keys: Mapping[tuple[str, str], frozenset[str]] | None = None) -> bool:
    """Whether a container has a SENTRY_DSN of its own, so that the app reports its exceptions itself.

    An entry in `env` decides, also an empty one (that turns Sentry off). What is in an `envFrom` the operator
    can't see, unless it is told by kind (ConfigMap, Secret) and name in `known_keys`; unknown means no: told
    twice is a nuisance, never told is an outage that nobody sees.
    """
    for variable in reversed(container.get("env") or []):
        if variable.get("name") == DSN_VARIABLE:
            return bool(str(variable.get("value") or "").strip() or variable.get("valueFrom"))
    for source in container.get("envFrom") or []:
        prefix = str(source.get("prefix") or "")
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            name = (source.get(key) or {}).get("name")
            keys = (known_keys or {}).get((kind, str(name)), frozenset())
            if name and any(prefix + one == DSN_VARIABLE for one in keys):
                return True
    return False


def ending_of(run: FailedRun) -> Ending | None:
    """Find the exception in what the run printed, or in what is known of it."""
    return read(run.output or run.ended.traceback)
