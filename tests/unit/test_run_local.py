"""`crontabber run-local`: the operator's decisions on this machine, commands as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60.0
T = TypeVar("T")

# The command of these tests: writes down what it was given, and behaves as the file `control` says.
COMMAND = """\
import json, os, sys, time
def control():
    try:
        return json.load(open("control"))
    except FileNotFoundError:
        return {}
def tell(**entry):
    with open("evidence", "a") as file:
        file.write(json.dumps(entry) + "\\n")
run_time = os.environ.get("RUN_TIME")
tell(event="start", argv=sys.argv[1:], run_time=run_time, last_success=os.environ.get("LAST_SUCCESS"), pid=os.getpid())
print("hello from", *sys.argv[1:])
while run_time in control().get("hold", []) or "all" in control().get("hold", []):
    time.sleep(0.02)
failing = control().get("fail", [])
if run_time in failing or "all" in failing:
    raise RuntimeError("no luck")
tell(event="good", argv=sys.argv[1:], run_time=run_time)
"""


def wait(holds: Callable[[], T | None], what: str) -> T:
    """Return the first true value; fail where it takes too long."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)
    return found


class Machine:
    """A folder with a command, manifests, and the file that run-local keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "manage.py").write_text(COMMAND, encoding="utf-8")
        # Hourly, half an hour from now: no slot falls due while a test runs.
        self._far = (datetime.now(UTC) + timedelta(minutes=30)).replace(second=0, microsecond=0)
        self.schedule = f"{self._far.minute} * * * *"

    def slots(self, count: int) -> list[datetime]:
        """Return the newest slots of `schedule`, oldest first."""
        return [self._far - timedelta(hours=1 + back) for back in reversed(range(count))]

    def job(self, name: str, **spec: Any) -> None:
        """Write a manifest, or write it anew."""
        fields = {
            "command": "work",
            "schedule": self.schedule,
            "managePy": [sys.executable, "manage.py"],
            **spec,
        }
        body = {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": {"name": name},
            "spec": {key: value for key, value in fields.items() if value is not None},
        }
        (self.folder / "jobs").mkdir(exist_ok=True)
        (self.folder / "jobs" / f"{name}.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")

    def control(self, **told: list[str]) -> None:
        """Tell the commands how to behave."""
        draft = self.folder / "control.draft"
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(self.folder / "control")

    def evidence(self, event: str) -> list[Mapping[str, Any]]:
        """Return what the commands wrote down."""
        try:
            lines = (self.folder / "evidence").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def run_times(self, event: str) -> list[str]:
        """Return the run times of the commands that started, or ended well."""
        return [entry["run_time"] for entry in self.evidence(event)]

    def once(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run what is due."""
        return self.call("-f", "jobs", "--once", *options)

    def call(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Call `crontabber run-local`."""
        return subprocess.run(
            self._words(*options),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Start `crontabber run-local` in the background; it is killed at the end, with its commands."""
        process = subprocess.Popen(
            self._words("-f", "jobs", *options),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(TIMEOUT_SECONDS)
            if process.stdout is not None:
                process.stdout.close()
            for entry in self.evidence("start"):
                try:
                    os.kill(entry["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def status(self, name: str) -> dict[str, Any]:
        """Read a job's books from the file."""
        try:
            body = json.loads((self.folder / ".crontabber-local.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = body["jobs"].get(name, {}).get("status", {})
        return found

    @staticmethod
    def _words(*options: str) -> list[str]:
        return [
            sys.executable,
            "-c",
            "import sys; from crontabber_operator.cli import main; sys.exit(main())",
            "run-local",
            *options,
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with no job yet."""
    return Machine(tmp_path)


def short(time_: datetime) -> str:
    """Write a time as commands get it."""
    return time_.strftime("%Y-%m-%dT%H:%M")


def mark(name: str, slots: list[datetime]) -> str:
    """Return the option that makes exactly these slots missed."""
    return f"--mark-success={name}={slots[0] - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"


def test_nothing_runs_before_the_first_slot(machine: Machine) -> None:
    """As on Kubernetes; and there is nothing to complain about."""
    machine.job("gated", backfill=True)
    machine.job("plain")
    ended = machine.once()
    assert (ended.returncode, ended.stdout) == (0, "")
    assert machine.evidence("start") == []
    assert machine.status("gated")["state"] == "Waiting"


def test_missed_slots_run_in_order_with_their_arguments(machine: Machine) -> None:
    """Each is told its slot and the last success, which is the slot before."""
    slots = machine.slots(3)
    machine.job(
        "job", backfill=True, passLastSuccess=True, args=["--x=$(RUN_TIME)", "a b; $HOME `id` $$(RUN_TIME)"]
    )
    ended = machine.once(mark("job", slots))
    assert ended.returncode == 0, ended.stderr
    before = [short(slots[0] - timedelta(minutes=1)), *map(short, slots)]
    assert [entry["argv"] for entry in machine.evidence("start")] == [
        [
            "work",
            f"--x={short(slot)}",
            "a b; $HOME `id` $(RUN_TIME)",
            f"--run-time={short(slot)}",
            f"--last-success={last}",
        ]
        for slot, last in zip(slots, before, strict=False)
    ]
    assert machine.run_times("good") == [short(slot) for slot in slots]
    status = machine.status("job")
    assert status["settledThrough"] == status["lastSuccessTime"] == slots[-1].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [entry["result"] for entry in status["history"]] == ["Succeeded"] * 3
    assert machine.once().returncode == 0
    assert len(machine.evidence("start")) == 3


def test_output_is_passed_on_after_the_jobs_name(machine: Machine) -> None:
    """On standard output; what run-local itself says goes to standard error."""
    slots = machine.slots(1)
    machine.job("job", backfill=True)
    machine.job("longer-name")
    ended = machine.once(mark("job", slots))
    assert ended.stdout == f"job         | hello from work --run-time={short(slots[0])}\n"
    assert f"job         : slot {slots[0]:%Y-%m-%dT%H:%M}:00Z succeeded." in ended.stderr


def test_first_failure_holds_back_later_slots(machine: Machine) -> None:
    """Exit code 1; mended, it goes on from the failed slot."""
    slots = machine.slots(3)
    machine.job("job", backfill=True, retryDelaySeconds=1)
    machine.control(fail=[short(slots[1])])
    ended = machine.once(mark("job", slots))
    assert ended.returncode == 1
    assert machine.run_times("start") == [short(slots[0]), short(slots[1])]
    assert "failed: RuntimeError: no luck" in ended.stderr
    status = machine.status("job")
    assert (status["state"], status["errorCount"], status["missed"]) == ("Retrying", 1, 2)
    assert status["lastError"]["traceback"].startswith("Traceback (most recent call last):")
    machine.control()
    wait(
        lambda: datetime.now(UTC) >= datetime.fromisoformat(status["retry"]["notBefore"]),
        "the next attempt may start",
    )
    assert machine.once().returncode == 0
    assert machine.run_times("good") == [short(slot) for slot in slots]
    assert machine.status("job")["history"][1]["attempt"] == 2


def test_missed_slots_of_a_plain_job_collapse_into_one_run(machine: Machine) -> None:
    """Without backfill one late run settles them all, without a run time."""
    slots = machine.slots(4)
    machine.job("job")
    ended = machine.once(mark("job", slots))
    assert ended.returncode == 0, ended.stderr
    assert [entry["argv"] for entry in machine.evidence("start")] == [["work"]]
    assert machine.status("job")["settledThrough"] == slots[-1].strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_job_waits_for_what_it_depends_on(machine: Machine) -> None:
    """Slot by slot, whichever of them comes first in the files."""
    slots = machine.slots(2)
    machine.job("a-last", backfill=True, dependsOn=[{"name": "first"}], args=["last"])
    machine.job("first", backfill=True, args=["first"])
    ended = machine.once(mark("first", slots), mark("a-last", slots))
    assert ended.returncode == 0, ended.stderr
    order = [(entry["argv"][1], entry["run_time"]) for entry in machine.evidence("good")]
    for slot in map(short, slots):
        assert order.index(("first", slot)) < order.index(("last", slot))
    assert len(order) == 4


def test_a_failed_dependency_holds_its_dependents_back(machine: Machine) -> None:
    """They are due and not run, and it is told why."""
    slots = machine.slots(1)
    machine.job("first", backfill=True)
    machine.job("last", backfill=True, dependsOn=[{"name": "first"}])
    machine.control(fail=["all"])
    ended = machine.once(mark("first", slots), mark("last", slots))
    assert ended.returncode == 1
    assert len(machine.evidence("start")) == 1
    assert "it waits for slot" in ended.stderr


def test_of_a_group_one_runs_at_a_time(machine: Machine) -> None:
    """The oldest slot first."""
    slots = machine.slots(2)
    for name in ("one", "two"):
        machine.job(name, backfill=True, concurrencyGroup="group", args=[name])
    ended = machine.once(mark("one", slots[1:]), mark("two", slots))
    assert ended.returncode == 0, ended.stderr
    events = [
        json.loads(line)["event"]
        for line in (machine.folder / "evidence").read_text(encoding="utf-8").splitlines()
    ]
    assert events == ["start", "good"] * 3
    assert machine.evidence("start")[0]["argv"][1] == "two"


def test_a_run_by_hand_is_outside_the_bookkeeping(machine: Machine) -> None:
    """At once, with further arguments, as `run-now` does it."""
    machine.job("job", backfill=True)
    ended = machine.once("--run-now=job=--x 'a b'")
    assert ended.returncode == 0, ended.stderr
    (entry,) = machine.evidence("start")
    assert (entry["argv"][0], entry["argv"][2:]) == ("work", ["--x", "a b"])
    assert "history" not in machine.status("job") or machine.status("job")["history"] == []


def test_reset_forgets_what_was_missed(machine: Machine) -> None:
    """Earlier slots are not run."""
    machine.job("job", backfill=True)
    machine.control(fail=["all"])
    machine.once(mark("job", machine.slots(2)))
    ended = machine.once("--reset=job")
    assert ended.returncode == 0, ended.stderr
    assert (machine.status("job")["missed"], machine.status("job")["errorCount"]) == (0, 0)


def test_the_books_can_be_listed(machine: Machine) -> None:
    """In the columns of `kubectl get crontabberjobs`."""
    slots = machine.slots(2)
    machine.job("job", backfill=True)
    machine.control(fail=["all"])
    machine.once(mark("job", slots))
    listed = machine.call("-f", "jobs", "--list").stdout.splitlines()
    assert listed[0].split("  ")[0] == "NAME"
    assert listed[1].split()[-2:] == ["2", "1"]
    assert "Retrying" in listed[1]


def test_a_run_beyond_its_deadline_is_stopped_and_failed(machine: Machine) -> None:
    """activeDeadlineSeconds holds here too."""
    slots = machine.slots(1)
    machine.job("job", backfill=True, activeDeadlineSeconds=1)
    machine.control(hold=["all"])
    ended = machine.once(mark("job", slots))
    assert ended.returncode == 1
    assert machine.status("job")["history"][0]["result"] == "TimedOut"


def test_a_command_that_cannot_be_started_is_a_failed_run(machine: Machine) -> None:
    """And told."""
    machine.job("job", backfill=True, managePy=["./nowhere"])
    ended = machine.once(mark("job", machine.slots(1)))
    assert ended.returncode == 1
    assert "StartError: ./nowhere: No such file or directory" in ended.stderr


def test_what_comes_before_the_command_can_be_another(machine: Machine) -> None:
    """--manage-py: here Python is called otherwise than in the image."""
    machine.job("job", backfill=True, managePy=[])
    slots = machine.slots(1)
    assert "spec.managePy: is empty" in machine.once(mark("job", slots)).stderr
    ended = machine.once(mark("job", slots), f"--manage-py={sys.executable} manage.py")
    assert ended.returncode == 0, ended.stderr


def test_an_edit_starts_no_run(machine: Machine) -> None:
    """Another schedule doesn't invent slots; what was settled stays so."""
    slots = machine.slots(1)
    machine.job("job")
    assert machine.once(mark("job", slots)).returncode == 0
    other = slots[0] - timedelta(minutes=7)
    machine.job("job", schedule=f"{other.minute} * * * *")
    assert machine.once().returncode == 0
    assert len(machine.evidence("start")) == 1


def test_ctrl_c_stops_the_command_and_its_slot_runs_again(machine: Machine) -> None:
    """Nothing is counted as failed, nothing is lost."""
    slots = machine.slots(2)
    machine.job("job", backfill=True)
    machine.control(hold=[short(slots[0])])
    with machine.running(mark("job", slots)) as process:
        wait(lambda: machine.evidence("start"), "the command runs")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 130
        assert "was stopped; it runs again" in output
    machine.control()
    assert machine.once().returncode == 0
    assert machine.run_times("start") == [short(slots[0]), short(slots[0]), short(slots[1])]
    assert machine.run_times("good") == [short(slot) for slot in slots]
    assert machine.status("job")["errorCount"] == 0


@pytest.mark.parametrize("backfill", [True, False])
def test_killed_while_a_command_runs_nothing_is_lost_or_runs_twice_at_once(
    machine: Machine, backfill: bool
) -> None:
    """The command outlives it: the next one waits for its end, then runs the slot again."""
    slots = machine.slots(1)
    machine.job("job", backfill=backfill or None)
    machine.control(hold=["all"])
    with machine.running(mark("job", slots)) as process:
        wait(lambda: machine.evidence("start"), "the command runs")
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        with machine.running("--once") as second:
            assert second.stdout is not None
            line = second.stdout.readline()
            assert "a command that an earlier run-local started goes on" in line
            assert len(machine.evidence("start")) == 1
            machine.control()
            output, _ = second.communicate(timeout=TIMEOUT_SECONDS)
            assert second.returncode == 0, output
    assert "was interrupted; it runs again" in output
    assert len(machine.evidence("start")) == len(machine.evidence("good")) == 2
    assert machine.status("job")["errorCount"] == 0


def test_killed_again_and_again_each_slot_still_runs(machine: Machine) -> None:
    """At whatever line it is: every slot succeeds at least once, in order."""
    slots = machine.slots(6)
    machine.job("job", backfill=True)
    option = mark("job", slots)
    for kills in range(1, 5):
        with machine.running(*([option] if kills == 1 else [])) as process:
            done = kills
            wait(lambda count=done: len(machine.evidence("start")) >= count, "another command started")  # type: ignore[misc]
            process.kill()
            process.wait(TIMEOUT_SECONDS)
    assert machine.once().returncode == 0
    good = machine.run_times("good")
    assert sorted(set(good)) == [short(slot) for slot in slots]
    assert good == sorted(good)


def test_two_at_once_are_refused(machine: Machine) -> None:
    """Their commands would run twice."""
    machine.job("job", backfill=True)
    machine.control(hold=["all"])
    with machine.running(mark("job", machine.slots(1))):
        wait(lambda: machine.evidence("start"), "the command runs")
        ended = machine.once()
        assert ended.returncode == 1
        assert "another crontabber run-local works with it" in ended.stderr


def test_without_once_it_goes_on_and_retries(machine: Machine) -> None:
    """A failed slot is tried again by itself."""
    slots = machine.slots(2)
    machine.job("job", backfill=True, retryDelaySeconds=1)
    machine.control(fail=[short(slots[0])])
    with machine.running(mark("job", slots)):
        wait(lambda: machine.status("job").get("errorCount"), "a run failed")
        machine.control()
        wait(lambda: len(machine.evidence("good")) == 2, "both slots succeeded")


def test_jobs_that_are_not_given_keep_their_books(machine: Machine) -> None:
    """Another folder of jobs with the same file."""
    slots = machine.slots(1)
    machine.job("one", backfill=True)
    machine.once(mark("one", slots))
    (machine.folder / "jobs" / "one.yaml").rename(machine.folder / "one.yaml")
    machine.job("two", backfill=True)
    assert machine.once().returncode == 0
    assert machine.status("one")["missed"] == 0
    assert machine.call("-f", "one.yaml", "--once").returncode == 0
    assert len(machine.evidence("start")) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-f", "nowhere"], "nowhere: can't be read: No such file or directory."),
        (["-f", "jobs", "--mark-success=no"], "--mark-success no: there is no such job in jobs."),
        (["-f", "jobs", "--mark-success=job=soon"], "mark-success takes 'now' or an RFC 3339 time"),
        (["-f", "jobs", "--mark-success=job=2199-01-01T00:00:00Z"], "is in the future"),
        (["-f", "jobs", "--run-now=job='"], "run-now takes further arguments in shell quoting"),
        (["-f", "jobs", "--directory=nowhere"], "nowhere: is no directory."),
        (["-f", "jobs", "--manage-py='"], "--manage-py"),
        (["-f", "jobs", "--manage-py="], "--manage-py: is empty"),
        (["-f", "bad.yaml"], "bad.yaml:1: is not YAML"),
        (["-f", "wrong.yaml"], "wrong.yaml: wrong: spec.command: must be given."),
        (["-f", "empty.yaml"], "there is no CrontabberJob in empty.yaml."),
        (["-f", "jobs", "-f", "jobs"], "job is there twice; remove one."),
        ([], "the following arguments are required: -f/--filename"),
    ],
)
def test_wrong_arguments_are_told(machine: Machine, options: list[str], sentence: str) -> None:
    """In one sentence, with exit code 2; nothing is run and no file is written."""
    machine.job("job")
    (machine.folder / "bad.yaml").write_text("a: [", encoding="utf-8")
    (machine.folder / "empty.yaml").write_text("kind: Secret", encoding="utf-8")
    (machine.folder / "wrong.yaml").write_text(
        "{kind: CrontabberJob, metadata: {name: wrong}, spec: {frequency: 1d}}", encoding="utf-8"
    )
    ended = machine.call("--once", *options)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert machine.status("job") == {}


@pytest.mark.parametrize(
    "text", ["", "{", '{"version": 99, "jobs": {}}', '{"version": 1, "jobs": {"job": 5}}']
)
def test_a_broken_file_is_left_as_it_is(machine: Machine, text: str) -> None:
    """It may be the only trace of what ran."""
    machine.job("job")
    path = machine.folder / ".crontabber-local.json"
    path.write_text(text, encoding="utf-8")
    ended = machine.once()
    assert ended.returncode == 1
    assert ".crontabber-local.json: " in ended.stderr
    assert path.read_text(encoding="utf-8") == text
