"""Every write of a resource's CronJob: made, replaced, and its one lever moved.

ADR 2 says how it is replaced and how drift is told from what others may set. Nothing is decided here.
"""

from __future__ import annotations

import logging

from crontabber_operator.cluster import ApiError, Body, Cluster
from crontabber_operator.decision import ApplyCronJob, MoveLastSchedule, RemoveFormer
from crontabber_operator.inquiry import Inquiry
from crontabber_operator.job_writer import JobWriter
from crontabber_operator.manifests import Owner, Plan, cronjob_patch
from crontabber_operator.memory import Memory
from crontabber_operator.models import Spec
from crontabber_operator.observed import CronJobSeen, Observed, Unavailable
from crontabber_operator.planning import Planner
from crontabber_operator.refusals import taken_away, taken_away_sentence
from crontabber_operator.store import Resource, Store

logger = logging.getLogger(__name__)


class CronJobWriter:
    """Writes CronJobs."""

    def __init__(
        self, cluster: Cluster, store: Store, planner: Planner, inquiry: Inquiry, jobs: JobWriter
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._planner = planner
        self._inquiry = inquiry
        self._jobs = jobs

    async def do(
        self,
        resource: Resource,
        seen: Observed,
        memory: Memory,
        action: ApplyCronJob | MoveLastSchedule | RemoveFormer,
    ) -> bool:
        """Apply the CronJob, move its lever, or remove a former one. True: something changed."""
        owner, live = resource.owner, seen.cronjob
        if isinstance(action, RemoveFormer):
            return live is not None and await self._remove_former(owner, live)
        if isinstance(action, MoveLastSchedule):
            if live is not None:
                await self._move_last_schedule(owner, live, memory, action)
            return live is not None
        if not isinstance(resource.spec, Spec):
            return False
        made = await self._planner.plan(resource, resource.spec)
        if isinstance(made, Unavailable):
            return False
        try:
            await self._apply(owner, made, memory, exists=live is not None)
        except ApiError as error:
            self._planner.refused(memory, made, error)
        else:
            memory.refusal = None
        return True

    async def _remove_former(self, owner: Owner, live: CronJobSeen) -> bool:
        """Remove a CronJob that was made for another resource of the name. True: it is gone.

        A uid never comes back: as the resource still has its own now, the one that the CronJob was made for is
        gone, and not a newer one that no watch has shown yet.
        """
        try:
            present = await self._cluster.get_resource(owner)
            if present["metadata"]["uid"] != owner.uid:
                return False
            await self._cluster.delete_cronjob(owner.namespace, owner.name, live.uid)
        except ApiError as error:
            if not (error.not_found or error.guard_failed or error.forbidden):
                raise
            logger.warning(
                "%s/%s: its former CronJob can't be removed: %s", owner.namespace, owner.name, error
            )
        await self._inquiry.fetch_cronjob(owner)
        remains = self._store.cronjob(owner)
        return remains is None or remains.uid != live.uid

    async def _move_last_schedule(
        self, owner: Owner, live: CronJobSeen, memory: Memory, action: MoveLastSchedule
    ) -> None:
        former = action.delete_first
        if action.fires is not None and await self._inquiry.has_fired(owner, action.fires, former):
            return
        if former is not None:
            await self._jobs.remove(owner, former, memory)
            memory.gone.add(former.uid)
            memory.replaced.add(former.uid)
        try:
            body = await self._cluster.move_last_schedule(
                owner.namespace, owner.name, live.resource_version, action.to
            )
        except ApiError as error:
            if not (error.guard_failed or error.not_found):
                raise
            await self._inquiry.fetch_cronjob(owner)
        else:
            self._store.put_cronjob(body)

    async def _apply(self, owner: Owner, made: Plan, memory: Memory, *, exists: bool) -> None:
        if not exists:
            try:
                body = await self._cluster.create_cronjob(made.manifest)
                self._store.put_cronjob(body, asked_for=True)
            except ApiError as error:
                if not error.already_exists:
                    raise
            else:
                _check(made, body)
                return
        found = await self._inquiry.fetch_cronjob(owner)
        live = self._store.cronjob(owner)
        if found is None or live is None or not live.ours:
            return
        patch = cronjob_patch(made, live.uid, found["metadata"])
        body = await self._cluster.patch_cronjob(owner.namespace, owner.name, patch)
        self._store.put_cronjob(body, asked_for=True)
        memory.verified = body["metadata"]["resourceVersion"]
        _check(made, body)


def _check(made: Plan, body: Body) -> None:
    """Raise ApiError where an admission webhook took something away: writing it again would be in vain."""
    lost = taken_away(made.manifest, body)
    if lost:
        raise ApiError(403, "TakenAway", taken_away_sentence("CronJob", lost))
