"""The Reporter, with the real SDK, against a server that speaks Sentry's protocol."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sentry_sdk

from crontabber_operator import sentry
from crontabber_operator.failures import evidence
from crontabber_operator.masking import FILTERED
from crontabber_operator.models import HistoryEntry, Ongoing, Result, Spec, Status
from crontabber_operator.observed import Attempt, Job, Run, RunKind
from crontabber_operator.pod_starts import cannot_start
from crontabber_operator.sentry import Reporter, SentrySettings
from crontabber_operator.sentry_crons import check_ins, slug
from crontabber_operator.sentry_news import FailedRun, JobTold, PodTold, Recovered, check_in_id, trace_id
from tests.sentry_ingest import KEY, Ingest, ingest

SLOT = datetime(2026, 11, 24, 8, tzinfo=UTC)
TRACEBACK = """\
working with token=hunter2
Traceback (most recent call last):
  File "/app/manage.py", line 22, in <module>
    main()
  File "/app/reports/tasks.py", line 7, in fetch
    return table[key]
           ~~~~~^^^^^
KeyError: 'b'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/manage.py", line 22, in <module>
    main()
  File "/app/reports/tasks.py", line 9, in fetch
    raise OSError("boom")
OSError: boom
"""


@pytest.fixture
def server() -> Iterator[Ingest]:
    """Return a Sentry."""
    with ingest() as running:
        yield running


Make = Callable[..., Reporter]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a maker of reporters, which are closed at the end."""
    made: list[Reporter] = []

    def maker(dsn: str = "", *, crons: bool = True, **options: Any) -> Reporter:
        settings = {name: options.pop(name) for name in ("environment", "release") if name in options}
        made.append(Reporter(SentrySettings(dsn=dsn, crons=crons, **settings), **options))
        return made[-1]

    yield maker
    for one in made:
        one.close(0)


def failed(number: int = 1, namespace: str = "web", output: str = TRACEBACK, **changes: Any) -> FailedRun:
    """Return a failed run."""
    run = FailedRun(
        job=JobTold(namespace=namespace, name="reports", command="makereports"),
        slot=SLOT,
        attempt=number,
        run=f"r-{number}",
        run_uid=f"{namespace}-run-{number}",
        ended=Attempt(Result.FAILED, "OSError", "boom", "", SLOT, SLOT + timedelta(minutes=1)),
        pod=PodTold(
            name=f"pod-{number}", uid=f"{namespace}-pod-{number}", image="shop/web:1.4.2", exit_code=1
        ),
        output=output,
    )
    return replace(run, **changes)


def attempts(server: Ingest, project: int | None = None) -> list[str]:
    """Return the attempts that arrived, in order."""
    return [event["tags"]["attempt"] for event in server.events(project)]


def wait_until(reporter: Reporter, holds: Callable[[Any], bool]) -> None:
    """Wait until something holds of a reporter's counts."""
    with reporter._changed:  # noqa: SLF001 - its own condition is what can be waited for
        assert reporter._changed.wait_for(lambda: holds(reporter._outbox.counts()), 20)  # noqa: SLF001


# --- What arrives -----------------------------------------------------------------------------------------


def test_failed_run_arrives_as_an_event_with_its_output(server: Ingest, make: Make) -> None:
    """By the real SDK, in the envelope protocol; Relay would take it."""
    make(server.dsn(7), environment="staging").failed(failed())
    server.wait_for(lambda state: state.envelopes)
    (envelope,) = server.envelopes
    assert (envelope.project, envelope.key) == ("7", KEY)
    event, attachment = envelope.items
    body = event.json
    assert [value["type"] for value in body["exception"]["values"]] == ["KeyError", "OSError"]
    assert body["exception"]["values"][1]["stacktrace"]["frames"][-1] == {
        "filename": "reports/tasks.py",
        "abs_path": "/app/reports/tasks.py",
        "module": "reports.tasks",
        "function": "fetch",
        "lineno": 9,
        "context_line": 'raise OSError("boom")',
        "in_app": True,
    }
    assert body["tags"]["job"] == "reports"
    assert (body["release"], body["environment"], body["server_name"]) == ("1.4.2", "staging", "pod-1")
    assert len(body["contexts"]["crontabber"]) > 10  # the SDK trims no context
    assert body["sdk"]["integrations"] == []
    assert (attachment.type, attachment.headers["filename"]) == ("attachment", "output.txt")
    text = attachment.payload.decode()
    assert text.startswith(f"working with token={FILTERED}\n")
    assert "hunter2" not in json.dumps(body)
    assert server.refused == []


def test_run_without_a_release_gets_none_of_the_operators(server: Ingest, make: Make) -> None:
    """Neither a commit of the directory that the operator runs in, nor its host."""
    make(server.dsn()).failed(failed(pod=None))
    server.wait_for(lambda state: state.envelopes)
    (event,) = server.events()
    assert "release" not in event
    assert "server_name" not in event
    assert event["environment"] == "production"


def test_every_kind_of_failure_is_taken_by_sentry(server: Ingest, make: Make) -> None:
    """Named failures, chains, groups and hostile output are all well-formed."""
    reporter = make(server.dsn())
    outputs = [
        TRACEBACK,
        "",
        "\x00\x01\x1b[31m\ud800 \uffff\n",
        "CommandError: " + "x" * 100_000,
        "x" * 200_000,
        'Traceback (most recent call last):\n  File "", line 1, in \nValueError\n',
        'Traceback (most recent call last):\n  File "/a\tb.py", line None, in <lambda>\n' + "É: " * 5000,
        "\n".join([TRACEBACK] * 30),
    ]
    for number, output in enumerate(outputs):
        reporter.failed(failed(number, output=output))
    for number, result in enumerate(Result, start=100):
        reporter.failed(failed(number, ended=Attempt(result, "x", "y\n" * 99, "", SLOT, None)))
    job = JobTold(namespace="ns", name="n" * 48, command="c" * 253, args=("a" * 70_000,))
    reporter.failed(failed(200, job=job, through=SLOT))
    expected = len(outputs) + len(Result) + 1
    server.wait_for(lambda state: len(state.events()) + len(state.refused) >= expected)
    assert server.refused == []


def test_recovery_arrives(server: Ingest, make: Make) -> None:
    """As an event of level info."""
    make(server.dsn()).recovered(
        Recovered(
            job=JobTold(namespace="web", name="reports", command="x"),
            slot=SLOT,
            attempt=2,
            failures=1,
            run="r",
        )
    )
    server.wait_for(lambda state: state.events())
    (event,) = server.events()
    assert (event["level"], event["logentry"]["message"]) == ("info", "web/reports recovered")


def test_failures_that_the_app_reports_are_not_sent(server: Ingest, make: Make) -> None:
    """With Auto; the next one is."""
    reporter = make(server.dsn())
    own = PodTold(name="p", uid="own", app_reports=True)
    reporter.failed(failed(1, pod=own))
    reporter.failed(failed(2, pod=replace(own, uid="own-2"), output="CommandError: no\n"))
    server.wait_for(lambda state: state.events())
    assert attempts(server) == ["2"]


def test_same_attempt_told_by_a_restarted_operator_is_one_event(server: Ingest, make: Make) -> None:
    """Its id is the same, so Sentry keeps one; within one life it is not even sent twice."""
    first = make(server.dsn())
    first.failed(failed())
    first.failed(failed())
    server.wait_for(lambda state: state.events())
    second = make(server.dsn())
    second.failed(failed())
    server.wait_for(lambda state: len(state.envelopes) == 2)
    assert len(server.events()) == 1
    assert first.counts().sent == 1


# --- From the reconciler ----------------------------------------------------------------------------------


def resource(status: Status | None = None) -> Job:
    """Return a resource."""
    return Job(
        namespace="web",
        name="reports",
        uid="uid",
        resource_version="1",
        generation=1,
        created=SLOT,
        spec=Spec.read({"command": "makereports", "frequency": "1h", "backfill": True}),
        status=status or Status(),
    )


RUN = Run(
    name="reports-1-1",
    uid="run-uid",
    resource_version="1",
    kind=RunKind.ONE_OFF,
    slot=SLOT,
    through=SLOT,
    attempt=1,
    template_hash="",
    created=SLOT,
    suspended=False,
    released=True,
    started=SLOT,
    finished=SLOT + timedelta(minutes=1),
    failed_pods=1,
)
POD = {
    "metadata": {"name": "pod-1", "uid": "pod-uid", "creationTimestamp": "2026-11-24T08:00:00Z"},
    "spec": {"containers": [{"name": "web", "image": "shop/web:1.4.2", "args": ["x"]}]},
    "status": {
        "phase": "Failed",
        "containerStatuses": [
            {"name": "web", "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-24T08:01:00Z"}}}
        ],
    },
}


def test_a_run_of_the_reconciler_is_told_from_claim_to_recovery(server: Ingest, make: Make) -> None:
    """What inspecting pods and writing statuses tell: check-ins, the failure, and that it is well again."""
    reporter = make(server.dsn())
    claimed = Status(ongoing=Ongoing(slot=SLOT, through=SLOT, job=RUN.name, uid=RUN.uid))
    reporter.status_written(resource(), claimed, [RUN])
    outputs = {"pod-uid": TRACEBACK}
    reporter.inspected(resource(claimed), RUN, [POD], outputs, evidence([POD], outputs))
    bad = HistoryEntry(slot=SLOT, job=RUN.name, finished=RUN.finished, seconds=60.0, result=Result.FAILED)
    after = Status(history=(bad,), error_count=1)
    reporter.status_written(resource(claimed), after, [RUN])
    again = replace(
        after, ongoing=Ongoing(slot=SLOT, through=SLOT, job="reports-1-2", uid="run-2", attempt=2)
    )
    reporter.status_written(resource(after), again, [RUN])
    good = HistoryEntry(slot=SLOT, job="reports-1-2", attempt=2, seconds=30.0, result=Result.SUCCEEDED)
    reporter.status_written(resource(again), Status(history=(good, bad)), [RUN])
    # Beginnings whose end is told already need not arrive.
    server.wait_for(
        lambda state: (
            len(state.events()) == 2 and state.check_ins()[-1:] and state.check_ins()[-1]["status"] == "ok"
        )
    )
    failure, recovery = sorted(server.events(), key=lambda event: str(event["level"]))
    assert failure["exception"]["values"][-1]["type"] == "OSError"
    assert recovery["level"] == "info"
    ids = {check_in["check_in_id"]: check_in["status"] for check_in in server.check_ins()}
    assert ids == {check_in_id("run-uid", 1): "error", check_in_id("run-2", 2): "ok"}
    assert {check_in["monitor_slug"] for check_in in server.check_ins()} == {slug("web", "reports")}
    error_trace = {
        check_in["contexts"]["trace"]["trace_id"]
        for check_in in server.check_ins()
        if check_in["status"] == "error"
    }
    assert error_trace == {failure["contexts"]["trace"]["trace_id"]} == {trace_id("run-uid", 1)}
    assert server.refused == []


def test_run_that_cannot_start_is_one_event_whoever_looks(server: Ingest, make: Make) -> None:
    """At the first look; looking again, and its end, tell nothing more."""
    reporter = make(server.dsn())
    waits = {"state": {"waiting": {"reason": "ImagePullBackOff"}}, "name": "web"}
    pods = [{**POD, "status": {"phase": "Pending", "containerStatuses": [waits]}}]
    found = cannot_start(pods, timedelta(minutes=1))
    assert found is not None
    going_on = replace(RUN, finished=None, failed_pods=0)
    for _ in range(2):
        reporter.cannot_start(resource(), going_on, pods, found)
    ended = [{**POD, "status": {"phase": "Failed", "reason": "DeadlineExceeded"}}]
    reporter.inspected(resource(), RUN, ended, {}, evidence(ended, {}))
    reporter.failed(failed(9))
    server.wait_for(lambda state: attempts(state) == ["1", "9"])
    assert server.events()[0]["exception"]["values"][0]["type"] == "ErrImagePull"
    assert len(server.items("event")) == 2


def test_check_ins_are_opt_in(server: Ingest, make: Make) -> None:
    """They cost money."""
    reporter = make(server.dsn(), crons=False)
    after = Status(ongoing=Ongoing(slot=SLOT, through=SLOT, job="r", uid="u"))
    reporter.status_written(resource(), after, [])
    (one,) = check_ins(resource(), after, [])
    reporter.check_in(one)
    reporter.failed(failed())
    server.wait_for(lambda state: state.events())
    assert server.check_ins() == []


def test_check_ins_keep_to_sentrys_limit_and_to_the_last_word(server: Ingest, make: Make) -> None:
    """Many runs within a minute: at most six check-ins arrive, the newest success a minute later."""
    now = [SLOT]
    reporter = make(server.dsn(), clock=lambda: now[0])
    books = Status()
    for number in range(30):
        ongoing = Ongoing(slot=SLOT, through=SLOT, job=f"r-{number}", uid=f"u-{number}")
        reporter.status_written(resource(books), replace(books, ongoing=ongoing), [])
        good = HistoryEntry(slot=SLOT, job=f"r-{number}", seconds=0.1, result=Result.SUCCEEDED)
        after = Status(history=(good, *books.history))
        reporter.status_written(resource(replace(books, ongoing=ongoing)), after, [])
        books = after
        if number < 6:
            server.wait_for(lambda state, least=number: len(state.check_ins()) > min(least, 4))
    first_minute = len(server.check_ins())
    assert first_minute <= 6
    now[0] += timedelta(seconds=61)
    reporter.failed(failed())
    server.wait_for(
        lambda state: any(one["check_in_id"] == check_in_id("u-29", 1) for one in state.check_ins())
    )
    assert server.refused == []


# --- The operator's own errors ----------------------------------------------------------------------------


def fail(error: Exception) -> None:
    """Raise it, with a secret in a local variable, which must not leave."""
    password = "hunter3"
    assert password
    raise error


@pytest.fixture
def log(make: Make, server: Ingest) -> Iterator[tuple[logging.Logger, Reporter]]:
    """Return a logger whose errors are told, and the reporter."""
    reporter = make(server.dsn(), version="0.1.0")
    logger = logging.getLogger("crontabber_operator.test")
    handler = reporter.log_handler()
    logging.getLogger().addHandler(handler)
    yield logger, reporter
    logging.getLogger().removeHandler(handler)


def test_logged_errors_are_told_as_the_operators_own(
    server: Ingest, log: tuple[logging.Logger, Reporter]
) -> None:
    """With the exception, without local variables, masked; what is no error isn't told."""
    logger, _ = log
    logger.warning("only a warning")
    try:
        fail(KeyError("password=hunter2"))
    except KeyError:
        logger.exception("%s/%s: unexpected error", "web", "reports")
    server.wait_for(lambda state: state.events())
    (event,) = server.events()
    assert event["tags"] == {"component": "operator"}
    assert event["logentry"] == {
        "message": "%s/%s: unexpected error",
        "formatted": "web/reports: unexpected error",
    }
    assert (event["logger"], event["level"]) == ("crontabber_operator.test", "error")
    assert event["release"] == "crontabber-operator@0.1.0"
    assert event["server_name"] == socket.gethostname()
    (value,) = event["exception"]["values"]
    assert value["type"] == "KeyError"
    assert value["stacktrace"]["frames"][-1]["function"] == "fail"
    assert "vars" not in value["stacktrace"]["frames"][-1]
    assert "hunter" not in json.dumps(event)


@pytest.mark.parametrize("end", ["will retry: GET /x -> 503", "TCP closed; will re-authenticate: GET /x"])
def test_an_api_server_that_is_away_is_no_error_of_the_operators(
    end: str, server: Ingest, log: tuple[logging.Logger, Reporter]
) -> None:
    """kopf logs each attempt as an error, in other words each time; what it gives up is told."""
    logger, _ = log
    kopf = logging.getLogger("kopf._cogs.clients.api")
    kopf.error(f"Request attempt #3/12 failed; {end}")
    kopf.error("Request attempt #12/12 failed; escalating: GET /x -> 503")
    logger.error("Request attempt #3/12 failed; will retry: not of kopf")
    server.wait_for(lambda state: len(state.events()) == 2)
    texts = [event["logentry"]["message"] for event in server.events()]
    assert [text[:37] for text in texts] == [
        "Request attempt #12/12 failed; escala",
        "Request attempt #3/12 failed; will re",
    ]


def test_a_storm_of_errors_is_cut_short(server: Ingest, log: tuple[logging.Logger, Reporter]) -> None:
    """Twenty a minute say it all."""
    logger, reporter = log
    for number in range(50):
        logger.error("error %d", number)
    wait_until(reporter, lambda counts: counts.sent == 20)
    assert reporter.counts().dropped == {"rate_limited": 30}


def test_errors_of_telling_are_not_told(server: Ingest, log: tuple[logging.Logger, Reporter]) -> None:
    """Else an unreachable Sentry would be the subject of what it can't be told."""
    logger, _ = log
    for name in ("sentry_sdk.errors", "urllib3.connectionpool", "crontabber_operator.sentry"):
        logging.getLogger(name).error("no connection")
    logger.critical("the end")
    server.wait_for(lambda state: state.events())
    (event,) = server.events()
    assert (event["logentry"]["formatted"], event["level"]) == ("the end", "fatal")


def test_caught_exception_is_told(server: Ingest, make: Make) -> None:
    """With what was being done."""
    reporter = make(server.dsn())
    try:
        fail(ValueError("odd"))
    except ValueError as error:
        reporter.operator_error(error, "reading the books")
    server.wait_for(lambda state: state.events())
    (event,) = server.events()
    assert (event["logentry"]["message"], event["exception"]["values"][0]["value"]) == (
        "reading the books",
        "odd",
    )


def test_the_operator_itself_is_left_alone(server: Ingest, make: Make) -> None:
    """No hooks, no global client, no handler, no thread but the Reporter's own."""
    hook, threads = sys.excepthook, set(threading.enumerate())
    handlers = list(logging.getLogger().handlers)
    make(server.dsn()).failed(failed())
    server.wait_for(lambda state: state.events())
    assert sys.excepthook is hook
    assert not sentry_sdk.get_client().is_active()
    assert logging.getLogger().handlers == handlers
    new = {thread.name for thread in set(threading.enumerate()) - threads}
    assert {name for name in new if "process_request_thread" not in name} <= {"sentry"}


# --- Without, and with a bad, Sentry ----------------------------------------------------------------------


def test_without_a_dsn_all_is_off_silently(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """No thread, no line in the log, nothing kept."""
    threads = set(threading.enumerate())
    reporter = make("")
    assert not reporter.active
    reporter.failed(failed())
    reporter.status_written(
        resource(), Status(ongoing=Ongoing(slot=SLOT, through=SLOT, job="r", uid="u")), []
    )
    reporter.operator_error(ValueError(), "x")
    logging.getLogger("x").error("x")
    reporter.log_handler().emit(logging.LogRecord("x", logging.ERROR, "x", 1, "x", None, None))
    assert set(threading.enumerate()) <= threads
    assert reporter.counts().waiting == 0
    assert [record for record in caplog.records if record.name == sentry.logger.name] == []


@pytest.mark.parametrize(
    "dsn",
    [
        "nonsense",
        "https://sentry.example.com/1",
        "https://hunter2@sentry.example.com/x",
        "ftp://a@b/1",
        "https://hunter2@[/1",
    ],
)
def test_bad_dsn_is_told_in_the_log_and_nothing_is_sent(
    dsn: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator runs on; the key is not shown."""
    reporter = make(dsn)
    assert not reporter.active
    reporter.failed(failed())
    (record,) = caplog.records
    assert "SENTRY_DSN can't be used" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_unreachable_sentry_keeps_nobody_waiting(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Telling returns at once, the log says it once, what waits is bounded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reporter = make(f"http://{KEY}@127.0.0.1:{port}/1")
    for number in range(3000):
        reporter.failed(failed(number, output=""))
    wait_until(reporter, lambda counts: counts.dropped.get("queue_full", 0) >= 1999)
    assert reporter.counts().waiting <= 1000
    with reporter._changed:  # noqa: SLF001
        assert reporter._changed.wait_for(lambda: "can't be reached" in caplog.text, 20)  # noqa: SLF001
    reporter.failed(failed(5000))
    assert caplog.text.count("can't be reached") == 1
    assert KEY not in caplog.text


def test_slow_sentry_keeps_nobody_waiting(server: Ingest, make: Make) -> None:
    """While it sits on the first event, all others are taken, and sent when it goes on."""
    server.hold = threading.Event()
    reporter = make(server.dsn())
    reporter.failed(failed(0))
    server.wait_for(lambda state: state.requests == 1)
    for number in range(1, 50):
        reporter.failed(failed(number))
    assert reporter.counts().waiting == 49
    server.hold.set()
    server.wait_for(lambda state: len(state.events()) == 50)
    assert attempts(server) == [str(number) for number in range(50)]


def test_sentry_that_comes_back_gets_everything_in_order(
    server: Ingest, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage loses nothing that there is room for."""
    now = [SLOT]
    server.status = 503
    reporter = make(server.dsn(), clock=lambda: now[0])
    with caplog.at_level(logging.INFO):
        for number in range(5):
            reporter.failed(failed(number))
        server.wait_for(lambda state: state.requests == 1)
        wait_until(reporter, lambda counts: counts.waiting == 5)
        server.status = 200
        now[0] += timedelta(minutes=6)
        reporter.failed(failed(5))
        server.wait_for(lambda state: len(state.events()) == 6)
        wait_until(reporter, lambda counts: counts.sent == 6)
    assert attempts(server) == [str(number) for number in range(6)]
    assert reporter.counts().dropped == {}


def test_what_sentry_refuses_is_dropped_and_said_once(
    server: Ingest, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key, or an event that is too large, won't get better."""
    server.status = 403
    reporter = make(server.dsn())
    for number in range(3):
        reporter.failed(failed(number))
    wait_until(reporter, lambda counts: counts.dropped == {"refused": 3})
    server.status = 413
    reporter.failed(failed(4))
    wait_until(reporter, lambda counts: counts.dropped == {"refused": 4})
    reporter.close()
    assert caplog.text.count("refuses what it is sent") == 1


def test_rate_limit_is_honoured(server: Ingest, make: Make) -> None:
    """While Sentry says that it takes no errors, none are sent to it; check-ins go on."""
    server.headers = {"X-Sentry-Rate-Limits": "60:error;attachment:organization"}
    reporter = make(server.dsn())
    reporter.failed(failed(1))
    server.wait_for(lambda state: state.events())
    wait_until(reporter, lambda counts: counts.sent == 1)
    reporter.failed(failed(2))
    wait_until(reporter, lambda counts: counts.dropped == {"rate_limited": 1})
    (one,) = check_ins(resource(), Status(ongoing=Ongoing(slot=SLOT, through=SLOT, job="r", uid="u")), [])
    reporter.check_in(one)
    server.wait_for(lambda state: state.check_ins())
    assert attempts(server) == ["1"]


def test_429_drops_and_counts(server: Ingest, make: Make) -> None:
    """And what follows is held back for as long as Sentry says."""
    server.status, server.headers = 429, {"Retry-After": "60"}
    reporter = make(server.dsn())
    for number in range(3):
        reporter.failed(failed(number))
    wait_until(reporter, lambda counts: counts.dropped == {"rate_limited": 3})
    assert server.requests == 1


def test_nothing_that_goes_wrong_reaches_who_tells(
    server: Ingest, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while taking news nor while building an event; the next is told."""
    reporter = make(server.dsn())
    reporter.status_written(None, Status(), [])  # type: ignore[arg-type]
    reporter.inspected(resource(), RUN, [{"status": {"phase": "Failed"}}], {}, evidence([], {}))
    with monkeypatch.context() as patch:
        patch.setattr(sentry, "failure_event", lambda *_, **__: 1 / 0)
        reporter.failed(failed(1))
        wait_until(reporter, lambda counts: counts.dropped == {"failed": 1})
    reporter.failed(failed(2))
    server.wait_for(lambda state: attempts(state) == ["2"])


def test_end_sends_what_is_left(server: Ingest, make: Make) -> None:
    """As far as there is time; then nothing more is taken."""
    reporter = make(server.dsn())
    for number in range(20):
        reporter.failed(failed(number))
    reporter.close(20)
    assert len(server.events()) == 20
    reporter.failed(failed(30))
    assert reporter.counts().waiting == 0


def test_end_does_not_wait_for_a_sentry_that_hangs(server: Ingest, make: Make) -> None:
    """The operator's end is not delayed beyond the given time; what was lost is counted."""
    server.hold = threading.Event()
    reporter = make(server.dsn())
    for number in range(3):
        reporter.failed(failed(number))
    server.wait_for(lambda state: state.requests == 1)
    reporter.close(0.05)
    assert reporter.counts().dropped == {"closed": 2}


# --- Namespaces with a DSN of their own -------------------------------------------------------------------


class Secrets:
    """Secrets of namespaces, and who asked for them."""

    def __init__(self) -> None:
        self.held: dict[str, Mapping[str, str] | Exception | None] = {}
        self.asked: list[str] = []

    async def __call__(self, namespace: str) -> Mapping[str, str] | None:
        """Read one."""
        self.asked.append(namespace)
        found = self.held.get(namespace)
        if isinstance(found, Exception):
            raise found
        return found


async def with_running(reporter: Reporter, what: Callable[[], None]) -> None:
    """Do something blocking while the reporter looks up Secrets."""
    task = asyncio.create_task(reporter.run())
    try:
        await asyncio.to_thread(what)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_namespace_with_a_secret_has_its_own_sentry(server: Ingest, make: Make) -> None:
    """Its events go there, under its environment; those of others, and the operator's, to the default."""
    secrets = Secrets()
    secrets.held = {
        "tenant": {"SENTRY_DSN": server.dsn(2) + "\n", "SENTRY_ENVIRONMENT": "tenant-env"},
        "quiet": {"SENTRY_DSN": ""},
        "bad": {"SENTRY_DSN": "nonsense"},
        "other": {"PASSWORD": "x"},
        "forbidden": PermissionError(),
    }
    reporter = make(server.dsn(1), read_secret=secrets, environment="prod")

    def tell() -> None:
        for number, namespace in enumerate(["tenant", "quiet", "bad", "other", "forbidden", "none"]):
            reporter.failed(failed(number, namespace))
        reporter.operator_error(ValueError("x"), "y")
        server.wait_for(lambda state: len(state.events()) == 5)
        wait_until(reporter, lambda counts: counts.waiting == 0)

    asyncio.run(with_running(reporter, tell))
    by_project = {
        project: {event["tags"].get("namespace") for event in server.events(project)} for project in (1, 2)
    }
    assert by_project == {1: {"other", "forbidden", "none", None}, 2: {"tenant"}}
    assert {event["environment"] for event in server.events(2)} == {"tenant-env"}
    assert {event["environment"] for event in server.events(1)} == {"prod"}
    assert reporter.counts().dropped == {}


def test_without_a_default_only_namespaces_with_a_secret_are_told_of(server: Ingest, make: Make) -> None:
    """The others are silent."""
    secrets = Secrets()
    secrets.held = {"tenant": {"SENTRY_DSN": server.dsn(2)}}
    reporter = make("", read_secret=secrets)

    def tell() -> None:
        reporter.failed(failed(1, "none"))
        reporter.operator_error(ValueError("x"), "y")
        reporter.failed(failed(2, "tenant"))
        server.wait_for(lambda state: state.events())
        wait_until(reporter, lambda counts: counts.waiting == 0)

    asyncio.run(with_running(reporter, tell))
    assert attempts(server) == ["2"]
    assert reporter.counts().dropped == {}


def test_secret_that_cannot_be_read_sends_nothing_elsewhere(server: Ingest, make: Make) -> None:
    """The tenant's errors wait until it is known where they belong."""
    now = [SLOT]
    secrets = Secrets()
    secrets.held = {"tenant": OSError("API server away")}
    reporter = make(server.dsn(1), read_secret=secrets, clock=lambda: now[0])

    def tell() -> None:
        reporter.failed(failed(1, "tenant"))
        reporter.failed(failed(2, "none"))
        server.wait_for(lambda state: attempts(state, 1) == ["2"])
        assert reporter.counts().waiting == 1
        secrets.held["tenant"] = {"SENTRY_DSN": server.dsn(2)}
        now[0] += timedelta(seconds=11)
        reporter.failed(failed(3, "none"))
        server.wait_for(lambda state: attempts(state, 2) == ["1"])

    asyncio.run(with_running(reporter, tell))


def test_secret_is_not_read_for_every_event(server: Ingest, make: Make) -> None:
    """Once a minute at most, and only of namespaces that there is something to tell about."""
    now = [SLOT]
    secrets = Secrets()
    reporter = make(server.dsn(), read_secret=secrets, clock=lambda: now[0])

    def tell() -> None:
        for number in range(20):
            reporter.failed(failed(number))
            server.wait_for(lambda state, least=number: len(state.events()) > least)
        assert secrets.asked == ["web"]
        now[0] += timedelta(seconds=61)
        reporter.failed(failed(30))
        server.wait_for(lambda state: len(state.events()) == 21)

    asyncio.run(with_running(reporter, tell))
    assert secrets.asked in (["web"], ["web", "web"])


def test_end_waits_for_where_the_last_errors_belong(server: Ingest, make: Make) -> None:
    """The operator is told to end right after the first failure of a namespace: its Secret is read still."""
    asked, go_on = threading.Event(), threading.Event()

    async def slow(_: str) -> Mapping[str, str]:
        asked.set()
        await asyncio.to_thread(go_on.wait, 20)
        return {"SENTRY_DSN": server.dsn(2)}

    reporter = make(server.dsn(1), read_secret=slow)

    def tell() -> None:
        reporter.failed(failed(1, "tenant"))
        assert asked.wait(20)
        closing = threading.Thread(target=reporter.close, args=(20,))
        closing.start()
        go_on.set()
        closing.join()

    asyncio.run(with_running(reporter, tell))
    assert attempts(server, 2) == ["1"]
    assert reporter.counts().dropped == {}


def test_many_namespaces_with_a_sentry_each_keep_few_clients(
    server: Ingest, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that were not used for long are let go."""
    monkeypatch.setattr(sentry, "CLIENTS_MAX", 3)
    secrets = Secrets()
    secrets.held = {f"n{number}": {"SENTRY_DSN": server.dsn(number + 1)} for number in range(12)}
    reporter = make("", read_secret=secrets)

    def tell() -> None:
        for number in range(12):
            reporter.failed(failed(number, f"n{number}"))
        server.wait_for(lambda state: len(state.events()) == 12)
        wait_until(reporter, lambda counts: counts.sent == 12)

    asyncio.run(with_running(reporter, tell))
    assert len(reporter._clients) <= 3 + sentry.THREADS_MAX  # noqa: SLF001 - memory is not to be seen otherwise
    assert {envelope.project for envelope in server.envelopes} == {str(number + 1) for number in range(12)}


def test_settings_come_from_the_environment() -> None:
    """By the names that every Sentry SDK reads; the DSN is not shown."""
    settings = SentrySettings.read(
        {"SENTRY_DSN": " https://hunter2@s/1 ", "SENTRY_ENVIRONMENT": "staging", "SENTRY_RELEASE": "7"},
        crons=True,
    )
    assert (settings.dsn, settings.environment, settings.release, settings.crons) == (
        "https://hunter2@s/1",
        "staging",
        "7",
        True,
    )
    assert "hunter2" not in repr(settings)
    assert SentrySettings.read({}) == SentrySettings()
