"""One worker a pod: from being bound to this node until the pod no longer exists.

The order of things is the kubelet's: volumes, init containers one after the other, sidecars kept running,
main containers together; a pod that is deleted or past its deadline gets SIGTERM, its grace period and
SIGKILL; the last status is written before the pod is let go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devcluster.node.api import Api, ApiError, insist
from devcluster.node.containers import ContainerWorker, Surroundings, lost
from devcluster.node.publishing import StatusPublisher
from devcluster.node.restarts import Policy, restarts
from devcluster.node.status import (
    ContainerRecord,
    Progress,
    Running,
    Terminated,
    Verdict,
    Waiting,
    container_statuses,
    is_sidecar,
    pod_status,
    waiting_records,
)
from devcluster.node.volumes import VolumeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_VOLUME_RETRY_SECONDS = (0.5, 1, 2, 4, 8)
_FORCED_GRACE_SECONDS = 1
"""What a pod that is already gone from the API still gets, as on a kubelet."""
_LOST_MESSAGE = "The node ended while the container ran"


class PodWorker:
    """Runs one pod."""

    def __init__(self, pod: Manifest, api: Api, around: Surroundings) -> None:
        """Do nothing before `run`."""
        self.pod = pod
        self._api = api
        self._around = around
        self._uid: str = pod["metadata"]["uid"]
        self._path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        self._news = asyncio.Event()
        self._is_removed = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._finished = False
        self._verdict: Verdict | None = None
        self._start_time = _time((pod.get("status") or {}).get("startTime")) or datetime.now(UTC)
        self._publisher = StatusPublisher(api, self._path, self._uid, self._status)
        self._inits = [self._worker(each) for each in pod["spec"].get("initContainers") or ()]
        self._mains = [self._worker(each) for each in pod["spec"]["containers"]]
        self._workers = {worker.container["name"]: worker for worker in [*self._inits, *self._mains]}
        for name, record in waiting_records(pod["spec"]).items():
            self._workers[name].take_over(record)

    def update(self, pod: Manifest) -> None:
        """Take note of a newer version of the pod."""
        self.pod = pod
        self._news.set()

    def removed(self) -> None:
        """Take note that the pod no longer exists."""
        self._is_removed = True
        self._news.set()

    def end_with_node(self) -> None:
        """End all containers at once, and tell nothing: the next node accounts for them."""
        self._publisher.mute()
        self._stopping.set()
        for worker in self._workers.values():
            worker.kill()

    async def containers_ended(self) -> None:
        """Wait until no container of this pod runs."""
        await self._ended.wait()

    def record(self, container_name: str) -> ContainerRecord | None:
        """Return what is known of a container; None if the pod has none of that name."""
        worker = self._workers.get(container_name)
        return worker.record if worker else None

    async def run(self) -> None:
        """Run the pod until it no longer exists."""
        publishing = asyncio.create_task(self._publisher.run())
        try:
            if _is_finished(self.pod):
                self._ended.set()
                self._take_over_records()
            else:
                await self._run_containers()
                self._ended.set()
                self._finished = True
                self._publisher.changed()
                await self._publisher.flush()
            await self._around.runtime.finish(self.pod)
            await self._let_go()
            await self._around.runtime.release(self.pod)
        finally:
            self._ended.set()
            publishing.cancel()

    async def _run_containers(self) -> None:
        if self._around.runtime.lost(self.pod):
            self._take_over_records()
            if not self._resume():
                return
        live = asyncio.create_task(self._live())
        try:
            self._publisher.changed()
            while not live.done():
                self._news.clear()
                if self._is_removed or self._is_deleted or self._is_past_deadline():
                    await self._stop(live)
                    break
                await self._wait_for_news(live, self._seconds_to_deadline())
            await live
        finally:
            live.cancel()

    async def _live(self) -> None:
        """Run the containers in their order until none needs to run any more."""
        if not await self._prepare():
            return
        sidecars: list[tuple[ContainerWorker, asyncio.Task[None]]] = []
        try:
            for worker in self._inits:
                if is_sidecar(worker.container):
                    running = asyncio.create_task(worker.run())
                    sidecars.append((worker, running))
                    await _either(worker.has_started.wait(), self._stopping.wait(), running)
                else:
                    await worker.run()
                    if not _has_succeeded(worker.record):
                        return
                if self._stopping.is_set():
                    return
            await asyncio.gather(*(worker.run() for worker in self._mains))
        finally:
            await self._end_sidecars(sidecars)

    async def _prepare(self) -> bool:
        """Set up the volumes; False if the pod was stopped before that was possible."""
        tries = 0
        while not self._stopping.is_set():
            try:
                await self._around.runtime.prepare(self.pod)
            except (VolumeError, OSError) as error:
                self._around.events.tell(self.pod, "FailedMount", str(error))
            else:
                return not self._stopping.is_set()
            seconds = _VOLUME_RETRY_SECONDS[min(tries, len(_VOLUME_RETRY_SECONDS) - 1)]
            tries += 1
            await _either(self._stopping.wait(), asyncio.sleep(seconds))
        return False

    async def _end_sidecars(self, sidecars: list[tuple[ContainerWorker, asyncio.Task[None]]]) -> None:
        """End them in the reverse of the order they were started in, all within the pod's grace period."""
        kill_at = time.monotonic() + self._grace_seconds()
        for worker, running in reversed(sidecars):
            worker.stop()
            await asyncio.wait([running], timeout=max(0.0, kill_at - time.monotonic()))
            worker.kill()
            await running

    async def _stop(self, live: asyncio.Task[None]) -> None:
        """End the containers.

        SIGTERM, and SIGKILL after the grace period, which may be shortened meanwhile.
        """
        begun = time.monotonic()
        self._stopping.set()
        for worker in self._workers.values():
            if isinstance(worker.record.state, Running):
                name = worker.container["name"]
                self._around.events.tell(self.pod, "Killing", f"Stopping container {name}", "Normal")
            if not is_sidecar(worker.container):
                worker.stop()
        while not live.done():
            self._news.clear()
            left = begun + self._grace_seconds() - time.monotonic()
            if left <= 0:
                for worker in self._workers.values():
                    worker.kill()
                await live
            else:
                await self._wait_for_news(live, left)

    async def _let_go(self) -> None:
        """Wait until the finished pod is deleted, confirm that, and wait until it is gone."""
        confirmed = False
        # only the watch says when it is gone: an event of before that must not begin it anew
        while not self._is_removed:
            self._news.clear()
            if self._is_deleted and not confirmed:
                confirmed = True
                await self._confirm_deletion()
                continue
            await self._news.wait()

    async def _confirm_deletion(self) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
        try:
            await insist(lambda: self._api.delete(self._path, options))
        except ApiError as error:
            if error.code not in (404, 409):
                _log.error("%s: can't be removed: %s", self._path, error)

    async def _wait_for_news(self, live: asyncio.Task[None], timeout_seconds: float | None) -> None:
        news = asyncio.ensure_future(self._news.wait())
        await asyncio.wait({live, news}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        news.cancel()

    def _worker(self, container: Manifest) -> ContainerWorker:
        spec = self.pod["spec"]
        policy: Policy = spec.get("restartPolicy") or "Always"
        if any(each is container for each in spec.get("initContainers") or ()):
            # an init container is done once it succeeded; a sidecar never is
            policy = "Always" if is_sidecar(container) else "Never" if policy == "Never" else "OnFailure"
        return ContainerWorker(lambda: self.pod, container, policy, self._around, self._changed)

    def _changed(self) -> None:
        self._publisher.changed()

    def _status(self) -> dict[str, Any]:
        conditions = {
            each["type"]: each
            for status in (
                self.pod.get("status") or {},
                self._publisher.last,
            )  # what the watch brings may be older
            for each in status.get("conditions") or ()
        }
        pod = {**self.pod, "status": {"conditions": list(conditions.values())}}
        records = {name: worker.record for name, worker in self._workers.items()}
        progress = Progress(self._start_time, records, self._finished, self._verdict)
        return pod_status(pod, progress, self._around.address, datetime.now(UTC))

    @property
    def _is_deleted(self) -> bool:
        return "deletionTimestamp" in self.pod["metadata"]

    def _grace_seconds(self) -> float:
        metadata = self.pod["metadata"]
        grace: int | None = metadata.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        if self._is_removed:
            return _FORCED_GRACE_SECONDS
        return max(float(grace or 0), _FORCED_GRACE_SECONDS)

    def _seconds_to_deadline(self) -> float | None:
        deadline_seconds: int | None = self.pod["spec"].get("activeDeadlineSeconds")
        if deadline_seconds is None:
            return None
        return max(0.0, deadline_seconds - (datetime.now(UTC) - self._start_time).total_seconds())

    def _is_past_deadline(self) -> bool:
        if self._seconds_to_deadline() != 0:
            return False
        message = "Pod was active on the node longer than the specified deadline"
        self._verdict = Verdict("DeadlineExceeded", message)
        self._around.events.tell(self.pod, "DeadlineExceeded", message, "Normal")
        return True

    def _take_over_records(self) -> None:
        for each in container_statuses(self.pod):
            if each["name"] in self._workers:
                self._workers[each["name"]].take_over(_record(each))

    def _resume(self) -> bool:
        """Account for the processes that ended with an earlier node.

        True if the containers are to be started again.
        """
        now = datetime.now(UTC)
        policy: Policy = self.pod["spec"].get("restartPolicy") or "Always"
        mains = [worker.record.state for worker in self._mains]
        if all(isinstance(state, Terminated) and not restarts(policy, state.exit_code) for state in mains):
            return False  # it was done, only not told
        for worker in self._workers.values():
            record = worker.record
            last = lost(record, now, _LOST_MESSAGE) if isinstance(record.state, Running) else record.last
            if isinstance(record.state, Terminated):
                last = record.state
            if policy == "Never" and isinstance(record.state, Running):
                worker.take_over(replace(record, state=last or record.state, ready=False, started=False))
            elif policy != "Never":
                count = record.restart_count + (0 if isinstance(record.state, Waiting) else 1)
                worker.take_over(ContainerRecord(Waiting("ContainerCreating"), last, count))
        if policy != "Never":
            return True
        self._verdict = Verdict(
            "NodeRestarted", "The node ended while the pod ran; its processes ended with it"
        )
        return False


def _record(status: Manifest) -> ContainerRecord:
    """Read a container's record from its status."""
    return ContainerRecord(
        _parsed_state(status.get("state") or {}) or Waiting("ContainerCreating"),
        _ended(status.get("lastState") or {}),
        status.get("restartCount", 0),
        container_id=status.get("containerID", ""),
        image_id=status.get("imageID", ""),
    )


def _parsed_state(state: Manifest) -> Waiting | Running | Terminated | None:
    if "running" in state:
        return Running(_time(state["running"].get("startedAt")) or datetime.now(UTC))
    if "waiting" in state:
        return Waiting(state["waiting"].get("reason", ""), state["waiting"].get("message", ""))
    return _ended(state)


def _ended(state: Manifest) -> Terminated | None:
    ended = state.get("terminated")
    if ended is None:
        return None
    return Terminated(
        ended["exitCode"],
        ended.get("reason", ""),
        _time(ended.get("finishedAt")) or datetime.now(UTC),
        _time(ended.get("startedAt")),
        ended.get("message", ""),
        ended.get("containerID", ""),
    )


def _has_succeeded(record: ContainerRecord) -> bool:
    return isinstance(record.state, Terminated) and record.state.exit_code == 0


def _is_finished(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


async def _either(*awaitables: Any) -> None:
    """Wait for the first of them; tasks among them go on, coroutines are given up."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, given in zip(tasks, awaitables, strict=True):
            if task is not given:
                task.cancel()
