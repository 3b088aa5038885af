"""Finds and ends processes: whole trees of them, and never one that merely got an old number again.

Knows nothing of clusters. On Linux the kernel helps (children end with their parent, orphans come to the
supervisor); on macOS the same is done by looking at sessions and process trees.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: psutil's creation time is derived from the boot time, which a corrected clock may shift a little.
_CREATION_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, told apart from a later one of the same number (numbers are used again)."""

    pid: int
    created: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process that exists. Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        """Whether this very process still runs; one that only waits to be reaped does not."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return bool(abs(process.create_time() - self.created) < _CREATION_TOLERANCE_SECONDS)
        except psutil.NoSuchProcess:
            return False


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parent ends (Linux; elsewhere they go to launchd)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """Return a preexec_fn: the kernel sends this signal to the child when the calling *thread* ends (Linux).

    Call it from the main thread of a process without threads. Elsewhere the child is not told, and whoever
    guards the parent must end it.
    """
    parent = os.getpid()

    def before_exec() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # the parent ended before the kernel knew
            os._exit(1)

    return before_exec if sys.platform == "linux" else lambda: None


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# Loaded here, because loading it between fork and exec is not safe.
_LIBC = ctypes.CDLL(None, use_errno=True)


def descendants(pid: int) -> list[psutil.Process]:
    """Return all processes below this one, or none when it ended."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def of_session(leader: ProcessIdentity) -> list[psutil.Process]:
    """Return the processes of the session that this process leads or led, without itself.

    A session's number is not given to a new process while the session has members. So members whose number
    belongs to another, living process are that one's, and are not returned.
    """
    try:
        if abs(psutil.Process(leader.pid).create_time() - leader.created) >= _CREATION_TOLERANCE_SECONDS:
            return []
    except psutil.NoSuchProcess:
        pass
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if process.pid != leader.pid and os.getsid(process.pid) == leader.pid:
                members.append(process)
    return members


def kill_all(
    find: Callable[[], Iterable[psutil.Process]], *, within_seconds: float = 10
) -> list[psutil.Process]:
    """Kill what `find` returns, with all below it, until it returns nothing; return those that would not end.

    It looks again after each round, because a process may start another one until the moment it is killed.
    Reaps what became a child of the calling process.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        roots = [process for process in find() if _runs(process)]
        if not roots or time.monotonic() >= deadline:
            return roots
        for process in roots:
            for each in (process, *descendants(process.pid)):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    each.kill()
        reap_children()
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def reap_children() -> dict[int, int]:
    """Collect the children that ended, adopted ones included; return their exit codes (-N: by signal N)."""
    codes: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes
