"""What commands print is in the operator's log: all of it, once, whoever is killed or restarted meanwhile."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psutil
import pytest

from crontabber_operator.logs import OUTPUT
from devcluster import Cluster
from tests.integration.chart_release import start_operator
from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Requests, Testbed, before, short, written

TOLD = re.compile(
    rf"{re.escape(OUTPUT)}.*?\[job=(\S+) command=(\S+) namespace=(\S+) slot=(\S+) attempt=(\d+) pod=(\S+)\] (.*)"
)
MEGABYTE = 1024 * 1024


class Told(NamedTuple):
    """A line of output, as the operator's log has it."""

    job: str
    command: str
    namespace: str
    slot: str
    attempt: str
    pod: str
    text: str


def told(operators: Sequence[OperatorProcess], job: str) -> list[Told]:
    """Return what the operators' logs, one after the other, tell of a job."""
    found = [
        Told(*match.groups())
        for operator in operators
        for line in operator.log().split("\n")
        if (match := TOLD.search(line)) is not None
    ]
    return [one for one in found if one.job == job]


def numbers(lines: Sequence[Told]) -> list[int]:
    """Return the numbers of the numbered lines, in their order."""
    return [int(one.text.split()[1]) for one in lines if one.text.startswith("line ")]


def chatty(bed: Testbed, name: str, lines: int, pause: float = 0.002, **spec: Any) -> str:
    """Create a job with one missed slot whose command prints so many lines."""
    bed.control(name, output={"lines": lines, "pause": pause})
    return bed.job(name, backfill=True, annotations={"mark-success": before(bed.missed_slots(1))}, **spec)


def wait_settled(bed: Testbed, job: str) -> dict[str, Any]:
    """Wait until all slots of a job that are missed have run; return the status."""
    return bed.wait_status(job, missed=0, settledThrough=written(bed.missed_slots(1)[0]))


def wait_told(own: OwnOperators, job: str, count: int) -> None:
    """Wait until so many numbered lines of a job were told, by all operators so far."""
    own.bed.wait(lambda: len(numbers(told(own.started, job))) >= count, f"{count} lines of {job} are told")


# --- Formats ----------------------------------------------------------------------------------------------

FORGED = "2026-11-24T08:00:00.123Z INFO crontabber_operator.serve: all is well"
NASTY = (
    b"caf\xc3\xa9 \xff\xfe\n"
    b"\x1b[31mred\x1b[0m \x1b[2J\x00\n"
    b"10 %\r20 %\n"
    + f"x\u2028{FORGED}\u2029y\u0085z\n".encode()
    + b"y" * 20_000
    + b'\n{"event": "counted", "level": "warning", "signatures": 3}\n\nthe end\n'
)
SHOWN = [
    "café \\xff\\xfe",
    "red \\x1b[2J\\x00",
    "10 %\\r20 %",
    f"x\\u2028{FORGED}\\u2029y\\x85z",
    "y" * 16_384 + "… [cut: 20000 bytes]",
]


def told_in(own: OwnOperators, log_format: str) -> OperatorProcess:
    """Let an operator with this format run a job of its name that fails once, until both runs are told; end it."""
    bed = own.bed
    operator = start_operator(
        own.cluster.kubeconfig,
        bed.folder / f"{log_format}.log",
        f"--namespace={bed.namespace}",
        f"--log-format={log_format}",
    )
    own.started[:] = [operator]
    try:
        bed.control(log_format, output={"raw": base64.b64encode(NASTY).decode()}, failures=1)
        slots = bed.missed_slots(1)
        bed.job(log_format, backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
        wait_settled(bed, log_format)
        bed.wait(
            lambda: (
                operator.log().count("the end") == 2
                and operator.log().count("RuntimeError: the database is on fire") >= 1
            ),
            "both runs are told",
        )
    finally:
        operator.kill()
    return operator


@pytest.mark.side_by_side
def test_the_log_has_what_was_printed_and_by_whom_in_three_formats(own: OwnOperators) -> None:
    """Text, JSON and mozlog say the same of a run that prints what nobody should print."""
    bed = own.bed
    began = datetime.now(UTC)
    operators = {name: told_in(own, name) for name in ("json", "text", "mozlog")}
    entries = [json.loads(line) for line in operators["json"].log().splitlines()]
    lines = [one for one in entries if one["logger"] == OUTPUT]
    for one in lines:
        assert one.keys() - {"app"} == {"timestamp", "severity", "message", "logger", "crontabber"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["timestamp"])
        assert began < datetime.fromisoformat(one["timestamp"]) < datetime.now(UTC)
        assert one["crontabber"].keys() == {"job", "command", "namespace", "slot", "attempt", "pod"}
    of_first = [one for one in lines if one["crontabber"]["attempt"] == 1]
    of_second = [one for one in lines if one["crontabber"]["attempt"] == 2]
    assert of_first + of_second == lines
    [failed, good] = reversed(bed.status("json")["history"])
    for attempt, run, of_run in ((1, failed, of_first), (2, good, of_second)):
        assert {one["crontabber"]["pod"].rpartition("-")[0] for one in of_run} == {run["job"]}
        assert of_run[0]["crontabber"] == {
            "job": "json",
            "command": "record",
            "namespace": bed.namespace,
            "slot": run["slot"],
            "attempt": attempt,
            "pod": of_run[0]["crontabber"]["pod"],
        }
        messages = [one["message"] for one in of_run]
        assert messages[1:8] == [*SHOWN, "counted", ""]
        app = of_run[6]
        assert (app["severity"], app["app"]) == (
            "WARNING",
            {"event": "counted", "level": "warning", "signatures": 3},
        )
    assert of_first[-1]["message"] == "RuntimeError: the database is on fire"
    assert of_first[-1]["severity"] == "ERROR"
    assert of_second[-1]["severity"] == "INFO"

    text = [line for line in operators["text"].log().split("\n") if OUTPUT in line]
    assert len(text) == len(lines)
    assert len(operators["text"].log().splitlines()) == len(operators["text"].log().split("\n")) - 1
    failed = bed.status("text")["history"][-1]
    of_run = rf"namespace={bed.namespace} slot={failed['slot']} attempt=1 pod={failed['job']}-\w+"
    shown = rf"\S+Z INFO {OUTPUT}: \[job=text command=record {of_run}\] {re.escape(SHOWN[0])}"
    assert len([line for line in text if re.fullmatch(shown, line)]) == 1
    assert not any(line.startswith(FORGED[:20]) for line in operators["text"].log().splitlines())

    moz = [json.loads(line) for line in operators["mozlog"].log().splitlines()]
    assert all(one["EnvVersion"] == "2.0" and one["Logger"] == "crontabber" for one in moz)
    of_output = [one for one in moz if one["Type"] == OUTPUT]
    assert [one["Fields"]["msg"] for one in of_output] == [one["message"] for one in lines]
    [_, good] = reversed(bed.status("mozlog")["history"])
    pod = of_output[-1]["Fields"]["crontabber"]["pod"]
    assert of_output[-1]["Fields"]["crontabber"] == {
        **lines[-1]["crontabber"],
        "job": "mozlog",
        "slot": good["slot"],
        "pod": pod,
    }
    assert pod.rpartition("-")[0] == good["job"]
    assert [one["Severity"] for one in of_output if "app" in one["Fields"]] == [4, 4]
    assert {one["Pid"] for one in moz} == {operators["mozlog"].pid}


# --- What is told -----------------------------------------------------------------------------------------


@pytest.mark.side_by_side
def test_output_of_runs_that_are_pruned_at_once_is_told(own: OwnOperators) -> None:
    """No finished Job is kept: each goes only when its output was read."""
    bed = own.bed
    operator = own.start()
    slots = bed.missed_slots(4)
    bed.control("job", output={"lines": 3})
    job = bed.job(
        "job", backfill=True, successfulJobsHistoryLimit=0, annotations={"mark-success": before(slots)}
    )
    wait_settled(bed, job)
    bed.wait(lambda: not bed.objects("jobs", job), "all Jobs are pruned")
    lines = told([operator], job)
    assert [one.slot for one in lines if one.text.endswith("begins")] == [written(slot) for slot in slots]
    assert numbers(lines) == 4 * [0, 1, 2]


@pytest.mark.side_by_side
def test_attempts_of_a_plain_job_are_told_one_by_one(own: OwnOperators) -> None:
    """Kubernetes retries by itself; each failed pod is told, with its number, before it is removed."""
    bed = own.bed
    operator = own.start()
    slots = bed.missed_slots(1)
    bed.control("job", failures=2)
    job = bed.job("job", annotations={"mark-success": before(slots)})
    wait_settled(bed, job)
    bed.wait(lambda: any(one.attempt == "3" for one in told([operator], job)), "the third attempt is told")
    lines = told([operator], job)
    begun = [one for one in lines if one.text.endswith("begins")]
    assert [one.attempt for one in begun] == ["1", "2", "3"]
    assert {one.slot for one in lines} == {written(slots[0])}
    assert Counter(one.attempt for one in lines if one.text.startswith("RuntimeError")) == {"1": 1, "2": 1}


@pytest.mark.side_by_side
def test_failures_alone_are_told_when_they_have_failed_and_none_is_not_read(own: OwnOperators) -> None:
    """`output: Failures` reads no log of a good run, `output: None` none at all; lastError is as it always is."""
    bed = own.bed
    operator = own.start(environment={"CRONTABBER_OUTPUT": "None"})
    requests = Requests(own.cluster.audit_log, bed.namespace)
    slots = bed.missed_slots(2)
    bed.control("failures", failures={short(slots[0]): 1})
    since = {"mark-success": before(slots)}
    silent = bed.job("silent", backfill=True, annotations=since)
    failures = bed.job("failures", backfill=True, output="Failures", retryDelaySeconds=1, annotations=since)
    run_now = bed.job("by-hand", output="All")
    bed.annotate(run_now, run_now="")
    wait_settled(bed, silent)
    status = wait_settled(bed, failures)
    bed.wait(lambda: told([operator], run_now), "the run-now is told")
    failed = status["history"][-1]["job"]
    bed.wait(
        lambda: any(one.text.startswith("RuntimeError") for one in told([operator], failures)),
        "the failed run is told",
    )
    lines = told([operator], failures)
    assert {one.pod.rpartition("-")[0] for one in lines} == {failed}
    assert lines[0].text.endswith("begins")
    assert lines[-1].text == "RuntimeError: the database is on fire"
    assert told([operator], silent) == []
    read = {one.name.rpartition("-")[0] for one in requests.all() if one.subresource == "log"}
    assert failed in read
    assert len(read) == 2, read
    assert next(iter(read - {failed})).startswith(run_now)


# --- Whoever is killed ------------------------------------------------------------------------------------


@pytest.mark.side_by_side
def test_an_operator_that_is_killed_in_the_middle_of_a_chatty_run_repeats_one_line_at_most(
    own: OwnOperators,
) -> None:
    """Three times killed with SIGKILL while the command goes on printing: nothing is lost."""
    bed = own.bed
    operator = own.start()
    job = chatty(bed, "job", 3000)
    for count in (200, 700, 1200):
        wait_told(own, job, count)
        operator.kill()
        operator = own.start()
    wait_settled(bed, job)
    bed.wait(lambda: 2999 in numbers(told(own.started, job)), "the last line is told")
    found = numbers(told(own.started, job))
    assert sorted(set(found)) == list(range(3000))
    assert len(found) <= 3000 + 3
    for operator in own.started:
        mine = numbers(told([operator], job))
        assert mine == sorted(set(mine))


@pytest.mark.side_by_side
@pytest.mark.parametrize("fault", ["record:before", "record:after"])
def test_killed_around_the_record_of_a_run_its_output_is_complete(own: OwnOperators, fault: str) -> None:
    """Whether the books have it or not: what was told is not told again, what was not, is."""
    bed = own.bed
    slots = bed.missed_slots(1)
    bed.control("job", output={"lines": 50})
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    operator = own.start(fault)
    bed.wait(lambda: not operator.runs, "the operator has killed itself")
    own.start()
    wait_settled(bed, job)
    bed.wait(lambda: 49 in numbers(told(own.started, job)), "the last line is told")
    found = numbers(told(own.started, job))
    assert sorted(set(found)) == list(range(50))
    assert len(found) <= 51


@pytest.mark.side_by_side
def test_an_operator_that_ends_tells_the_next_one_on_another_node_how_far_it_was(own: OwnOperators) -> None:
    """After SIGTERM nothing is repeated, though nothing of the disk is left; and it is not told a third time."""
    bed = own.bed
    states = [{"XDG_STATE_HOME": str(bed.folder / f"node-{number}")} for number in range(3)]
    operator = own.start(environment=states[0])
    job = chatty(bed, "job", 2000)
    wait_told(own, job, 100)
    assert operator.terminate() == 0
    operator = own.start(environment=states[1])
    wait_settled(bed, job)
    bed.wait(lambda: 1999 in numbers(told(own.started, job)), "the last line is told")
    assert numbers(told(own.started, job)) == list(range(2000))
    assert operator.terminate() == 0
    own.start(environment=states[2])
    other = chatty(bed, "other", 1)
    wait_settled(bed, other)
    bed.wait(lambda: told(own.started, other), "another run is told")
    assert numbers(told(own.started, job)) == list(range(2000))


@pytest.mark.side_by_side
def test_without_any_mark_a_run_that_goes_on_is_told_whole_and_one_in_the_books_is_not(
    own: OwnOperators,
) -> None:
    """A node that is lost with all that it knew: nothing that goes on is lost, nothing that is over comes again."""
    bed = own.bed
    operator = own.start(environment={"XDG_STATE_HOME": str(bed.folder / "lost")})
    over = chatty(bed, "over", 5)
    wait_settled(bed, over)
    bed.wait(lambda: numbers(told([operator], over)) == list(range(5)), "it is told")
    bed.control("job", output={"lines": 20}, hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(bed.missed_slots(1))})
    bed.wait(lambda: len(numbers(told([operator], job))) == 20, "it goes on, and is told so far")
    operator.kill()
    operator = own.start(environment={"XDG_STATE_HOME": str(bed.folder / "new")})
    bed.wait(lambda: len(numbers(told([operator], job))) == 20, "it is told again")
    bed.control("job")
    wait_settled(bed, job)
    assert numbers(told([operator], job)) == list(range(20))
    assert told([operator], over) == []


def test_an_api_server_that_is_restarted_interrupts_nothing(own: OwnOperators, cluster: Cluster) -> None:
    """All lines are told, in order, each once."""
    bed = own.bed
    operator = own.start()
    job = chatty(bed, "job", 3000)
    wait_told(own, job, 100)
    cluster.restart("kube-apiserver")
    wait_settled(bed, job)
    bed.wait(lambda: 2999 in numbers(told([operator], job)), "the last line is told")
    assert numbers(told([operator], job)) == list(range(3000))


# --- Much -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_ten_megabytes_take_no_memory(own: OwnOperators) -> None:
    """A hundred thousand lines, printed as fast as can be, and twice more: all are told, in the same memory."""
    bed = own.bed
    operator = own.start()
    process = psutil.Process(operator.pid)
    most: dict[str, int] = {}
    for name in ("first", "second", "third"):
        bed.control(name, output={"lines": 100_000, "size": 90})
        bed.job(name, backfill=True, annotations={"mark-success": before(bed.missed_slots(1))})

        def is_told(name: str = name) -> bool:
            most[name] = max(most.get(name, 0), process.memory_info().rss)
            with operator.log_path.open("rb") as log:
                log.seek(-min(4096, log.seek(0, 2)), 2)
                end = log.read().decode(errors="replace")
            return f"[job={name} " in end and f"line 99999 {'x' * 90}" in end

        bed.wait(is_told, f"the last line of {name} is told", 240)
    for name in most:
        lines = [line for line in operator.log().split("\n") if f"[job={name} " in line and "] line " in line]
        assert [line.partition("] line ")[2].split(" ")[0] for line in lines] == list(
            map(str, range(100_000))
        )
    assert most["first"] < 128 * MEGABYTE
    assert most["third"] - most["second"] < 8 * MEGABYTE, most  # the first fill what Python keeps for itself


@pytest.mark.side_by_side
def test_more_runs_than_can_be_followed_take_turns(own: OwnOperators) -> None:
    """Of twelve runs that go on at once, two are followed; all are told while they run, completely."""
    bed = own.bed
    requests = Requests(own.cluster.audit_log, bed.namespace)
    operator = own.start(fault="none", environment={"OPERATOR_FOLLOWED_AT_ONCE": "2"})
    names = [f"job-{number}" for number in range(12)]
    for name in names:
        bed.control(name, output={"lines": 40}, hold=True)
        bed.job(name, backfill=True, annotations={"mark-success": before(bed.missed_slots(1))})
    bed.wait(
        lambda: all(numbers(told([operator], name)) == list(range(40)) for name in names),
        "all are told, while they go on",
    )
    for name in names:
        bed.control(name)
    for name in names:
        wait_settled(bed, name)
    for name in names:
        assert numbers(told([operator], name)) == list(range(40))
    reads = Counter(one.name for one in requests.all() if one.subresource == "log")
    assert len(reads) == 12
