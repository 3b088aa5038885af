"""What fails arrives at Sentry once, with its exception and without secrets; and Sentry never holds up the work.

The operator sends by the real SDK to a server that speaks the envelope protocol.
"""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from crontabber_operator.sentry_client import TIMEOUT_SECONDS
from devcluster import Cluster
from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import OwnOperators
from tests.integration.test_operator_webapp import WebApp
from tests.integration.testbed import Body, Testbed, before, written
from tests.sentry_ingest import Ingest, ingest

pytestmark = pytest.mark.side_by_side

SECRET = "hunter2"
"""No part of what is told may hold it."""


class Sentry:
    """A Sentry, and what its project 1 was told."""

    def __init__(self, server: Ingest, bed: Testbed) -> None:
        """Keep both."""
        self.server = server
        self._bed = bed

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables of an operator that reports here."""
        return {"SENTRY_DSN": self.server.dsn(1), "SENTRY_ENVIRONMENT": "test", **more}

    def events(self, job: str | None = None, project: int = 1) -> list[Body]:
        """Return the events, each id once; those of a job."""
        return [one for one in self.server.events(project) if job is None or one["tags"].get("job") == job]

    def results(self, job: str) -> list[str]:
        """Return the results that were told of a job."""
        return [one["tags"]["result"] for one in self.events(job)]

    def wait(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds; fail with all that was told."""
        try:
            self._bed.wait(lambda: bool(holds()) or None, what)
        except AssertionError as error:
            told = json.dumps([one["tags"] for one in self.server.events()], indent=1)
            raise AssertionError(f"{error}\n--- told\n{told}\n{self.server.refused}") from None

    def assert_content(self) -> None:
        """Nothing that came was malformed, and no secret was in it."""
        assert self.server.refused == []
        for envelope in self.server.envelopes:
            for item in envelope.items:
                assert SECRET.encode() not in item.payload, item.payload.decode(errors="replace")


@contextmanager
def sentry_of(bed: Testbed) -> Iterator[Sentry]:
    """Run a Sentry for a test."""
    with ingest() as server:
        yield Sentry(server, bed)


def missed(bed: Testbed, name: str, count: int = 1, **spec: Any) -> str:
    """Make a job with missed slots that is tried again soon."""
    fields = {"backfill": True, "retryDelaySeconds": 1, "retryMaxDelaySeconds": 1, **spec}
    return bed.job(name, annotations={"mark-success": before(bed.missed_slots(count))}, **fields)


def kill(operator: OperatorProcess) -> None:
    """End an operator as a crash does."""
    operator.kill()


def wait_killed(bed: Testbed, operator: OperatorProcess) -> None:
    """Wait until an operator's fault has struck."""
    bed.wait(lambda: not operator.runs, "the operator has killed itself")
    assert operator.exit_code == -signal.SIGKILL, operator.log_tail()


# --- The real thing ---------------------------------------------------------------------------------------


def test_a_django_command_that_fails_is_told_with_the_frames_of_django_and_its_own(own: OwnOperators) -> None:
    """The sample web app's crontest, which crashes on demand: a real traceback of a real command."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        WebApp(bed)
        own.start(environment=sentry.environment())
        spec = {"command": "crontest", "args": ["--crash"], "template": None, "retryLimit": 0}
        job = missed(bed, "job", **spec)
        sentry.wait(lambda: sentry.events(job), "it is told")
        (event,) = sentry.events(job)
        (raised,) = event["exception"]["values"]
        assert (raised["type"], raised["value"]) == ("PlannedCrashError", "crash requested")
        assert raised["module"] == "crashes.management.commands.crontest"
        frames = raised["stacktrace"]["frames"]
        assert frames[-1]["filename"] == "crashes/management/commands/crontest.py"
        assert frames[-1]["context_line"] == 'raise PlannedCrashError("crash requested")'
        own_frames = {one["filename"].split("/")[0] for one in frames if one["in_app"]}
        assert own_frames == {"manage.py", "crashes"}
        assert {one["filename"].split("/")[0] for one in frames if not one["in_app"]} == {"django"}
        assert (event["transaction"], event["tags"]["command"]) == ("crontest", "crontest")
        sentry.assert_content()


# --- One event a failure ----------------------------------------------------------------------------------


def test_a_failure_that_repeats_is_one_issue_with_frames_and_without_secrets(own: OwnOperators) -> None:
    """Three attempts at a slot, then it recovers: three events that group as one, and the recovery beside."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        own.start(environment=sentry.environment(SENTRY_RELEASE="7"))
        bed.control(
            "job",
            failures=3,
            say=f"postgres://me:{SECRET}@db/x\npassword={SECRET}\ntried {SECRET} as a token",
        )
        job = missed(
            bed,
            "job",
            args=["--api-key", f"{SECRET}-1"],
            template=bed.template("job", {"API_TOKEN": SECRET, "DEBUG": "0"}),
        )
        slot = written(bed.missed_slots(1)[0])
        sentry.wait(
            lambda: len(sentry.events(job)) == 4, "three failures and the recovery of the job are told"
        )
        *failures, recovery = sorted(sentry.events(job), key=lambda one: str(one["timestamp"]))
        assert [one["tags"]["attempt"] for one in failures] == ["1", "2", "3"]
        assert len({json.dumps(one["fingerprint"]) for one in failures}) == 1
        assert len({json.dumps(one["exception"]) for one in failures}) == 1
        event = failures[0]
        (raised,) = event["exception"]["values"]
        assert (raised["type"], raised["value"]) == ("RuntimeError", "the database is on fire")
        frames = raised["stacktrace"]["frames"]
        assert [one["function"] for one in frames] == ["<module>", "main", "fail", "burn"]
        assert [one["module"] for one in frames][::3] == ["__main__", "burning"]
        assert frames[-1]["context_line"] == 'raise RuntimeError("the database is on fire")'
        tags = {"component": "job", "namespace": bed.namespace, "job": job, "command": "record"}
        assert tags | {"slot": slot, "attempt": "1", "result": "Failed"} == event["tags"]
        assert (event["environment"], event["release"], event["level"]) == ("test", "7", "error")
        assert (recovery["level"], recovery["tags"]["result"]) == ("info", "Succeeded")
        assert "after 3 failures in a row" in recovery["contexts"]["crontabber"]["recovered"]
        assert len(failures[2]["breadcrumbs"]["values"]) == 2
        texts = [item.payload.decode() for item in sentry.server.items("attachment")]
        assert all("tried [Filtered] as a token" in text for text in texts)
        assert len(texts) == 3
        assert "[Filtered]" in event["contexts"]["crontabber"]["args"]
        sentry.assert_content()


def test_a_plain_job_is_told_of_as_well(own: OwnOperators) -> None:
    """Kubernetes retries it by itself: each failed pod is an event, of the same issue."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        own.start(environment=sentry.environment())
        bed.control("job", failures=2, how="command-error")
        job = bed.job("job")
        bed.wait_ready(job)
        bed.annotate(job, mark_success=before(bed.missed_slots(1)))
        sentry.wait(lambda: len(sentry.events(job)) == 3, "two failures and the recovery are told")
        first, second, recovery = sorted(sentry.events(job), key=lambda one: str(one["timestamp"]))
        assert [one["tags"]["attempt"] for one in (first, second)] == ["1", "2"]
        assert first["exception"]["values"][0]["type"] == "CommandError"
        assert first["exception"]["values"] == second["exception"]["values"]
        assert recovery["tags"]["attempt"] == "3"
        sentry.assert_content()


def test_what_the_app_reports_by_itself_is_not_told_twice(own: OwnOperators) -> None:
    """With Auto and a SENTRY_DSN of its own: neither its exception, but that its time was up; Always: both."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        own.start(environment=sentry.environment())
        env = {"SENTRY_DSN": "https://key@sentry.example/9"}
        for name in ("app", "always", "slow"):
            bed.control(name, failures=9, hold=name == "slow")
        app = missed(bed, "app", env=env, retryLimit=0)
        bed.wait_status(app, state="RetriesExhausted")
        # Within a shorter time its command might not have begun, which the app could not report.
        slow = missed(bed, "slow", env=env, retryLimit=0, activeDeadlineSeconds=5)
        bed.wait_status(slow, state="RetriesExhausted")
        always = missed(bed, "always", env=env, retryLimit=0, reportErrors="Always")
        sentry.wait(lambda: sentry.events(always), "the failure of the last job is told")
        # Of one namespace all is told in order, so what was not told yet never will be.
        assert (sentry.results(app), sentry.results(slow), sentry.results(always)) == (
            [],
            ["TimedOut"],
            ["Failed"],
        )
        assert sentry.events(slow)[0]["exception"]["values"][0]["type"] == "TimedOut"
        sentry.assert_content()


def test_a_namespace_has_its_own_sentry_and_the_operator_another(own: OwnOperators) -> None:
    """By a Secret; what goes wrong in the operator itself is told to its own, tagged as its own."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        values = {"SENTRY_DSN": sentry.server.dsn(2), "SENTRY_ENVIRONMENT": "team"}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        bed.create("secrets", {"metadata": {"name": "crontabber-sentry"}, "data": data})
        own.start("record:before:1:raise", environment=sentry.environment())
        bed.control("job", failures=1)
        job = missed(bed, "job")
        sentry.wait(lambda: len(sentry.events(project=2)) == 2, "failure and recovery are told to the team")
        sentry.wait(lambda: sentry.events(project=1), "the operator's own error is told")
        assert {one["environment"] for one in sentry.events(project=2)} == {"team"}
        assert {one["tags"]["job"] for one in sentry.events(project=2)} == {job}
        (error,) = sentry.events(project=1)
        assert error["tags"] == {"component": "operator"}
        assert error["release"].startswith("crontabber-operator@")
        assert (
            error["logentry"]["formatted"] == f"{bed.namespace}/{job}: unexpected error; tried again in 1 s"
        )
        (raised,) = error["exception"]["values"]
        assert (raised["type"], raised["value"]) == ("RuntimeError", "an unexpected fault")
        assert raised["stacktrace"]["frames"]
        sentry.assert_content()


# --- Check-ins --------------------------------------------------------------------------------------------


def test_check_ins_tell_of_each_run_and_keep_the_monitor_up_to_date(own: OwnOperators) -> None:
    """It begins, fails, begins again and succeeds; the monitor comes from the spec."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        own.start(environment=sentry.environment(CRONTABBER_SENTRY_CRONS="on"))
        bed.control("job", hold=True)
        job = missed(bed, "job", activeDeadlineSeconds=600)

        def statuses() -> list[str]:
            return [one["status"] for one in sentry.server.check_ins()]

        sentry.wait(lambda: statuses() == ["in_progress"], "its beginning is told")
        bed.control("job", failures=1, hold=False)
        sentry.wait(lambda: statuses()[-1] == "ok", "its success is told")
        assert statuses()[:2] == ["in_progress", "error"]
        assert set(statuses()[2:]) <= {"in_progress", "ok"}
        check_ins = sentry.server.check_ins()
        assert check_ins[0]["check_in_id"] == check_ins[1]["check_in_id"] != check_ins[-1]["check_in_id"]
        (slug,) = {one["monitor_slug"] for one in check_ins}
        assert slug.startswith(bed.namespace)
        assert check_ins[0]["monitor_config"] == {
            "schedule": {"type": "crontab", "value": bed.schedule},
            "timezone": "UTC",
            "checkin_margin": 5,
            "max_runtime": 11,
            "failure_issue_threshold": 1,
            "recovery_threshold": 1,
        }
        (failure,) = [one for one in sentry.events(job) if one["level"] == "error"]
        traces = [one["contexts"]["trace"]["trace_id"] for one in (failure, check_ins[1])]
        assert traces[0] == traces[1]
        bed.change(job, timeZone="Europe/Berlin")
        bed.annotate(job, mark_success=before(bed.missed_slots(1)))
        sentry.wait(
            lambda: sentry.server.check_ins()[-1]["monitor_config"]["timezone"] == "Europe/Berlin",
            "the monitor is brought up to date",
        )
        sentry.assert_content()


# --- Before its time is up --------------------------------------------------------------------------------


@pytest.mark.side_by_side(waits_for_the_clock=True)
def test_an_image_that_cannot_be_pulled_is_told_while_the_run_waits(own: OwnOperators) -> None:
    """Once: in the status, by an Event, to Sentry; not again by the next operator, nor at its deadline."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        first = own.start(environment=sentry.environment())
        template = bed.template("job")
        template["spec"]["containers"][0]["image"] = "no-such-image:1"
        job = missed(bed, "job", template=template, activeDeadlineSeconds=45, retryLimit=0)
        event = bed.wait_event(job, "CannotStart")
        assert event["type"] == "Warning"
        assert "can't start: ErrImagePull: " in event["message"]
        assert "no-such-image:1" in event["message"]
        why = bed.condition(job, "CaughtUp")
        assert (why["status"], why["reason"], why["message"]) == ("False", "CannotStart", event["message"])
        assert bed.status(job)["errorCount"] == 0
        sentry.wait(lambda: sentry.events(job), "it is told")
        (told,) = sentry.events(job)
        assert (told["tags"]["result"], told["exception"]["values"][0]["type"]) == (
            "NotStarted",
            "ErrImagePull",
        )
        assert "no-such-image:1" in told["contexts"]["crontabber"]["details"]
        kill(first)
        own.start(environment=sentry.environment())
        bed.wait_status(job, state="RetriesExhausted")
        bed.control("last", failures=9)
        last = missed(bed, "last", retryLimit=0)
        sentry.wait(lambda: sentry.events(last), "the failure of the other job is told")
        assert len(sentry.server.items("event")) == 2
        assert bed.reasons(job).count("CannotStart") == 1
        sentry.assert_content()


# --- Made by hand -----------------------------------------------------------------------------------------


def test_a_run_now_that_fails_is_told_once(own: OwnOperators) -> None:
    """Outside of the books, and yet to Sentry and by an Event; the next operator doesn't tell it again."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        first = own.start(environment=sentry.environment())
        bed.control("job", failures=99)
        job = bed.job("job", failedJobsHistoryLimit=5)
        bed.wait_ready(job)
        bed.annotate(job, run_now="--once")
        event = bed.wait_event(job, "RunNowFailed")
        assert "failed: RuntimeError: the database is on fire." in event["message"]
        sentry.wait(lambda: sentry.events(job), "it is told")
        kill(first)
        own.start(environment=sentry.environment())
        bed.annotate(job, run_now="--twice")
        sentry.wait(lambda: len(sentry.events(job)) == 2, "the second is told, too")
        assert [one["tags"]["trigger"] for one in sentry.events(job)] == ["run-now", "run-now"]
        assert len(sentry.server.items("event")) == 2
        bed.wait(lambda: bed.reasons(job).count("RunNowFailed") == 2, "each by an Event")
        status = bed.status(job)
        assert not any(status.get(name) for name in ("errorCount", "lastError", "history"))
        sentry.assert_content()


# --- Crashes, and a bad Sentry ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["record:before:1", "record:after:1"])
def test_a_crash_around_the_books_neither_loses_nor_repeats_an_event(own: OwnOperators, fault: str) -> None:
    """The next operator tells what the dead one may have told or not, under the same id."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        killed = own.start(fault, environment=sentry.environment())
        bed.control("job", failures=1, say="x" * 20)
        job = missed(bed, "job")
        wait_killed(bed, killed)
        own.start(environment=sentry.environment())
        sentry.wait(lambda: len(sentry.events(job)) == 2, "the failure and the recovery are told")
        assert sorted(sentry.results(job)) == ["Failed", "Succeeded"]
        sentry.assert_content()


def test_a_sentry_that_hangs_holds_up_nothing(own: OwnOperators) -> None:
    """Failures, retries and a chain of slots go on while it sits on the first event; the end, too."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        sentry.server.hold = threading.Event()
        began = time.monotonic()
        operator = own.start(environment=sentry.environment(CRONTABBER_SENTRY_CRONS="on"))
        bed.control("failing", failures=2)
        failing = missed(bed, "failing")
        chain = missed(bed, "chain", 5)
        bed.wait_good(chain, 5)
        bed.wait_good(failing, 1)
        bed.wait_status(chain, missed=0)
        bed.wait_status(failing, missed=0, errorCount=0)
        sentry.wait(lambda: sentry.server.requests, "the first event has arrived")
        assert sentry.server.envelopes == []
        # One at a time, and each is waited for.
        assert 1 <= sentry.server.requests <= 1 + (time.monotonic() - began) / TIMEOUT_SECONDS
        assert operator.terminate() == 0
        assert "Traceback" not in operator.own_log()


def test_the_end_of_the_operator_sends_what_it_knows(own: OwnOperators) -> None:
    """Told to end right after a failure, it sends that before it ends."""
    bed = own.bed
    with sentry_of(bed) as sentry:
        operator = own.start(environment=sentry.environment())
        for name in ("first", "last"):
            bed.control(name, failures=9)
        first = missed(bed, "first", retryLimit=0)
        sentry.wait(lambda: sentry.events(first), "the operator is warm")
        last = missed(bed, "last", retryLimit=0)
        bed.wait_status(last, state="RetriesExhausted")
        assert operator.terminate() == 0
        assert sentry.results(last) == ["Failed"], operator.log()


# --- The last error ---------------------------------------------------------------------------------------


def test_the_last_error_is_kept_as_the_old_crontabber_kept_it(own: OwnOperators, cluster: Cluster) -> None:
    """Type, value and the end of the traceback; kubectl shows its last line."""
    bed = own.bed
    own.start()
    bed.control("job", failures=1, say="\n".join(f"line {number} {'x' * 80}" for number in range(200)))
    bed.control("said", failures=1, how="command-error")
    job = missed(bed, "job", retryLimit=0)
    said = missed(bed, "said", retryLimit=0)
    bed.wait_status(said, state="RetriesExhausted")
    error = bed.wait_status(job, state="RetriesExhausted")["lastError"]
    assert (error["type"], error["value"]) == ("RuntimeError", "the database is on fire")
    assert error["traceback"].startswith("Traceback (most recent call last):\n")
    assert error["traceback"].rstrip().endswith("RuntimeError: the database is on fire")
    assert len(error["traceback"].encode()) <= 4096
    slot = written(bed.missed_slots(1)[0])
    assert (error["slot"], error["job"]) == (slot, bed.status(job)["history"][0]["job"])
    told = bed.status(said)["lastError"]
    assert (told["type"], told["value"]) == ("CommandError", "no such signature")
    shown = cluster.kubectl("get", "ctj", "-n", bed.namespace, "-o", "wide")
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert rows["NAME"].endswith("LAST ERROR")
    assert rows[job].endswith("the database is on fire")
    assert rows[said].endswith("no such signature")
