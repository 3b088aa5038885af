"""Starts processes through the spawner and follows them: this side of the wire that `spawner` describes.

Knows nothing of pods: an order is a command, an environment, a directory and what to mount.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster.node.runtime import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devcluster.node.volumes import Mount

_log = logging.getLogger(__name__)
_PACKAGE_PARENT = Path(__file__).resolve().parent.parent
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from node import spawner; spawner.main(int(sys.argv[2]))"
)
_READ_BYTES = 256 * 1024
_OUTPUT_DRAIN_SECONDS = 1.0
"""How long output may still come after the end, where a process that got away (macOS) holds the pipe."""
_KILLED = 137


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and in what."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    mounts: Sequence[Mount]
    stage: Path
    """An empty directory that belongs to the container."""
    file: Path
    """Where the order is written for the moment until the process reads it: it holds secrets."""
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; a signal n is code 128 + n."""

    code: int
    out_of_memory: bool = False


class Process:
    """One process, with everything that it started. All of it is gone when `wait` returns."""

    def __init__(self, stream: socket.socket, output: int, on_output: Callable[[bytes], None]) -> None:
        """Take over both descriptors.

        `on_output` gets what the process prints, as it comes, and b"" at its end.
        """
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._output = output
        self._on_output = on_output
        self._buffer = b""
        self._started: asyncio.Future[int] = self._loop.create_future()
        self._exited: asyncio.Future[Exit] = self._loop.create_future()
        self._output_ended: asyncio.Future[None] = self._loop.create_future()
        stream.setblocking(False)
        os.set_blocking(output, False)
        self._loop.add_reader(stream.fileno(), self._read_stream)
        self._loop.add_reader(output, self._read_output)

    async def started(self) -> int:
        """Return the pid once the command runs; raises `StartError` if it can't."""
        return await asyncio.shield(self._started)

    async def wait(self) -> Exit:
        """Return how it ended, after the last of its output was handed over."""
        ended = await asyncio.shield(self._exited)
        await asyncio.wait([self._output_ended], timeout=_OUTPUT_DRAIN_SECONDS)
        self._close_output()
        return ended

    def terminate(self) -> None:
        """Send SIGTERM to its process group."""
        self._send(b"T")

    def kill(self) -> None:
        """Kill it and everything that it started."""
        self._send(b"K")

    def _send(self, command: bytes) -> None:
        if not self._exited.done():
            with contextlib.suppress(OSError):
                self._stream.send(command)

    def _read_stream(self) -> None:
        try:
            received = self._stream.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self._buffer += received
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        if not received:
            self._loop.remove_reader(self._stream.fileno())
            self._stream.close()
            # the keeper itself was killed: then the kernel has killed the container
            if not self._started.done():
                self._fail("the process that keeps the container was killed")
            if not self._exited.done():
                self._exited.set_result(Exit(_KILLED))

    def _take(self, facts: Mapping[str, Any]) -> None:
        if "started" in facts:
            self._started.set_result(facts["started"])
        elif "failed" in facts:
            self._fail(facts["failed"])
            self._exited.set_result(Exit(128))
        else:
            self._exited.set_result(Exit(facts["exit"], facts["out_of_memory"]))

    def _fail(self, message: str) -> None:
        self._started.set_exception(StartError(message))
        self._started.exception()  # whoever asks is told; nobody asking is no error

    def _read_output(self) -> None:
        try:
            chunk = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if chunk:
            self._on_output(chunk)
        else:
            self._close_output()

    def _close_output(self) -> None:
        if not self._output_ended.done():
            self._output_ended.set_result(None)
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._on_output(b"")


class Spawner:
    """The process that forks containers; started when first needed, and again should it be killed."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._has_mounts = False

    async def has_mounts(self) -> bool:
        """Tell whether orders may have mounts on this machine."""
        async with self._lock:
            await self._connected()
            return self._has_mounts

    async def run(self, order: Order, on_output: Callable[[bytes], None]) -> Process:
        """Start a process; `Process.started` tells whether its command could be executed."""
        text = {
            "command": list(order.command),
            "environment": dict(order.environment),
            "directory": order.directory,
            "mounts": [[str(mount.source), mount.target, mount.read_only] for mount in order.mounts],
            "stage": str(order.stage),
            "memory_limit_bytes": order.memory_limit_bytes,
        }
        _write_secretly(order.file, json.dumps(text))
        # whoever gives up waiting must not leave an answer behind that the next one would take for its own
        launch = asyncio.ensure_future(self._launch(order.file))
        try:
            stream, output = await asyncio.shield(launch)
        except asyncio.CancelledError:
            launch.add_done_callback(_discard)
            raise
        return Process(stream, output, on_output)

    async def stop(self) -> None:
        """Let the spawner end.

        Processes end by themselves when this process does, or are killed by their owner.
        """
        async with self._lock:
            await self._disconnect()

    async def _launch(self, order_file: Path) -> tuple[socket.socket, int]:
        async with self._lock:
            try:
                return await self._request(order_file)
            except OSError:
                _log.warning("the process that starts containers ended; starting another")
                await self._disconnect()
                return await self._request(order_file)

    async def _request(self, order_file: Path) -> tuple[socket.socket, int]:
        control = await self._connected()
        here, there = socket.socketpair()
        readable, writable = os.pipe()
        try:
            socket.send_fds(control, [f"{order_file}\n".encode()], [there.fileno(), writable])
            await _expect_byte(control, "the spawner is gone")
        except BaseException:
            here.close()
            os.close(readable)
            raise
        finally:
            there.close()
            os.close(writable)
        return here, readable

    async def _connected(self) -> socket.socket:
        if self._control is None:
            here, there = socket.socketpair()
            with there:
                # isolated, without site-packages: small, so that its forks are too
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", "-B", "-c", _BOOTSTRAP, str(_PACKAGE_PARENT), str(there.fileno())),
                    pass_fds=(there.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    env={"LC_ALL": "C.UTF-8"},
                    start_new_session=True,  # Ctrl-C is for the node
                )
            here.setblocking(False)
            try:
                answer = await _expect_byte(here, "the process that starts containers could not start")
            except BaseException:
                here.close()
                raise
            self._control, self._has_mounts = here, answer == b"M"
        return self._control

    async def _disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            await self._process.wait()
            self._process = None


def _discard(launch: asyncio.Future[tuple[socket.socket, int]]) -> None:
    """Let go of a process that nobody waits for: it ends when its descriptors are closed."""
    if not launch.cancelled() and launch.exception() is None:
        stream, output = launch.result()
        stream.close()
        os.close(output)


async def _expect_byte(control: socket.socket, otherwise: str) -> bytes:
    answer = await asyncio.get_running_loop().sock_recv(control, 1)
    if not answer:
        raise ConnectionError(otherwise)
    return answer


def _write_secretly(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
