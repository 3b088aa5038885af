"""Stands between one operator and the API server, and does to their talk what networks and servers do.

It speaks plain HTTP to the operator and TLS to the API server. What it does is drawn from the seed (dice.py);
`Proxy.rate` says how often. Two things are done on demand: the operator is killed, or frozen, at its n-th write,
before or after the API server got it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import yaml
from aiohttp import web

from tests.chaos.dice import Bag, Tally

T = TypeVar("T")

HOP_BY_HOP = frozenset(
    {"host", "connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "accept-encoding"}
)
DELAY_SECONDS = (0.1, 4.0)
LATE_SECONDS = (5.0, 40.0)
"""So late a write arrives whose sender has long given up, or is dead."""
STALL_SECONDS = (1.0, 15.0)
REMEMBERED_EVENTS = 40
REPLAYED_EVENTS = 8
TRANSIENT = {
    "answered 429 with Retry-After": (429, "TooManyRequests"),
    "answered 500": (500, "InternalError"),
    "answered 503": (503, "ServiceUnavailable"),
}
ON_READS = (
    "delayed",
    "dropped",
    *TRANSIENT,
    "answered with an empty body",
    "answered with broken JSON",
)
ON_WRITES = (
    "delayed",
    "dropped",
    *TRANSIENT,
    "answered 409",
    "arrived late",
    "done and answered 504",
    "done and the answer lost",
    "done and answered with an empty body",
    "done and answered with broken JSON",
)
ON_LISTS = (*ON_READS, "answered 410", "an old listing")
ON_WATCHES = (
    "cut",
    "cut in the middle of an object",
    "ended in the middle of an object",
    "stalled",
    "old events replayed",
    "told 410",
    "told 500",
)


NAMES = {ON_READS: "a read", ON_WRITES: "a write", ON_LISTS: "a listing", ON_WATCHES: "a watch"}
KINDS = tuple(f"{name}: {fault}" for kinds, name in NAMES.items() for fault in kinds)
"""All that it does by itself, as it is counted."""


@dataclass
class Strike:
    """What happens at the n-th write from now on, of those that match."""

    countdown: int
    before: bool
    do: Callable[[], Awaitable[None]]
    """Called while the write (`before`) or its answer is held back. A write whose `do` raises OSError never arrives."""
    matches: Callable[[str, str, bytes], bool] = lambda _method, _path, _body: True
    """Tells by method, path and body."""


class Held:
    """A write that is held back until it is let go."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.struck = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._let_go = asyncio.Event()

    async def hold(self) -> None:
        """Hold it."""
        self._loop = asyncio.get_running_loop()
        self.struck.set()
        await self._let_go.wait()

    def let_go(self) -> None:
        """Have it arrive; from any thread."""
        if self._loop is None:
            self._let_go.set()
        else:
            self._loop.call_soon_threadsafe(self._let_go.set)


@dataclass
class Proxy:
    """One operator's way to the API server. `start` it in the loop that it works in."""

    kubeconfig: Path
    seed: str
    tally: Tally
    rate: float = 0.0
    """The probability that a request, or an event of a watch, is met by a fault."""
    strike: Strike | None = None
    requests: int = 0
    """How many have come."""
    _held: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> int:
        """Listen on a free port of this machine; return it."""
        config = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server = cluster["server"]
        self._authorization = {"Authorization": f"Bearer {user['token']}"}
        self._dice = random.Random(f"{self.seed} dice")
        self._bags = {kinds: Bag(f"{self.seed} {kinds}", kinds) for kinds in NAMES}
        self._listings: dict[str, bytes] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cadata=authority)),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        sockets = site._server.sockets  # type: ignore[union-attr]  # noqa: SLF001 - the port has no other way out
        return int(sockets[0].getsockname()[1])

    @property
    def idle(self) -> bool:
        """No write is held back or on its way."""
        return not self._held

    async def close(self) -> None:
        """End all connections; writes that are late arrive no more."""
        for task in self._tasks:
            task.cancel()
        await self._runner.cleanup()
        await self._session.close()

    # --- Requests ------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        try:
            if request.query.get("watch") == "true":
                return await self._watch(request)
            if request.method == "GET":
                return await self._read(request)
            return await self._write(request, body)
        except (aiohttp.ClientError, OSError):
            return _cut(request)

    async def _read(self, request: web.BaseRequest) -> web.StreamResponse:
        is_list = "limit" in request.query and "as=Partial" not in request.headers.get("Accept", "")
        # What is read at the start alone: an operator that never gets started proves nothing.
        rate = self.rate if "/namespaces/" in request.path else self.rate / 4
        fault = self._draw(ON_LISTS if is_list else ON_READS, rate)
        if fault in TRANSIENT:
            return _refusal(*TRANSIENT[fault])
        if fault == "answered 410":
            return _refusal(410, "Expired")
        if fault == "dropped":
            return _cut(request)
        if fault == "delayed":
            await self._wait(DELAY_SECONDS)
        if fault == "answered with an empty body":
            return web.Response(body=b"", content_type="application/json")
        if fault == "an old listing" and request.path_qs in self._listings:
            return web.Response(body=self._listings[request.path_qs], content_type="application/json")
        answer = await self._forward(request, b"")
        if is_list and answer.status == 200 and isinstance(answer.body, bytes):
            self._listings[request.path_qs] = answer.body
        if fault == "answered with broken JSON":
            return _broken(answer)
        return answer

    async def _write(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        if not request.path.split("/")[-1].startswith("events"):
            strike = self.strike
            if strike is not None and strike.matches(request.method, request.path, body):
                strike.countdown -= 1
                if strike.countdown <= 0:
                    self.strike = None
                    return await self._strike(request, body, strike)
        fault = self._draw(ON_WRITES)
        if fault == "answered 409":
            return _refusal(409, "Conflict")
        if fault in TRANSIENT:
            return _refusal(*TRANSIENT[fault])
        if fault == "arrived late":
            self._arrive_late(request, body)
        if fault in ("dropped", "arrived late"):
            return _cut(request)
        if fault == "delayed":
            await self._wait(DELAY_SECONDS)
        return _spoilt(request, fault, await self._forward(request, body))

    async def _strike(self, request: web.BaseRequest, body: bytes, strike: Strike) -> web.StreamResponse:
        self._held += 1
        try:
            if strike.before:
                await strike.do()
                return await self._forward(request, body)
            answer = await self._forward(request, body)
            await strike.do()
            return answer
        finally:
            self._held -= 1

    def _arrive_late(self, request: web.BaseRequest, body: bytes) -> None:
        """Have a write arrive when nobody counts on it any more."""
        forward = self._sender(request, body)

        async def later() -> None:
            await self._wait(LATE_SECONDS)
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await forward()

        task = asyncio.get_running_loop().create_task(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sender(
        self, request: web.BaseRequest, body: bytes
    ) -> Callable[[], Coroutine[Any, Any, web.Response]]:
        method, target, headers = request.method, self._server + request.path_qs, self._headers(request)

        async def send() -> web.Response:
            async with self._session.request(method, target, headers=headers, data=body or None) as answer:
                return web.Response(
                    status=answer.status, body=await answer.read(), headers=_end_to_end(answer.headers)
                )

        return send

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        return await self._sender(request, body)()

    # --- Watches -------------------------------------------------------------------------------------------

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = self._draw((*TRANSIENT, "answered 410"), rate=self.rate / 2)
        if fault is not None:
            return _refusal(*TRANSIENT.get(fault, (410, "Expired")))
        target = self._server + request.path_qs
        async with self._session.get(target, headers=self._headers(request)) as answer:
            response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
            await response.prepare(request)
            recent: deque[bytes] = deque(maxlen=REMEMBERED_EVENTS)
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not await self._pass_on(request, response, line + b"\n", recent):
                        return response
                    recent.append(line + b"\n")
            await response.write(rest)
            return response

    async def _pass_on(
        self, request: web.BaseRequest, response: web.StreamResponse, line: bytes, recent: deque[bytes]
    ) -> bool:
        """Pass an event on, or what becomes of it. False: the stream ends."""
        fault = self._draw(ON_WATCHES)
        if fault == "stalled":
            await self._wait(STALL_SECONDS)
        elif fault in ("cut", "cut in the middle of an object"):
            if fault != "cut":
                await response.write(line[: len(line) // 2])
            _cut(request)
            return False
        elif fault == "ended in the middle of an object":
            await response.write(line[: len(line) // 2])
            return False
        elif fault in ("told 410", "told 500"):
            code = int(fault.removeprefix("told "))
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": code,
                "message": fault,
            }
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return False
        await response.write(line)
        if fault == "old events replayed":
            count = min(len(recent), REPLAYED_EVENTS)
            for old in self._dice.sample(list(recent), count):
                await response.write(old)
        return True

    # --- How -----------------------------------------------------------------------------------------------

    def _draw(self, kinds: tuple[str, ...], rate: float | None = None) -> str | None:
        if self._dice.random() >= (self.rate if rate is None else rate):
            return None
        fault = self._bags[kinds].take() if kinds in self._bags else self._dice.choice(kinds)
        self.tally.add(f"{NAMES.get(kinds, 'a watch')}: {fault}")
        return fault

    async def _wait(self, seconds: tuple[float, float]) -> None:
        await asyncio.sleep(self._dice.uniform(*seconds))

    def _headers(self, request: web.BaseRequest) -> dict[str, str]:
        return {**_end_to_end(request.headers), **self._authorization}


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in HOP_BY_HOP}


def _refusal(code: int, reason: str) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"a fault that was asked for: {reason}",
        "reason": reason,
        "code": code,
    }
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(status, status=code, headers=headers)


def _spoilt(request: web.BaseRequest, fault: str | None, answer: web.Response) -> web.StreamResponse:
    """What the sender of a write that was done gets to know of it."""
    if fault == "done and answered 504":
        return _refusal(504, "Timeout")
    if fault == "done and the answer lost":
        return _cut(request)
    if fault == "done and answered with an empty body":
        return web.Response(status=answer.status, body=b"", content_type="application/json")
    if fault == "done and answered with broken JSON":
        return _broken(answer)
    return answer


def _broken(answer: web.Response) -> web.Response:
    body = answer.body if isinstance(answer.body, bytes) else b""
    return web.Response(status=answer.status, body=body[: len(body) // 2], content_type="application/json")


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the connection as it is."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=599)


class ProxyThread:
    """The loop that proxies work in, in a thread of its own. Use as a context manager."""

    def __init__(self) -> None:
        """Make the loop."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; who still waits for an answer gets none."""
        self.call(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
