"""Which events are built of failed runs, and which of them are worth sending."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crontabber_operator.bookkeeping import CANNOT_START
from crontabber_operator.failures import evidence
from crontabber_operator.masking import FILTERED
from crontabber_operator.models import (
    Condition,
    HistoryEntry,
    LastError,
    Ongoing,
    ReportErrors,
    Result,
    Spec,
    Status,
)
from crontabber_operator.observed import Attempt, Evidence, Job, Run, RunKind
from crontabber_operator.pod_starts import cannot_start, never_started
from crontabber_operator.report_errors import is_recovery_worth_reporting, is_worth_reporting
from crontabber_operator.sentry_events import (
    EXCEPTIONS_MAX,
    FRAMES_MAX,
    exception_values,
    failure_event,
    operator_event,
    recovery_event,
    release_of,
)
from crontabber_operator.sentry_news import (
    FailedRun,
    JobTold,
    OperatorError,
    PodTold,
    Recovered,
    before_recent,
    check_in_id,
    failed_runs,
    not_starting,
    read_pod,
    sets_dsn,
    status_news,
    trace_id,
)
from crontabber_operator.tracebacks import read

SLOT = datetime(2026, 11, 24, 8, tzinfo=UTC)
ENDED = SLOT + timedelta(minutes=3)
TOLD = JobTold(namespace="web", name="reports", command="makereports", args=("--limit", "5"))

TRACEBACK = """\
working
Traceback (most recent call last):
  File "/app/manage.py", line 22, in <module>
    main()
  File "/app/manage.py", line 18, in main
    execute_from_command_line(sys.argv)
  File "/usr/local/lib/python3.12/site-packages/django/core/management/__init__.py", line 442, in execute
    utility.execute()
  File "<frozen importlib._bootstrap>", line 241, in _call_with_frames_removed
  File "/usr/local/lib/python3.12/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError("Expecting value", s, err.value) from None
  File "/app/reports/tasks.py", line 7, in fetch
    connect(password="hunter2")
    ~~~~~~~^^^^^^^^^^^^^^^^^^^^
reports.errors.FetchError: could not fetch
"""
SETTINGS = """\
Traceback (most recent call last):
  File "/app/manage.py", line 22, in <module>
    main()
  File "/usr/lib/python3/dist-packages/django/conf/__init__.py", line 190, in __init__
    mod = importlib.import_module(self.SETTINGS_MODULE)
  File "/app/app/settings.py", line 3, in <module>
    import sentry_sdk
ModuleNotFoundError: No module named 'sentry_sdk'
"""


def attempt(
    result: Result = Result.FAILED, kind: str = "FetchError", value: str = "x", text: str = ""
) -> Attempt:
    """Return how an attempt ended."""
    return Attempt(result, kind, value, text, SLOT, ENDED)


POD = PodTold(name="reports-29412480-2-abcde", uid="pod-uid", image="shop/web:1.4.2", exit_code=1)


def failed(output: str = TRACEBACK, *, pod: PodTold | None = POD, **changes: Any) -> FailedRun:
    """Return a failed run."""
    run = FailedRun(
        job=TOLD,
        slot=SLOT,
        attempt=2,
        run="reports-29412480-2",
        run_uid="run-uid",
        ended=attempt(),
        pod=pod,
        output=output,
    )
    return replace(run, **changes)


def event_of(run: FailedRun, **settings: str) -> dict[str, Any]:
    """Return the event of a run."""
    return failure_event(run, **settings).event


# --- What an event holds ----------------------------------------------------------------------------------


def test_event_says_whose_run_failed() -> None:
    """Tags are what one searches for; the rest is there to be read."""
    event = event_of(failed())
    assert event["tags"] == {
        "component": "job",
        "namespace": "web",
        "job": "reports",
        "command": "makereports",
        "slot": "2026-11-24T08:00:00Z",
        "attempt": "2",
        "result": "Failed",
    }
    assert (event["level"], event["platform"], event["logger"]) == ("error", "python", "crontabber")
    assert (event["timestamp"], event["server_name"]) == ("2026-11-24T08:03:00Z", "reports-29412480-2-abcde")
    assert event["transaction"] == "makereports"
    assert event["contexts"]["crontabber"] == {
        "namespace": "web",
        "job": "reports",
        "command": "makereports",
        "args": "--limit 5",
        "slot": "2026-11-24T08:00:00Z",
        "attempt": 2,
        "run": "reports-29412480-2",
        "pod": "reports-29412480-2-abcde",
        "image": "shop/web:1.4.2",
        "exit code": 1,
        "result": "Failed",
        "started": "2026-11-24T08:00:00Z",
        "finished": "2026-11-24T08:03:00Z",
        "seconds": 180.0,
        "deadline seconds": 7200,
    }


def test_exception_has_frames_oldest_first_with_what_is_the_apps_own() -> None:
    """Library, frozen and standard library frames are not in_app; files and modules are named as Python does."""
    (value,) = event_of(failed())["exception"]["values"]
    assert (value["module"], value["type"], value["value"]) == (
        "reports.errors",
        "FetchError",
        "could not fetch",
    )
    assert value["mechanism"] == {"type": "crontabber", "handled": False, "data": {"exit_code": 1}}
    frames = value["stacktrace"]["frames"]
    assert [(one["filename"], one.get("module"), one["in_app"]) for one in frames] == [
        ("manage.py", "__main__", True),
        ("manage.py", "manage", True),
        ("django/core/management/__init__.py", "django.core.management", False),
        ("<frozen importlib._bootstrap>", None, False),
        ("json/decoder.py", "json.decoder", False),
        ("reports/tasks.py", "reports.tasks", True),
    ]
    assert frames[-1] == {
        "filename": "reports/tasks.py",
        "abs_path": "/app/reports/tasks.py",
        "module": "reports.tasks",
        "function": "fetch",
        "lineno": 7,
        "context_line": f'connect(password="{FILTERED}")',
        "in_app": True,
    }
    assert "abs_path" not in frames[3]


@pytest.mark.parametrize(
    ("path", "filename", "is_own"),
    [
        ("/app/.venv/lib/python3.13/site-packages/celery/app.py", "celery/app.py", False),
        ("/usr/lib/python3/dist-packages/django/db.py", "django/db.py", False),
        ("/root/.pyenv/versions/3.11.7/lib/python3.11/threading.py", "threading.py", False),
        ("/opt/conda/lib64/python3.12/asyncio/runners.py", "asyncio/runners.py", False),
        ("/usr/lib/python311.zip/encodings.py", "encodings.py", False),
        ("<string>", "<string>", True),
        ("manage.py", "manage.py", True),
        ("./reports/x.py", "./reports/x.py", True),
        ("/app/lib/python_tools.py", "app/lib/python_tools.py", True),
        ("/srv/libs/python/x.py", "srv/libs/python/x.py", True),
    ],
)
def test_own_code_is_told_from_libraries(path: str, filename: str, is_own: bool) -> None:
    """By where Python installs packages and its own modules."""
    ending = read(f'Traceback (most recent call last):\n  File "{path}", line 1, in f\nValueError: x\n')
    assert ending is not None
    (value,) = exception_values(ending, ())
    (frame,) = value["stacktrace"]["frames"]
    assert (frame["filename"], frame["in_app"]) == (filename, is_own)


def test_chain_is_oldest_first_and_each_knows_its_parent() -> None:
    """The exception that ended the process is the last, with id 0, as the SDK does it."""
    text = (
        'Traceback (most recent call last):\n  File "/a.py", line 1, in f\nKeyError: 1\n\n'
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "/a.py", line 2, in g\nOSError: 2\n\n'
        "During handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "/a.py", line 3, in h\nValueError: 3\n'
    )
    values = event_of(failed(text))["exception"]["values"]
    assert [value["type"] for value in values] == ["KeyError", "OSError", "ValueError"]
    assert [value["mechanism"] for value in values] == [
        {"type": "chained", "handled": False, "exception_id": 2, "parent_id": 1, "source": "__cause__"},
        {"type": "chained", "handled": False, "exception_id": 1, "parent_id": 0, "source": "__context__"},
        {"type": "crontabber", "handled": False, "exception_id": 0, "data": {"exit_code": 1}},
    ]


def test_exception_group_is_a_tree() -> None:
    """Its members are its children, by their place in it."""
    text = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "/a.py", line 1, in f\n'
        "  | ExceptionGroup: several (2 sub-exceptions)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | KeyError: 1\n"
        "    +---------------- 2 ----------------\n"
        "    | ExceptionGroup: inner (1 sub-exception)\n"
        "    +-+---------------- 1 ----------------\n"
        "      | OSError: 2\n"
        "      +------------------------------------\n"
    )
    values = event_of(failed(text))["exception"]["values"]
    tree = [
        (
            value["value"],
            value["mechanism"]["exception_id"],
            value["mechanism"].get("parent_id"),
            value["mechanism"].get("source"),
            value["mechanism"].get("is_exception_group", False),
        )
        for value in values
    ]
    assert tree == [
        ("2", 3, 2, "exceptions[0]", False),
        ("inner (1 sub-exception)", 2, 0, "exceptions[1]", True),
        ("1", 1, 0, "exceptions[0]", False),
        ("several (2 sub-exceptions)", 0, None, None, True),
    ]


def test_huge_exceptions_are_cut_where_sentry_would() -> None:
    """Frames in the middle go, and exceptions that are too many."""
    frames = "".join(f'  File "/app/a.py", line {number}, in f\n' for number in range(1, 1001))
    ending = read(f"Traceback (most recent call last):\n{frames}ValueError: x\n")
    assert ending is not None
    (value,) = exception_values(ending, ())
    lines = [frame["lineno"] for frame in value["stacktrace"]["frames"]]
    assert (len(lines), lines[0], lines[-1]) == (FRAMES_MAX, 1, 1000)
    chain = 'Traceback (most recent call last):\n  File "/a.py", line 1, in f\nKeyError: 1\n'
    separator = "\nDuring handling of the above exception, another exception occurred:\n\n"
    ending = read(separator.join([chain] * 100))
    assert ending is not None
    assert len(exception_values(ending, ())) == EXCEPTIONS_MAX


def test_logged_exception_counts_as_handled() -> None:
    """The process went on behind it."""
    (value,) = event_of(failed("ERROR:reports:oops\n" + TRACEBACK.removeprefix("working\n")))["exception"][
        "values"
    ]
    assert value["mechanism"]["handled"] is True


def test_attempts_of_a_failure_group_together() -> None:
    """Nothing that differs between attempts is part of what Sentry groups by; another job is another issue."""
    first = event_of(failed())
    again = event_of(failed(attempt=3, slot=SLOT + timedelta(hours=1), run="x", run_uid="y"))
    assert first["fingerprint"] == again["fingerprint"] == ["{{ default }}", "web", "reports"]
    assert first["exception"] == again["exception"]
    other = event_of(failed(job=replace(TOLD, name="mails")))
    assert other["fingerprint"] == ["{{ default }}", "web", "mails"]


def test_same_attempt_has_the_same_event_id_whoever_tells_it() -> None:
    """So that a restarted operator can tell it again; another attempt, or pod, has another."""
    run = failed()
    assert event_of(run)["event_id"] == run.event_id == event_of(failed(history=()))["event_id"]
    assert len(run.event_id) == 32
    other_pod = replace(run, pod=PodTold(name="p", uid="other"))
    without = replace(run, pod=None)
    assert (
        len({run.event_id, other_pod.event_id, without.event_id, replace(without, attempt=3).event_id}) == 4
    )


def test_event_and_check_in_of_an_attempt_are_tied_together() -> None:
    """By the trace, which Sentry shows beside the check-in."""
    trace = event_of(failed())["contexts"]["trace"]
    assert trace["trace_id"] == trace_id("run-uid", 2)
    assert trace["trace_id"] != trace_id("run-uid", 3)
    assert check_in_id("run-uid", 2) not in (trace_id("run-uid", 2), check_in_id("run-uid", 1))


def test_earlier_runs_are_breadcrumbs_oldest_first() -> None:
    """What happened before is told beside the failure, masked like all else."""
    history = (
        HistoryEntry(
            slot=SLOT,
            job="r-1",
            attempt=1,
            finished=SLOT,
            result=Result.FAILED,
            message="OSError: token=hunter2",
        ),
        HistoryEntry(
            slot=SLOT - timedelta(hours=1), job="r-0", seconds=3.5, result=Result.SUCCEEDED, message="ok"
        ),
    )
    crumbs = event_of(failed(history=history))["breadcrumbs"]["values"]
    assert [(crumb["level"], crumb["message"]) for crumb in crumbs] == [
        ("info", "Attempt 1 at slot 2026-11-24T07:00:00Z: Succeeded"),
        ("error", f"Attempt 1 at slot 2026-11-24T08:00:00Z: Failed: OSError: token={FILTERED}"),
    ]
    assert crumbs[0]["data"] == {"run": "r-0", "seconds": 3.5}


def test_output_is_attached_masked_and_its_end_shown() -> None:
    """All of it that is known as a file, the last lines in the event, colours and secrets gone."""
    told = failure_event(
        failed("".join(f"line {n}\n" for n in range(50)) + "\x1b[31mpassword=hunter2\x1b[0m\n" + TRACEBACK)
    )
    (attachment,) = told.attachments
    text = attachment.data.decode()
    assert attachment.filename == "output.txt"
    assert text.startswith("line 0\n")
    assert f"\npassword={FILTERED}\nworking\n" in text
    assert "hunter2" not in text
    shown = told.event["extra"]["output"]
    assert shown.endswith("reports.errors.FetchError: could not fetch")
    assert shown.count("\n") == 19


def test_output_that_is_not_there_is_not_attached() -> None:
    """A run that printed nothing has nothing beside its event."""
    told = failure_event(failed("", ended=attempt(text="")))
    assert told.attachments == ()
    assert "extra" not in told.event


def test_secrets_of_arguments_and_template_are_nowhere_in_an_event() -> None:
    """Neither as arguments, nor where the command printed them, nor in the exception."""
    job = replace(TOLD, args=("--api-key", "hunter2", "--user", "app"))
    pod = PodTold(name="p", uid="u", secrets=frozenset({"hunter3"}), exit_code=1)
    output = "using hunter2 and hunter3\n" + TRACEBACK.replace(
        "could not fetch", "not with hunter2 or hunter3"
    )
    told = failure_event(failed(output, job=job, pod=pod))
    assert "hunter" not in repr(told.event)
    assert b"hunter" not in told.attachments[0].data
    assert told.event["contexts"]["crontabber"]["args"] == f"--api-key {FILTERED} --user app"
    assert "hunter" not in repr(failed(output, pod=pod))


@pytest.mark.parametrize(
    ("image", "release"),
    [
        ("shop/web:1.4.2", "1.4.2"),
        ("registry.example.com:5000/shop/web:2026-11-24.abcdef0", "2026-11-24.abcdef0"),
        ("registry.example.com:5000/shop/web", ""),
        ("web:latest", ""),
        ("web", ""),
        ("", ""),
        ("web:1.2@sha256:0123456789abcdef0123", "1.2"),
        ("web@sha256:0123456789abcdef0123", "0123456789ab"),
    ],
)
def test_release_is_the_images_tag(image: str, release: str) -> None:
    """A registry's port is no tag, `latest` no release, and a digest better than nothing."""
    assert release_of(image) == release
    event = event_of(failed(pod=PodTold(name="p", uid="u", image=image)))
    assert event.get("release", "") == release


def test_settings_of_the_operator_win() -> None:
    """SENTRY_RELEASE and SENTRY_ENVIRONMENT mean what they mean everywhere."""
    event = event_of(failed(), release="7.0", environment="staging")
    assert (event["release"], event["environment"]) == ("7.0", "staging")


# --- Failures that are no exception -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "kind", "value", "level"),
    [
        (
            failed(ended=attempt(Result.TIMED_OUT, "DeadlineExceeded", "Pod was active too long")),
            "TimedOut",
            "It ran longer than activeDeadlineSeconds, 7200 seconds.",
            "error",
        ),
        (
            failed(ended=attempt(Result.OUT_OF_MEMORY, "OutOfMemory")),
            "OutOfMemory",
            "It used more memory than its limit allows.",
            "error",
        ),
        (
            failed(ended=attempt(Result.EVICTED, "Evicted", "The node was low on memory: 12Mi")),
            "Evicted",
            "It was evicted from its node.",
            "warning",
        ),
        (
            failed("", pod=None, ended=attempt(Result.LOST, "Lost")),
            "Lost",
            "Its Job vanished before it ended; the slot runs again.",
            "warning",
        ),
        (
            failed("a\n\nno space left on device\n", ended=attempt(kind="Exit3")),
            "Exit3",
            "no space left on device",
            "error",
        ),
        (
            failed("", ended=attempt(kind="Exit3", value="", text="")),
            "Exit3",
            "The command ended with exit code 1.",
            "error",
        ),
        (
            failed("busy\n", pod=PodTold(name="p", uid="u", exit_code=139), ended=attempt(kind="Exit139")),
            "SIGSEGV",
            "The command was killed by SIGSEGV (exit code 139).",
            "error",
        ),
        (
            failed("usage: x\nmanage.py x: error: no\n", ended=attempt(kind="Exit2")),
            "Exit2",
            "manage.py x: error: no",
            "error",
        ),
        (
            failed("x\nCommandError: token=hunter2 is bad\n"),
            "CommandError",
            f"token={FILTERED} is bad",
            "error",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_failure_without_a_traceback_is_named(run: FailedRun, kind: str, value: str, level: str) -> None:
    """Timeouts, kills, evictions and losses by name, in the same words each time; else the code and the last line."""
    event = event_of(run)
    (told,) = event["exception"]["values"]
    assert (told["type"], told["value"], event["level"]) == (kind, value, level)
    assert told["mechanism"]["handled"] is False


def test_signal_is_told_by_number_and_name() -> None:
    """Sentry knows what to do with it."""
    run = failed("", pod=PodTold(name="p", uid="u", exit_code=137), ended=attempt(kind="Exit137"))
    mechanism = event_of(run)["exception"]["values"][0]["mechanism"]
    assert mechanism["meta"] == {"signal": {"number": 9, "name": "SIGKILL"}}


def test_details_of_an_eviction_are_beside_its_name() -> None:
    """Numbers that differ each time would make each time another issue."""
    run = failed(ended=attempt(Result.EVICTED, "Evicted", "The node was low on memory: 12Mi"))
    assert event_of(run)["contexts"]["crontabber"]["details"] == "The node was low on memory: 12Mi"


def pod(*, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """Return a failed pod."""
    return {
        "metadata": {"name": "reports-1-abcde", "uid": "pod-1", "creationTimestamp": "2026-11-24T08:00:01Z"},
        "spec": {
            "initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "migrate"}],
            "containers": [{"name": "web", "image": "shop/web:1.4.2"}],
        },
        "status": {
            "phase": "Failed",
            "containerStatuses": [{"name": "web", "state": state or {}}],
            **status,
        },
    }


TERMINATED = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-24T08:03:00Z"}}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            pod(state={"waiting": {"reason": "ImagePullBackOff"}}, reason="DeadlineExceeded"),
            "ErrImagePull",
        ),
        (pod(state={"waiting": {"reason": "ErrImagePull"}}), "ErrImagePull"),
        (pod(state={"waiting": {"reason": "InvalidImageName"}}), "InvalidImageName"),
        (pod(state={"waiting": {"reason": "CreateContainerConfigError"}}), "CreateContainerConfigError"),
        (
            pod(
                state={"waiting": {"reason": "PodInitializing"}},
                initContainerStatuses=[{"name": "migrate", "state": {"terminated": {"exitCode": 1}}}],
            ),
            "InitContainerFailed",
        ),
        (
            pod(
                state={"waiting": {"reason": "PodInitializing"}},
                initContainerStatuses=[{"name": "migrate", "state": {"waiting": {"reason": "ErrImagePull"}}}],
            ),
            "ErrImagePull",
        ),
        (pod(reason="NodeLost"), "NodeLost"),
        (
            pod(
                conditions=[
                    {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
                ]
            ),
            "NodeLost",
        ),
        (
            pod(conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]),
            "NodeLost",
        ),
        (
            pod(
                state=TERMINATED,
                conditions=[
                    {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
                ],
            ),
            "Preempted",
        ),
        (
            pod(
                conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
            ),
            "Evicted",
        ),
        (pod(state=TERMINATED), None),
        (
            pod(
                state=TERMINATED,
                initContainerStatuses=[{"name": "migrate", "state": {"terminated": {"exitCode": 0}}}],
            ),
            None,
        ),
        (
            pod(
                state={"waiting": {"reason": "PodInitializing"}},
                initContainerStatuses=[{"name": "proxy", "state": {"terminated": {"exitCode": 143}}}],
            ),
            None,
        ),
        (pod(), None),
    ],
)
def test_fault_of_the_pod_itself_is_named(body: dict[str, Any], kind: str | None) -> None:
    """Images, init containers and nodes are told from the command; an ended sidecar is no fault."""
    told = read_pod(body)
    assert (told.why[0] if told.why is not None else None) == kind
    if kind is not None:
        # Whatever the output and the result say.
        (value,) = event_of(failed(pod=told, ended=attempt(Result.TIMED_OUT)))["exception"]["values"]
        assert value["type"] == kind


UNKNOWN = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None}}


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (
            [("Scheduled", "Successfully assigned"), ("Failed", 'Failed to pull image "x": not found')],
            "ErrImagePull",
        ),
        ([("BackOff", 'Back-off pulling image "x"')], "ErrImagePull"),
        ([("Failed", "Error: ErrImagePull")], "ErrImagePull"),
        ([("Failed", "Error: ImagePullBackOff")], "ErrImagePull"),
        ([("Pulling", 'Pulling image "x"')], "NeverStarted"),
        ([("Failed", 'Container image "x" is not present with pull policy of Never')], "ErrImageNeverPull"),
        ([("InspectFailed", 'Failed to apply default image tag "X": invalid')], "InvalidImageName"),
        ([("Failed", 'Error: secret "db" not found')], "CreateContainerConfigError"),
        ([("Failed", "Error: couldn't find key x in ConfigMap web/y")], "CreateContainerConfigError"),
        ([("FailedMount", "MountVolume.SetUp failed")], "FailedMount"),
        ([("FailedScheduling", "0/3 nodes are available")], "FailedScheduling"),
        ([], "NeverStarted"),
    ],
)
def test_events_tell_why_a_pod_never_started(events: list[tuple[str, str]], kind: str) -> None:
    """When its time is up, the kubelet has turned what it waited for into an end that never was."""
    body = pod(state=UNKNOWN, reason="DeadlineExceeded")
    assert never_started(body)
    bodies = [{"reason": reason, "message": message} for reason, message in events]
    seen = evidence([body], {})
    (run,) = failed_runs(job(), kubernetes_job(), [body], {}, seen, {"pod-1": bodies})
    assert run.pod is not None
    assert run.pod.exit_code is None
    event = event_of(run)
    (value,) = event["exception"]["values"]
    assert (value["type"], event["tags"]["result"]) == (kind, "TimedOut")
    assert "meta" not in value["mechanism"]


def test_pod_whose_command_ran_is_not_taken_for_one_that_never_started() -> None:
    """Also where the kubelet lost it later."""
    assert not never_started(pod(state=TERMINATED))
    lost = {"terminated": {**UNKNOWN["terminated"], "startedAt": "2026-11-24T08:00:02Z"}}
    assert not never_started(pod(state=lost))
    assert never_started(
        pod(state={"terminated": {**UNKNOWN["terminated"], "startedAt": "1970-01-01T00:00:00Z"}})
    )


# --- Who reports what -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, False),
        ({"env": [{"name": "SENTRY_DSN", "value": "https://k@s/1"}]}, True),
        ({"env": [{"name": "SENTRY_DSN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, True),
        ({"env": [{"name": "SENTRY_DSN", "value": ""}]}, False),
        ({"env": [{"name": "SENTRY_DSN", "value": "x"}, {"name": "SENTRY_DSN", "value": ""}]}, False),
        ({"env": [{"name": "SENTRY_ENVIRONMENT", "value": "x"}]}, False),
        ({"envFrom": [{"secretRef": {"name": "webapp"}}]}, False),
        ({"envFrom": [{"configMapRef": {"name": "with"}}]}, True),
        ({"envFrom": [{"configMapRef": {"name": "without"}}]}, False),
        ({"envFrom": [{"configMapRef": {"name": "prefixed"}, "prefix": "SENTRY_"}]}, True),
        ({"envFrom": [{"configMapRef": {"name": "with"}, "prefix": "SENTRY_"}]}, False),
        (
            {"envFrom": [{"configMapRef": {"name": "with"}}], "env": [{"name": "SENTRY_DSN", "value": ""}]},
            False,
        ),
    ],
)
def test_own_dsn_of_an_app_is_found(container: dict[str, Any], expected: bool) -> None:
    """In `env` it is certain; in an `envFrom` only where its keys are known."""
    known = {
        ("ConfigMap", "with"): frozenset({"SENTRY_DSN", "DEBUG"}),
        ("ConfigMap", "without"): frozenset({"DEBUG"}),
        ("ConfigMap", "prefixed"): frozenset({"DSN"}),
    }
    assert sets_dsn(container, known) is expected


def test_own_dsn_is_looked_for_in_the_container_of_the_command() -> None:
    """A sidecar's Sentry reports nothing of the command; the value itself is kept nowhere."""
    body = pod(state=TERMINATED)
    body["spec"]["initContainers"][0]["env"] = [{"name": "SENTRY_DSN", "value": "https://hunter2@s/1"}]
    assert not read_pod(body).app_reports
    body["spec"]["containers"][0]["env"] = [{"name": "SENTRY_DSN", "value": "https://hunter2@s/1"}]
    told = read_pod(body)
    assert told.app_reports
    assert "hunter2" not in repr(told)


OWN = PodTold(name="p", uid="u", exit_code=1, app_reports=True)
OTHER = PodTold(name="p", uid="u", exit_code=1)


@pytest.mark.parametrize(
    ("what", "run", "by_operator_too"),
    [
        ("uncaught exception", failed(TRACEBACK), False),
        ("logged exception", failed("ERROR:root:x\n" + TRACEBACK.removeprefix("working\n")), False),
        ("CommandError", failed("CommandError: x\n"), True),
        ("exit code alone", failed("bye\n"), True),
        ("nothing printed", failed("", ended=attempt(text="")), True),
        ("exception while the settings load", failed(SETTINGS), True),
        ("manage.py itself", failed('  File "/app/manage.py", line 3\n    x(\nSyntaxError: no\n'), True),
        ("interpreter crash", failed("Fatal Python error: Segmentation fault\n"), True),
        ("timeout", failed(TRACEBACK, ended=attempt(Result.TIMED_OUT)), True),
        ("out of memory", failed(TRACEBACK, ended=attempt(Result.OUT_OF_MEMORY)), True),
        ("eviction", failed(TRACEBACK, ended=attempt(Result.EVICTED)), True),
        ("image", failed("", pod=replace(OWN, why=("ErrImagePull", "x"))), True),
        (
            "interrupt",
            failed(TRACEBACK.replace("reports.errors.FetchError: could not fetch", "KeyboardInterrupt")),
            True,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_reported_twice_and_nothing_not_at_all(
    what: str, run: FailedRun, by_operator_too: bool
) -> None:
    """Auto leaves to an app with its own DSN what its SDK sees, and no more; Always and Never mean it."""
    own = replace(run, pod=replace(OWN, why=run.pod.why if run.pod is not None else None))
    other = replace(run, pod=replace(OTHER, why=run.pod.why if run.pod is not None else None))

    def with_setting(run: FailedRun, setting: ReportErrors) -> FailedRun:
        return replace(run, job=replace(run.job, report_errors=setting))

    assert is_worth_reporting(own) is by_operator_too, what
    assert is_worth_reporting(other)
    assert is_worth_reporting(with_setting(own, ReportErrors.ALWAYS))
    assert not is_worth_reporting(with_setting(own, ReportErrors.NEVER))
    assert not is_worth_reporting(with_setting(other, ReportErrors.NEVER))


def test_exception_that_only_touches_loaded_settings_is_the_apps_to_report() -> None:
    """A missing setting raises in the same file, long after the SDK was started."""
    text = SETTINGS.replace("in __init__", "in __getattr__")
    assert not is_worth_reporting(failed(text, pod=OWN))


def test_run_without_a_pod_is_reported() -> None:
    """Nobody else can tell of a Job that vanished."""
    assert is_worth_reporting(failed("", pod=None, ended=attempt(Result.LOST)))


# --- Recovery, and the operator itself --------------------------------------------------------------------


def test_recovery_is_an_event_of_its_own() -> None:
    """Of level info, in one issue a job, whatever had failed and how often."""
    recovered = Recovered(
        job=TOLD,
        slot=SLOT,
        attempt=3,
        failures=2,
        run="r-3",
        at=ENDED,
        last_type="OSError",
        last_value="token=hunter2",
        since=SLOT,
    )
    event = recovery_event(recovered, environment="staging").event
    assert event["level"] == "info"
    assert event["logentry"] == {"message": "web/reports recovered"}
    assert event["fingerprint"] == ["crontabber-recovered", "web", "reports"]
    assert event["tags"]["result"] == "Succeeded"
    assert event["contexts"]["crontabber"] == {
        "recovered": "The run of slot 2026-11-24T08:00:00Z succeeded at attempt 3, after 2 failures in a row.",
        "last failure": f"OSError: token={FILTERED}",
        "failing since": "2026-11-24T08:00:00Z",
        "run": "r-3",
    }
    assert event["event_id"] == replace(recovered, failures=5).event_id
    assert is_recovery_worth_reporting(recovered)
    assert not is_recovery_worth_reporting(
        replace(recovered, job=replace(TOLD, report_errors=ReportErrors.NEVER))
    )


def test_operators_own_errors_are_tagged_as_its_own() -> None:
    """They never mix with those of jobs, and carry no secrets either."""
    error = OperatorError(
        message="%s failed",
        shown="postgres://a:hunter2@db failed",
        logger="crontabber_operator.reconciler",
        traceback=TRACEBACK,
        at=SLOT,
    )
    event = operator_event(error, release="crontabber-operator@0.1.0", server="operator-0").event
    assert event["tags"] == {"component": "operator"}
    assert event["fingerprint"] == ["{{ default }}", "crontabber-operator"]
    assert event["logentry"] == {"message": "%s failed", "formatted": f"postgres://{FILTERED}@db failed"}
    assert event["exception"]["values"][0]["type"] == "FetchError"
    assert (event["logger"], event["release"]) == (
        "crontabber_operator.reconciler",
        "crontabber-operator@0.1.0",
    )
    assert "hunter2" not in repr(event)


# --- What there is to tell --------------------------------------------------------------------------------


def job(status: Status | None = None, **spec: Any) -> Job:
    """Return a resource."""
    return Job(
        namespace="web",
        name="reports",
        uid="job-uid",
        resource_version="1",
        generation=1,
        created=SLOT - timedelta(days=1),
        spec=Spec.read({"command": "makereports", "frequency": "1h", "backfill": True, **spec}),
        status=status or Status(),
    )


def kubernetes_job(**changes: Any) -> Run:
    """Return a Job of it."""
    run = Run(
        name="reports-29412480-2",
        uid="run-uid",
        resource_version="5",
        kind=RunKind.ONE_OFF,
        slot=SLOT,
        through=SLOT,
        attempt=2,
        template_hash="t",
        created=SLOT,
        suspended=False,
        released=True,
        started=SLOT,
        finished=ENDED,
        failed_pods=1,
    )
    return replace(run, **changes)


def test_failed_pod_becomes_a_failed_run() -> None:
    """With all that the pod, its output, the resource and its books tell."""
    body = pod(state=TERMINATED)
    outputs = {"pod-1": TRACEBACK}
    books = Status(history=(HistoryEntry(slot=SLOT, job="earlier", finished=SLOT, result=Result.FAILED),))
    seen = evidence([body], outputs)
    (run,) = failed_runs(job(books, reportErrors="Always"), kubernetes_job(), [body], outputs, seen)
    assert (run.slot, run.attempt, run.run, run.run_uid) == (SLOT, 2, "reports-29412480-2", "run-uid")
    assert run.job == JobTold(
        namespace="web", name="reports", command="makereports", report_errors=ReportErrors.ALWAYS
    )
    assert run.ended == seen.failures[0]
    assert run.pod == PodTold(name="reports-1-abcde", uid="pod-1", image="shop/web:1.4.2", exit_code=1)
    assert (run.output, run.history, run.through) == (TRACEBACK, books.history, None)
    assert event_of(run)["exception"]["values"][0]["type"] == "FetchError"


def plain_pods(*minutes: int) -> list[dict[str, Any]]:
    """Return failed pods that ended so many minutes after the slot."""
    pods = []
    for minute in minutes:
        at = f"2026-11-24T08:{minute:02}:00Z"
        body = pod(state={"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at}})
        body["metadata"] = {"name": f"p{minute}", "uid": f"u{minute}", "creationTimestamp": at}
        pods.append(body)
    return pods


def test_retries_of_a_plain_job_are_numbered_on() -> None:
    """Kubernetes counts failed pods, of which the operator prunes all but the newest; recorded ones are left out."""
    run = kubernetes_job(kind=RunKind.NATIVE, attempt=0, failed_pods=4, finished=None)
    recorded = HistoryEntry(
        slot=SLOT, job=run.name, finished=SLOT + timedelta(minutes=2), result=Result.FAILED
    )
    pods = plain_pods(9, 2, 5)
    found = list(failed_runs(job(Status(history=(recorded,))), run, pods, {}, evidence(pods, {})))
    assert [(one.attempt, one.pod.uid if one.pod else "") for one in found] == [(3, "u5"), (4, "u9")]
    fresh = list(failed_runs(job(), run, pods, {}, evidence(pods, {})))
    assert [one.attempt for one in fresh] == [2, 3, 4]


def test_run_that_left_no_pod_is_told_all_the_same() -> None:
    """A Job that ran into its own deadline has deleted its pods."""
    run = kubernetes_job(reason="DeadlineExceeded", failed_pods=0)
    (told,) = failed_runs(job(), run, [], {}, Evidence())
    assert (told.ended.result, told.pod, told.attempt) == (Result.TIMED_OUT, None, 2)
    going_on = kubernetes_job(finished=None, failed_pods=0)
    assert list(failed_runs(job(), going_on, [], {}, Evidence())) == []


# --- What can't start, what was made by hand --------------------------------------------------------------

WAITS = pod(state={"waiting": {"reason": "ErrImagePull", "message": "registry: not found"}}, phase="Pending")
FOUND = cannot_start([WAITS], timedelta(minutes=1))
CLAIM = Ongoing(slot=SLOT, through=SLOT, job="reports-29412480-2", uid="run-uid", attempt=2)


def says_so(status: Status) -> Status:
    """Return books that say that the run can't start."""
    condition = Condition(
        type="CaughtUp",
        status="False",
        reason=CANNOT_START,
        message="x",
        last_transition_time=SLOT,
    )
    return replace(status, conditions=(condition,))


def test_run_that_cannot_start_is_told_with_what_the_kubelet_said() -> None:
    """While it goes on; what is said at its end would group with it and have the same id."""
    assert FOUND is not None
    going_on = kubernetes_job(finished=None, failed_pods=0)
    told = not_starting(job(Status(ongoing=CLAIM)), going_on, WAITS, FOUND)
    assert told is not None
    event = event_of(told)
    (value,) = event["exception"]["values"]
    assert (value["type"], value["value"]) == ("ErrImagePull", "Its image can't be pulled.")
    assert (event["tags"]["result"], event["tags"]["attempt"], event["level"]) == ("NotStarted", "2", "error")
    assert event["contexts"]["crontabber"]["details"] == "ErrImagePull: registry: not found"
    at_the_end = pod(state=UNKNOWN, reason="DeadlineExceeded")
    bodies = {"pod-1": [{"reason": "BackOff", "message": "Back-off pulling image"}]}
    (later,) = failed_runs(job(), kubernetes_job(), [at_the_end], {}, evidence([at_the_end], {}), bodies)
    assert later.event_id == told.event_id
    assert event_of(later)["exception"]["values"] == event["exception"]["values"]
    assert event_of(later)["fingerprint"] == event["fingerprint"]


def test_run_whose_books_say_that_it_cannot_start_is_not_told_again() -> None:
    """Neither by the next operator, nor when its time is up; its next attempt is."""
    assert FOUND is not None
    books = says_so(Status(ongoing=CLAIM))
    going_on = kubernetes_job(finished=None, failed_pods=0)
    assert not_starting(job(books), going_on, WAITS, FOUND) is None
    ended = pod(state=UNKNOWN, reason="DeadlineExceeded")
    assert list(failed_runs(job(books), kubernetes_job(), [ended], {}, evidence([ended], {}))) == []
    another = says_so(Status(ongoing=replace(CLAIM, attempt=1)))
    assert not_starting(job(another), going_on, WAITS, FOUND) is not None
    assert len(list(failed_runs(job(another), kubernetes_job(), [ended], {}, evidence([ended], {})))) == 1


def test_command_that_failed_after_all_is_told_whatever_the_books_said() -> None:
    """Its image came, and then it failed by itself."""
    books = says_so(Status(ongoing=CLAIM))
    body = pod(state=TERMINATED)
    assert len(list(failed_runs(job(books), kubernetes_job(), [body], {}, evidence([body], {})))) == 1


def test_run_made_by_hand_says_so_and_each_failure_of_it_is_told_once() -> None:
    """How many were told is remembered on its Job: the books know nothing of it."""
    run = kubernetes_job(kind=RunKind.MANUAL, attempt=0, failed_pods=2, finished=None)
    pods = plain_pods(2, 5)
    found = list(failed_runs(job(), run, pods, {}, evidence(pods, {})))
    assert [(one.attempt, event_of(one)["tags"].get("trigger")) for one in found] == [
        (1, "run-now"),
        (2, "run-now"),
    ]
    found = list(failed_runs(job(), replace(run, told=1), pods, {}, evidence(pods, {})))
    assert [one.attempt for one in found] == [2]
    unseen = replace(run, failed_pods=0, finished=ENDED)
    assert len(list(failed_runs(job(), unseen, [], {}, Evidence()))) == 1
    assert list(failed_runs(job(), replace(unseen, told=1), [], {}, Evidence())) == []
    (scheduled,) = failed_runs(job(), kubernetes_job(), pods[:1], {}, evidence(pods[:1], {}))
    assert "trigger" not in event_of(scheduled)["tags"]


def test_batch_is_told_by_the_slot_that_failed() -> None:
    """The one behind the last that succeeded."""
    run = kubernetes_job(through=SLOT + timedelta(hours=5))
    body = pod(state=TERMINATED)
    seen = replace(evidence([body], {}), last_good_slot=SLOT + timedelta(hours=2))
    (told,) = failed_runs(job(), run, [body], {}, seen)
    assert (told.slot, told.through) == (SLOT + timedelta(hours=3), SLOT + timedelta(hours=5))


def test_books_tell_of_recovery_and_of_jobs_that_vanished() -> None:
    """Only a success behind failures is a recovery; a vanished Job has the id of its claim."""
    failing = Status(
        error_count=2,
        last_error=LastError(type="OSError", value="x"),
        history=(
            HistoryEntry(slot=SLOT, job="r-2", finished=SLOT + timedelta(minutes=2), result=Result.FAILED),
            HistoryEntry(slot=SLOT, job="r-1", finished=SLOT + timedelta(minutes=1), result=Result.FAILED),
            HistoryEntry(slot=SLOT, job="r-0", finished=SLOT, result=Result.SUCCEEDED),
        ),
        ongoing=Ongoing(slot=SLOT, through=SLOT, job="r-3", uid="claimed", attempt=3),
    )
    good = HistoryEntry(slot=SLOT, job="r-3", attempt=3, finished=ENDED, result=Result.SUCCEEDED)
    (news,) = status_news(job(failing), replace(failing, history=(good, *failing.history), error_count=0))
    assert isinstance(news, Recovered)
    assert (news.failures, news.attempt, news.run, news.last_type) == (2, 3, "r-3", "OSError")
    assert news.since == SLOT + timedelta(minutes=1)
    lost = HistoryEntry(slot=SLOT, job="r-3", attempt=3, result=Result.LOST, message="It vanished.")
    (news,) = status_news(job(failing), replace(failing, history=(lost, *failing.history)))
    assert isinstance(news, FailedRun)
    assert (news.run_uid, news.ended.result, news.pod) == ("claimed", Result.LOST, None)
    well = replace(failing, error_count=0)
    assert list(status_news(job(well), replace(well, history=(good, *well.history)))) == []
    assert list(status_news(job(failing), failing)) == []
    other = HistoryEntry(slot=SLOT, job="r-3", result=Result.FAILED)
    assert list(status_news(job(failing), replace(failing, history=(other, *failing.history)))) == []


def test_failure_and_recovery_of_one_write_are_a_recovery_too() -> None:
    """A plain job may fail and succeed while nobody looks; only the success behind the failures counts."""
    bad = HistoryEntry(slot=SLOT, job="r-1", finished=SLOT, result=Result.FAILED)
    good = HistoryEntry(slot=SLOT, job="r-1", attempt=3, finished=ENDED, result=Result.SUCCEEDED)
    later = HistoryEntry(slot=ENDED, job="r-2", finished=ENDED, result=Result.SUCCEEDED)
    again = replace(bad, attempt=2, finished=SLOT + timedelta(minutes=1))
    news = list(status_news(job(), Status(history=(later, good, again, bad))))
    assert [(one.run, one.failures) for one in news if isinstance(one, Recovered)] == [("r-1", 2)]
    assert len(news) == 1


NOW = ENDED + timedelta(minutes=4)


@pytest.mark.parametrize(
    ("entry", "is_told_again"),
    [
        (HistoryEntry(slot=SLOT, job="r", finished=ENDED, result=Result.FAILED), True),
        (HistoryEntry(slot=SLOT, job="r", finished=ENDED, result=Result.SUCCEEDED), True),
        (HistoryEntry(slot=SLOT, job="r", finished=NOW, result=Result.TIMED_OUT), True),
        (
            HistoryEntry(slot=SLOT, job="r", finished=NOW - timedelta(minutes=6), result=Result.FAILED),
            False,
        ),
        (HistoryEntry(slot=SLOT, job="gone", finished=ENDED, result=Result.FAILED), False),
        (HistoryEntry(slot=SLOT, job="r", finished=ENDED, result=Result.LOST), False),
        (HistoryEntry(slot=SLOT, job="r", result=Result.FAILED), False),
    ],
)
def test_what_the_books_say_of_the_last_minutes_is_told_again(
    entry: HistoryEntry, is_told_again: bool
) -> None:
    """By an operator that was just started, of runs that can still be looked at, and whose ids are known."""
    old = HistoryEntry(slot=SLOT, job="r", finished=SLOT - timedelta(hours=1), result=Result.FAILED)
    books = Status(history=(entry, old), error_count=2)
    before = before_recent(job(books), [kubernetes_job(name="r")], NOW)
    assert before.status.history == ((old,) if is_told_again else (entry, old))


@pytest.mark.parametrize(("minutes", "is_told_again"), [(1, True), (6, False)])
def test_a_claim_of_the_last_minutes_is_told_again(minutes: int, is_told_again: bool) -> None:
    """Its check-in may never have been sent."""
    claim = replace(CLAIM, since=NOW - timedelta(minutes=minutes))
    before = before_recent(job(Status(ongoing=claim)), [], NOW)
    assert before.status.ongoing == (None if is_told_again else claim)


def test_what_is_told_again_has_the_ids_that_it_had() -> None:
    """So Sentry takes it for what it knows."""
    body = pod(state=TERMINATED)
    seen = evidence([body], {})
    (first,) = failed_runs(job(), kubernetes_job(), [body], {}, seen)
    entry = HistoryEntry(
        slot=SLOT,
        job="reports-29412480-2",
        attempt=2,
        finished=seen.failures[0].finished,
        result=Result.FAILED,
    )
    books = job(Status(history=(entry,), error_count=1))
    assert list(failed_runs(books, kubernetes_job(), [body], {}, seen)) == []
    before = before_recent(books, [kubernetes_job()], NOW)
    (again,) = failed_runs(before, kubernetes_job(), [body], {}, seen)
    assert (again.event_id, again.attempt) == (first.event_id, first.attempt)
