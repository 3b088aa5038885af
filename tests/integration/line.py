"""A line to the API server that a test can cut, or let hang, for one operator alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


class Line:
    """Passes on what is sent, unless it is cut or hangs. Use `to`."""

    def __init__(self, host: str, port: int) -> None:
        """Lead to this address."""
        self._address = host, port
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def cut(self) -> None:
        """End all connections and take no new ones."""
        self._do(self._cut)

    def hang(self) -> None:
        """Take connections and whatever is sent, and pass nothing on."""
        self._do(self._flows.clear)

    def mend(self) -> None:
        """Let everything pass."""
        self._do(self._mend)

    def _do(self, what: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (what(), done.set()))
        done.wait()

    def _cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def _mend(self) -> None:
        self._is_cut = False
        self._flows.set()

    async def _serve(self, is_up: threading.Event, end: asyncio.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await end.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        await self._flows.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._address)
        except OSError:
            writer.transport.abort()
            return
        for there, back in ((reader, far_writer), (far_reader, writer)):
            self._writers.add(back)
            task = asyncio.create_task(self._pass_on(there, back))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    @contextmanager
    def _running(self) -> Iterator[None]:
        is_up, end = threading.Event(), asyncio.Event()
        thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._serve(is_up, end)), name="line", daemon=True
        )
        thread.start()
        is_up.wait()
        try:
            yield
        finally:
            self._do(end.set)
            thread.join()
            self._loop.close()

    @classmethod
    @contextmanager
    def to(cls, kubeconfig: Path, copy: Path) -> Iterator[Line]:
        """Lead to a kubeconfig's API server; write a kubeconfig that takes this line."""
        config: Any = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster = config["clusters"][0]["cluster"]
        address = urlsplit(cluster["server"])
        line = cls(str(address.hostname), int(address.port or 443))
        with contextlib.ExitStack() as stack:
            stack.enter_context(line._running())
            cluster["server"] = f"https://127.0.0.1:{line.port}"
            copy.write_text(yaml.safe_dump(config), encoding="utf-8")
            copy.chmod(0o600)
            yield line
