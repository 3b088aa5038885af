"""Forks the containers: a small process between the node and all that it runs. Standard library only.

Three kinds of process, all of this file, none of which the node's own memory is copied into:

* the **spawner**, one a node: forks a keeper for each request and then forgets it;
* a **keeper**, one a container: forks the container's process, reports its end, and ends every process that
  the container left behind, those that made themselves a session of their own included (on Linux; elsewhere
  those of the container's process group);
* the **container**: the pod's command, in a session of its own.

Nothing outlives the node, however it ends: a keeper that sees its connection to the node closed kills its
container's processes and leaves; a container whose keeper is killed is killed by the kernel (Linux).

The wire. The node asks the spawner by sending the path of a JSON file (`Order`, removed once read), a newline
and two descriptors: a stream to the keeper and the write end of the output. The spawner answers one byte. On
the stream the keeper tells, a JSON object a line, ``{"started": pid}`` or ``{"failed": message}``, then
``{"exit": code, "out_of_memory": bool}``; the node sends ``T`` for SIGTERM to the container's process group
and ``K`` to kill everything.
"""

# pathlib would be most of what this process loads
# ruff: noqa: PTH108, PTH110, PTH112, PTH118, PTH123, PTH208

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import time

from . import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform.startswith("linux")
_NOT_STARTED = 128
"""The exit code that container runtimes give to what could not be started."""
_MEMORY_CHECK_SECONDS = 0.25
_HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)


def main(control_fd: int) -> None:
    """Serve the node on this connected socket until it is closed."""
    control = socket.socket(fileno=control_fd)
    answer = b"M" if mounts.are_possible() else b"P"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the node decides, by closing the connection
    control.sendall(answer)
    gc.freeze()  # what is shared with the keepers stays shared
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(control, 4096, 2)
        if not message:
            return
        while not message.endswith(b"\n"):
            message += control.recv(4096)
        stream, output = descriptors
        if os.fork() == 0:
            control.close()
            try:
                _keep(stream, output, message.decode().rstrip("\n"))
            finally:
                os._exit(0)
        os.close(stream)
        os.close(output)
        control.sendall(b".")


def _keep(stream_fd: int, output_fd: int, order_path: str) -> None:
    """Run one container to its end."""
    for descriptor in (stream_fd, output_fd):
        os.set_inheritable(descriptor, False)
    stream = socket.socket(fileno=stream_fd)
    os.setsid()
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with open(order_path, encoding="utf-8") as file:
        order = json.load(file)
    os.unlink(order_path)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    pid, failure = _start(order, output_fd)
    os.close(output_fd)
    if failure:
        os.waitpid(pid, 0)
        _tell(stream, failed=failure)
        return
    _tell(stream, started=pid)
    try:
        code, out_of_memory = _watch(stream, woken, pid, order.get("memory_limit_bytes"))
    finally:
        _kill_all(pid)
    _tell(stream, exit=code, out_of_memory=out_of_memory)


def _watch(stream: socket.socket, woken: int, pid: int, memory_limit_bytes: int | None) -> tuple[int, bool]:
    """Wait for the container's process; obey the node meanwhile.

    Returns the exit code and whether memory ran out.
    """
    out_of_memory = False
    while True:
        code = _reap(pid)
        if code is not None:
            return code, out_of_memory
        timeout = _MEMORY_CHECK_SECONDS if memory_limit_bytes else None
        ready, _, _ = select.select([stream.fileno(), woken], [], [], timeout)
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        if stream.fileno() in ready:
            commands = _received(stream)
            if not commands or b"K" in commands:
                _kill(pid)
            elif b"T" in commands:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGTERM)
            if not commands:  # the node is gone; there is nobody to tell
                _kill_all(pid)
                os._exit(0)
        if memory_limit_bytes and _memory_of_tree(memory_limit_bytes) > memory_limit_bytes:
            out_of_memory = True
            _kill(pid)


def _received(stream: socket.socket) -> bytes:
    try:
        return stream.recv(64)
    except ConnectionError:
        return b""


def _reap(pid: int) -> int | None:
    """Collect every child that ended; returns the container's exit code once it is among them."""
    code = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if ended == 0:
            return code
        if ended == pid:
            code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _start(order: dict[str, Any], output_fd: int) -> tuple[int, str]:
    """Fork the container's process; returns its pid and, if it could not be executed, why."""
    failed, fail = os.pipe()
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(failed)
            _become(order, output_fd, keeper)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the node must hear of it
            with contextlib.suppress(OSError):
                os.write(fail, str(error).encode(errors="replace")[:4000])
        finally:
            os._exit(_NOT_STARTED)
    os.close(fail)
    with os.fdopen(failed, "rb") as reader:
        return pid, reader.read().decode(errors="replace")


def _become(order: dict[str, Any], output_fd: int, keeper: int) -> None:
    """Turn this process into the container's; returns only by raising."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(_NOT_STARTED)
    os.umask(0o022)
    if order["mounts"]:
        mounts.enter()
        view = mounts.View(order["stage"])
        for source, target, read_only in order["mounts"]:
            _explain(f"mount {target}", view.bind, source, target, read_only)
    _explain(f'chdir to cwd ("{order["directory"]}") set in config.json failed', os.chdir, order["directory"])
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    _execute(order["command"], order["environment"])


def _explain(what: str, function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except OSError as error:
        msg = f"{what}: {(error.strerror or str(error)).lower()}"
        raise RuntimeError(msg) from error


def _execute(command: list[str], environment: dict[str, str]) -> None:
    """Execute as runc does: looked up on the container's PATH, and its words for what is wrong."""
    name = command[0]
    encoded = {os.fsencode(key): os.fsencode(value) for key, value in environment.items()}
    if "/" in name:
        candidates = [name]
    else:
        candidates = [os.path.join(each or ".", name) for each in environment.get("PATH", "").split(":")]
    problem = None
    for candidate in candidates:
        try:
            os.execve(candidate, command, encoded)  # noqa: S606 - this is what it is for
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(candidate):
                problem = problem or error
            elif "/" in name:
                problem = error
    if problem is None:
        msg = f'exec: "{name}": executable file not found in $PATH'
    elif "/" in name:
        msg = f'exec: "{name}": stat {name}: {(problem.strerror or "").lower()}'
    else:
        msg = f'exec: "{name}": {(problem.strerror or "").lower()}'
    raise RuntimeError(msg)


def _tell(stream: socket.socket, **facts: Any) -> None:
    # a node that is gone needs to be told nothing
    with contextlib.suppress(OSError):
        stream.sendall(json.dumps(facts).encode() + b"\n")


def _kill_all(pid: int) -> None:
    """End every process that the container left behind, and wait until they are gone."""
    while True:
        _kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _kill(pid: int) -> None:
    """Send SIGKILL to the container's process group and to all that descends from this keeper."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for each in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


def _descendants(root: int) -> list[int]:
    """Return every process below this one.

    Orphans are adopted by the keeper (a subreaper), so none is missed.
    """
    if not _LINUX:
        return []
    children = _children if os.path.exists(f"/proc/self/task/{os.getpid()}/children") else _scanned_children()
    found: list[int] = []
    pending = [root]
    while pending:
        below = children(pending.pop())
        found += below
        pending += below
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            children += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return children


def _scanned_children() -> Callable[[int], list[int]]:
    """Stand in for `_children` on kernels that don't list children: read every process once."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            # the name of the command may hold blanks and brackets; the parent is the second field after it
            fields = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 1:
                below.setdefault(int(fields[1]), []).append(int(name))
    return lambda pid: below.get(pid, [])


def _memory_of_tree(limit_bytes: int) -> int:
    """Return the memory of the container in bytes.

    Resident sizes, and where those exceed the limit what is not shared.
    """
    pids = _descendants(os.getpid())
    pages = [_read(f"/proc/{pid}/statm").split()[1:2] for pid in pids]
    resident = sum(int(page) for each in pages for page in each) * os.sysconf("SC_PAGE_SIZE")
    if resident <= limit_bytes:
        return resident
    # forked workers share most of their memory: count each shared page once
    lines = [line for pid in pids for line in _read(f"/proc/{pid}/smaps_rollup").splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""  # the process is gone
