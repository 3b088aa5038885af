"""How an attempt failed, as its pod tells it. Tables of pods as the API has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crontabber_operator.failures import evidence, read_attempt
from crontabber_operator.models import Result
from crontabber_operator.times import parse_time

TRACEBACK = """\
Starting.
Traceback (most recent call last):
  File "manage.py", line 22, in <module>
    main()
  File "crashes/work.py", line 7, in main
    raise ValueError("no such\\nproduct")
ValueError: no such
product
"""


def pod(
    name: str = "pod-1",
    *,
    phase: str = "Failed",
    reason: str | None = None,
    message: str | None = None,
    terminated: dict[str, Any] | None = None,
    conditions: tuple[dict[str, Any], ...] = (),
    created: str = "2026-06-03T10:00:00Z",
    containers: tuple[str, ...] = ("web",),
) -> dict[str, Any]:
    """Build a pod that ended."""
    ended = {"startedAt": "2026-06-03T10:00:02Z", "finishedAt": "2026-06-03T10:00:09Z", "exitCode": 1}
    status: dict[str, Any] = {
        "phase": phase,
        "startTime": "2026-06-03T10:00:01Z",
        "containerStatuses": [
            {"name": one, "state": {"terminated": {**ended, **(terminated or {})}}} for one in containers
        ],
        "conditions": list(conditions),
    }
    if reason is not None:
        status["reason"] = reason
    if message is not None:
        status["message"] = message
    return {
        "metadata": {"name": name, "uid": f"uid of {name}", "creationTimestamp": created},
        "spec": {"containers": [{"name": one} for one in containers]},
        "status": status,
    }


def batch_pod(**told: Any) -> dict[str, Any]:
    """Build a pod of a batch whose runner reported this."""
    message = json.dumps({"crontabber": "5ec4e7", **told}).ljust(1023) + "\n"
    body = pod(terminated={"message": message, "exitCode": 3})
    body["metadata"]["annotations"] = {"crontabber.dev/batch": '{"nonce":"5ec4e7","slots":[]}'}
    return body


@pytest.mark.parametrize(
    ("told", "output", "good", "failure"),
    [
        ({"good": None, "how": "exit"}, "", None, (Result.FAILED, "Exit3")),
        ({"good": "2026-06-03T10:00:00Z", "how": "exit"}, TRACEBACK, "10:00", (Result.FAILED, "ValueError")),
        ({"good": "2026-06-03T10:00:00Z", "how": "timeout"}, "", "10:00", (Result.TIMED_OUT, "TimedOut")),
        ({"good": "2026-06-03T10:00:00Z", "how": "oom"}, "", "10:00", (Result.OUT_OF_MEMORY, "OutOfMemory")),
        ({"crontabber": "another"}, "", None, (Result.FAILED, "Exit3")),
    ],
)
def test_a_batch_reports_how_far_it_came(
    told: dict[str, Any], output: str, good: str | None, failure: tuple[Result, str]
) -> None:
    """And what its exit code can't say; its report is never taken for output."""
    body = batch_pod(**told)
    seen = evidence([body], {body["metadata"]["uid"]: output})
    assert seen.last_good_slot == (parse_time(f"2026-06-03T{good}:00Z") if good else None)
    assert (seen.failures[0].result, seen.failures[0].type) == failure
    if "crontabber" not in told:
        assert "crontabber" not in seen.failures[0].value + seen.failures[0].traceback


@pytest.mark.parametrize(
    ("given", "output", "expected"),
    [
        (pod(), TRACEBACK, (Result.FAILED, "ValueError", "no such\nproduct")),
        (pod(), "CommandError: Unknown product", (Result.FAILED, "CommandError", "Unknown product")),
        (pod(terminated={"message": "CommandError: said"}), "", (Result.FAILED, "CommandError", "said")),
        (
            pod(terminated={"exitCode": 3}),
            "",
            (Result.FAILED, "Exit3", "The command ended with exit code 3."),
        ),
        (pod(terminated={"exitCode": 3}), "one\ntwo\n\n", (Result.FAILED, "Exit3", "two")),
        (
            pod(terminated={"signal": 9, "exitCode": 137}),
            "",
            (Result.FAILED, "Signal9", "The command ended with exit code 137."),
        ),
        (
            pod(terminated={"reason": "StartError", "exitCode": 128, "message": "no such file: python"}),
            "",
            (Result.FAILED, "StartError", "no such file: python"),
        ),
        (
            pod(terminated={"reason": "OOMKilled", "exitCode": 137}),
            TRACEBACK,
            (Result.OUT_OF_MEMORY, "OutOfMemory", "It used more memory than its limit allows."),
        ),
        (
            pod(reason="DeadlineExceeded", message="Pod was active longer"),
            "half done",
            (Result.TIMED_OUT, "DeadlineExceeded", "Pod was active longer"),
        ),
        (
            pod(reason="DeadlineExceeded"),
            "",
            (Result.TIMED_OUT, "DeadlineExceeded", "It ran longer than activeDeadlineSeconds."),
        ),
        (pod(reason="Evicted"), "", (Result.EVICTED, "Evicted", "Its node evicted it.")),
        (pod(reason="NodeLost"), "", (Result.LOST, "NodeLost", "Its node was lost.")),
        (
            pod(conditions=({"type": "DisruptionTarget", "status": "True", "message": "preempted"},)),
            "",
            (Result.EVICTED, "Evicted", "preempted"),
        ),
        (
            pod(conditions=({"type": "DisruptionTarget", "status": "False"},)),
            "",
            (Result.FAILED, "Exit1", "The command ended with exit code 1."),
        ),
    ],
)
def test_the_pod_tells_how_the_attempt_failed(
    given: dict[str, Any], output: str, expected: tuple[Result, str, str]
) -> None:
    """Exceptions by name, kills and evictions as such, else the exit code and the last line."""
    attempt = read_attempt(given, output)
    assert (attempt.result, attempt.type, attempt.value) == expected
    assert attempt.started == parse_time("2026-06-03T10:00:02Z")
    assert attempt.finished == parse_time("2026-06-03T10:00:09Z")


def test_the_traceback_is_kept_without_what_was_printed_before() -> None:
    """Where there is none, the output itself is."""
    assert read_attempt(pod(), TRACEBACK).traceback.startswith("Traceback (most recent call last):")
    assert read_attempt(pod(), "just this").traceback == "just this"


def test_the_container_called_crontabber_counts_else_the_first() -> None:
    """A sidecar that is killed at the end is not the command."""
    given = pod(containers=("proxy", "crontabber"))
    given["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 143
    given["status"]["containerStatuses"][1]["state"]["terminated"]["exitCode"] = 5
    assert read_attempt(given, "").type == "Exit5"


@pytest.mark.parametrize(
    "given",
    [
        {"metadata": {"name": "p", "uid": "u"}},
        {"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {}},
        {
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "a"}]},
            "status": {"phase": "Failed"},
        },
    ],
)
def test_a_pod_that_never_started_is_read_all_the_same(given: dict[str, Any]) -> None:
    """An image that could not be pulled until the deadline."""
    attempt = read_attempt(given, "")
    assert (attempt.result, attempt.type, attempt.started, attempt.finished) == (
        Result.FAILED,
        "Failed",
        None,
        None,
    )


def test_when_a_pod_without_a_container_ended_is_known_from_its_conditions() -> None:
    """The newest change."""
    given = pod(
        conditions=({"type": "Ready", "status": "False", "lastTransitionTime": "2026-06-03T10:05:00Z"},)
    )
    del given["status"]["containerStatuses"]
    assert read_attempt(given, "").finished == parse_time("2026-06-03T10:05:00Z")


def test_the_evidence_has_the_failures_oldest_first() -> None:
    """And when the good attempt started; what still runs tells nothing."""
    pods = [
        pod("late", created="2026-06-03T10:09:00Z"),
        pod(
            "good",
            phase="Succeeded",
            created="2026-06-03T10:20:00Z",
            terminated={"startedAt": "2026-06-03T10:20:02Z"},
        ),
        pod("early", created="2026-06-03T10:01:00Z"),
        pod("running", phase="Running", created="2026-06-03T10:30:00Z"),
    ]
    told = evidence(pods, {"uid of late": "CommandError: late", "uid of early": "CommandError: early"})
    assert [attempt.value for attempt in told.failures] == ["early", "late"]
    assert told.good_started == parse_time("2026-06-03T10:20:02Z")


@pytest.mark.parametrize("nothing", [None, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "soon", 7])
def test_a_time_before_the_pod_was_made_is_none(nothing: Any) -> None:
    """Container runtimes write the beginning of time where they know no better."""
    given = pod(terminated={"startedAt": nothing, "finishedAt": nothing})
    attempt = read_attempt(given, "")
    assert (attempt.started, attempt.finished) == (parse_time("2026-06-03T10:00:01Z"), None)
    given["status"]["startTime"] = nothing
    assert read_attempt(given, "").started is None


def test_no_pods_are_no_evidence() -> None:
    """They may all be gone."""
    told = evidence([], {})
    assert (told.failures, told.good_started, told.last_good_slot) == ((), None, None)
