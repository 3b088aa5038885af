"""The runner of batches, as a process of its own, with real Django projects."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from crontabber_operator import batches
from crontabber_operator.batches import read_marker, read_progress, read_report

RUNNER = Path(batches.__file__).with_name("batch_runner.py")
PROJECT = Path(__file__).with_name("batch_project")
NONCE = "5ec4e7000001"
SECONDS_AT_MOST = 120
START = datetime(2026, 1, 1, tzinfo=UTC)
RUN_TIME, LAST_SUCCESS = "@crontabber.dev/run-time@", "@crontabber.dev/last-success@"


def hour(number: int) -> str:
    """Write a slot as commands get it."""
    return (START + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M")


@dataclass
class Ended:
    """What a batch left."""

    code: int
    output: str
    message: str
    evidence: list[dict[str, Any]]

    @property
    def good(self) -> str | None:
        """The last good slot, as the report has it."""
        report = read_report(self.message, NONCE)
        assert report is not None
        return report.good.strftime("%Y-%m-%dT%H:%M") if report.good else None

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the evidence of a kind."""
        return [one for one in self.evidence if one["event"] == event]

    @property
    def run_times(self) -> list[str]:
        """What was begun, in order."""
        return [one["run_time"] for one in self.of("start")]

    def output_of(self, number: int) -> str:
        """Return what the slot of an hour printed, by the markers."""
        found, current = "", None
        for line in self.output.splitlines(keepends=True):
            marker = read_marker(line, NONCE)
            if marker is None:
                found += line if current == hour(number) else ""
                continue
            found += marker.before if current == hour(number) else ""
            if marker.slot is not None:
                current = marker.slot.strftime("%Y-%m-%dT%H:%M") if marker.what == "begins" else None
        return found


@dataclass
class Bench:
    """A directory for one batch, and what it is started with."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        count: int,
        *,
        program: Sequence[str] = ("manage.py",),
        arguments: Sequence[str] = ("probe", f"--run-time={RUN_TIME}", f"--last-success={LAST_SUCCESS}"),
        control: dict[int, str] | None = None,
        timeout: float = 60,
        grace: float = 30,
        python: Sequence[str] = (sys.executable,),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start a batch of hours."""
        slots = [
            [f"{hour(number)}:00Z", hour(number), hour(number - 1) if number else ""]
            for number in range(count)
        ]
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({"nonce": NONCE, "slots": slots}), encoding="utf-8")
        (self.folder / "report").touch()
        behaviour = {hour(number): how for number, how in (control or {}).items()}
        with (self.folder / "output").open("wb") as output:
            return subprocess.Popen(
                [
                    *python,
                    str(RUNNER),
                    f"--plan={plan}",
                    f"--report={self.folder / 'report'}",
                    f"--timeout={timeout}",
                    f"--grace={grace}",
                    "--",
                    *program,
                    *arguments,
                ],
                cwd=PROJECT,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONUNBUFFERED": "1",
                    "EVIDENCE": str(self.folder / "evidence"),
                    "CONTROL": json.dumps(behaviour),
                    "RUN_TIME": RUN_TIME,
                    "LAST_SUCCESS": LAST_SUCCESS,
                    "DERIVED": f"from {LAST_SUCCESS} to {RUN_TIME}",
                    **self.environment,
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self, process: subprocess.Popen[bytes]) -> Ended:
        """Wait for the end of a batch."""
        try:
            code = process.wait(SECONDS_AT_MOST)
        finally:
            process.kill()
        return Ended(code, self.output(), self.read("report"), self.evidence())

    def run(self, count: int, **given: Any) -> Ended:
        """Run a batch of hours to its end."""
        return self.end(self.start(count, **given))

    def output(self) -> str:
        """Return what was printed so far."""
        return self.read("output")

    def evidence(self) -> list[dict[str, Any]]:
        """Return what the commands wrote so far."""
        return [json.loads(line) for line in self.read("evidence").splitlines()]

    def read(self, name: str) -> str:
        """Read a file of the folder, empty where there is none."""
        path = self.folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + SECONDS_AT_MOST
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain until {what}: {self.output()}"
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench, and see that nothing it started is left."""
    bench = Bench(tmp_path)
    yield bench
    for entry in bench.evidence():
        if "pid" in entry:
            bench.wait(lambda: has_ended(entry["pid"]), f"{entry} has ended")  # noqa: B023 - waits at once


def has_ended(pid: int) -> bool:
    """Tell whether nothing of a process runs any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


ANEW = "each slot starts the program anew"


# --- What a slot gets ---------------------------------------------------------------------------------------


def test_each_slot_runs_once_in_order_with_its_own_values(bench: Bench) -> None:
    """Options, arguments and environment are the slot's own; the start-up is paid once."""
    given = ("probe", f"--run-time={RUN_TIME}", f"--last-success={LAST_SUCCESS}", f"a {RUN_TIME}", "b c")
    ended = bench.run(5, arguments=given)
    assert (ended.code, ended.good) == (0, hour(4))
    assert ended.run_times == [hour(number) for number in range(5)]
    for number, run in enumerate(ended.of("start")):
        last = hour(number - 1) if number else ""
        assert run["options"] == {
            "run_time": hour(number),
            "last_success": last,
            "also": "",
            "words": [f"a {hour(number)}", "b c"],
        }
        assert run["argv"] == [
            "probe",
            f"--run-time={hour(number)}",
            f"--last-success={last}",
            f"a {hour(number)}",
            "b c",
        ]
        assert (run["last_success"], run["derived"]) == (last, f"from {last} to {hour(number)}")
        assert run["main"].endswith("manage.py")
    assert bench.read("evidence.starts").count("started") == 1
    assert bench.read("evidence.checks").count("checked") == 1
    assert ANEW not in ended.output


def test_slots_share_nothing(bench: Bench) -> None:
    """What a slot leaves in memory, environment or connections, the next one doesn't see; nor its luck."""
    ended = bench.run(3, control={0: "open"}, DATABASE=str(bench.folder / "db"))
    runs = ended.of("start")
    assert [run["state"] for run in runs] == [[], [], []]
    assert [run["open"] for run in runs] == [[], [], []]
    assert len({run["random"] for run in runs}) == 3
    assert len({run["pid"] for run in runs}) == 3
    assert len({run["started_by"] for run in runs}) == 1
    assert not {run["pid"] for run in runs} & {run["started_by"] for run in runs}


def test_a_slot_ends_as_python_ends(bench: Bench) -> None:
    """What was registered runs at its exit, its threads come to their end, before the next slot begins."""
    ended = bench.run(4, control={0: "at exit", 1: "thread", 2: "exit 0"})
    assert ended.code == 0
    assert [one["event"] for one in ended.evidence] == [
        *("start", "end", "at exit"),
        *("start", "end", "thread"),
        "start",
        *("start", "end"),
    ]


def test_what_a_slot_keeps_is_written_and_freed(bench: Bench) -> None:
    """A file that nobody closes, and what refers to itself: once, by the slot whose it is."""
    ended = bench.run(3, control={0: "keep", 1: "keep"})
    assert ended.code == 0
    told = [one["event"] for one in ended.evidence]
    assert sorted(told[2:4]) == sorted(told[6:8]) == ["freed", "in a buffer"]
    assert told.count("freed") == told.count("in a buffer") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_at_the_end_is_a_failure(bench: Bench) -> None:
    """Python ends with 120 then; so does the slot, and is not counted as done."""
    ended = bench.run(3, control={1: "full"}, PYTHONUNBUFFERED="")
    assert (ended.code, ended.good) == (120, hour(0))


def test_what_a_slot_leaves_running_ends_with_it(bench: Bench) -> None:
    """As the end of a container would end it, whatever session it is in."""
    process = bench.start(2, control={0: "stray", 1: "wait for SIGTERM"})
    bench.wait(lambda: any(one["event"] == "waits" for one in bench.evidence()), "the second slot runs")
    strays = [one["pid"] for one in bench.evidence() if one["event"] == "stray"]
    assert len(strays) == 2
    assert not any(psutil.pid_exists(pid) for pid in strays)
    process.terminate()
    assert bench.end(process).code == 0  # it was the last, and ended well


# --- The first failure stops --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code", "printed"),
    [
        ("raise", 1, "ValueError: no such\nthing"),
        ("command-error", 1, "CommandError: no such signature"),
        ("exit 3", 3, "output of"),
        ("exit words", 1, "words"),
        ("kill itself", 137, "output of"),
    ],
)
def test_the_first_failure_stops(bench: Bench, how: str, code: int, printed: str) -> None:
    """No later slot is begun; the report has the last good one, the exit code is the slot's own."""
    ended = bench.run(5, control={2: how})
    assert (ended.code, ended.good) == (code, hour(1))
    assert ended.run_times == [hour(0), hour(1), hour(2)]
    assert printed in ended.output_of(2)
    assert "ValueError" not in ended.output_of(1)


def test_traceback_looks_as_that_of_a_run_by_itself(bench: Bench) -> None:
    """None of the runner's own frames is in it, so errors are grouped with those of single runs."""
    ended = bench.run(1, control={0: "raise"})
    alone = subprocess.run(
        [sys.executable, "manage.py", "probe", f"--run-time={hour(0)}"],
        cwd=PROJECT,
        env={
            "PATH": os.environ["PATH"],
            "EVIDENCE": str(bench.folder / "evidence"),
            "CONTROL": json.dumps({hour(0): "raise"}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    traceback = ended.output_of(0)[ended.output_of(0).index("Traceback") :]
    assert traceback == alone.stderr
    assert "runner" not in traceback


def test_the_first_slot_can_fail(bench: Bench) -> None:
    """Then nothing was good."""
    ended = bench.run(3, control={0: "exit 2"})
    assert (ended.code, ended.good, ended.run_times) == (2, None, [hour(0)])


def test_a_quiet_end_of_a_process_is_the_slots_own(bench: Bench) -> None:
    """`os._exit(0)` in a slot ends that slot, not the batch."""
    ended = bench.run(3, control={1: "_exit 0"})
    assert (ended.code, ended.good) == (0, hour(2))
    assert ended.run_times == [hour(0), hour(1), hour(2)]


def test_the_end_of_what_it_was_forked_from_fails_the_slot(bench: Bench) -> None:
    """Nobody can say how it would have ended, so it is not done."""
    ended = bench.run(3, control={1: "kill its parent"})
    assert (ended.code, ended.good) == (137, hour(0))


# --- Time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hang", "hang deaf"])
def test_a_slot_that_hangs_is_ended(bench: Bench, how: str) -> None:
    """By SIGTERM first, then by SIGKILL; the report says that it was not in time."""
    ended = bench.run(3, control={1: how}, timeout=10, grace=1)
    assert (ended.code, ended.good) == (124, hour(0))
    report = read_report(ended.message, NONCE)
    assert report is not None
    assert report.result is batches.Result.TIMED_OUT
    assert f"slot {hour(1)}:00Z failed: it ran longer than activeDeadlineSeconds" in ended.output


def test_a_pod_that_is_ended_begins_no_further_slot(bench: Bench) -> None:
    """SIGTERM reaches the running slot, which may end well; what was done counts."""
    process = bench.start(4, control={1: "wait for SIGTERM"})
    bench.wait(lambda: any(one["event"] == "waits" for one in bench.evidence()), "the second slot runs")
    process.terminate()
    ended = bench.end(process)
    assert (ended.code, ended.good) == (143, hour(1))
    assert ended.run_times == [hour(0), hour(1)]


def test_a_slot_that_dies_of_sigterm_is_not_done(bench: Bench) -> None:
    """As it would be by itself."""
    process = bench.start(4, control={1: "hang"})
    bench.wait(lambda: len(bench.evidence()) == 3, "the second slot runs")
    process.terminate()
    ended = bench.end(process)
    assert (ended.code, ended.good) == (143, hour(0))


def test_a_killed_pod_loses_only_what_was_not_reported(bench: Bench) -> None:
    """Whenever it is killed, the report has what was done until then."""
    process = bench.start(4, control={2: "hang"})
    bench.wait(lambda: len(bench.evidence()) == 5, "the third slot runs")
    everything = [process.pid, *(one.pid for one in psutil.Process(process.pid).children(recursive=True))]
    for pid in everything:
        os.kill(pid, signal.SIGKILL)
    ended = bench.end(process)
    assert (ended.code, ended.good) == (-signal.SIGKILL, hour(1))


# --- Output ---------------------------------------------------------------------------------------------------


def test_output_belongs_to_its_slot(bench: Bench) -> None:
    """Between a slot's first marker and the next is what it printed, also where a line had no end."""
    ended = bench.run(3, control={1: "half a line"})
    assert [ended.output_of(number) for number in range(3)] == [
        f"output of {hour(0)}\n",
        f"output of {hour(1)}\nno end",
        f"output of {hour(2)}\n",
    ]


def test_what_a_command_prints_is_no_marker(bench: Bench) -> None:
    """Without the nonce it is output."""
    ended = bench.run(2, control={0: "forge", 1: "exit 1"})
    progress = read_progress(ended.output, NONCE)
    assert progress.good == START
    assert "09:00:00Z succeeded" in ended.output_of(0)


# --- Where forking is not possible ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("thread", "its start-up starts threads (exporter)"),
        ("unknown app", "its start-up failed: ModuleNotFoundError: No module named 'no_such_app'"),
        ("raises", "its start-up failed: RuntimeError: these settings are broken"),
    ],
)
def test_a_start_up_that_cannot_be_shared_is_paid_by_each_slot(bench: Bench, fault: str, why: str) -> None:
    """It says why, and each slot is run, or fails, as it would by itself."""
    ended = bench.run(3, SETTINGS_FAULT=fault)
    assert f"note: {ANEW}: {why}" in ended.output
    if fault == "thread":
        assert (ended.code, ended.good, len(ended.run_times)) == (0, hour(2), 3)
        assert len({run["started_by"] for run in ended.of("start")}) == 3
    else:
        assert (ended.code, ended.good, ended.run_times) == (1, None, [])
        assert re.search(r"^Traceback", ended.output_of(0), re.MULTILINE)


def test_a_manage_py_that_does_not_call_django_is_the_first_run_itself(bench: Bench) -> None:
    """No slot runs twice, none is left out."""
    ended = bench.run(3, program=("manage_exec.py",))
    assert (ended.code, ended.good) == (0, hour(2))
    assert ended.run_times == [hour(0), hour(1), hour(2)]
    assert f"note: {ANEW}: it does not let Django execute the command" in ended.output


def test_a_program_that_ends_well_at_once_is_done_each_time(bench: Bench) -> None:
    """What it does is its own affair: its exit code counts, once for each slot."""
    ended = bench.run(3, program=("manage_silent.py",))
    assert (ended.code, ended.good) == (0, hour(2))
    assert ended.output.count(" succeeded ") == 3


def test_a_custom_manage_py_runs_as_it_is(bench: Bench) -> None:
    """Its own utility, its own arguments, and what it does afterwards."""
    ended = bench.run(2, program=("manage_custom.py",))
    assert (ended.code, ended.good) == (0, hour(1))
    assert [run["options"]["also"] for run in ended.of("start")] == ["custom", "custom"]
    assert ended.run_times == [hour(0), hour(1)]
    assert ended.output_of(1).endswith("after the command\n")
    assert ANEW not in ended.output


def test_a_module_can_be_the_program(bench: Bench) -> None:
    """`python -m django` with DJANGO_SETTINGS_MODULE from the environment."""
    ended = bench.run(2, program=("-m", "django"), DJANGO_SETTINGS_MODULE="probes.settings", PYTHONPATH=".")
    assert (ended.code, ended.good, ended.run_times) == (0, hour(1), [hour(0), hour(1)])
    assert ANEW not in ended.output


def test_settings_given_as_an_option_are_used(bench: Bench) -> None:
    """`--settings` counts before anything is loaded, as Django does it."""
    arguments = ("probe", "--settings=probes.settings", f"--run-time={RUN_TIME}")
    ended = bench.run(2, arguments=arguments, DJANGO_SETTINGS_MODULE="no.such")
    assert (ended.code, ended.run_times) == (0, [hour(0), hour(1)])
    assert ANEW not in ended.output


def test_an_unknown_command_fails_as_ever(bench: Bench) -> None:
    """With Django's own words."""
    ended = bench.run(2, arguments=("prob", f"--run-time={RUN_TIME}"))
    assert (ended.code, ended.good) == (1, None)
    assert "Unknown command: 'prob'" in ended.output_of(0)


def test_failing_checks_fail_the_slot(bench: Bench) -> None:
    """System checks count as they do for a run by itself."""
    ended = bench.run(2, SETTINGS_FAULT="check")
    assert (ended.code, ended.good, ended.run_times) == (1, None, [])
    assert "(probes.E001) the check failed" in ended.output_of(0)


def test_a_command_without_checks_is_not_checked(bench: Bench) -> None:
    """`requires_system_checks = []`."""
    ended = bench.run(3, arguments=("unchecked", f"--run-time={RUN_TIME}"), SETTINGS_FAULT="check")
    assert (ended.code, ended.good) == (0, hour(2))
    assert bench.read("evidence.checks") == ""
    assert ANEW not in ended.output


def test_flags_of_python_are_kept(bench: Bench) -> None:
    """Also where each slot has a Python of its own."""
    for fault in ("", "thread"):
        ended = bench.run(1, python=(sys.executable, "-W", "error::UserWarning", "-O"), SETTINGS_FAULT=fault)
        assert ended.code == 0


# --- Old Pythons ----------------------------------------------------------------------------------------------


def test_the_runner_is_python_3_8() -> None:
    """Its text is, and it imports nothing but the standard library and Django."""
    tree = ast.parse(RUNNER.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"django"}
