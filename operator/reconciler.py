"""Carry out what the core decides, for each resource one pass at a time.

A pass asks for a decision, does the first thing in it that changes anything, takes the API server's answer
into the store, and asks again, until nothing is left to do. Every write is guarded by what was decided on;
a guard that fails only means: look again. What goes wrong is tried again with a growing delay, for that
resource alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from crontabber_operator import bookkeeping, commands
from crontabber_operator.backfill import (
    ApplyCronJob,
    Decision,
    MoveLastSchedule,
    NewRun,
    Release,
    decide,
)
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.failures import evidence
from crontabber_operator.manifests import (
    Owner,
    Plan,
    TemplateError,
    command_container,
    cronjob_patch,
    native_name,
    one_off,
    one_off_name,
    plan,
    release_patch,
    run_now,
)
from crontabber_operator.models import InvalidSpec, Spec, Status, WebApp, format_time
from crontabber_operator.observed import CronJobSeen, Desired, Evidence, Job, Observed, Run, Unavailable
from crontabber_operator.projection import schedule_key
from crontabber_operator.recorder import Recorder
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource, Store
from crontabber_operator.sweeper import Sweeper
from crontabber_operator.telling import changes
from crontabber_operator.templates import Template, Templates
from crontabber_operator.ticker import Ticker

logger = logging.getLogger(__name__)

STEPS_MAX = 200
"""More steps without a rest mean that two parties undo each other's work."""
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 120.0
LOG_LINES = 400
CHECK_CLAIMED = timedelta(minutes=5)
"""So often a run that goes on is looked up: the watch may have missed its end."""
CHECK_CONFLICT = timedelta(seconds=15)
"""So often a CronJob that isn't ours is looked up: it isn't watched."""


@dataclass(frozen=True, slots=True)
class _Inspected:
    """What the pods of a Job told."""

    ending: tuple[int, bool]
    """What it was asked at: asked again when this has changed."""
    evidence: Evidence
    outdated_pods: tuple[tuple[str, str], ...]
    """Name and uid of the failed pods but the newest: deleted when they are in the books."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A plan that the API server refused, told until it is tried again."""

    hash: str
    told: Unavailable
    count: int
    retry_at: datetime


@dataclass(slots=True)
class _Memory:
    """What is known of a resource beside what exists; losing it in a restart changes nothing."""

    failures: int = 0
    gone: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    taken_names: set[str] = field(default_factory=set)
    inspected: dict[str, _Inspected] = field(default_factory=dict)
    """By the Job's uid."""
    refusal: _Refusal | None = None
    verified: str = ""
    """The CronJob's resourceVersion after the last repair that changed nothing."""
    desired: tuple[tuple[int, str], Desired | Unavailable] | None = None
    checked_at: datetime | None = None


def utc_now() -> datetime:
    """Read the wall clock."""
    return datetime.now(UTC)


class Reconciler:
    """Keeps every resource as its spec says."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        *,
        recorder: Recorder | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.store = Store()
        self.templates = Templates(cluster)
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._recorder = recorder or Recorder(cluster, clock)
        self._ticker: Ticker[Key] = Ticker(self.wake, clock)
        self.sweeper = Sweeper(cluster, self.store, self.templates, self.wake, clock)
        self._memory: dict[Key, _Memory] = {}
        self._working: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._stopping = False

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ticker.run(), name="ticker")
            group.create_task(self._recorder.run(), name="recorder")
            group.create_task(self.sweeper.run(), name="sweeper")

    async def stop(self) -> None:
        """End all passes; each write is a whole, so any moment is as good."""
        self._stopping = True
        for task in list(self._working.values()):
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    def wake(self, key: Key) -> None:
        """Look at this resource soon; however often it is said meanwhile, one pass follows."""
        if self._stopping:
            return
        if key in self._working:
            self._again.add(key)
            return
        self._working[key] = asyncio.create_task(self._work(key), name=f"{key.namespace}/{key.name}")

    def forget(self, key: Key) -> None:
        """The resource is gone; what it owned, the garbage collector removes."""
        self._memory.pop(key, None)
        self._ticker.set(key, None)
        self.templates.forget(key)
        self.store.forget(key)

    async def _work(self, key: Key) -> None:
        try:
            while True:
                self._again.discard(key)
                await self._try(key)
                if key not in self._again:
                    return
        finally:
            del self._working[key]
            # Said between the check above and here it would be lost.
            if key in self._again:
                self._again.discard(key)
                self.wake(key)

    async def _try(self, key: Key) -> None:
        memory = self._memory.setdefault(key, _Memory())
        try:
            await self._pass(key, memory)
        except ApiError as error:
            self._later(key, memory, error)
        except Exception as error:  # one resource must never stop the others
            logger.exception("%s/%s: unexpected error", key.namespace, key.name)
            self._later(key, memory, error)
        else:
            memory.failures = 0
            if self.store.resource(key) is None:
                self.forget(key)

    def _later(self, key: Key, memory: _Memory, error: Exception) -> None:
        memory.failures += 1
        delay = min(FIRST_DELAY_SECONDS * 2.0 ** (memory.failures - 1), LONGEST_DELAY_SECONDS)
        if isinstance(error, ApiError):
            delay = max(delay, error.retry_after_seconds or 0)
            logger.warning("%s/%s: %s; tried again in %.0f s", key.namespace, key.name, error, delay)
        delay *= random.uniform(1.0, 1.25)  # noqa: S311 - spreads retries, is no secret
        self._ticker.set(key, self._clock() + timedelta(seconds=delay))

    # --- One pass ----------------------------------------------------------------------------------------

    async def _pass(self, key: Key, memory: _Memory) -> None:
        for _ in range(STEPS_MAX):
            resource = self.store.resource(key)
            if resource is None or resource.deleting:
                return
            now = self._clock()
            if isinstance(resource.spec, InvalidSpec):
                await self._tell_invalid(resource, resource.spec.sentences, now)
                return
            job = resource.job()
            seen = await self._look(resource, resource.spec, memory, now)
            step = commands.next_step(job, resource.annotations, seen, now)
            if step is not None:
                await self._do_step(resource, resource.spec, memory, step)
                continue
            decision = decide(job, seen, now)
            if await self._answer(resource, memory, decision):
                continue
            if not await self._carry_out(resource, job, seen, memory, decision):
                self._ticker.set(key, _next_look(seen, job, memory, decision, now))
                return
        logger.warning("%s/%s: no rest after %d steps", key.namespace, key.name, STEPS_MAX)
        self._ticker.set(key, self._clock() + timedelta(seconds=LONGEST_DELAY_SECONDS))

    async def _look(self, resource: Resource, spec: Spec, memory: _Memory, now: datetime) -> Observed:
        owner = resource.owner
        cronjob = self.store.cronjob(owner)
        if cronjob is not None and not cronjob.ours:
            cronjob = await self._look_again(owner)
        if cronjob is not None and cronjob.drifted and cronjob.resource_version == memory.verified:
            cronjob = replace(cronjob, drifted=False)
        runs = self.store.runs(owner)
        await self._check_claimed(resource, runs, memory, now)
        return Observed(
            runs=runs,
            cronjob=cronjob,
            desired=await self._desired(resource, spec, memory),
            evidence={
                run.uid: memory.inspected[run.uid].evidence
                for run in runs
                if run.uid in memory.inspected and memory.inspected[run.uid].ending == _ending(run)
            },
            gone=frozenset(memory.gone),
            replaced=frozenset(memory.replaced),
            taken_names=frozenset(memory.taken_names),
        )

    async def _look_again(self, owner: Owner) -> Any:
        """Ask for a CronJob that is not ours: it has no label of ours and is not watched."""
        key = _key(owner)
        try:
            self.store.put_cronjob(
                await self._cluster.get_cronjob(owner.namespace, owner.name), asked_for=True
            )
        except ApiError as error:
            if not error.not_found:
                raise
            known = self.store.cronjob(owner)
            if known is not None:
                self.store.drop_cronjob(key, known.uid)
        return self.store.cronjob(owner)

    async def _check_claimed(
        self, resource: Resource, runs: tuple[Run, ...], memory: _Memory, now: datetime
    ) -> None:
        """Look up a run that is said to go on, now and then: a watch can miss that it ended or vanished."""
        claim = resource.status.ongoing
        if claim is None:
            memory.checked_at = None
            return
        if memory.checked_at is None:
            memory.checked_at = now
        if now - memory.checked_at < CHECK_CLAIMED or all(run.uid != claim.uid for run in runs):
            return
        memory.checked_at = now
        await self._ask_about(resource.owner, claim.job, claim.uid, memory)

    async def _ask_about(self, owner: Owner, name: str, uid: str, memory: _Memory) -> None:
        """Ask the API server itself about a Job."""
        key = _key(owner)
        try:
            body = await self._cluster.get_job(owner.namespace, name)
        except ApiError as error:
            if not error.not_found:
                raise
            body = None
        if body is not None and body["metadata"]["uid"] == uid:
            self.store.put_job(body, asked_for=key)
            if any(run.uid == uid for run in self.store.runs(owner)):
                return
            logger.warning(
                "%s/%s: Job %s has lost its ownerReferences and is not taken for this resource's any more",
                key.namespace,
                key.name,
                name,
            )
        self.store.drop_job(key, uid)
        memory.gone.add(uid)

    # --- What the spec asks for --------------------------------------------------------------------------

    async def _plan(self, resource: Resource, spec: Spec) -> Plan | Unavailable:
        webapp = spec.webapp or WebApp()
        webapp = replace(webapp, name=webapp.name or self._settings.webapp_name)
        if spec.template is not None:
            body: Mapping[str, Any] = spec.template
        else:
            key = _key(resource.owner)
            template = await self.templates.find(Key(key.namespace, webapp.name or ""), key)
            if isinstance(template, Unavailable):
                return template
            body = template.body
        try:
            return plan(resource.owner, spec, body, webapp)
        except TemplateError as error:
            return Unavailable("InvalidTemplate", str(error), stalled=True)

    async def _desired(self, resource: Resource, spec: Spec, memory: _Memory) -> Desired | Unavailable:
        """What the core compares; the plan itself is built again where it is written, to save memory."""
        version = "own"
        if spec.template is None:
            name = (spec.webapp.name if spec.webapp is not None else None) or self._settings.webapp_name
            key = _key(resource.owner)
            template = await self.templates.find(Key(key.namespace, name), key)
            version = template.version if isinstance(template, Template) else template.reason
        fingerprint = resource.generation, version
        if memory.desired is None or memory.desired[0] != fingerprint:
            made = await self._plan(resource, spec)
            memory.desired = fingerprint, made if isinstance(made, Unavailable) else _reduce(made)
        desired = memory.desired[1]
        refusal = memory.refusal
        if isinstance(desired, Desired) and refusal is not None:
            if refusal.hash == desired.hash and self._clock() < refusal.retry_at:
                return refusal.told
            if refusal.hash != desired.hash:
                memory.refusal = None
        return desired

    # --- Doing -------------------------------------------------------------------------------------------

    async def _answer(self, resource: Resource, memory: _Memory, decision: Decision) -> bool:
        """Find out what a decision asks for first. True: there was a question, decide again."""
        claim = resource.status.ongoing
        if decision.confirm_gone is not None and claim is not None:
            await self._ask_about(resource.owner, claim.job, decision.confirm_gone, memory)
        for run in decision.inspect:
            await self._inspect(resource.owner, run, memory)
        return decision.confirm_gone is not None or bool(decision.inspect)

    async def _carry_out(
        self, resource: Resource, job: Job, seen: Observed, memory: _Memory, decision: Decision
    ) -> bool:
        """Do a decision. True: something changed, decide again."""
        owner = resource.owner
        cronjob = decision.cronjob
        if isinstance(cronjob, ApplyCronJob) and _before_all_else(job, seen, decision):
            if await self._do_cronjob(resource, seen, memory, cronjob):
                return True
            cronjob = None
        changed = False
        for run in decision.discard:
            await self._discard(owner, run, memory)
            changed = True
        for new in decision.create:
            await self._create(resource, new, memory)
        if decision.create:
            # What is to be told goes into the same write as the claim; or it was refused, which comes first.
            return True
        if decision.status is not None:
            if not await self._write(resource, decision.status):
                return True
            self._tidy(owner, memory, decision.status)
            changed = True
        for release in decision.release:
            await self._release(owner, release, memory)
            changed = True
        if cronjob is not None:
            changed |= await self._do_cronjob(resource, seen, memory, cronjob)
        for run in decision.prune:
            await self._remove(owner, run, memory)
        if not changed:
            await self._prune_pods(owner, memory)
        return changed

    async def _write(self, resource: Resource, status: Status) -> bool:
        """Write the status at the version that was decided on, then tell what changed. False: it changed since."""
        owner = resource.owner
        try:
            body = await self._cluster.write_status(owner, resource.resource_version, status.write())
        except ApiError as error:
            if not (error.guard_failed or error.not_found):
                raise
            await self._refresh(resource)
            return False
        self.store.put_resource(body)
        for telling in changes(resource.status, status):
            self._recorder.tell(owner, telling)
        return True

    async def _refresh(self, resource: Resource) -> None:
        """The resource is not what was decided on: read it anew."""
        owner = resource.owner
        key = _key(owner)
        try:
            body = await self._cluster.get_resource(owner)
        except ApiError as error:
            if not error.not_found:
                raise
            self.store.drop_resource(key, owner.uid)
            return
        if body["metadata"]["uid"] != owner.uid:
            self.store.drop_resource(key, owner.uid)
        before = self.store.resource(key)
        self.store.put_resource(body)
        after = self.store.resource(key)
        if before is not None and after is not None and after.version == before.version:
            raise ApiError(0, "Refused", "the status was refused although nothing else changed")

    async def _tell_invalid(self, resource: Resource, sentences: tuple[str, ...], now: datetime) -> None:
        status = bookkeeping.invalid(resource.status, resource.generation, sentences, now)
        if status != resource.status:
            await self._write(resource, status)

    async def _do_step(self, resource: Resource, spec: Spec, memory: _Memory, step: commands.Step) -> None:
        owner = resource.owner
        if step.discard is not None:
            await self._discard(owner, step.discard, memory)
            return
        if step.remove:
            try:
                self.store.put_resource(await self._cluster.remove_annotations(owner, step.remove))
            except ApiError as error:
                if not (error.guard_failed or error.not_found):
                    raise
                await self._refresh(resource)
            return
        status = step.status
        if step.run_now is not None and status is not None and step.done is not None:
            refusal = await self._run_now(resource, spec, step.run_now)
            if refusal is not None:
                done = replace(step.done, result=f"{commands.REFUSED}: {refusal}")
                records = tuple(done if one == step.done else one for one in status.last_commands)
                status = replace(status, last_commands=records)
        if status is not None:
            await self._write(resource, status)

    async def _run_now(self, resource: Resource, spec: Spec, asked: commands.RunNow) -> str | None:
        """Make the Job of a run-now; its name makes sure that it is made once. Return why it can't be."""
        made = await self._plan(resource, spec)
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
            self.store.put_job(await self._cluster.create_job(manifest))
        except ApiError as error:
            if error.already_exists:
                return None
            if error.transient:
                raise
            return error.message
        return None

    async def _create(self, resource: Resource, new: NewRun, memory: _Memory) -> None:
        """Make a one-off; where it is refused, remember that."""
        if not isinstance(resource.spec, Spec):
            return
        made = await self._plan(resource, resource.spec)
        if isinstance(made, Unavailable):
            return
        owner = resource.owner
        name = one_off_name(owner, new)
        key = _key(owner)
        try:
            body = await self._cluster.create_job(one_off(owner, made, new))
        except ApiError as error:
            if not error.already_exists:
                self._refused(memory, made, error)
                return
            body = await self._cluster.get_job(owner.namespace, name)
        memory.refusal = None
        self.store.put_job(body, asked_for=key)
        if all(run.name != name for run in self.store.runs(owner)):
            memory.taken_names.add(name)

    async def _discard(self, owner: Owner, run: Run, memory: _Memory) -> None:
        """Delete a run that was never released, if it still is as it was seen."""
        try:
            await self._cluster.delete_job(owner.namespace, run.name, run.uid, run.resource_version)
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
        else:
            self.store.drop_job(_key(owner), run.uid)
            memory.gone.add(run.uid)
            memory.replaced.add(run.uid)

    async def _remove(self, owner: Owner, run: Run, memory: _Memory) -> None:
        """Delete a run that the books don't need any more."""
        try:
            await self._cluster.delete_job(owner.namespace, run.name, run.uid)
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
        self.store.drop_job(_key(owner), run.uid)
        memory.inspected.pop(run.uid, None)

    async def _release(self, owner: Owner, release: Release, memory: _Memory) -> None:
        """Start a run, if nobody did before."""
        run = release.run
        try:
            body = await self._cluster.patch_job(owner.namespace, run.name, release_patch(release))
        except ApiError as error:
            await self._guard_failed(owner, run, memory, error)
            if error.status == 422:
                self._check_refused_release(_key(owner), owner, run, error)
        else:
            self.store.put_job(body, asked_for=_key(owner))

    async def _guard_failed(self, owner: Owner, run: Run, memory: _Memory, error: ApiError) -> None:
        """The Job is not what was decided on, or is gone: read it anew. Raises all other errors again."""
        if not (error.guard_failed or error.not_found):
            raise error
        await self._ask_about(owner, run.name, run.uid, memory)

    def _check_refused_release(self, key: Key, owner: Owner, run: Run, error: ApiError) -> None:
        """A Job that looks never released and yet can't be changed was started by hand: leave it alone."""
        now = next((known for known in self.store.runs(owner) if known.uid == run.uid), None)
        if now is not None and not now.released and now.resource_version == run.resource_version:
            logger.warning(
                "%s/%s: Job %s can't be released: %s", key.namespace, key.name, run.name, error.message
            )
            self.store.mark_released(key, run.uid)

    async def _inspect(self, owner: Owner, run: Run, memory: _Memory) -> None:
        """Read the pods of a run, and the end of what the failed ones printed."""
        pods = await self._cluster.list_job_pods(owner.namespace, run.uid)
        failed = sorted(
            (pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"), key=_created
        )
        outputs = {pod["metadata"]["uid"]: await self._output(owner.namespace, pod) for pod in failed[-3:]}
        memory.inspected[run.uid] = _Inspected(
            ending=_ending(run),
            evidence=evidence(pods, outputs),
            outdated_pods=tuple((pod["metadata"]["name"], pod["metadata"]["uid"]) for pod in failed[:-1]),
        )

    async def _prune_pods(self, owner: Owner, memory: _Memory) -> None:
        """Delete the failed pods that are in the books, but the newest of each Job."""
        for uid, inspected in list(memory.inspected.items()):
            for name, pod_uid in inspected.outdated_pods:
                try:
                    await self._cluster.delete_pod(owner.namespace, name, pod_uid)
                except ApiError as error:
                    if not (error.not_found or error.guard_failed):
                        raise
            memory.inspected[uid] = replace(inspected, outdated_pods=())

    async def _output(self, namespace: str, pod: Mapping[str, Any]) -> str:
        container = command_container(pod["spec"]["containers"])["name"]
        try:
            return await self._cluster.read_log(namespace, pod["metadata"]["name"], container, LOG_LINES)
        except ApiError as error:
            logger.info(
                "The output of pod %s/%s can't be read: %s", namespace, pod["metadata"]["name"], error
            )
            return ""

    def _tidy(self, owner: Owner, memory: _Memory, status: Status) -> None:
        """Forget what the written status has made useless."""
        claimed = status.ongoing.uid if status.ongoing is not None else None
        memory.gone = {uid for uid in memory.gone if uid == claimed}
        memory.replaced &= memory.gone
        memory.taken_names.clear()
        if memory.inspected:
            known = {run.uid for run in self.store.runs(owner)}
            memory.inspected = {uid: told for uid, told in memory.inspected.items() if uid in known}

    # --- The CronJob -------------------------------------------------------------------------------------

    async def _has_fired(self, owner: Owner, slot: datetime, former: Run | None) -> bool:
        """Ask for the run of a slot that is to fire again: the controller may have made it, not seen yet.

        Two watches show the CronJob and its Jobs; firing a slot that runs already would have it run twice.
        """
        try:
            body = await self._cluster.get_job(owner.namespace, native_name(owner, slot))
        except ApiError as error:
            if not error.not_found:
                raise
            return False
        uid = body["metadata"]["uid"]
        if former is not None and uid == former.uid:
            return False
        self.store.put_job(body, asked_for=_key(owner))
        return any(run.uid == uid for run in self.store.runs(owner))

    async def _do_cronjob(
        self, resource: Resource, seen: Observed, memory: _Memory, action: ApplyCronJob | MoveLastSchedule
    ) -> bool:
        """Apply the CronJob or move its lever. True: something changed."""
        owner, live = resource.owner, seen.cronjob
        if isinstance(action, MoveLastSchedule):
            if live is not None:
                await self._move_last_schedule(owner, live, memory, action)
            return live is not None
        if not isinstance(resource.spec, Spec):
            return False
        made = await self._plan(resource, resource.spec)
        if isinstance(made, Unavailable):
            return False
        try:
            await self._apply(owner, made, memory, exists=live is not None)
        except ApiError as error:
            self._refused(memory, made, error)
        else:
            memory.refusal = None
        return True

    async def _move_last_schedule(
        self, owner: Owner, live: CronJobSeen, memory: _Memory, action: MoveLastSchedule
    ) -> None:
        former = action.delete_first
        if action.fires is not None and await self._has_fired(owner, action.fires, former):
            return
        if former is not None:
            await self._remove(owner, former, memory)
            memory.gone.add(former.uid)
            memory.replaced.add(former.uid)
        try:
            body = await self._cluster.move_last_schedule(
                owner.namespace, owner.name, live.resource_version, action.to
            )
        except ApiError as error:
            if not (error.guard_failed or error.not_found):
                raise
            await self._look_again(owner)
        else:
            self.store.put_cronjob(body)

    async def _apply(self, owner: Owner, made: Plan, memory: _Memory, *, exists: bool) -> None:
        if not exists:
            try:
                self.store.put_cronjob(await self._cluster.create_cronjob(made.manifest), asked_for=True)
            except ApiError as error:
                if not error.already_exists:
                    raise
            else:
                return
        live = await self._look_again(owner)
        if live is None or not live.ours:
            return
        metadata = (await self._cluster.get_cronjob(owner.namespace, owner.name))["metadata"]
        patch = cronjob_patch(made, live.uid, metadata)
        body = await self._cluster.patch_cronjob(owner.namespace, owner.name, patch)
        self.store.put_cronjob(body, asked_for=True)
        memory.verified = body["metadata"]["resourceVersion"]

    def _refused(self, memory: _Memory, made: Plan, error: ApiError) -> None:
        """Tell a refusal that the same request would meet again, and try again later; raise all others.

        A quota, a permission or an admission webhook may change without anything here changing.
        """
        if error.transient or error.status in (404, 409):
            raise error
        known = memory.refusal
        count = known.count + 1 if known is not None and known.hash == made.hash else 1
        delay = min(FIRST_DELAY_SECONDS * 2.0**count, LONGEST_DELAY_SECONDS)
        is_invalid = error.status in (400, 422)
        memory.refusal = _Refusal(
            hash=made.hash,
            told=Unavailable(
                "InvalidTemplate" if is_invalid else "Refused",
                f"The API server refused: {error.message}",
                stalled=is_invalid,
            ),
            count=count,
            retry_at=self._clock() + timedelta(seconds=delay),
        )


def _before_all_else(job: Job, seen: Observed, decision: Decision) -> bool:
    """Tell whether the CronJob is to be written first, so that nothing is told or started that can't be.

    It may be refused, or somebody else's may be there. Only where the decision settles slots, this is written
    before it: otherwise a crash between the two would forget that the schedule was edited.
    """
    settles = decision.status is not None and decision.status.settled_through != job.status.settled_through
    return seen.cronjob is None or not settles


def _key(owner: Owner) -> Key:
    return Key(owner.namespace, owner.name)


def _next_look(
    seen: Observed, job: Job, memory: _Memory, decision: Decision, now: datetime
) -> datetime | None:
    times = [decision.wake_at]
    if seen.cronjob is not None and not seen.cronjob.ours:
        times.append(now + CHECK_CONFLICT)
    if job.status.ongoing is not None:
        times.append(now + CHECK_CLAIMED)
    if memory.refusal is not None:
        times.append(memory.refusal.retry_at)
    return min((time for time in times if time is not None and time > now), default=None)


def _reduce(made: Plan) -> Desired:
    return Desired(
        hash=made.hash, template_hash=made.template_hash, schedule=schedule_key(made.manifest["spec"])
    )


def _ending(run: Run) -> tuple[int, bool]:
    """What evidence about a run depends on."""
    return run.failed_pods, run.finished is not None


def _created(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")
