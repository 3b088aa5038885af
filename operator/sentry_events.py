"""What is told to Sentry about runs and about the operator itself, and how: events as Sentry takes them.

PURE. `failed_runs()` and `status_news()` say what is worth telling, from what the operator has at hand anyway;
`is_worth_reporting()` leaves out what the app reports by itself; `failure_event()` and its like build the
dictionaries. Everything that came from a pod is masked here (masking.py), and no value of an environment
variable is ever part of an event.

How events group: as Sentry would group them (`{{ default }}`), for each job by itself. Nothing that differs
between two attempts is part of that, so a failure that repeats stays one issue. A recovery is an event of its
own, of level info, in one issue a job: Sentry can't be told to resolve an issue by an event, and one more event
in the failure's issue would open it again.

It must not import kopf, kubernetes or sentry_sdk, or read a clock.
"""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from crontabber_operator.bookkeeping import failed_unseen
from crontabber_operator.manifests import command_container
from crontabber_operator.masking import known_secrets, mask, mask_arguments, mask_source
from crontabber_operator.models import (
    HistoryEntry,
    ReportErrors,
    Result,
    Status,
    format_time,
)
from crontabber_operator.observed import Attempt, Evidence, Job, Run
from crontabber_operator.tracebacks import Ending, Frame, How, Raised, read, without_colours

Body = Mapping[str, Any]
Event = dict[str, Any]

LOGGER: Final = "crontabber"
DSN_VARIABLE: Final = "SENTRY_DSN"
OUTPUT_MAX_CHARACTERS: Final = 64 * 1024
"""So much of the end of an output goes into the attachment."""
SHOWN_OUTPUT_LINES: Final = 20
SHOWN_OUTPUT_MAX_CHARACTERS: Final = 4096
VALUE_MAX_CHARACTERS: Final = 8192
LINE_MAX_CHARACTERS: Final = 512
TAG_MAX_CHARACTERS: Final = 200
"""Sentry cuts longer values of tags off."""
EXCEPTIONS_MAX: Final = 50
FRAMES_MAX: Final = 250
"""Of one exception; Sentry itself keeps no more."""

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
    why: tuple[str, str] | None = None
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

    `pods` are those of the run's Job, `outputs` the ends of what they printed by uid, and `evidence` what
    failures.py read from both; `job` is the resource as it was before these attempts were recorded. `events`
    are the Events of pods that `never_started`, by uid: without them such a failure has no more exact name.
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
        yield FailedRun(
            job=told,
            slot=slot,
            through=run.through if run.through > run.slot else None,
            attempt=run.attempt or number,
            run=run.name,
            run_uid=run.uid,
            ended=attempt,
            pod=read_pod(pod, events.get(pod["metadata"]["uid"], ())),
            output=outputs.get(pod["metadata"]["uid"], "")[-OUTPUT_MAX_CHARACTERS:],
            history=job.status.history,
        )
    if run.failed and not failed and not recorded:
        yield FailedRun(
            job=told,
            slot=slot,
            attempt=run.attempt or max(1, run.failed_pods),
            run=run.name,
            run_uid=run.uid,
            ended=failed_unseen(run),
            history=job.status.history,
        )


def status_news(job: Job, after: Status) -> Iterator[FailedRun | Recovered]:
    """Yield what only the books tell: Jobs that vanished, and the recovery from failures.

    `job` has the status of before. Called after the new status was written.
    """
    before = job.status
    told = JobTold.of(job)
    for entry in reversed(new_entries(before, after)):
        if entry.result is Result.SUCCEEDED and before.error_count:
            last = before.last_error
            yield Recovered(
                job=told,
                slot=entry.slot,
                attempt=entry.attempt,
                failures=before.error_count,
                run=entry.job,
                at=entry.finished,
                last_type=last.type if last is not None else "",
                last_value=last.value if last is not None else "",
                since=_failing_since(before),
            )
        elif entry.result is Result.LOST:
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


def new_entries(before: Status, after: Status) -> list[HistoryEntry]:
    """Return the entries of the history that came with a change of the status, newest first."""
    return [entry for entry in after.history if entry not in before.history]


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

_PULL: Final = ("ErrImagePull", "Its image can't be pulled.")
_CONFIG: Final = (
    "CreateContainerConfigError",
    "Its container can't be made: a Secret or ConfigMap is missing, or a key of it.",
)
_NEVER_STARTED: Final = (
    "NeverStarted",
    "Its container was never started: its image, a volume or its node was not to be had. The pod's Events say which.",
)
# A name for each, however far the kubelet was with trying again: else one failure would be two issues.
_WAITING: Final = {
    "ErrImagePull": _PULL,
    "ImagePullBackOff": _PULL,
    "ErrImageNeverPull": ("ErrImageNeverPull", "Its image is not on the node, and may not be pulled."),
    "InvalidImageName": ("InvalidImageName", "Its image has an invalid name."),
    "ImageInspectError": ("ImageInspectError", "Its image can't be read."),
    "RegistryUnavailable": ("RegistryUnavailable", "The registry of its image can't be reached."),
    "CreateContainerConfigError": _CONFIG,
    "CreateContainerError": ("CreateContainerError", "Its container can't be made."),
    "RunContainerError": ("RunContainerError", "Its container can't be started."),
}
_EVENTS: Final = (
    (
        re.compile(r"ErrImageNeverPull|is not present with pull policy of Never"),
        _WAITING["ErrImageNeverPull"],
    ),
    (re.compile(r"InvalidImageName|Failed to apply default image tag"), _WAITING["InvalidImageName"]),
    (re.compile(r"[Pp]ull(?:ing)? image|ErrImagePull|ImagePullBackOff"), _PULL),
    (re.compile(r"(?:secret|configmap) \"[^\"]*\" not found|couldn't find key"), _CONFIG),
)
_EVENT_REASONS: Final = {
    "FailedMount": ("FailedMount", "One of its volumes can't be mounted."),
    "FailedAttachVolume": ("FailedMount", "One of its volumes can't be mounted."),
    "FailedScheduling": ("FailedScheduling", "No node has room for it, or may run it."),
    "FailedCreatePodSandBox": ("FailedCreatePodSandBox", "Its node can't make its network or sandbox."),
}
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": ("Preempted", "It had to make room for a pod of higher priority."),
    "DeletionByTaintManager": ("NodeLost", "Its node was lost, or must not run it any more."),
    "DeletionByPodGC": ("NodeLost", "Its node was lost."),
    "EvictionByEvictionAPI": ("Evicted", "It was evicted, for instance because its node was drained."),
    "TerminationByKubelet": ("Evicted", "Its node ended it: the node was short of something, or shut down."),
}


def never_started(pod: Body) -> bool:
    """Whether the command of a failed pod never ran. Then only the pod's Events tell why.

    The kubelet turns what such a container waited for into an invented end, ContainerStatusUnknown.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    name = command_container(spec["containers"]).get("name") if spec.get("containers") else None
    ended = _terminated(status, name)
    started = str(ended.get("startedAt") or "")
    return not ended or (
        ended.get("reason") == "ContainerStatusUnknown"
        and (not started or started.startswith(("0001-", "1970-")))
    )


def read_pod(pod: Body, events: Iterable[Body] = ()) -> PodTold:
    """Take what is told from a pod, as the API has it. `events`: its Events, needed where it never started."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    container = command_container(spec["containers"]) if spec.get("containers") else {}
    environment = [
        variable
        for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for variable in one.get("env") or ()
    ]
    given = [*(container.get("command") or ()), *(container.get("args") or ())]
    has_run = not never_started(pod)
    code = _terminated(status, container.get("name")).get("exitCode") if has_run else None
    return PodTold(
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        image=str(container.get("image") or ""),
        exit_code=code if isinstance(code, int) else None,
        why=_fault_of_node(status) or (None if has_run else _why_not_started(spec, status, events)),
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


def _fault_of_node(status: Body) -> tuple[str, str] | None:
    if status.get("reason") == "NodeLost":
        return _DISRUPTIONS["DeletionByPodGC"]
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _DISRUPTIONS.get(str(condition.get("reason") or ""))
    return None


def _why_not_started(spec: Body, status: Body, events: Iterable[Body]) -> tuple[str, str] | None:
    inits = status.get("initContainerStatuses") or ()
    for one in (*inits, *(status.get("containerStatuses") or ())):
        reason = str(((one.get("state") or {}).get("waiting") or {}).get("reason") or "")
        if reason in _WAITING:
            return _WAITING[reason]
    sidecars = {
        one.get("name") for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    }
    for one in inits:
        code = ((one.get("state") or {}).get("terminated") or {}).get("exitCode")
        if code and one.get("name") not in sidecars:
            return "InitContainerFailed", f"Its init container {one.get('name')} ended with exit code {code}."
    for event in events:
        reason, message = str(event.get("reason") or ""), str(event.get("message") or "")
        for pattern, told in _EVENTS:
            if reason in ("Failed", "BackOff", "InspectFailed", "ErrImageNeverPull") and pattern.search(
                message
            ):
                return told
        if reason in _EVENT_REASONS:
            return _EVENT_REASONS[reason]
    return _NEVER_STARTED if status.get("reason") == "DeadlineExceeded" else None


def _terminated(status: Body, container: str | None) -> Body:
    for one in status.get("containerStatuses") or ():
        if one.get("name") == container:
            ended: Body = (one.get("state") or {}).get("terminated") or {}
            return ended
    return {}


# --- What is reported at all ------------------------------------------------------------------------------


def is_worth_reporting(run: FailedRun) -> bool:
    """Whether a failure goes to Sentry, by `reportErrors` and what the app could report by itself."""
    return is_wanted(run.job) and not (_leaves_it_to_app(run) and _app_could(run.ended.result, _ending(run)))


def is_recovery_worth_reporting(recovered: Recovered) -> bool:
    """Whether a recovery goes to Sentry: unless nothing about the job does."""
    return is_wanted(recovered.job)


def is_wanted(job: JobTold) -> bool:
    """Whether anything about a job goes to Sentry at all."""
    return job.report_errors is not ReportErrors.NEVER


def _leaves_it_to_app(run: FailedRun) -> bool:
    return (
        run.job.report_errors is ReportErrors.AUTO
        and run.pod is not None
        and run.pod.app_reports
        and run.pod.why is None
    )


def _app_could(result: Result, ending: Ending | None) -> bool:
    """Whether the Sentry SDK within the app saw this exception.

    It sees what a logger or the interpreter got, but no CommandError (Django turns it into a line and an exit
    code), nothing that killed the process, and nothing from before the settings had started it.
    """
    return (
        result is Result.FAILED
        and ending is not None
        and ending.how in (How.UNCAUGHT, How.LOGGED)
        and ending.raised.type != "KeyboardInterrupt"
        and not _is_early(ending.raised)
    )


def _is_early(raised: Raised) -> bool:
    """Whether it was raised before the settings were loaded, which is where the SDK is started."""
    frames = raised.frames
    if not frames:
        return False
    settings = [
        number
        for number, frame in enumerate(frames)
        if frame.path.endswith("django/conf/__init__.py") and frame.function in ("_setup", "__init__")
    ]
    if settings and settings[-1] < len(frames) - 1:
        return True
    return all(frame.path == frames[0].path for frame in frames) and frames[0].path.endswith("manage.py")


def _ending(run: FailedRun) -> Ending | None:
    return read(run.output or run.ended.traceback)


# --- Events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file beside an event."""

    filename: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Told:
    """An event and its attachments, ready to be sent."""

    event: Event
    attachments: tuple[Attachment, ...] = ()


def failure_event(run: FailedRun, *, release: str = "", environment: str = "") -> Told:
    """Build the event of a failed attempt. `release` empty: from the image's tag."""
    secrets = known_secrets(run.job.args) | (run.pod.secrets if run.pod is not None else frozenset())
    output = without_colours(run.output or run.ended.traceback)
    ending = (
        _ending(run)
        if run.ended.result is Result.FAILED and (run.pod is None or run.pod.why is None)
        else None
    )
    exceptions = exception_values(ending, secrets) if ending is not None else [_named(run, output, secrets)]
    exceptions[-1]["mechanism"] |= _meta(run)
    masked = mask(output, secrets)[-OUTPUT_MAX_CHARACTERS:]
    event = _event(run.event_id, run.ended.finished, run.job, run.slot, run.attempt)
    event |= {
        "level": "warning" if run.ended.result in (Result.EVICTED, Result.LOST) else "error",
        "exception": {"values": exceptions},
        "fingerprint": ["{{ default }}", run.job.namespace, run.job.name],
        "contexts": {"crontabber": _context(run, secrets), "trace": trace_context(run.run_uid, run.attempt)},
        "breadcrumbs": {"values": [_breadcrumb(entry, secrets) for entry in reversed(run.history)]},
    }
    event["tags"]["result"] = str(run.ended.result)
    event["release"] = release or release_of(run.pod.image if run.pod is not None else "")
    event["environment"] = environment
    if run.pod is not None:
        event["server_name"] = run.pod.name
    if masked.strip():
        event["extra"] = {"output": _last_lines(masked)}
        attachment = Attachment("output.txt", masked.encode("utf-8", "replace"))
        return Told(_without_empty(event), (attachment,))
    return Told(_without_empty(event))


def recovery_event(recovered: Recovered, *, release: str = "", environment: str = "") -> Told:
    """Build the event that says that a job is well again."""
    job = recovered.job
    secrets = known_secrets(job.args)
    failures = "1 failure" if recovered.failures == 1 else f"{recovered.failures} failures"
    event = _event(recovered.event_id, recovered.at, job, recovered.slot, recovered.attempt)
    event |= {
        "level": "info",
        # Without numbers in it, so that all recoveries of a job read alike.
        "logentry": {"message": f"{job.namespace}/{job.name} recovered"},
        "fingerprint": ["crontabber-recovered", job.namespace, job.name],
        "contexts": {
            "crontabber": _without_empty(
                {
                    "recovered": f"The run of slot {format_time(recovered.slot)} succeeded at attempt"
                    f" {recovered.attempt}, after {failures} in a row.",
                    "last failure": mask(
                        f"{recovered.last_type}: {recovered.last_value}".strip(": "), secrets
                    ),
                    "failing since": _written(recovered.since),
                    "run": recovered.run,
                }
            )
        },
    }
    event["tags"]["result"] = str(Result.SUCCEEDED)
    event["release"] = release
    event["environment"] = environment
    return Told(_without_empty(event))


def operator_event(error: OperatorError, *, release: str, environment: str = "", server: str = "") -> Told:
    """Build the event of the operator's own trouble, tagged as its own."""
    event: Event = {
        "level": error.level,
        "logger": error.logger,
        "platform": "python",
        "timestamp": _written(error.at),
        "tags": {"component": "operator"},
        "logentry": {
            "message": mask(error.message)[:VALUE_MAX_CHARACTERS],
            "formatted": mask(error.shown or error.message)[:VALUE_MAX_CHARACTERS],
        },
        "fingerprint": ["{{ default }}", "crontabber-operator"],
        "release": release,
        "environment": environment,
        "server_name": server,
    }
    ending = read(error.traceback)
    if ending is not None:
        event["exception"] = {"values": exception_values(ending, ())}
    return Told(_without_empty(event))


def release_of(image: str) -> str:
    """Return the release that an image stands for: its tag, else the beginning of its digest.

    `latest` is no release: it means something else every day.
    """
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if tag and tag != "latest":
        return tag
    return digest.partition(":")[2][:12]


def trace_context(run_uid: str, attempt: int) -> Event:
    """Build the context that ties what is sent about an attempt together."""
    trace = trace_id(run_uid, attempt)
    return {"trace_id": trace, "span_id": trace[:16]}


def _event(event_id: str, at: datetime | None, job: JobTold, slot: datetime, attempt: int) -> Event:
    tags = {
        "component": "job",
        "namespace": job.namespace,
        "job": job.name,
        "command": job.command,
        "slot": format_time(slot),
        "attempt": str(attempt),
    }
    return {
        "event_id": event_id,
        "timestamp": _written(at),
        "platform": "python",
        "logger": LOGGER,
        "transaction": job.command,
        "tags": {key: _tag(value) for key, value in tags.items()},
    }


def _context(run: FailedRun, secrets: Iterable[str]) -> Event:
    ended = run.ended
    seconds = (
        (ended.finished - ended.started).total_seconds()
        if ended.finished is not None and ended.started is not None
        else None
    )
    said = ended.value if run.ended.result is not Result.FAILED or run.pod is None else ""
    return _without_empty(
        {
            "namespace": run.job.namespace,
            "job": run.job.name,
            "command": run.job.command,
            "args": " ".join(mask_arguments(run.job.args, secrets))[:VALUE_MAX_CHARACTERS],
            "slot": format_time(run.slot),
            "through": _written(run.through),
            "attempt": run.attempt,
            "run": run.run,
            "pod": run.pod.name if run.pod is not None else "",
            "image": run.pod.image if run.pod is not None else "",
            "exit code": run.pod.exit_code if run.pod is not None else None,
            "result": str(ended.result),
            "details": mask(said, secrets)[:VALUE_MAX_CHARACTERS],
            "started": _written(ended.started),
            "finished": _written(ended.finished),
            "seconds": seconds,
            "deadline seconds": run.job.deadline_seconds,
        }
    )


def _breadcrumb(entry: HistoryEntry, secrets: Iterable[str]) -> Event:
    good = entry.result is Result.SUCCEEDED
    said = f": {entry.message}" if entry.message and not good else ""
    text = f"Attempt {entry.attempt} at slot {format_time(entry.slot)}: {entry.result}{said}"
    return _without_empty(
        {
            "timestamp": _written(entry.finished or entry.started or entry.slot),
            "type": "default" if good else "error",
            "category": "crontabber.run",
            "level": "info" if good else "error",
            "message": mask(text, secrets),
            "data": _without_empty({"run": entry.job, "seconds": entry.seconds}),
        }
    )


# --- Exceptions -------------------------------------------------------------------------------------------

_LIBRARY = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages|lib(?:64)?/python\d|python\d+\.zip)(?:[/.]|$)|^<frozen "
)
_BELOW_LIBRARY = re.compile(
    r"^.*/(?:site-packages|dist-packages)/|^.*/lib(?:64)?/python\d(?:\.\d+)?/|^.*/python\d+\.zip/"
)


def exception_values(ending: Ending, secrets: Iterable[str]) -> list[Event]:
    """Build Sentry's list of exceptions: oldest first, so the one that ended the process comes last.

    Each knows its parent, as the SDK itself does it: `exception_id` counts from 0, the last.
    """
    secrets = tuple(secrets)
    root = _root(ending.raised)
    handled = ending.how in (How.LOGGED, How.INCIDENTAL)
    values: list[Event] = []
    waiting: list[tuple[Raised, int | None, str]] = [(ending.raised, None, "")]
    while waiting and len(values) < EXCEPTIONS_MAX:
        raised, parent, source = waiting.pop()
        own = len(values)
        mechanism: Event = {"type": "crontabber" if parent is None else "chained", "handled": handled}
        if parent is not None:
            mechanism |= {"parent_id": parent, "source": source}
        if raised.is_group:
            mechanism["is_exception_group"] = True
        values.append(
            _without_empty(
                {
                    "type": raised.type,
                    "module": raised.module,
                    "value": mask(raised.value, secrets)[:VALUE_MAX_CHARACTERS],
                    "stacktrace": _stacktrace(raised.frames, root, secrets),
                    "mechanism": mechanism,
                }
            )
        )
        members = [(member, own, f"exceptions[{at}]") for at, member in enumerate(raised.members)]
        waiting += reversed(members)
        if raised.before is not None:
            waiting.append((raised.before, own, str(raised.link)))
    if len(values) > 1:
        for number, value in enumerate(values):
            value["mechanism"]["exception_id"] = number
    values.reverse()
    return values


def _root(raised: Raised) -> str:
    """Return the directory that the app's modules are in: that of the script that was started, with a slash."""
    waiting = [raised]
    while waiting:
        one = waiting.pop()
        for frame in one.frames:
            if (
                frame.function == "<module>"
                and frame.path.startswith("/")
                and not _LIBRARY.search(frame.path)
            ):
                return frame.path.rpartition("/")[0] + "/"
        waiting += one.members
        if one.before is not None:
            waiting.append(one.before)
    return ""


def _stacktrace(frames: Sequence[Frame], root: str, secrets: Iterable[str]) -> Event | None:
    if not frames:
        return None
    if len(frames) > FRAMES_MAX:
        # Where it began and where it ended tell more than the middle.
        half = FRAMES_MAX // 2
        frames = [*frames[:half], *frames[-half:]]
    return {"frames": [_frame(frame, root, secrets, is_first=at == 0) for at, frame in enumerate(frames)]}


def _frame(frame: Frame, root: str, secrets: Iterable[str], *, is_first: bool) -> Event:
    path = frame.path[:LINE_MAX_CHARACTERS]
    is_library = _LIBRARY.search(path) is not None
    below = _BELOW_LIBRARY.match(path)
    if below is not None:
        filename = path[below.end() :]
    elif root and path.startswith(root):
        filename = path[len(root) :]
    else:
        filename = path.lstrip("/")
    lines = [mask_source(line, secrets)[:LINE_MAX_CHARACTERS] for line in frame.source]
    is_script = is_first and frame.function == "<module>" and not is_library
    module = "__main__" if is_script else _module(filename) if below is not None or root else None
    return _without_empty(
        {
            "filename": filename or path or "?",
            "abs_path": path if path.startswith("/") else None,
            "module": module,
            "function": frame.function,
            "lineno": frame.line,
            "context_line": lines[0] if lines else None,
            "post_context": lines[1:],
            "in_app": not is_library,
            "vars": {"repeated": f"{frame.repeated} more times"} if frame.repeated else None,
        }
    )


def _module(filename: str) -> str | None:
    """Return the module that a file below a directory of modules holds."""
    if not filename.endswith(".py") or filename.startswith("<"):
        return None
    name = filename.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return name if all(part.isidentifier() for part in name.split(".")) else None


def _named(run: FailedRun, output: str, secrets: Iterable[str]) -> Event:
    """Name a failure that is no exception: a word for what happened, and a sentence that is always the same."""
    kind, value = _name_and_sentence(run, output)
    return {
        "type": kind,
        "value": mask(value, secrets)[:VALUE_MAX_CHARACTERS],
        "mechanism": {"type": "crontabber", "handled": False},
    }


def _name_and_sentence(run: FailedRun, output: str) -> tuple[str, str]:
    if run.pod is not None and run.pod.why is not None:
        return run.pod.why
    code = run.pod.exit_code if run.pod is not None else None
    match run.ended.result:
        case Result.TIMED_OUT:
            return (
                "TimedOut",
                f"It ran longer than activeDeadlineSeconds, {run.job.deadline_seconds} seconds.",
            )
        case Result.OUT_OF_MEMORY:
            return "OutOfMemory", "It used more memory than its limit allows."
        case Result.EVICTED:
            return "Evicted", "It was evicted from its node."
        case Result.LOST:
            return "Lost", "Its Job vanished before it ended; the slot runs again."
        case _:
            by = _signal(code)
            if by is not None:
                return by, f"The command was killed by {by} (exit code {code})."
            lines = [line.strip() for line in output.split("\n") if line.strip()]
            last = lines[-1] if lines else run.ended.value
            return run.ended.type, last or f"The command ended with exit code {code}."


def _signal(code: int | None) -> str | None:
    """Return the signal that an exit code of a shell's kind (128 + its number) stands for."""
    if code is None or code <= 128:
        return None
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return None


def _meta(run: FailedRun) -> Event:
    code = run.pod.exit_code if run.pod is not None else None
    if code is None:
        return {}
    by = _signal(code)
    return {
        "data": {"exit_code": code},
        **({"meta": {"signal": {"number": code - 128, "name": by}}} if by is not None else {}),
    }


# --- Texts ------------------------------------------------------------------------------------------------


def _last_lines(output: str) -> str:
    lines = output.rstrip().split("\n")[-SHOWN_OUTPUT_LINES:]
    return "\n".join(lines)[-SHOWN_OUTPUT_MAX_CHARACTERS:]


def _tag(value: str) -> str:
    return " ".join(value.split())[:TAG_MAX_CHARACTERS]


def _written(time: datetime | None) -> str | None:
    return format_time(time) if time is not None else None


def _without_empty(values: Event) -> Event:
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}
