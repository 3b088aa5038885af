"""`crontabber run-local`: jobs on a laptop, decided as on Kubernetes, run as processes of this machine.

The same `decide()` as the operator's, over runs that live in memory and a file (simulation.py,
local_state.py). Commands get their arguments as they are, never through a shell. The file is written before
a command starts; so wherever this is killed, a slot runs again rather than never.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import shlex
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from crontabber_operator import bookkeeping, commands, connection, dependencies
from crontabber_operator.admission import Waiting, keeps_waiting, occupies
from crontabber_operator.connection import EXIT_FAILED, EXIT_USAGE, CannotError
from crontabber_operator.explain import Manifest, command_line, plan_alone, read_manifests
from crontabber_operator.failures import read_attempt
from crontabber_operator.local_state import (
    LocalStateError,
    SavedJob,
    StateFile,
    read_status,
    restore_job,
    save_job,
)
from crontabber_operator.manifests import NO_SETTINGS, PREFIX, TemplateError
from crontabber_operator.models import ConditionType, InvalidSpec, Result, Spec, Status
from crontabber_operator.observed import Attempt, Desired, Hold, Job, View
from crontabber_operator.projection import schedule_key
from crontabber_operator.settings import SettingError, words
from crontabber_operator.simulation import MayStart, SimulatedJob, Start
from crontabber_operator.telling import changes
from crontabber_operator.times import format_time
from crontabber_operator.variables import expand

PROGRAM = "crontabber run-local"
DEFAULT_STATE = Path(".crontabber-local.json")
TICK_SECONDS = 1.0
"""The clock is looked at so often: it may be set, or the machine may sleep."""
GRACE_SECONDS = 30.0
"""A command that is stopped has so long to end by itself, as a pod has."""
SHORT_WAIT = timedelta(seconds=20)
"""With --once, so long is waited for what only time holds back (Kubernetes' own lags), not for retries."""
TAIL_LINES = 400
PASSES_MAX = 1000
"""More passes without a rest would be a fault of the core."""

_DESCRIPTION = """\
Run the jobs of manifests on this machine, with the decisions that the operator takes on Kubernetes: slots,
catching up, retries, dependencies. Commands run as processes here, in this environment, without a shell.
"""
_EPILOG = """\
As on Kubernetes nothing runs before the first slot: --mark-success NAME=TIME makes the slots since then
missed. What the commands print goes to standard output, each line after the job's name. Ctrl-C stops the
commands; their slots run again next time. Exit code with --once: 0: all that was due succeeded; 1: something
failed or was held back; 2: wrong arguments.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber run-local`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "run-local",
        help="run jobs on this machine, without Kubernetes",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        help="manifests, or a folder of them",
    )
    parser.add_argument("--once", action="store_true", help="run what is due now, and end")
    parser.add_argument("--list", action="store_true", help="show the jobs' bookkeeping, and end")
    parser.add_argument(
        "--state",
        type=Path,
        default=DEFAULT_STATE,
        metavar="FILE",
        help=f"keep the bookkeeping here ({DEFAULT_STATE})",
    )
    parser.add_argument(
        "-C", "--directory", type=Path, metavar="DIR", help="where the commands run (the current directory)"
    )
    parser.add_argument(
        "--manage-py",
        metavar="COMMAND",
        help="what comes before each command, instead of the manifests' managePy, such as 'python manage.py'",
    )
    parser.add_argument(
        "--mark-success",
        action="append",
        default=[],
        metavar="NAME[=TIME]",
        help="first say that a job succeeded, now or at a time: the slots since then are missed; repeatable",
    )
    parser.add_argument(
        "--reset",
        action="append",
        default=[],
        metavar="NAME",
        help="first forget a job's bookkeeping; repeatable",
    )
    parser.add_argument(
        "--run-now",
        action="append",
        default=[],
        metavar="NAME[=ARGUMENTS]",
        help="run a job at once, outside its bookkeeping, with further arguments; repeatable",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the jobs; see the epilog for the exit codes."""
    return connection.run_told(PROGRAM, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    definitions = _definitions(arguments)
    if arguments.directory is not None and not arguments.directory.is_dir():
        message = f"{arguments.directory}: is no directory."
        raise CannotError(message, EXIT_USAGE)
    try:
        with StateFile.held(arguments.state) as file:
            jobs = _load(file, definitions)
            if arguments.list:
                sys.stdout.write(_table(jobs, datetime.now(UTC)))
                return 0
            _give_commands(jobs, arguments)
            local = Local(jobs, file, arguments)
            return asyncio.run(local.run(once=arguments.once))
    except LocalStateError as error:
        raise CannotError(str(error)) from error


# --- Jobs -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Running:
    """A command that was started and has not ended."""

    start: Start
    process: asyncio.subprocess.Process
    began: float
    deadline: float
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    timed_out: bool = False
    stopped: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class LocalJob:
    """A job of a manifest on this machine."""

    key: str
    fingerprint: str
    words: tuple[str, ...]
    """Command and arguments, with their variables not filled in."""
    simulated: SimulatedJob
    running: dict[str, Running] = field(default_factory=dict)
    """By the run's uid."""
    to_interrupt: tuple[str, ...] = ()
    """Runs that another run-local started: not known to have ended."""
    told_waiting: bool = False

    @property
    def spec(self) -> Spec:
        """The job's spec."""
        return self.simulated.job.spec

    @property
    def status(self) -> Status:
        """The job's books."""
        return self.simulated.status


@dataclass(frozen=True, slots=True)
class _Definition:
    key: str
    name: str
    namespace: str
    spec: Spec
    words: tuple[str, ...]
    fingerprint: str
    desired: Desired


def _definitions(arguments: argparse.Namespace) -> list[_Definition]:
    """Read the manifests. Raises CannotError with a sentence for each mistake."""
    prefix = _manage_py(arguments.manage_py)
    found: dict[str, _Definition] = {}
    mistakes: list[str] = []
    for manifest in read_manifests(arguments.filename):
        try:
            one = _definition(manifest, prefix)
        except InvalidSpec as error:
            mistakes += [f"{manifest.source}: {manifest.name}: {sentence}." for sentence in error.sentences]
        except TemplateError as error:
            mistakes.append(f"{manifest.source}: {manifest.name}: {error}")
        else:
            if one.key in found:
                mistakes.append(f"{manifest.source}: {one.key} is there twice; remove one.")
            found[one.key] = one
    if mistakes:
        raise CannotError(f"\n{PROGRAM}: ".join(mistakes), EXIT_USAGE)
    return list(found.values())


def _definition(manifest: Manifest, prefix: tuple[str, ...] | None) -> _Definition:
    if not manifest.name:
        raise InvalidSpec(["metadata.name: must be given"])
    spec = Spec.read(manifest.spec, name=manifest.name).filled(NO_SETTINGS)
    if prefix is not None:
        spec = replace(spec, manage_py=prefix)
    if not spec.manage_py:
        raise InvalidSpec(
            ["spec.managePy: is empty, which means the image's entrypoint; say what that is with --manage-py"]
        )
    namespace = manifest.namespace or ""
    cronjob = plan_alone(namespace, manifest.name, spec)
    text = json.dumps(manifest.spec, sort_keys=True, default=str) + json.dumps(spec.manage_py)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return _Definition(
        key=f"{namespace}/{manifest.name}" if namespace else manifest.name,
        name=manifest.name,
        namespace=namespace,
        spec=spec,
        words=command_line(cronjob, {}),
        fingerprint=fingerprint,
        desired=Desired(fingerprint, fingerprint, schedule_key(cronjob["spec"])),
    )


def _load(file: StateFile, definitions: Sequence[_Definition]) -> list[LocalJob]:
    """Join the manifests with what is known of their jobs."""
    saved, now = file.read(), datetime.now(UTC).replace(microsecond=0)
    jobs = []
    for one in definitions:
        known = saved.get(one.key) or SavedJob(created=now, generation=1, fingerprint=one.fingerprint)
        edited = known.fingerprint != one.fingerprint
        job = Job(
            namespace=one.namespace,
            name=one.name,
            uid=one.key,
            resource_version="1",
            generation=known.generation + 1 if edited else known.generation,
            created=known.created,
            spec=one.spec,
            status=read_status(known),
        )
        simulated = restore_job(known, job, one.desired)
        left = tuple(run.uid for run in simulated.runs.values() if run.running and run.active)
        jobs.append(LocalJob(one.key, one.fingerprint, one.words, simulated, to_interrupt=left))
    return jobs


_CHECKS: dict[str, Callable[[str], object]] = {
    commands.MARK_SUCCESS: lambda value: commands.parse_mark(value, datetime.now(UTC)),
    commands.RESET: commands.parse_reset,
    commands.RUN_NOW: commands.parse_run_now,
}


def _give_commands(jobs: Sequence[LocalJob], arguments: argparse.Namespace) -> None:
    """Turn --mark-success, --reset and --run-now into the annotations that they are on Kubernetes."""
    by_name = {job.key: job for job in jobs}
    by_name |= {job.simulated.job.name: job for job in jobs}
    for option, given in (
        (commands.MARK_SUCCESS, arguments.mark_success),
        (commands.RESET, arguments.reset),
        (commands.RUN_NOW, arguments.run_now),
    ):
        for text in given:
            name, _, value = text.partition("=")
            if name not in by_name:
                message = f"--{option} {name}: there is no such job in {', '.join(arguments.filename)}."
                raise CannotError(message, EXIT_USAGE)
            annotations = by_name[name].simulated.annotations
            annotations |= {PREFIX + option: value, commands.COMMAND_ID: uuid.uuid4().hex}
            try:
                _CHECKS[option](value)
            except commands.BadValueError as error:
                raise CannotError(f"--{option} {text}: {error}", EXIT_USAGE) from error


# --- Running --------------------------------------------------------------------------------------------


class Local:
    """All jobs, and the loop that runs them."""

    def __init__(self, jobs: Sequence[LocalJob], file: StateFile, arguments: argparse.Namespace) -> None:
        """Take the jobs as they were loaded."""
        self._jobs = list(jobs)
        self._file = file
        self._directory: Path | None = arguments.directory
        self._others = {
            key: saved for key, saved in file.read().items() if all(job.key != key for job in jobs)
        }
        self._woken = asyncio.Event()
        self._signal: int | None = None
        self._failed = False
        self._width = max(len(job.key) for job in jobs)
        self._written: dict[str, SavedJob] | None = None
        for job in self._jobs:
            job.simulated.hold = self._hold(job)

    async def run(self, *, once: bool) -> int:
        """Run until told to stop, or with `once` until nothing is due any more; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        began = datetime.now(UTC)
        try:
            while self._signal is None:
                self._woken.clear()
                await self._advance(datetime.now(UTC))
                if once and self._is_done(began):
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self._patience())
        finally:
            await self._end_all()
        if self._signal is not None:
            return 128 + self._signal
        return self._once_code(began) if once else 0

    def _stop(self, number: int) -> None:
        """Take a signal: stop the commands; the second one kills them."""
        for job in self._jobs:
            for running in job.running.values():
                _signal(running, signal.SIGTERM if self._signal is None else signal.SIGKILL)
                running.stopped = True
        self._signal = self._signal or number
        self._woken.set()

    async def _advance(self, now: datetime) -> None:
        """Let every job decide, until none has anything to do; start what is to be started."""
        for job in self._jobs:
            self._check_left(job, now)
        # All commands first: what a job depends on may have been marked.
        starts = [(job, start) for job in self._jobs for start in job.simulated.do_commands(now)]
        for _ in range(PASSES_MAX):
            if not self._pass(now, starts):
                break
        self._save()
        for job, start in starts:
            await self._start(job, start)

    def _pass(self, now: datetime, starts: list[tuple[LocalJob, Start]]) -> bool:
        """Let every job decide once, the one with the oldest slot first; True: something changed."""
        changed = False
        for job in sorted(self._jobs, key=lambda job: _oldest(job, now)):
            if job.to_interrupt:
                continue
            before = job.status
            starts += [(job, start) for start in job.simulated.advance(now)]
            changed |= job.status is not before
            for telling in changes(before, job.status, job.spec):
                self._say(job, f"{telling.reason}: {telling.message}")
        return changed

    def _check_left(self, job: LocalJob, now: datetime) -> None:
        """See whether the command of an earlier run-local, that was killed, still lives."""
        if not job.to_interrupt:
            return
        lock = self._file.lock_for_command(job.key)
        if lock is None:
            if not job.told_waiting:
                self._say(job, "a command that an earlier run-local started goes on; waiting for its end.")
            job.told_waiting = True
            return
        os.close(lock)
        for uid in job.to_interrupt:
            self._say(
                job, f"slot {format_time(job.simulated.runs[uid].slot)} was interrupted; it runs again."
            )
            job.simulated.interrupt(uid, now)
        job.to_interrupt = ()

    def _hold(self, job: LocalJob) -> MayStart:
        """Say why a slot of a job may not start: dependencies, its group."""

        def why(slot: datetime) -> Hold | None:
            decided, namespace = job.simulated.job, job.simulated.job.namespace
            others = {
                one.simulated.job.name: one.simulated.job
                for one in self._jobs
                if one.simulated.job.namespace == namespace
            }
            running = {
                one.key: one.spec.concurrency_group
                for one in self._jobs
                if one.simulated.job.namespace == namespace
                and occupies(one.spec, one.status, one.simulated.runs.values())
            }
            # Who has an older slot was asked before (_pass).
            one = Waiting(slot, job.key, job.spec.concurrency_group)
            problem = dependencies.problem(decided, others)
            return dependencies.hold(decided, slot, others, problem) or keeps_waiting(
                one, (), running, limit=None
            )

        return why

    def _save(self) -> None:
        jobs = {**self._others, **{job.key: save_job(job.simulated, job.fingerprint) for job in self._jobs}}
        if jobs != self._written:
            self._file.write(jobs)
            self._written = jobs

    def _patience(self) -> float:
        """How long to wait for anything to happen, in seconds."""
        now = datetime.now(UTC)
        times = [job.simulated.wake_at for job in self._jobs if job.simulated.wake_at is not None]
        soonest = min(times, default=now + timedelta(seconds=TICK_SECONDS))
        return min(max((soonest - now).total_seconds(), 0.0), TICK_SECONDS)

    # --- Commands ----------------------------------------------------------------------------------------

    async def _start(self, job: LocalJob, start: Start) -> None:
        """Start a command; a command that can't be started is a failed attempt."""
        values = {**os.environ, "RUN_TIME": start.run_time, "LAST_SUCCESS": start.last_success}
        argv = [*(expand(word, values) for word in job.words), *start.extra_args]
        what = f"slot {format_time(start.slot)}, attempt {start.attempt}"
        self._say(job, f"{'by hand' if start.by_hand else what}: {shlex.join(argv)}")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if job.spec.is_gated:
            environment |= {"RUN_TIME": start.run_time, "LAST_SUCCESS": start.last_success}
        lock = None if start.by_hand else self._file.lock_for_command(job.key)
        now = datetime.now(UTC)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._directory,
                env=environment,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
                limit=2**20,
            )
        except OSError as error:
            message = f"{argv[0]}: {error.strerror or error}"
            self._ended(job, start, now, Attempt(Result.FAILED, "StartError", message, "", now, now))
            return
        finally:
            if lock is not None:
                os.close(lock)  # the command has its own
        clock = time.monotonic()
        running = Running(start, process, clock, clock + job.spec.active_deadline_seconds)
        job.running[start.uid] = running
        if self._signal is not None:
            _signal(running, signal.SIGTERM)
            running.stopped = True
        running.task = asyncio.create_task(self._attend(job, running))

    async def _attend(self, job: LocalJob, running: Running) -> None:
        """Pass on what a command prints, until it ends; stop it at its deadline."""
        printing = asyncio.create_task(self._print(job, running))
        code = await self._wait(running)
        with contextlib.suppress(TimeoutError):
            # What the command left behind may hold the pipe open.
            await asyncio.wait_for(printing, 1.0)  # cancels it, then
        now = datetime.now(UTC)
        job.running.pop(running.start.uid, None)
        if running.stopped and code != 0:
            self._say(job, f"slot {format_time(running.start.slot)} was stopped; it runs again.")
            job.simulated.interrupt(running.start.uid, now)
        else:
            self._ended(
                job, running.start, now, _failure(running, code, now) if code or running.timed_out else None
            )
        self._woken.set()

    async def _wait(self, running: Running) -> int:
        """Wait for a command's end and return its exit code; past its deadline it is stopped."""
        process = running.process
        left = running.deadline - time.monotonic()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(process.wait()), max(left, 0.0))
        running.timed_out = True
        _signal(running, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(process.wait()), GRACE_SECONDS)
        _signal(running, signal.SIGKILL)
        return await process.wait()

    async def _print(self, job: LocalJob, running: Running) -> None:
        stream = running.process.stdout
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # longer than the limit: that part of it is dropped
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\r\n")
            running.tail.append(text)
            sys.stdout.write(f"{job.key:{self._width}} | {text}\n")
            sys.stdout.flush()

    def _ended(self, job: LocalJob, start: Start, now: datetime, failure: Attempt | None) -> None:
        """Take note of how a run ended."""
        job.simulated.end(start.uid, now, failure)
        what = "the run by hand" if start.by_hand else f"slot {format_time(start.slot)}"
        if failure is None:
            self._say(job, f"{what} succeeded.")
        else:
            self._failed = True
            self._say(job, f"{what} failed: {failure.type}: {failure.value}".rstrip(": "))
        self._woken.set()

    async def _end_all(self) -> None:
        """Stop what still runs, and write down how it ended."""
        tasks = []
        for job in self._jobs:
            for running in job.running.values():
                if not running.stopped:
                    _signal(running, signal.SIGTERM)
                    running.stopped = True
                if running.task is not None:
                    tasks.append(running.task)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
            for job in self._jobs:
                for running in job.running.values():
                    _signal(running, signal.SIGKILL)
            if late:
                await asyncio.wait(late, timeout=GRACE_SECONDS)
        # What ended is recorded by whoever looks next: a decision is made from what exists.
        self._save()

    # --- With --once -------------------------------------------------------------------------------------

    def _is_done(self, began: datetime) -> bool:
        """Tell whether nothing runs and nothing that was due at the start can be run without a retry."""
        if any(job.running or job.to_interrupt for job in self._jobs):
            return False
        now = datetime.now(UTC)
        return not any(self._comes_soon(job, began, now) for job in self._jobs)

    def _comes_soon(self, job: LocalJob, began: datetime, now: datetime) -> bool:
        if job.status.error_count or not _is_due(job, began) or job.spec.suspend:
            return False
        wake_at = job.simulated.wake_at
        return wake_at is not None and wake_at - now < SHORT_WAIT

    def _once_code(self, began: datetime) -> int:
        left = [job for job in self._jobs if _is_due(job, began) and not job.spec.suspend]
        for job in left:
            condition = job.status.condition(ConditionType.CAUGHT_UP)
            self._say(job, condition.message if condition is not None else "slots are due and were not run.")
        return EXIT_FAILED if self._failed or left else 0

    def _say(self, job: LocalJob, sentence: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(f"{job.key:{self._width}} : {sentence}\n")
        sys.stderr.flush()


# --- What is due, and how a run ended -------------------------------------------------------------------

_LATER = datetime.max.replace(tzinfo=UTC)


def _oldest(job: LocalJob, now: datetime) -> tuple[datetime, str]:
    """Return what jobs are sorted by: the slot that is due, then the name."""
    return _head(job, now) or _LATER, job.key


def _head(job: LocalJob, now: datetime) -> datetime | None:
    return bookkeeping.head(View.of_job(job.simulated.job, job.simulated.observed(), now), job.status)


def _is_due(job: LocalJob, began: datetime) -> bool:
    """Tell whether a slot is due that was so when this process began."""
    due = _head(job, datetime.now(UTC))
    return due is not None and due <= began


def _failure(running: Running, code: int, now: datetime) -> Attempt:
    """Read how a command failed, as the operator reads it from a pod."""
    began = now - timedelta(seconds=time.monotonic() - running.began)
    terminated: dict[str, Any] = {
        # A shell's way to tell a signal.
        "exitCode": code if code >= 0 else 128 - code,
        "startedAt": format_time(began),
        "finishedAt": format_time(now),
    }
    pod = {
        "metadata": {"name": "local", "uid": "local"},
        "spec": {"containers": [{"name": "local"}]},
        "status": {
            "phase": "Failed",
            "reason": "DeadlineExceeded" if running.timed_out else "",
            "containerStatuses": [{"name": "local", "state": {"terminated": terminated}}],
        },
    }
    return read_attempt(pod, "\n".join(running.tail))


def _signal(running: Running, number: signal.Signals) -> None:
    """Send a signal to a command and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.process.pid, number)


# --- Words ----------------------------------------------------------------------------------------------


def _table(jobs: Sequence[LocalJob], now: datetime) -> str:
    """Write the books of all jobs, as `kubectl get crontabberjobs` shows them."""
    lines = [["NAME", "SCHEDULE", "STATE", "LAST SUCCESS", "NEXT RUN", "MISSED", "ERRORS"]]
    for job in jobs:
        status = job.status
        view = View.of_job(job.simulated.job, job.simulated.observed(), now)
        lines.append(
            [
                job.key,
                job.spec.schedule_text,
                str(status.state or ""),
                _time(status.last_success_time),
                _time(status.next_run_time or view.upcoming),
                str(bookkeeping.missed(view, status)),
                str(status.error_count),
            ]
        )
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def _time(time_: datetime | None) -> str:
    return format_time(time_) if time_ is not None else ""


def _manage_py(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        given = words("manage-py", text)
    except SettingError as error:
        raise CannotError(f"{error}.", EXIT_USAGE) from error
    if not given:
        message = "--manage-py: is empty; say what comes before each command, such as 'python manage.py'."
        raise CannotError(message, EXIT_USAGE)
    return given
