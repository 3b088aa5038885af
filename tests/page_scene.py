"""A status page with jobs that a test puts there, served from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.models import HistoryEntry, Result, Status
from crontabber_operator.page import page_application
from crontabber_operator.store import Key, Store

NOW = datetime.now(UTC).replace(microsecond=0)
SLOT = NOW.replace(minute=0, second=0)
HOUR = timedelta(hours=1)


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def last_slot() -> datetime:
    """Return the newest slot of an hourly job; `SLOT` was that when the tests began."""
    return utc_now().replace(minute=0, second=0, microsecond=0)


class Scene:
    """A store of jobs."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.store = Store()
        self.clock = clock
        self._version = 0

    def put(self, name: str, status: Status | None = None, namespace: str = "web", **spec: Any) -> Key:
        """Show a job, every hour where nothing else is said."""
        self._version += 1
        when = {} if "schedule" in spec else {"frequency": "1h"}
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": f"{namespace}/{name}",
            "resourceVersion": str(self._version),
            "generation": self._version,
            "creationTimestamp": (NOW - 2 * HOUR).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = {
            "metadata": metadata,
            "spec": {"command": "work", **when, **spec},
            "status": (status or Status()).write(),
        }
        return self.store.put_resource(body)

    def drop(self, name: str, namespace: str = "web") -> None:
        """Delete a job."""
        self.store.drop_resource(Key(namespace, name), f"{namespace}/{name}")
        self._version += 1


def history(*results: Result, message: str = "") -> tuple[HistoryEntry, ...]:
    """Return runs that ended so, newest first, an hour apart."""
    return tuple(
        HistoryEntry(
            slot=SLOT - back * HOUR,
            job=f"job-{back}",
            started=SLOT - back * HOUR,
            finished=SLOT - back * HOUR + timedelta(seconds=90),
            seconds=90.0,
            result=result,
            message=message,
        )
        for back, result in enumerate(results)
    )


class ServedPage:
    """Serves a scene's page at a port; as a context manager until it is left."""

    def __init__(self, scene: Scene, port: int = 0) -> None:
        """Start; port 0: any that is free."""
        self._application = page_application(scene.store, KnownFigures(), scene.clock)
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._serves = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="status page", daemon=True)
        self._thread.start()
        assert self._serves.wait(30), "the page is not served"

    @property
    def url(self) -> str:
        """Return the page's address."""
        return f"http://127.0.0.1:{self.port}/"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        runner = web.AppRunner(self._application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = runner.addresses[0][1]
        self._serves.set()
        await self._ended.wait()
        await runner.cleanup()

    def __enter__(self) -> Self:
        """Return the page."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)
