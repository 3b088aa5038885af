"""Run many slots of one Django command in one pod, each in a process of its own, with the start-up paid once.

This file runs inside the web app's image, from a ConfigMap: it needs nothing but Python 3.8 and its standard
library, and imports nothing of the operator. `runner.py [options] -- manage.py args…` stands for
`python manage.py args…`, once for each slot of the plan, in order; the first failure stops it.

Three kinds of process: the *supervisor* (this one) never runs a line of the app's. It starts, stops and judges
the others, and alone writes the report (the container's termination message) and the markers in the output.
The *warm* process runs manage.py as Python would, up to where Django would execute the command; there it
imports what the command needs, runs the system checks, closes the connections, and from then on forks. Each
*slot's* process is such a fork: it goes on from there with its slot's arguments and environment, and ends as
Python ends, but leaves freeing the memory to the system. Where forking can't be had or would not be safe, each
slot starts manage.py anew, still in order.

What others read (docs/batches.md): the markers, one line each on standard error, never split:

    crontabber[<nonce>] slot <time> begins
    crontabber[<nonce>] slot <time> succeeded in <seconds> s
    crontabber[<nonce>] slot <time> failed: <how>
    crontabber[<nonce>] note: <text>

A marker can begin in the middle of a line that the command did not end. The nonce comes with the plan.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib.machinery
import importlib.util
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import types
import warnings
from typing import Any, Iterable, NoReturn

HOOKED = "django.core.management"
REPORT_BYTES = 1024
EXIT_STOPPED = 143
EXIT_TIMED_OUT = 124
EXIT_NOT_WRITTEN = 120
"""Python's own, where standard output can't be written at the end."""
STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OOM_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
MARKS = {"RUN_TIME": "@crontabber.dev/run-time@", "LAST_SUCCESS": "@crontabber.dev/last-success@"}
"""What Kubernetes put wherever args and env mention these variables; each slot has its own values."""


class Slot:
    """One slot of the plan."""

    def __init__(self, time_: str, run_time: str, last_success: str) -> None:
        self.time = time_
        self.values = {MARKS["RUN_TIME"]: run_time, MARKS["LAST_SUCCESS"]: last_success}

    def filled_in(self, text: str) -> str:
        """Return a text as Kubernetes would have written it for a run of this slot alone."""
        for mark, value in self.values.items():
            text = text.replace(mark, value)
        return text

    def arguments(self, templates: Iterable[str]) -> list[str]:
        """Return manage.py's arguments."""
        return [self.filled_in(template) for template in templates]

    def environment(self, templates: dict[str, str]) -> dict[str, str]:
        """Return the variables whose values depend on the slot."""
        return {name: self.filled_in(template) for name, template in templates.items()}


class Task:
    """What is to be run, the slots aside: the program (`manage.py`, or `-m` and a module) and its arguments."""

    def __init__(self, words: list[str], environ: Iterable[tuple[str, str]]) -> None:
        self.is_module = words[0] == "-m"
        self.program, *self.templates = words[1:] if self.is_module else words
        self.variables = {
            name: value for name, value in environ if any(mark in value for mark in MARKS.values())
        }

    def command(self, slot: Slot) -> list[str]:
        """Return the command line of a Python of its own."""
        flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
        target = ["-m", self.program] if self.is_module else [self.program]
        return [sys.executable, *flags, *target, *slot.arguments(self.templates)]


# --- Output ----------------------------------------------------------------------------------------------


class Teller:
    """Writes the markers and the report."""

    def __init__(self, nonce: str, report_path: str) -> None:
        self._nonce = nonce
        self._report: int | None = None
        self._told: dict[str, Any] = {"crontabber": nonce, "good": None}
        try:
            self._report = os.open(report_path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            self.note("the report %s can't be written: %s" % (report_path, error))
        self._write_report()

    def mark(self, text: str) -> None:
        """Write a marker, in one piece."""
        with contextlib.suppress(OSError):
            os.write(2, ("crontabber[%s] %s\n" % (self._nonce, text)).encode("utf-8", "replace"))

    def note(self, text: str) -> None:
        """Say what is worth knowing."""
        self.mark("note: " + " ".join(text.split())[:500])

    def succeeded(self, slot: Slot, seconds: float) -> None:
        """A slot is done: the report comes first, then all else."""
        self._told["good"] = slot.time
        self._write_report()
        self.mark("slot %s succeeded in %.3f s" % (slot.time, seconds))

    def failed(self, slot: Slot, outcome: Outcome) -> None:
        """A slot was not done, and no later one is begun."""
        self._told.update(slot=slot.time, how=outcome.how, code=outcome.code)
        self._write_report()
        self.mark("slot %s failed: %s" % (slot.time, outcome.sentence))

    def close(self) -> None:
        """Leave the report to the supervisor."""
        if self._report is not None:
            os.close(self._report)

    def _write_report(self) -> None:
        # Written over in place, always as long: whenever the pod is killed, what is there can be read.
        if self._report is not None:
            text = json.dumps(self._told).ljust(REPORT_BYTES - 1) + "\n"
            with contextlib.suppress(OSError):
                os.pwrite(self._report, text.encode(), 0)


class Outcome:
    """How a slot's process ended."""

    def __init__(self, how: str, code: int, sentence: str) -> None:
        self.how, self.code, self.sentence = how, code, sentence

    @property
    def is_good(self) -> bool:
        """Whether the slot is done."""
        return self.how == "exit" and self.code == 0


def outcome_of(status: int) -> Outcome:
    """Read what waitpid said."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("signal", 128 + number, "killed by signal %d" % number)
    code = os.WEXITSTATUS(status)
    return Outcome("exit", code, "exit code %d" % code)


# --- The supervisor --------------------------------------------------------------------------------------


class Supervisor:
    """Has the slots run one after the other."""

    def __init__(self, task: Task, slots: list[Slot], teller: Teller, timeout: float, grace: float) -> None:
        self._task, self._slots, self._teller = task, slots, teller
        self._timeout, self._grace = timeout, grace
        self._stop = False
        self._current: int | None = None
        """The process that runs a slot."""
        self._warm: Warm | None = None
        self._awake, waker = socket.socketpair()
        for end in (self._awake, waker):
            end.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in STOPPING_SIGNALS:
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self, warm: Warm | str) -> int:
        """Run all slots; return the exit code. `warm`: the warm process, or why there is none."""
        if isinstance(warm, Warm):
            self._warm = warm
        else:
            self._starts_anew(warm)
        for number, slot in enumerate(self._slots):
            if self._stop:
                return EXIT_STOPPED
            self._teller.mark("slot %s begins" % slot.time)
            kills = oom_kills()
            began = time.monotonic()
            outcome = self._run_slot(number, slot)
            if outcome.how == "signal" and outcome.code == 137 and oom_kills() > kills:
                outcome = Outcome("oom", outcome.code, "killed: out of memory")
            if not outcome.is_good:
                self._teller.failed(slot, outcome)
                return outcome.code or 1
            self._teller.succeeded(slot, time.monotonic() - began)
        return 0

    def _asked_to_stop(self, number: int, _frame: object) -> None:
        self._stop = True
        self._signal(self._current, number)

    def _starts_anew(self, why: str) -> None:
        self._teller.note("each slot starts the program anew: %s" % why)

    def _run_slot(self, number: int, slot: Slot) -> Outcome:
        if self._warm is not None and number == 0:
            outcome = self._warm_up(self._warm)
            if outcome is not None:
                return outcome
        if self._warm is not None:
            return self._run_forked(self._warm, number)
        return self._run_spawned(slot)

    def _runs(self, process: int | None) -> None:
        """Take note of the process that runs a slot: it gets the signals that are meant for all."""
        self._current = process
        if self._stop:
            self._signal(process, signal.SIGTERM)

    # --- The first slot: the warm process gets ready, or turns out to be the run itself

    def _warm_up(self, warm: Warm) -> Outcome | None:
        """Wait for the warm process. None: it is ready, or gone without having begun anything."""
        self._runs(warm.pid)
        told = self._wait_for_message(warm)
        self._runs(None)
        if isinstance(told, Outcome):
            self._without_warm(warm)
            self._end_strays(warm.pid)
            self._starts_anew("it does not let Django execute the command")
            return told
        if "unusable" in told:
            self._without_warm(warm)
            self._reap(warm.pid)
            self._starts_anew(told["unusable"])
        return None

    def _without_warm(self, warm: Warm) -> None:
        warm.close()
        self._warm = None

    def _wait_for_message(self, warm: Warm) -> dict[str, Any] | Outcome:
        """Return what the warm process says first, or how it ended without a word."""
        deadline = Deadline(self._timeout, self._grace)
        while True:
            message = warm.read()
            if message is not None:
                return message
            status = wait_for(warm.pid)
            if status is not None:
                # It may have spoken just before it ended.
                return warm.read() or deadline.outcome(status)
            self._signal(warm.pid, deadline.signal())
            self._sleep(deadline.seconds(), warm.fileno())

    # --- A slot as a fork of the warm process

    def _run_forked(self, warm: Warm, number: int) -> Outcome:
        warm.send({"slot": number})
        deadline, process = Deadline(self._timeout, self._grace), None
        while True:
            message = warm.read()
            if message is None and warm.has_ended:
                return self._warm_ended(warm, process)
            if message is not None and "pid" in message:
                process = message["pid"]
                self._runs(process)
            elif message is not None:
                self._runs(None)
                self._end_strays(process)
                if "error" in message:
                    return Outcome("exit", 1, message["error"])
                return deadline.outcome(message["status"])
            self._signal(process, deadline.signal())
            self._sleep(deadline.seconds(), warm.fileno())

    def _warm_ended(self, warm: Warm, process: int | None) -> Outcome:
        """The warm process died: nobody can say any more how the slot's process ended."""
        self._without_warm(warm)
        self._runs(None)
        self._signal(process, signal.SIGKILL)
        outcome = outcome_of(self._reap(warm.pid))
        self._end_strays(process)
        return Outcome("signal", outcome.code or 1, "the process that it was forked from ended")

    # --- A slot as a Python of its own

    def _run_spawned(self, slot: Slot) -> Outcome:
        environment = dict(os.environ, **slot.environment(self._task.variables))
        try:
            process = subprocess.Popen(self._task.command(slot), env=environment, start_new_session=True)
        except OSError as error:
            return Outcome("exit", 1, "it can't be started: %s" % error)
        self._runs(process.pid)
        deadline = Deadline(self._timeout, self._grace)
        while True:
            status = wait_for(process.pid)
            if status is not None:
                process.returncode = 0  # or it would be waited for again
                self._runs(None)
                self._end_strays(process.pid)
                return deadline.outcome(status)
            self._signal(process.pid, deadline.signal())
            self._sleep(deadline.seconds())

    # --- Processes

    def _sleep(self, seconds: float, *others: int) -> None:
        """Wait for a signal (of a child that ended, too), for one of the others, or so long."""
        select.select([self._awake.fileno(), *others], [], [], max(0.0, min(seconds, 3600.0)))
        with contextlib.suppress(BlockingIOError):
            while self._awake.recv(4096):
                pass

    def _signal(self, process: int | None, number: int) -> None:
        if process is not None and number:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _reap(self, pid: int) -> int:
        while True:
            status = wait_for(pid)
            if status is not None:
                return status
            self._sleep(1.0)

    def _end_strays(self, group: int | None) -> None:
        """End what a slot's process left behind, as the end of its container would."""
        if group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        kept = self._warm.pid if self._warm is not None else None
        for _ in range(1000):
            strays = [pid for pid in children() if pid != kept]
            if not strays:
                return
            for pid in strays:
                self._signal(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


class Warm:
    """The supervisor's end of the warm process."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.has_ended = False
        self._connection = connection
        self._connection.setblocking(False)
        self._rest = b""

    def fileno(self) -> int:
        """Say what to wait for."""
        return self._connection.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Say something to the warm process."""
        with contextlib.suppress(OSError):
            self._connection.send(json.dumps(message).encode() + b"\n")

    def read(self) -> dict[str, Any] | None:
        """Return the next thing that it said, None where there is none yet."""
        if b"\n" not in self._rest and not self.has_ended:
            try:
                got = self._connection.recv(65536)
            except BlockingIOError:
                return None
            except OSError:
                got = b""
            self.has_ended = not got
            self._rest += got
        line, end, rest = self._rest.partition(b"\n")
        if not end:
            return None
        self._rest = rest
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Say nothing more: it ends."""
        self._connection.close()


class Deadline:
    """How long a slot's process may run, and what follows then."""

    def __init__(self, timeout: float, grace: float) -> None:
        self._at, self._grace, self._is_over = time.monotonic() + timeout, grace, False

    def seconds(self) -> float:
        """Return how long there is nothing to do."""
        return self._at - time.monotonic()

    def signal(self) -> int:
        """Return the signal that is due: SIGTERM at the deadline, SIGKILL from a grace later on; 0: none."""
        if self.seconds() > 0:
            return 0
        number = signal.SIGKILL if self._is_over else signal.SIGTERM
        self._at, self._is_over = time.monotonic() + self._grace, True
        return number

    def outcome(self, status: int) -> Outcome:
        """Read what waitpid said; whatever it was, a process that was told to end was not in time."""
        if self._is_over:
            return Outcome("timeout", EXIT_TIMED_OUT, "it ran longer than activeDeadlineSeconds")
        return outcome_of(status)


def wait_for(pid: int) -> int | None:
    """Return the status of a child that has ended, else None."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 1 << 8  # somebody else has waited for it: it did not succeed as far as anybody knows
    return status if found else None


def children() -> list[int]:
    """List the children of this process, those left by others included."""
    me = os.getpid()
    try:
        with open("/proc/self/task/%d/children" % me) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        pass
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open("/proc/%s/stat" % name) as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                if parent == me:
                    found.append(int(name))
    return found


def adopt_orphans() -> None:
    """Have processes whose parents end become children of this one, as it is for a container's first process."""
    with contextlib.suppress(Exception):  # without it, they end with the container
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def oom_kills() -> int:
    """Count the processes of this container that the kernel killed for want of memory."""
    for path in OOM_EVENTS:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


# --- The warm process ------------------------------------------------------------------------------------


class UnusableError(Exception):
    """Forking from here would not be what a run by itself is."""


class Hook:
    """Takes the place of Django's `ManagementUtility.execute`, until it has forked a slot's process."""

    def __init__(self, connection: socket.socket, task: Task, slots: list[Slot]) -> None:
        self._connection, self._task, self._slots = connection, task, slots
        self._stream = connection.makefile("r")
        self._files: list[Any] = []
        self.has_forked = False
        """This is the process of a slot."""
        self.original: Any = None

    def install(self) -> None:
        """Wait for Django's module to be imported, from wherever manage.py finds it."""
        sys.meta_path.insert(0, self)

    # The import system asks this object for every module.
    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        """Let the module be found as ever, and change it when it is loaded."""
        if name != HOOKED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            self._take_over(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _take_over(self, module: Any) -> None:
        self.original = module.ManagementUtility.execute
        hook = self

        def execute(utility: Any) -> Any:
            module.ManagementUtility.execute = hook.original
            hook.serve(utility)
            return hook.original(utility)

        module.ManagementUtility.execute = execute

    def serve(self, utility: Any) -> None:
        """Get warm, then fork a process for each slot; returns in those alone."""
        try:
            template = self._template(utility.argv)
            skips_checks = self._get_warm(utility)
            self._check_threads()
        except UnusableError as error:
            self._give_up(str(error))
        except (Exception, SystemExit) as error:
            self._give_up("its start-up failed: %s" % summary(error))
        self._say({"ready": True})
        sys.stdout.flush()
        sys.stderr.flush()
        for line in self._stream:
            slot = self._slots[json.loads(line)["slot"]]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    pid = os.fork()
            except OSError as error:
                self._say({"error": "it can't be forked: %s" % error})
                continue
            if pid == 0:
                self._become(slot, utility, template, skips_checks=skips_checks)
                return
            self._say({"pid": pid})
            self._say({"status": os.waitpid(pid, 0)[1]})
        os._exit(0)

    def _say(self, message: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _give_up(self, why: str) -> NoReturn:
        self._say({"unusable": why})
        os._exit(0)

    def _template(self, given: list[str]) -> list[str]:
        """Return the arguments as manage.py hands them to Django, with what is the slot's own still open."""
        first = self._slots[0].arguments(self._task.templates)
        own: dict[str, str] = {}
        for template, value in zip(self._task.templates, first):
            if template == value:
                continue
            if own.get(value, template) != template or value in self._task.templates:
                raise UnusableError("the arguments of its slots can't be told apart")
            own[value] = template
        if any(value not in given for value in own):
            raise UnusableError("manage.py changes the arguments that depend on the slot")
        return [own.get(value, value) for value in given]

    def _get_warm(self, utility: Any) -> bool:
        """Do once what each run does first; tell whether the system checks need not be done again."""
        import django
        from django.conf import settings
        from django.core.management.base import CommandParser, handle_default_options

        if len(utility.argv) < 2:
            raise UnusableError("there is no command")
        parser = CommandParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--settings")
        parser.add_argument("--pythonpath")
        parser.add_argument("args", nargs="*")
        handle_default_options(parser.parse_known_args(utility.argv[2:])[0])
        settings.INSTALLED_APPS  # noqa: B018 - loads the settings, as Django does here
        django.setup()
        command = utility.fetch_command(utility.argv[1])
        command.create_parser(utility.argv[0], utility.argv[1])
        are_good = are_checks_good(command)
        import_compilers()
        close_connections()
        gc.collect()
        self._files = open_files()
        flush(self._files)  # or each slot's process would write what is in their buffers
        gc.freeze()
        return are_good

    def _check_threads(self) -> None:
        names = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
        if names:
            raise UnusableError(
                "its start-up starts threads (%s), which a fork would not have" % ", ".join(names)
            )

    def _become(self, slot: Slot, utility: Any, template: list[str], *, skips_checks: bool) -> None:
        """Go on as the process of a slot."""
        self.has_forked = True
        self._stream.close()
        self._connection.close()
        os.setsid()
        os.environ.update(slot.environment(self._task.variables))
        first = self._slots[0].arguments(self._task.templates)
        own = dict(zip(first, self._task.templates))
        sys.argv[1:] = [slot.filled_in(own.get(value, value)) for value in sys.argv[1:]]
        utility.argv = [slot.filled_in(value) for value in template]
        # Once in a process is what a run by itself does; again, it would set up the logging anew.
        sys.modules["django"].setup = lambda *_args, **_options: None  # type: ignore[attr-defined]
        if skips_checks:
            skip_checks()

    def end(self, code: int) -> NoReturn:
        """End a slot's process as Python ends, but for its objects: to free them would copy most of what is shared."""
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            close_connections()
        gc.collect()  # only what is new: the rest is frozen
        flush([*self._files, *open_files()])
        os._exit(code if are_streams_good() else EXIT_NOT_WRITTEN)


def are_checks_good(command: Any) -> bool:
    """Run the system checks as the command would; those that fail are left to each slot's process to tell."""
    from django.core.management.base import SystemCheckError

    wanted = getattr(command, "requires_system_checks", "__all__")
    if not wanted:
        return False
    try:
        command.check(**({} if wanted in ("__all__", True) else {"tags": wanted}))
    except SystemCheckError:
        return False
    return True


def import_compilers() -> None:
    """Import what Django imports with the first query on each kind of database."""
    from django.db import connections

    for connection in connections.all():
        with contextlib.suppress(Exception):
            connection.ops.compiler("SQLCompiler")


def skip_checks() -> None:
    """Have no command of this process run the system checks again, as `--skip-checks` does."""
    from django.core.management.base import BaseCommand

    original = BaseCommand.execute

    def execute(command: Any, *args: Any, **options: Any) -> Any:
        options["skip_checks"] = True
        return original(command, *args, **options)

    BaseCommand.execute = execute


def close_connections() -> None:
    """Leave nothing open that two processes would share."""
    from django.core.cache import caches
    from django.db import connections

    for connection in connections.all():
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
    for alias in list(connections):
        with contextlib.suppress(Exception):
            del connections[alias]
    for cache in caches.all():
        with contextlib.suppress(Exception):
            cache.close()


def open_files() -> list[Any]:
    """List the files that may have something in their buffers, but those that the garbage collector has frozen."""
    base = io.IOBase.__bases__[
        0
    ]  # that of files in C; asking each object by isinstance() could run the app's code
    return [one for one in gc.get_objects() if issubclass(type(one), base)]


def flush(files: Iterable[Any]) -> None:
    """Write what is in the buffers; what can't be written is lost, as at the end of any process."""
    for file in files:
        with contextlib.suppress(Exception):
            file.flush()


def are_streams_good() -> bool:
    """Write what is left for standard output and error. False: it can't be, for which Python has an exit code."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except Exception:
        return False
    return True


def exit_code(leaving: SystemExit) -> int:
    """Return what a process ends with for a SystemExit, and print what Python prints for it."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    sys.stderr.write("%s\n" % (leaving.code,))
    return 1


def summary(error: BaseException) -> str:
    """Say in a line what went wrong."""
    return traceback.format_exception_only(type(error), error)[-1].strip()


# --- The program -----------------------------------------------------------------------------------------


def run_program(task: Task, slot: Slot) -> None:
    """Run the program in this process as Python itself would."""
    sys.argv = [task.program, *slot.arguments(task.templates)]
    try:
        if task.is_module:
            runpy.run_module(task.program, run_name="__main__", alter_sys=True)
        else:
            run_script(task.program)
    except SystemExit:
        raise
    except BaseException as error:  # told as Python does where nobody catches it, without what is ours
        error.__traceback__ = without_runner(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def run_script(path: str) -> None:
    """Run a file as `python path` does."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    if sys.version_info >= (3, 9):
        path = os.path.abspath(path)
    module = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    vars(module).update(
        __file__=path, __builtins__=__builtins__, __cached__=None, __spec__=None, __loader__=loader
    )
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    sys.modules["__main__"] = module
    exec(code, vars(module))


def without_runner(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Leave this file's frames out of a traceback: it is to look as that of a run by itself."""
    ours = {__file__, runpy.__file__, "<frozen runpy>"}
    entries = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename not in ours:
            entries.append(trace)
        trace = trace.tb_next
    following = None
    for entry in reversed(entries):
        following = types.TracebackType(following, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return following


# --- The beginning ---------------------------------------------------------------------------------------


def read_order(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line: options, `--`, then the program's own."""
    parser = argparse.ArgumentParser(prog="runner.py", allow_abbrev=False)
    parser.add_argument("--plan", required=True, help="the file of nonce and slots, JSON")
    parser.add_argument("--report", required=True, help="the file to write the last good slot to")
    parser.add_argument("--timeout", type=float, required=True, help="seconds for each slot")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds from SIGTERM to SIGKILL")
    border = given.index("--")
    return parser.parse_args(given[:border]), given[border + 1 :]


def main() -> None:
    """Supervise; or, in the other processes, run the program."""
    options, words = read_order(sys.argv[1:])
    with open(options.plan, encoding="utf-8") as file:
        plan = json.load(file)
    slots = [Slot(*one) for one in plan["slots"]]
    task = Task(words, os.environ.items())
    teller = Teller(plan["nonce"], options.report)
    adopt_orphans()
    warm: Warm | str = "this Python can't fork"
    if hasattr(os, "fork"):
        ours, its = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            warm = "it can't be forked: %s" % error
        else:
            if pid == 0:
                ours.close()
                teller.close()
                os.setsid()
                os.environ.update(slots[0].environment(task.variables))
                hook = Hook(its, task, slots)
                hook.install()
                code = 0
                try:
                    run_program(task, slots[0])
                except SystemExit as leaving:
                    if not hook.has_forked:
                        raise
                    code = exit_code(leaving)
                if hook.has_forked:
                    hook.end(code)
                return
            its.close()
            warm = Warm(pid, ours)
    sys.exit(Supervisor(task, slots, teller, options.timeout, options.grace).run(warm))


if __name__ == "__main__":
    main()
