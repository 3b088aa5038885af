"""The node as a whole.

Puts its rooms together, hands each pod to a worker, and ends everything at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.node.api import Access, Api, Listing
from devcluster.node.containers import Surroundings
from devcluster.node.events import Events
from devcluster.node.fields import NodeFacts
from devcluster.node.images import Images
from devcluster.node.instant import InstantRuntime
from devcluster.node.local import LocalRuntime, Machine
from devcluster.node.pods import PodWorker
from devcluster.node.presence import Identity, Presence, allocatable
from devcluster.node.processes import Spawner
from devcluster.node.scheduling import Scheduler
from devcluster.node.server import LogServer, NoLogError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from devcluster.node.logs import ContainerLog
    from devcluster.node.runtime import Runtime
    from devcluster.node.status import ContainerRecord

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_WANTED_FILES = (16384, 10240, 4096)
"""How many descriptors to ask for: as many as are given."""
_END_SECONDS = 3
"""How long killed containers may take to be gone when the node ends."""


class StateInUseError(Exception):
    """Another node uses the state directory."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node is started with."""

    access: Access
    name: str
    address: str
    port: int
    state_directory: Path
    images: Path | None
    instant: bool = False
    use_mounts: bool | None = None
    """Whether containers see mounted files at their own paths; None: where this machine can do it."""


async def run_node(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT; then all its containers are killed.

    Raises `StateInUseError`, `ImageConfigError`, OSError if the port is taken, `ApiError` if the API server
    refuses.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    spawner = Spawner()
    with _locked(settings.state_directory):
        async with Api(settings.access) as api:
            try:
                await _Node(settings, api, await _runtime(settings, api, spawner)).run(stop)
            finally:
                await spawner.stop()


async def _runtime(settings: Settings, api: Api, spawner: Spawner) -> Runtime:
    if settings.instant or settings.images is None:
        return InstantRuntime()
    use_mounts = await spawner.has_mounts()
    # only now: what containers inherit is the limit that the spawner was started with
    _raise_file_limit()
    if settings.use_mounts is not None:
        use_mounts = use_mounts and settings.use_mounts
    how = (
        "see their volumes at their own paths" if use_mounts else "have the paths of their volumes rewritten"
    )
    _log.info("containers %s", how)
    facts = NodeFacts(settings.name, settings.address, allocatable())
    machine = Machine(spawner, settings.state_directory, use_mounts)
    return LocalRuntime(api, Images(settings.images), facts, machine)


class _Node:
    """The pods of this node, and the tasks that serve them."""

    def __init__(self, settings: Settings, api: Api, runtime: Runtime) -> None:
        self._settings = settings
        self._api = api
        self._runtime = runtime
        self._events = Events(api, settings.name)
        self._scheduler = Scheduler(api, self._events, settings.name)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._around = Surroundings(runtime, self._events, settings.address)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        settings = self._settings
        server = LogServer(self, settings.address, settings.port, settings.state_directory)
        port = await server.start()
        identity = Identity(settings.name, settings.address, port)
        presence = Presence(self._api, identity, self._scheduler.node_changed)
        serving = [
            asyncio.create_task(each)
            for each in (
                self._present(presence),
                self._watch_pods(),
                self._scheduler.run(),
                *([] if settings.instant else [self._events.run()]),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*serving, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # nothing but `stop` ends without an error
        finally:
            for task in serving:
                task.cancel()
            await server.stop()
            await self._end_pods()

    async def _present(self, presence: Presence) -> None:
        await presence.register()
        _log.info("node %s is registered", self._settings.name)
        await asyncio.gather(presence.watch(), presence.renew())

    async def _watch_pods(self) -> None:
        is_first = True
        selector = f"spec.nodeName={self._settings.name}"
        async for news in self._api.follow("/api/v1/pods", fieldSelector=selector):
            if isinstance(news, Listing):
                listed = {pod["metadata"]["uid"]: pod for pod in news.objects}
                if is_first and isinstance(self._runtime, LocalRuntime):
                    self._runtime.forget_all_but(listed)
                is_first = False
                for uid in self._workers.keys() - listed.keys():
                    self._workers[uid].removed()
                for pod in listed.values():
                    self._take(pod)
            elif news.is_removed:
                worker = self._workers.get(news.object["metadata"]["uid"])
                if worker is not None:
                    worker.removed()
            else:
                self._take(news.object)

    def _take(self, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._workers:
            self._workers[uid].update(pod)
            return
        worker = self._workers[uid] = PodWorker(pod, self._api, self._around)
        self._tasks[uid] = asyncio.create_task(self._run_pod(worker, uid))

    async def _run_pod(self, worker: PodWorker, uid: str) -> None:
        try:
            await worker.run()
        except Exception:  # noqa: BLE001 - one pod's mishap must not end the others
            _log.exception("pod %s is given up", worker.pod["metadata"]["name"])
            worker.end_with_node()
        finally:
            self._workers.pop(uid, None)
            self._tasks.pop(uid, None)

    async def _end_pods(self) -> None:
        for worker in self._workers.values():
            worker.end_with_node()
        running = [task for task in self._tasks.values() if not task.done()]
        await self._until_no_container_runs()
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1)

    async def _until_no_container_runs(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(*(worker.containers_ended() for worker in list(self._workers.values())))

    def container(self, namespace: str, pod: str, container: str) -> ContainerRecord:
        """Return a container's record, for the log server."""
        worker = self._find(namespace, pod)
        record = worker.record(container) if worker else None
        if record is None:
            msg = f'container "{container}" in pod "{pod}" is not available'
            raise NoLogError(msg)
        return record

    def log(
        self, namespace: str, pod: str, container: str, attempt: int
    ) -> tuple[Path, ContainerLog | None] | None:
        """Return the log of a container's run, for the log server."""
        worker = self._find(namespace, pod)
        if worker is None or not isinstance(self._runtime, LocalRuntime):
            return None
        return self._runtime.log(worker.pod, container, attempt)

    def _find(self, namespace: str, pod: str) -> PodWorker | None:
        found = [
            worker
            for worker in self._workers.values()
            if worker.pod["metadata"]["name"] == pod and worker.pod["metadata"]["namespace"] == namespace
        ]
        return found[-1] if found else None  # a pod's successor of the same name comes after it


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the state directory, readable by this user only."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"{directory} is in use by another node"
            raise StateInUseError(msg) from error
        file.write(str(os.getpid()))
        file.flush()
        yield


def _raise_file_limit() -> None:
    """Allow this process the three descriptors that each container takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in _WANTED_FILES:
        if soft >= wanted:
            return
        # macOS says that there is no hard limit and refuses all the same what is over the kernel's own
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
