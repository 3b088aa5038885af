"""One container of a pod through all its runs: waits for image and configuration, starts, probes, restarts.

Keeps the container's record (`status`) and says when it changed. Knows nothing of its pod's other containers.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from devcluster.node.probes import watch_probe
from devcluster.node.restarts import FIRST_DELAY, Backoff, Policy, restarts
from devcluster.node.runtime import NotReadyError, StartError
from devcluster.node.status import ContainerRecord, Running, Terminated, Waiting, ended_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from devcluster.node.events import Events
    from devcluster.node.runtime import RunningContainer, Runtime

    Manifest = Mapping[str, Any]

_NOT_STARTED = 128
_IMAGE_REASONS = ("ErrImagePull", "ErrImageNeverPull", "InvalidImageName")
_IMAGE_ERROR_SHOWN = timedelta(seconds=1)
"""How long ErrImagePull shows before it becomes ImagePullBackOff."""
_CONFIGURATION_BACKOFF = Backoff(timedelta(seconds=1), timedelta(seconds=1), timedelta(seconds=10))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all containers of a node share."""

    runtime: Runtime
    events: Events
    address: str


class ContainerWorker:
    """Runs one container until it needs no further run, or until it is stopped."""

    def __init__(
        self,
        pod: Callable[[], Manifest],
        container: Manifest,
        policy: Policy,
        around: Surroundings,
        on_change: Callable[[], None],
    ) -> None:
        """`pod` returns the newest version of the pod.

        `on_change` is called after every change of `record`.
        """
        self.container = container
        self.record = ContainerRecord(Waiting("ContainerCreating"))
        self.has_started = asyncio.Event()
        """Set while the container counts as started: it runs, and its startup probe was good."""
        self._pod = pod
        self._policy = policy
        self._around = around
        self._on_change = on_change
        self._running: RunningContainer | None = None
        self._stopping = asyncio.Event()
        self._probes: list[asyncio.Task[None]] = []

    def take_over(self, record: ContainerRecord) -> None:
        """Go on from what is known of earlier runs."""
        self.record = record

    def stop(self) -> None:
        """Ask the container to end, and start it no more."""
        self._stopping.set()
        if self._running is not None:
            self._running.terminate()

    def kill(self) -> None:
        """End the container at once, and start it no more."""
        self._stopping.set()
        if self._running is not None:
            self._running.kill()

    async def run(self) -> None:
        """Run the container, again where the policy says so."""
        backoff = Backoff(timedelta(0))
        while not self._stopping.is_set():
            ended = await self._run_once()
            if ended is None:
                return
            self._change(state=ended, ready=False, started=False)
            if self._stopping.is_set() or not restarts(self._policy, ended.exit_code):
                return
            ran_for = ended.finished_at - (ended.started_at or ended.finished_at)
            delay, backoff = backoff.next_delay(ran_for)
            if delay:
                self._tell_crash_loop(ended, delay)
                if not await self._pause(delay):
                    return
            self._change(
                state=Waiting("ContainerCreating"), last=ended, restart_count=self.record.restart_count + 1
            )

    async def _run_once(self) -> Terminated | None:
        """Start the container and see it through; None if it was stopped before it could start."""
        try:
            running = await self._start()
        except StartError as error:
            message = (
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                f"runc create failed: unable to start container process: {error}: unknown"
            )
            self._around.events.tell(self._pod(), "Failed", f"Error: {message}")
            return Terminated(_NOT_STARTED, "StartError", datetime.now(UTC), message=message)
        if running is None:
            return None
        started_at = datetime.now(UTC)
        self._running = running
        if self._stopping.is_set():  # asked while it was being started
            running.terminate()
        self._begin(running, started_at)
        try:
            ended = await running.wait()
        finally:
            self._running = None
            self.has_started.clear()
            for probe in self._probes:
                probe.cancel()
            self._probes.clear()
        return Terminated(
            ended.exit_code, ended.reason, ended.finished_at, started_at, ended.message, running.container_id
        )

    async def _start(self) -> RunningContainer | None:
        """Start the container as soon as it can be; None if it was stopped before."""
        image_backoff, other_backoff = Backoff(FIRST_DELAY), _CONFIGURATION_BACKOFF
        while not self._stopping.is_set():
            try:
                return await self._around.runtime.start(
                    self._pod(), self.container, self.record.restart_count
                )
            except NotReadyError as error:
                reason, message = error.reason, str(error)
            self._change(state=Waiting(reason, message))
            self._around.events.tell(
                self._pod(), "Failed", message if reason in _IMAGE_REASONS else f"Error: {message}"
            )
            if reason == "ErrImagePull":
                delay, image_backoff = image_backoff.next_delay()
                if not await self._pause(_IMAGE_ERROR_SHOWN):
                    return None
                message = (
                    f'Back-off pulling image "{self.container.get("image", "")}": ErrImagePull: {message}'
                )
                self._change(state=Waiting("ImagePullBackOff", message))
                self._around.events.tell(
                    self._pod(), "BackOff", message.partition(": ErrImagePull")[0], "Normal"
                )
                delay -= _IMAGE_ERROR_SHOWN
            else:
                delay, other_backoff = other_backoff.next_delay()
            if not await self._pause(delay):
                return None
        return None

    def _begin(self, running: RunningContainer, started_at: datetime) -> None:
        """Record that the container runs, and begin with its probes."""
        self._change(state=Running(started_at), container_id=running.container_id, image_id=running.image_id)
        name = self.container["name"]
        self._around.events.tell(self._pod(), "Started", f"Started container {name}", "Normal")
        if self.container.get("startupProbe"):
            self._watch("startupProbe", running, self._startup_result)
        else:
            self._become_started(running)

    def _become_started(self, running: RunningContainer) -> None:
        if self.has_started.is_set():
            return
        self.has_started.set()
        self._change(started=True, ready=not self.container.get("readinessProbe"))
        if self.container.get("readinessProbe"):
            self._watch("readinessProbe", running, self._readiness_result)
        if self.container.get("livenessProbe"):
            self._watch("livenessProbe", running, self._liveness_result)

    def _watch(
        self, kind: str, running: RunningContainer, on_result: Callable[[RunningContainer, bool, str], None]
    ) -> None:
        probing = watch_probe(
            self.container[kind],
            self.container,
            running,
            self._around.address,
            lambda good, message: on_result(running, good, message),
        )
        self._probes.append(asyncio.create_task(probing))

    def _startup_result(self, running: RunningContainer, good: bool, message: str) -> None:
        if good:
            self._become_started(running)
        elif not self.has_started.is_set():
            self._unhealthy(running, "Startup", message)

    def _readiness_result(self, _running: RunningContainer, good: bool, message: str) -> None:
        if not good:
            self._around.events.tell(self._pod(), "Unhealthy", f"Readiness probe failed: {message}")
        if good != self.record.ready:
            self._change(ready=good)

    def _liveness_result(self, running: RunningContainer, good: bool, message: str) -> None:
        if not good:
            self._unhealthy(running, "Liveness", message)

    def _unhealthy(self, running: RunningContainer, probe: str, message: str) -> None:
        """End a container whose probe failed; its policy decides what comes next."""
        name = self.container["name"]
        self._around.events.tell(self._pod(), "Unhealthy", f"{probe} probe failed: {message}")
        self._around.events.tell(
            self._pod(),
            "Killing",
            f"Container {name} failed {probe.lower()} probe, will be restarted",
            "Normal",
        )
        grace_seconds = self._pod()["spec"].get("terminationGracePeriodSeconds", 30)
        running.terminate()
        # harmless if it is gone by then
        asyncio.get_running_loop().call_later(grace_seconds, running.kill)

    def _tell_crash_loop(self, ended: Terminated, delay: timedelta) -> None:
        metadata, name = self._pod()["metadata"], self.container["name"]
        pod = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        message = f"back-off {_go_duration(delay)} restarting failed container={name} pod={pod}"
        self._change(state=Waiting("CrashLoopBackOff", message), last=ended)
        self._around.events.tell(
            self._pod(), "BackOff", f"Back-off restarting failed container {name} in pod {pod}"
        )

    async def _pause(self, delay: timedelta) -> bool:
        """Wait; False if the container was stopped meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(delay.total_seconds(), 0))
        return not self._stopping.is_set()

    def _change(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        self._on_change()


def lost(record: ContainerRecord, now: datetime, message: str) -> Terminated:
    """Return the end of a container whose process was lost with its node."""
    started_at = record.state.started_at if isinstance(record.state, Running) else None
    return Terminated(137, ended_reason(137), now, started_at, message, record.container_id)


def _go_duration(delay: timedelta) -> str:
    minutes, seconds = divmod(int(delay.total_seconds()), 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
