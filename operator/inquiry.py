"""What exists, as one decision reads it; and all questions to the API server that go beyond the watches.

Nothing is written or decided here.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from crontabber_operator import batches
from crontabber_operator.cluster import ApiError, Body, Cluster
from crontabber_operator.failures import evidence
from crontabber_operator.forms import OBJECT_NAME
from crontabber_operator.leftovers import Leftovers, UnendedPod
from crontabber_operator.listening import Listener
from crontabber_operator.manifests import Owner, command_container, native_name
from crontabber_operator.memory import Batch, Inspected, LeftBehind, Memory, PutOff, Start, ending
from crontabber_operator.models import Spec
from crontabber_operator.observed import Evidence, Observed, Run, RunKind
from crontabber_operator.pace import Pace
from crontabber_operator.planning import Planner
from crontabber_operator.pod_starts import LONGEST_WAIT, cannot_start, pod_refused
from crontabber_operator.store import Key, Resource, Store

logger = logging.getLogger(__name__)

LOG_LINES = 400
OUTPUTS_MAX = 3
"""Of so many failed pods that are found at once, the output is read."""
PROGRESS_LINES, PROGRESS_LINES_MAX = 100, 6400
"""So much of a batch's output is read to see how far it has come."""
READ_TRIES = 4
"""So often a log that can't be read just now is tried again before a failure is recorded without it, in 15 s."""
CHECK_CLAIMED = timedelta(minutes=5)
"""So often a run that goes on is looked up: the watch may have missed its end."""
STARTS_SHARE = 0.1
"""At most this part of the time is spent asking why runs don't start: all Events of a namespace are read for it."""


class PodsRead(NamedTuple):
    """The pods of a run."""

    pods: list[Body]
    outputs: Mapping[str, str]
    """The ends of what failed ones printed, by the pod's uid."""
    evidence: Evidence


class Inquiry:
    """Looks, and asks where looking is not enough."""

    def __init__(
        self, cluster: Cluster, store: Store, planner: Planner, listener: Listener, *, reads_logs: bool = True
    ) -> None:
        """`reads_logs`: without it, what a container left as its termination message has to do."""
        self._cluster = cluster
        self._reads_logs = reads_logs
        self._store = store
        self._planner = planner
        self._listener = listener
        self._pace = Pace(STARTS_SHARE)
        self._leftovers = Leftovers(cluster)

    async def look(self, resource: Resource, spec: Spec, memory: Memory, now: datetime) -> Observed:
        """Return all that a decision depends on beside the resource itself."""
        owner = resource.owner
        cronjob = self._store.cronjob(owner)
        if cronjob is not None and not cronjob.ours:
            # It has no label of ours, so no watch shows what became of it.
            await self.fetch_cronjob(owner)
            cronjob = self._store.cronjob(owner)
        if cronjob is not None and cronjob.drifted and cronjob.resource_version == memory.verified:
            cronjob = replace(cronjob, drifted=False)
        runs = self._store.runs(owner)
        await self._mind_vanished(owner, runs, memory, now)
        await self._check_claimed(resource, runs, memory, now)
        await self._check_start(resource, runs, memory, now)
        await self._check_progress(resource, runs, memory, now)
        start, batch = memory.start, memory.batch
        return Observed(
            runs=runs,
            cronjob=cronjob,
            desired=await self._planner.desired(resource, spec, memory),
            evidence={
                run.uid: memory.inspected[run.uid].evidence
                for run in runs
                if run.uid in memory.inspected and memory.inspected[run.uid].ending == ending(run)
            },
            gone=frozenset(memory.gone),
            absent=memory.absent,
            replaced=frozenset(memory.replaced),
            cannot_start={start.attempt[0]: start.found.message} if start and start.found else {},
            taken_names=frozenset(memory.taken_names),
            progress={batch.uid: batch.progress.good} if batch and batch.progress.good else {},
            can_batch=self._can_batch(spec, memory, now),
            left_behind=None if memory.left_behind is None else memory.left_behind.pods,
        )

    def _can_batch(self, spec: Spec, memory: Memory, now: datetime) -> bool:
        if spec.backfill_batch == 1 or self._planner.why_no_batch(spec) is not None:
            return False
        return memory.no_batch is None or now >= memory.no_batch.until

    async def fetch_cronjob(self, owner: Owner) -> Body | None:
        """Ask for the CronJob of the resource's name, whosoever it is, and remember it."""
        try:
            body = await self._cluster.get_cronjob(owner.namespace, owner.name)
        except ApiError as error:
            if not error.not_found:
                raise
            known = self._store.cronjob(owner)
            if known is not None:
                self._store.drop_cronjob(Key.of(owner), known.uid)
            return None
        self._store.put_cronjob(body, asked_for=True)
        return body

    async def _check_claimed(
        self, resource: Resource, runs: tuple[Run, ...], memory: Memory, now: datetime
    ) -> None:
        """Look up a run that is said to go on, now and then: a watch can miss that it ended or vanished."""
        claim = resource.status.ongoing
        if claim is None:
            memory.checked_at = None
            return
        if memory.checked_at is None:
            memory.checked_at = now
        if abs(now - memory.checked_at) < CHECK_CLAIMED or all(run.uid != claim.uid for run in runs):
            return
        memory.checked_at = now
        await self.ask_about(resource.owner, claim.job, claim.uid, memory)

    async def _check_start(
        self, resource: Resource, runs: tuple[Run, ...], memory: Memory, now: datetime
    ) -> None:
        """Read the pods of the claimed run where it takes long to start: nothing else tells that they can't."""
        claim = resource.status.ongoing
        run = next((one for one in runs if claim is not None and one.uid == claim.uid), None)
        start = memory.start
        attempt = (claim.uid, claim.attempt) if claim is not None else None
        if start is not None and (start.attempt != attempt or run is None or not run.is_starting):
            start = memory.start = None
        if run is None or attempt is None or not run.is_starting or run.failed_pods >= attempt[1]:
            return  # or its pod has ended, and is about to be recorded
        if start is None:
            # Of a further attempt nothing but its pod tells when it began.
            since = run.started if run.started is not None and not run.failed_pods else now
            start = memory.start = Start(attempt, since)
        if timedelta() < start.look_at - now <= LONGEST_WAIT:  # a clock may be put back
            return
        with self._pace.turn() as may_ask:
            if not may_ask:
                put_off = PutOff.again(start.put_off, now, random.uniform(1.0, 1.5))  # noqa: S311 - is no secret
                memory.start = replace(start, put_off=put_off)
                return
            pods = await self._cluster.list_job_pods(resource.owner.namespace, run.uid)
            if pods or run.active or run.suspended:
                found = cannot_start(pods, now - start.since)
            else:
                found = pod_refused(run.uid, await self._events(resource.owner.namespace, run.uid))
        if found is not None and start.found is not None and found.why == start.found.why:
            found = start.found  # the kubelet words it differently each time
        elif found is not None and pods:
            self._listener.cannot_start(resource, run, pods, found)
        memory.start = replace(start, looked_at=now, found=found, put_off=None)

    async def _check_progress(
        self, resource: Resource, runs: tuple[Run, ...], memory: Memory, now: datetime
    ) -> None:
        """Read in the output of a batch that goes on how far it has come. It must never be in the way."""
        claim = resource.status.ongoing
        run = next((one for one in runs if claim is not None and one.uid == claim.uid), None)
        batch = memory.batch
        if run is None or run.through == run.slot or not run.running or not self._reads_logs:
            memory.batch = None
            return
        if batch is None or batch.uid != run.uid:
            memory.batch = Batch(run.uid, now, PROGRESS_LINES)
            return
        if now < batch.look_at:
            return
        memory.batch = batch = replace(batch, looked_at=now)
        try:
            memory.batch = await self._read_progress(resource.owner.namespace, batch)
        except ApiError as error:
            logger.debug("The progress of %s can't be read: %s", run.name, error)

    async def _read_progress(self, namespace: str, batch: Batch) -> Batch:
        if batch.pod is None:
            for pod in await self._cluster.list_job_pods(namespace, batch.uid):
                nonce = batches.pod_nonce(pod)
                if nonce is not None:
                    container = command_container(pod["spec"]["containers"])["name"]
                    batch = replace(batch, pod=(pod["metadata"]["name"], container, nonce))
        if batch.pod is None:
            return batch
        name, container, nonce = batch.pod
        output = await self._cluster.read_log(namespace, name, container, batch.lines)
        progress = batches.read_progress(output, nonce)
        if progress.good is None:
            return replace(batch, lines=min(2 * batch.lines, PROGRESS_LINES_MAX))
        return replace(batch, progress=progress)

    async def _mind_vanished(
        self, owner: Owner, runs: tuple[Run, ...], memory: Memory, now: datetime
    ) -> None:
        """A run that vanished in the middle may have left a pod that has not ended yet."""
        if memory.running - {run.uid for run in runs}:
            memory.forget_pods()
        memory.running = frozenset(run.uid for run in runs if run.running)
        left = memory.left_behind
        if left is not None and left.pods and not now < left.look_at:
            await self.look_for_pods(owner, memory, now)

    async def look_for_pods(self, owner: Owner, memory: Memory, now: datetime) -> None:
        """Find the pods that have not ended although their Jobs have, or are gone."""
        left = await self._pods_left(owner, memory.unsure_since)
        if left:
            # The listing may be old, and its Job have ended and gone as it should.
            left = await self._pods_left(owner, time.monotonic())
        before = memory.left_behind
        since = before.since if before is not None and before.pods else now
        memory.left_behind = LeftBehind(left, since, now)

    async def _pods_left(self, owner: Owner, since: float) -> tuple[str, ...]:
        pods = await self._leftovers.of_job(Key.of(owner), since)
        known = {run.uid: run for run in self._store.runs(owner)}
        return tuple(pod.name for pod in pods if not _goes_on(pod, known))

    async def _events(self, namespace: str, uid: str) -> list[Body]:
        try:
            return await self._cluster.list_events_of(namespace, uid)
        except ApiError as error:
            if error.status != 403:
                raise
            return []  # it is not allowed everywhere; kubectl describe shows them

    async def ask_about(self, owner: Owner, name: str, uid: str, memory: Memory) -> None:
        """Ask the API server itself about a Job."""
        key = Key.of(owner)
        body = await self._fetch_job(key, name)  # perhaps a newer one, under the name
        if body is not None and body["metadata"]["uid"] == uid:
            if any(run.uid == uid for run in self._store.runs(owner)):
                return
            logger.warning(
                "%s/%s: Job %s is owned neither by this resource nor by its CronJob any more (which may have been"
                " deleted), so its end is not waited for",
                key.namespace,
                key.name,
                name,
            )
        self._store.drop_job(key, uid)
        memory.gone.add(uid)
        memory.forget_pods()

    async def look_for_job(self, owner: Owner, name: str, memory: Memory) -> None:
        """Look for a Job that no watch has shown; it is seen from now on, or known to be absent."""
        await self._fetch_job(Key.of(owner), name)
        if all(run.name != name for run in self._store.runs(owner)):
            memory.absent = name

    async def _fetch_job(self, key: Key, name: str) -> Body | None:
        """Ask for a Job, which may be another than was known under the name, and remember it."""
        body = await self._find_job(key.namespace, name)
        if body is not None:
            self._store.put_job(body, asked_for=key)
        return body

    async def _find_job(self, namespace: str, name: str) -> Body | None:
        """Read a Job. Of a name that no object can have, written into a status by hand, there is none."""
        if not re.fullmatch(OBJECT_NAME.pattern, name):
            return None
        try:
            return await self._cluster.get_job(namespace, name)
        except ApiError as error:
            if not error.not_found:
                raise
            return None

    async def has_fired(self, owner: Owner, slot: datetime, former: Run | None) -> bool:
        """Ask for the run of a slot that is to fire again: the controller may have made it, not seen yet.

        Two watches show the CronJob and its Jobs; firing a slot that runs already would have it run twice.
        """
        body = await self._find_job(owner.namespace, native_name(owner.name, slot))
        if body is None:
            return False
        uid = body["metadata"]["uid"]
        if former is not None and uid == former.uid:
            return False
        self._store.put_job(body, asked_for=Key.of(owner))
        return any(run.uid == uid for run in self._store.runs(owner))

    async def refresh(self, resource: Resource, refused: ApiError) -> None:
        """The resource is not what was decided on, as a refusal seems to say: read it anew, and its Jobs that go on.

        Who changed it may have started or ended these, and the watch of Jobs may be behind: a claim decided on the
        new books and the old Jobs would claim what ran before them. Raises ApiError where the resource still is
        what it was: looking again would meet the same refusal at once.
        """
        owner = resource.owner
        key = Key.of(owner)
        await self._read_resource(key)
        after = self._store.resource(key)
        if after is None or after.owner.uid != owner.uid:
            return
        if after.version == resource.version:
            message = f"a write was refused although nothing else changed: {refused.message}"
            raise ApiError(0, "Refused", message) from refused
        for run in self._store.runs(owner):
            if run.unfinished:
                await self._read_job(key, run)

    async def _read_job(self, key: Key, run: Run) -> None:
        body = await self._fetch_job(key, run.name)
        if body is None or body["metadata"]["uid"] != run.uid:
            self._store.drop_job(key, run.uid)

    async def read_anew(self, key: Key) -> None:
        """Read a resource and all that was made for it, as if the watches had shown it just now."""
        await self._read_resource(key)
        known = self._store.resource(key)
        await self.read_runs(known.owner if known is not None else Owner(key.namespace, key.name, ""))

    async def read_runs(self, owner: Owner) -> None:
        """Read the CronJob of a resource and all its Jobs, as if the watches had shown them just now."""
        await self.fetch_cronjob(owner)
        for body in await self._cluster.list_jobs(owner.namespace, owner.name):
            self._store.put_job(body)

    async def _read_resource(self, key: Key) -> None:
        known = self._store.resource(key)
        body: Body | None = None
        try:
            body = await self._cluster.get_resource(Owner(key.namespace, key.name, ""))
        except ApiError as error:
            if not error.not_found:
                raise
        if known is not None and (body is None or body["metadata"]["uid"] != known.owner.uid):
            logger.info("%s/%s: a deletion that was not reported is noticed", key.namespace, key.name)
            self._store.drop_resource(key, known.owner.uid)
        if body is not None:
            self._store.put_resource(body)

    async def inspect(self, resource: Resource, run: Run, memory: Memory) -> None:
        """Find out how the attempts of a run ended.

        Raises ApiError; a few times also where only a log can't be read.
        """
        read = await self.read_pods(resource.owner, run, memory)
        memory.unread_logs = 0
        self._listener.inspected(resource, run, read.pods, read.outputs, read.evidence)
        outdated = sorted(filter(_has_failed, read.pods), key=_created)[:-1]
        memory.inspected[run.uid] = Inspected(
            ending=ending(run),
            evidence=read.evidence,
            outdated_pods=tuple((pod["metadata"]["name"], pod["metadata"]["uid"]) for pod in outdated),
        )

    async def read_pods(self, owner: Owner, run: Run, memory: Memory | None = None) -> PodsRead:
        """Read the pods of a run, and the end of what the newest failed ones printed.

        Raises ApiError; for a log that may be there later, only while `memory` says that it was not tried often.
        """
        pods = await self._cluster.list_job_pods(owner.namespace, run.uid)
        failed = sorted(filter(_has_failed, pods), key=_created)
        outputs = {
            pod["metadata"]["uid"]: await self._output(owner.namespace, pod, memory)
            for pod in failed[-OUTPUTS_MAX:]
        }
        return PodsRead(pods, outputs, evidence(pods, outputs))

    async def _output(self, namespace: str, pod: Mapping[str, Any], memory: Memory | None) -> str:
        if not self._reads_logs:
            return ""
        container = command_container(pod["spec"]["containers"])["name"]
        nonce = batches.pod_nonce(pod)
        try:
            output = await self._cluster.read_log(namespace, pod["metadata"]["name"], container, LOG_LINES)
        except ApiError as error:
            if error.transient and memory is not None and memory.unread_logs < READ_TRIES:
                memory.unread_logs += 1
                raise
            logger.info(
                "The output of pod %s/%s can't be read: %s", namespace, pod["metadata"]["name"], error
            )
            return ""
        return batches.output_of_last_slot(output, nonce) if nonce is not None else output


def _has_failed(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") == "Failed"


def _goes_on(pod: UnendedPod, known: Mapping[str, Run]) -> bool:
    """Tell whether a pod is that of a Job which goes on, or was made by hand: then the Job says all that counts."""
    runs = [known.get(uid) for uid in pod.owners]
    return any(run is not None and (run.unfinished or run.kind is RunKind.MANUAL) for run in runs)


def _created(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")
