"""The events that Sentry takes, built from what there is to tell (sentry_news.py).

PURE. Everything that came from a pod is masked here (masking.py), and no value of an environment variable is
ever part of an event.

How events group: as Sentry would group them (`{{ default }}`), for each job by itself. Nothing that differs
between two attempts is part of that, so a failure that repeats stays one issue. A recovery is an event of its
own, of level info, in one issue a job: Sentry can't be told to resolve an issue by an event, and one more event
in the failure's issue would open it again.

It must not import kopf, kubernetes or sentry_sdk, or read a clock.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from crontabber_operator.masking import known_secrets, mask, mask_arguments, mask_source
from crontabber_operator.models import HistoryEntry, Result
from crontabber_operator.sentry_news import (
    LOGGER,
    OUTPUT_MAX_CHARACTERS,
    FailedRun,
    JobTold,
    OperatorError,
    Recovered,
    ending_of,
    trace_id,
)
from crontabber_operator.times import format_time
from crontabber_operator.tracebacks import Ending, Frame, How, Raised, read, without_colours

Event = dict[str, Any]

SHOWN_OUTPUT_LINES: Final = 20
SHOWN_OUTPUT_MAX_CHARACTERS: Final = 4096
VALUE_MAX_CHARACTERS: Final = 8192
LINE_MAX_CHARACTERS: Final = 512
TAG_MAX_CHARACTERS: Final = 200
"""Sentry cuts longer values of tags off."""
NOT_STARTED: Final = "NotStarted"
"""The result of a run that goes on, and yet is told: its pod can't start."""
EXCEPTIONS_MAX: Final = 50
FRAMES_MAX: Final = 250
"""Of one exception; Sentry itself keeps no more."""


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
        ending_of(run)
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
    event["tags"]["result"] = NOT_STARTED if run.goes_on else str(run.ended.result)
    if run.by_hand:
        event["tags"]["trigger"] = "run-now"
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
    said = ended.value if ended.result is not Result.FAILED or run.pod is None or run.goes_on else ""
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
            "result": NOT_STARTED if run.goes_on else str(ended.result),
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
