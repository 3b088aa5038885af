"""The operator as a process of its own, for the tests: started, killed, stopped; its log kept.

Also runs `faulty_operator`, which kills itself at a given write, and `poisoned_operator`, in which something else is
wrong.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HANDLERS = "crontabber_operator.handlers"
FAULTY = "faulty_operator"
POISONED = "poisoned_operator"
OUTPUT = "crontabber.output"
"""The logger of what commands print."""
ENDS_WITHIN_SECONDS = 20.0
LOG_TAIL_LINES = 60


def without_output(log: str) -> str:
    """Return what an operator logged itself, without what commands printed."""
    return "".join(line for line in log.splitlines(keepends=True) if OUTPUT not in line)


class Operator(Protocol):
    """An operator, wherever it runs."""

    @property
    def log_path(self) -> Path:
        """The file of its log, or what its log is called."""

    @property
    def runs(self) -> bool:
        """Whether it has not ended for good."""

    def log_tail(self) -> str:
        """Return the end of its log."""


def _module(fault: str, environment: Mapping[str, str]) -> str:
    if any(key in environment for key in ("OPERATOR_POISON", "OPERATOR_CLOCK")):
        return POISONED
    return FAULTY if fault else HANDLERS


class OperatorProcess:
    """One operator. Use `start`; as a context manager it is killed at the end."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Use `start`."""
        self._process = process
        self.log_path = log

    @classmethod
    def start(
        cls,
        kubeconfig: Path,
        log: Path,
        *,
        namespaces: Sequence[str],
        fault: str = "",
        module: str = "",
        environment: dict[str, str] | None = None,
    ) -> Self:
        """Start an operator that watches these namespaces (patterns are allowed).

        `fault` is `<point>:<before|after>[:<which>[:stop]]`, see faulty_operator.py. `module` is what kopf runs
        instead of the operator as it is.
        """
        scope = [part for name in namespaces for part in ("-n", name)]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CRONTABBER_")}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kopf", "run", "--standalone", *scope),
                    *("-m", module or _module(fault, environment or {})),
                ],
                env={
                    **kept,
                    "KUBECONFIG": str(kubeconfig),
                    "PYTHONPATH": os.pathsep.join([str(HERE), kept.get("PYTHONPATH", "")]),
                    "OPERATOR_FAULT": fault,
                    "CRONTABBER_METRICS": "off",
                    "XDG_STATE_HOME": str(log.parent / "state"),
                    **(environment or {}),
                },
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended: negative is a signal; None while it runs."""
        return self._process.poll()

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped (SIGSTOP) and not yet let go on."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def kill(self) -> None:
        """End it with SIGKILL, as a crash does."""
        self._process.kill()
        self._process.wait(ENDS_WITHIN_SECONDS)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with SIGTERM, as a rolling update does; return the exit code."""
        self._process.send_signal(number)
        return self._process.wait(ENDS_WITHIN_SECONDS)

    def stop(self) -> None:
        """Stop it (SIGSTOP), as a paused machine does."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a fault that stopped it (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return all that it logged."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def own_log(self) -> str:
        """Return what it logged itself, without what commands printed."""
        return without_output(self.log())

    def log_tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log().splitlines()[-LOG_TAIL_LINES:])

    def __enter__(self) -> Self:
        """Return the operator."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self.kill()
