"""How an attempt failed, read from its pod: kind of end, exception, the end of the traceback.

Pure: pods come in as the API has them, output as text. This module must not import kopf or kubernetes,
or read a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from crontabber_operator import batches
from crontabber_operator.models import Result
from crontabber_operator.observed import Attempt, Evidence
from crontabber_operator.pod_starts import terminated
from crontabber_operator.times import parse_time
from crontabber_operator.tracebacks import How, read, without_colours

Body = Mapping[str, Any]

_BY_POD_REASON = {
    "DeadlineExceeded": (Result.TIMED_OUT, "It ran longer than activeDeadlineSeconds."),
    "Evicted": (Result.EVICTED, "Its node evicted it."),
    "NodeLost": (Result.LOST, "Its node was lost."),
}
_BY_REPORT = {
    Result.TIMED_OUT: "It ran longer than activeDeadlineSeconds.",
    Result.OUT_OF_MEMORY: "It used more memory than its limit allows.",
}
"""A slot of a batch that ended while its pod went on."""


def evidence(pods: Iterable[Body], outputs: Mapping[str, str]) -> Evidence:
    """Read the pods of one Job, with the end of each failed pod's output by the pod's uid."""
    failures, good_started, last_good = [], None, None
    for pod in sorted(pods, key=_age):
        phase = (pod.get("status") or {}).get("phase")
        report = _report(pod)
        if report is not None:
            last_good = report.good
        if phase == "Succeeded":
            good_started = _started(pod)
        elif phase == "Failed":
            failures.append(read_attempt(pod, outputs.get(pod["metadata"]["uid"], "")))
    return Evidence(failures=tuple(failures), good_started=good_started, last_good_slot=last_good)


def read_attempt(pod: Body, output: str) -> Attempt:
    """Read one failed pod. `output` is the end of what it printed, empty where that is not known."""
    status = pod.get("status") or {}
    ended = terminated(pod)
    report = _report(pod)
    text = without_colours(output or ("" if report is not None else str(ended.get("message") or "")))
    kind, value, traceback = read_output(text)
    result, default = _how(status, ended)
    if result is Result.FAILED and report is not None and report.result is not None:
        result, default = report.result, _BY_REPORT[report.result]
    if result is not Result.FAILED:
        kind, value = _type_of(result, status), str(status.get("message") or "").strip() or default
    elif not kind:
        kind, value = _without_exception(ended, text)
    return Attempt(
        result=result,
        type=kind,
        value=value,
        traceback=traceback or text,
        started=_started(pod),
        finished=_since_creation(pod, ended.get("finishedAt")) or _last_transition(status),
    )


def _report(pod: Body) -> batches.Report | None:
    """Read what the runner of a batch reported, how far it came above all."""
    nonce = batches.pod_nonce(pod)
    return batches.read_report(str(terminated(pod).get("message") or ""), nonce) if nonce else None


def read_output(text: str) -> tuple[str, str, str]:
    """Find the exception that ended the output: its type, its value and the traceback; empty where none."""
    ending = read(text)
    if ending is None:
        return "", "", ""
    # What was said in a line has no traceback: then all of the output tells more.
    return ending.raised.type, ending.raised.value, "" if ending.how is How.SAID else ending.text


def _how(status: Body, ended: Body) -> tuple[Result, str]:
    if ended.get("reason") == "OOMKilled":
        return Result.OUT_OF_MEMORY, "It used more memory than its limit allows."
    known = _BY_POD_REASON.get(str(status.get("reason") or ""))
    if known is not None:
        return known
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return Result.EVICTED, str(condition.get("message") or "It was evicted.")
    return Result.FAILED, ""


def _type_of(result: Result, status: Body) -> str:
    return str(status.get("reason") or result)


def _without_exception(ended: Body, text: str) -> tuple[str, str]:
    """No exception was printed: the exit code and the last line have to do."""
    code = ended.get("exitCode")
    lines = text.strip().splitlines()
    last = lines[-1].strip() if lines else ""
    if code is None:
        return "Failed", last
    kind = f"Exit{code}" if not ended.get("signal") else f"Signal{ended['signal']}"
    reason = str(ended.get("reason") or "")
    if reason not in ("", "Error"):
        kind = reason
    return kind, last or f"The command ended with exit code {code}."


def _started(pod: Body) -> datetime | None:
    status = pod.get("status") or {}
    times = (terminated(pod).get("startedAt"), status.get("startTime"))
    return next(filter(None, (_since_creation(pod, time) for time in times)), None)


def _since_creation(pod: Body, value: object) -> datetime | None:
    """Read a time of a container. Runtimes write 1970 or the year 1 where they know none."""
    time, created = _time(value), _time(pod["metadata"].get("creationTimestamp"))
    return None if time is None or (created is not None and time < created) else time


def _last_transition(status: Body) -> datetime | None:
    times = [_time(one.get("lastTransitionTime")) for one in status.get("conditions") or []]
    return max((time for time in times if time is not None), default=None)


def _age(pod: Body) -> tuple[str, str]:
    return pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None
