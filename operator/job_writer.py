"""Every write of a run's Job and its pods: made, released, deleted, each under its guard.

A guard that fails means that the Job is not what was decided on: it is asked for anew, and the next decision
sees what it is. Nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from crontabber_operator import batches, commands
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.decision import NewRun, Release
from crontabber_operator.inquiry import Inquiry
from crontabber_operator.listening import Listener
from crontabber_operator.manifests import (
    Manifest,
    Owner,
    command_container,
    one_off,
    one_off_name,
    release_patch,
    run_now,
)
from crontabber_operator.memory import Memory, NoBatch
from crontabber_operator.models import Spec
from crontabber_operator.observed import SECOND, Run, Unavailable
from crontabber_operator.planning import Planner
from crontabber_operator.refusals import taken_away, taken_away_sentence
from crontabber_operator.runner_delivery import NotDeliveredError, deliver
from crontabber_operator.store import Key, Resource, Store
from crontabber_operator.times import format_time

logger = logging.getLogger(__name__)

NO_BATCH_FOR = timedelta(minutes=5)
"""So long each slot gets a Job of its own where the runner could not be brought into the namespace."""


class JobWriter:
    """Writes Jobs."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        planner: Planner,
        inquiry: Inquiry,
        listener: Listener,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._planner = planner
        self._inquiry = inquiry
        self._listener = listener
        self._clock = clock

    async def run_now(self, resource: Resource, spec: Spec, asked: commands.RunNow) -> str | None:
        """Make the Job of a run-now; its name makes sure that it is made once. Return why it can't be."""
        made = await self._planner.plan(resource, spec)
        if isinstance(made, Unavailable):
            return made.message
        manifest = run_now(
            resource.owner,
            made,
            commands.run_now_name(resource.owner.name, asked.command_id),
            extra_args=asked.extra_args,
            run_time=spec.written(asked.run_time),
            last_success=spec.written(resource.status.last_success_time),
            at=format_time(asked.run_time),
        )
        try:
            self._store.put_job(await self._cluster.create_job(manifest))
        except ApiError as error:
            if error.already_exists:
                return None
            if error.transient:
                raise
            return error.message
        return None

    async def create(self, resource: Resource, new: NewRun, memory: Memory) -> None:
        """Make a one-off; where it is refused, remember that."""
        if not isinstance(resource.spec, Spec):
            return
        made = await self._planner.plan(resource, resource.spec)
        if isinstance(made, Unavailable):
            return
        owner = resource.owner
        name = one_off_name(owner, new)
        key = Key.of(owner)
        manifest = one_off(owner, made, new)
        if new.through > new.slot and not await self._make_batch(
            resource, resource.spec, new, manifest, memory
        ):
            return
        try:
            body = await self._cluster.create_job(manifest)
        except ApiError as error:
            if not error.already_exists:
                self._planner.refused(memory, made, error)
                return
            body = await self._cluster.get_job(owner.namespace, name)
        else:
            lost = taken_away(manifest, body)
            if lost:
                # Making one after the other would not help, and one that lost its suspension runs unclaimed.
                await self._cluster.delete_job(owner.namespace, name, body["metadata"]["uid"])
                self._planner.refused(
                    memory, made, ApiError(403, "TakenAway", taken_away_sentence("Job", lost))
                )
                return
        memory.refusal = None
        self._store.put_job(body, asked_for=key)
        if all(run.name != name for run in self._store.runs(owner)):
            memory.taken_names.add(name)

    async def _make_batch(
        self, resource: Resource, spec: Spec, new: NewRun, manifest: Manifest, memory: Memory
    ) -> bool:
        """Change the manifest so that it runs many slots. False: they can't share a Job for some time."""
        try:
            config_map = await deliver(self._cluster, resource.owner)
        except NotDeliveredError as error:
            memory.no_batch = NoBatch(str(error), self._clock() + NO_BATCH_FOR)
            return False
        memory.no_batch = None
        count = spec.slots.count(new.slot - SECOND, new.through)
        container = command_container(manifest["spec"]["template"]["spec"]["containers"])
        batches.carry(manifest["spec"], container, config_map, count)
        return True

    async def discard(self, owner: Owner, run: Run, memory: Memory) -> None:
        """Delete a run that was never released, if it still is as it was seen."""
        try:
            await self._cluster.delete_job(owner.namespace, run.name, run.uid, run.resource_version)
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
        else:
            self._store.drop_job(Key.of(owner), run.uid)
            memory.gone.add(run.uid)
            memory.replaced.add(run.uid)

    async def remove(self, owner: Owner, run: Run, memory: Memory) -> None:
        """Delete a run that the books don't need any more."""
        try:
            await self._cluster.delete_job(owner.namespace, run.name, run.uid)
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
        self._store.drop_job(Key.of(owner), run.uid)
        memory.inspected.pop(run.uid, None)

    async def release(self, resource: Resource, release: Release, memory: Memory) -> None:
        """Start a run, if nobody did before."""
        owner = resource.owner
        run = release.run
        try:
            body = await self._cluster.patch_job(owner.namespace, run.name, release_patch(release))
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
            if error.status == 422:
                self._check_refused_release(Key.of(owner), owner, run, error)
        else:
            self._store.put_job(body, asked_for=Key.of(owner))
            self._listener.released(resource, run)

    async def mark_told(self, owner: Owner, run: Run, memory: Memory) -> bool:
        """Write on a Job made by hand that its failures were told. False: it is gone."""
        try:
            body = await self._cluster.mark_told(owner.namespace, run.name, run.uid, run.failures)
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
            return False
        self._store.put_job(body, asked_for=Key.of(owner))
        return True

    async def _guard_failed(self, owner: Owner, run: Run, memory: Memory, error: ApiError) -> None:
        """The Job is not what was decided on, or is gone: read it anew. Raises all other errors again."""
        if not (error.guard_failed or error.not_found):
            raise error
        await self._inquiry.ask_about(owner, run.name, run.uid, memory)

    def _check_refused_release(self, key: Key, owner: Owner, run: Run, error: ApiError) -> None:
        """A Job that looks never released and yet can't be changed was started by hand: leave it alone."""
        now = next((known for known in self._store.runs(owner) if known.uid == run.uid), None)
        if now is not None and not now.released and now.resource_version == run.resource_version:
            logger.warning(
                "%s/%s: Job %s can't be released: %s", key.namespace, key.name, run.name, error.message
            )
            self._store.mark_released(key, run.uid)

    async def prune_pods(self, owner: Owner, memory: Memory) -> None:
        """Delete the failed pods that are in the books, but the newest of each Job."""
        needed = {run.uid for run in self._store.runs(owner) if self._listener.needs(run)}
        for uid, inspected in list(memory.inspected.items()):
            if uid in needed:
                continue
            for name, pod_uid in inspected.outdated_pods:
                try:
                    await self._cluster.delete_pod(owner.namespace, name, pod_uid)
                except ApiError as error:
                    if not (error.not_found or error.guard_failed):
                        raise
            memory.inspected[uid] = replace(inspected, outdated_pods=())
