"""Carry out what the core decides, for each resource one pass at a time.

A pass asks for a decision, does the first thing in it that changes anything, takes the API server's answer
into the store, and asks again, until nothing is left to do. Every write is guarded by what was decided on;
a guard that fails only means: look again. What goes wrong is tried again with a growing delay, for that
resource alone. What exists is read by inquiry.py; Jobs and CronJobs are written by their writers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import filterfalse

from crontabber_operator import bookkeeping, commands
from crontabber_operator.backfill import decide
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.cronjob_writer import CronJobWriter
from crontabber_operator.decision import ApplyCronJob, Decision, RemoveFormer
from crontabber_operator.delays import doubled
from crontabber_operator.inquiry import CHECK_CLAIMED, Inquiry
from crontabber_operator.job_writer import JobWriter
from crontabber_operator.listening import Listeners
from crontabber_operator.manifests import Owner
from crontabber_operator.memory import Memory, PutOff
from crontabber_operator.models import InvalidSpec, Spec, Status
from crontabber_operator.neighbours import Neighbours
from crontabber_operator.observed import Job, Observed, Run
from crontabber_operator.pace import Pace
from crontabber_operator.planning import Planner
from crontabber_operator.recorder import Recorder
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource, Store
from crontabber_operator.sweeper import Sweeper
from crontabber_operator.telling import Telling, changes, run_now_failed, too_large
from crontabber_operator.templates import Templates
from crontabber_operator.ticker import Ticker

logger = logging.getLogger(__name__)

STEPS_MAX = 200
"""More steps without a rest mean that two parties undo each other's work."""
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 120.0
PASS_SECONDS = 300.0
"""A pass takes milliseconds, and with an API server that doesn't answer minutes at most."""
TICKER_LATE = timedelta(minutes=1)
AT_ONCE = 50
"""Of all resources so many are looked at before anything else has its turn."""
COUNTS_SHARE = 0.25
"""At most this part of the time goes into telling that further slots fell due: in an overloaded cluster each run is
late, and to say so of each would double the writes of statuses."""
CHECK_CONFLICT = timedelta(seconds=15)
"""So often a CronJob that isn't ours is looked up: it isn't watched."""


class RestlessError(Exception):
    """A pass finds something to do again and again: with another party, or with a fault in the decisions."""


class Reconciler:
    """Keeps every resource as its spec says."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
    ) -> None:
        clock = cluster.clock.now
        self.store = Store()
        self.templates = Templates(cluster)
        self.listeners = Listeners()
        self._limit = settings.max_concurrent_runs_per_namespace
        self._neighbours = Neighbours(self.store, self._limit, clock)
        self._cluster = cluster
        self.clock = clock
        """What the time is: the API server's."""
        self._calm = asyncio.Event()
        """No pass goes on."""
        self._calm.set()
        self._recorder = Recorder(cluster, clock, self._calm)
        self._ticker: Ticker[Key] = Ticker(self.wake, clock)
        self.sweeper = Sweeper(cluster, self.store, self.templates, self.wake, clock)
        self._planner = planner = Planner(self.templates, settings, clock)
        self.inquiry = Inquiry(cluster, self.store, planner, self.listeners, reads_logs=settings.reads_logs)
        self._jobs = JobWriter(cluster, self.store, planner, self.inquiry, self.listeners, clock)
        self._cronjobs = CronJobWriter(cluster, self.store, planner, self.inquiry, self._jobs)
        self._pace = Pace(COUNTS_SHARE)
        self._memory: dict[Key, Memory] = {}
        self._working: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._since: dict[Key, float] = {}
        """When the passes that go on began, by the loop's clock."""
        self._leads = False
        self._has_picture = False
        """All that there is was listed: until then nothing is decided, only remembered."""
        self._taking_over: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ticker.run(), name="ticker")
            group.create_task(self._recorder.run(), name="recorder")
            group.create_task(self.sweeper.run(), name="sweeper")

    def lead(self) -> None:
        """Decide from now on, first of all what is known already; until then it is only remembered."""
        self._leads = True
        self.listeners.leading(True)
        self._begin_to_decide()

    def has_picture(self) -> None:
        """All that there is was listed: decide from now on, where this operator leads."""
        self._has_picture = True
        self._begin_to_decide()

    def _begin_to_decide(self) -> None:
        if self._leads and self._has_picture:
            self._taking_over = asyncio.create_task(self._take_over(), name="take-over")

    async def follow(self) -> None:
        """Decide nothing any more, and end all passes; each write is a whole, so any moment is as good."""
        if not self._leads:
            return
        self._leads = False
        tasks = [*self._working.values(), *([self._taking_over] if self._taking_over is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Who leads meanwhile changes what was kept in mind; what could not be read is still to be read.
        self._memory = {key: Memory(unread=True) for key, memory in self._memory.items() if memory.unread}
        self._ticker.clear()
        self._neighbours = Neighbours(self.store, self._limit, self.clock)
        self.listeners.leading(False)

    async def _take_over(self) -> None:
        """Look at all resources, first at those whose next run is nearest; let others work in between."""
        for count, key in enumerate(sorted({*self.store.keys(), *self._memory}, key=self._urgency)):
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
            self.wake(key)

    def _urgency(self, key: Key) -> datetime:
        resource = self.store.resource(key)
        known = resource.status.next_run_time if resource is not None else None
        return known or datetime.min.replace(tzinfo=UTC)

    def wake(self, key: Key) -> None:
        """Look at this resource soon; however often it is said meanwhile, one pass follows."""
        if not self._has_picture:
            return
        if not self._leads:
            if self.store.resource(key) is None and key not in self._memory:
                self.forget(key)
            return
        if key in self._working:
            self._again.add(key)
            return
        task = asyncio.create_task(self._work(key), name=f"{key.namespace}/{key.name}")
        self._working[key] = task
        self._calm.clear()
        # Not at the end of its own work: one that is cancelled before it began never gets there.
        task.add_done_callback(lambda _: self._rests(key))

    def knows(self, key: Key) -> bool:
        """Tell whether all that is known of a resource was looked at: the event of a write of one's own is no news."""
        memory = self._memory.get(key)
        return self._leads and memory is not None and memory.looked_at == self.store.changes(key)

    def _rests(self, key: Key) -> None:
        del self._working[key]
        if key in self._again:
            self._again.discard(key)
            self.wake(key)
        if not self._working:
            self._calm.set()

    def seems_wrong(self) -> list[str]:
        """Return what looks as if no decisions were made any more."""
        found = []
        oldest = min(self._since.items(), key=lambda item: item[1], default=None)
        if oldest is not None and asyncio.get_running_loop().time() - oldest[1] > PASS_SECONDS:
            found.append(f"the pass over {oldest[0].namespace}/{oldest[0].name} does not end")
        if self._ticker.is_late(TICKER_LATE):
            found.append("nobody is woken in time")
        return found

    def forget(self, key: Key) -> None:
        """The resource is gone; what it owned, the garbage collector removes."""
        self._memory.pop(key, None)
        self._ticker.set(key, None)
        self.templates.forget(key)
        self.store.forget(key)
        self.listeners.forgotten(key)

    async def _work(self, key: Key) -> None:
        while True:
            self._again.discard(key)
            await self._try(key)
            if key not in self._again:
                return

    async def _try(self, key: Key) -> None:
        memory = self._memory.setdefault(key, Memory())
        loop = asyncio.get_running_loop()
        started = loop.time()
        if started < memory.rests_until:
            self._ticker.set(key, self.clock() + timedelta(seconds=memory.rests_until - started))
            return
        try:
            await self._among_neighbours(key, memory)
        except Exception as error:  # noqa: BLE001 - one resource must never stop the others
            self._later(key, memory, error)
            return
        memory.failures = 0
        self.listeners.passed(key, loop.time() - started)
        if self.store.resource(key) is None:
            self.forget(key)

    async def _among_neighbours(self, key: Key, memory: Memory) -> None:
        failed = True
        self._since[key] = asyncio.get_running_loop().time()
        self._neighbours.begins(key)
        try:
            if memory.unread:
                await self.inquiry.read_anew(key)
                memory.unread = False
            await self._pass(key, memory)
            failed = False
        finally:
            self._since.pop(key, None)
            for other in self._neighbours.rests(key, failed=failed):
                self.wake(other)

    def could_not_take(self, key: Key, error: Exception) -> None:
        """What a watch showed of this resource could not be taken: all of it is read anew, a little later."""
        memory = self._memory.setdefault(key, Memory())
        memory.unread = True
        self._later(key, memory, error)

    def _later(self, key: Key, memory: Memory, error: Exception) -> None:
        """Tell an error once, and try again after a delay that grows."""
        delay = doubled(FIRST_DELAY_SECONDS, memory.failures, LONGEST_DELAY_SECONDS)
        if isinstance(error, RestlessError):
            delay = LONGEST_DELAY_SECONDS
        memory.failures += 1
        if isinstance(error, ApiError):
            delay = max(delay, error.retry_after_seconds or 0)
            logger.warning("%s/%s: %s; tried again in %.0f s", key.namespace, key.name, error, delay)
        else:
            logger.error(
                "%s/%s: unexpected error; tried again in %.0f s",
                key.namespace,
                key.name,
                delay,
                exc_info=error,
            )
            # It may have come after a write, whose echo would wake it at once, to fail again.
            memory.rests_until = asyncio.get_running_loop().time() + delay
        delay *= random.uniform(1.0, 1.25)  # noqa: S311 - spreads retries, is no secret
        self.listeners.failed(key, error, delay)
        self._ticker.set(key, self.clock() + timedelta(seconds=delay))

    # --- One pass ----------------------------------------------------------------------------------------

    async def _pass(self, key: Key, memory: Memory) -> None:
        for _ in range(STEPS_MAX):
            resource = self.store.resource(key)
            if resource is None or resource.deleting:
                return
            now = self.clock()
            memory.looked_at = self.store.changes(key)
            self.listeners.looked(resource, self.store.runs(resource.owner))
            if isinstance(resource.spec, InvalidSpec):
                await self._tell_invalid(resource, resource.spec.sentences, now)
                return
            job = resource.job()
            await self._look_before_command(resource, job, memory)
            seen = await self.inquiry.look(resource, resource.spec, memory, now)
            self._tell_notes(resource, memory)
            step = commands.next_step(job, resource.annotations, seen, now)
            if step is not None:
                await self._do_step(resource, resource.spec, memory, step)
                continue
            decision = decide(job, self._neighbours.look(job, seen), now)
            self._neighbours.decided(job, decision)
            if await self._answer(resource, memory, decision):
                continue
            if not await self._carry_out(resource, job, seen, memory, decision):
                self._ticker.set(key, _next_look(seen, job, memory, decision, now))
                return
        message = f"no rest after {STEPS_MAX} steps"
        raise RestlessError(message)

    async def _answer(self, resource: Resource, memory: Memory, decision: Decision) -> bool:
        """Find out what a decision asks for first. True: there was a question, decide again."""
        claim = resource.status.ongoing
        if decision.confirm_gone is not None and claim is not None:
            await self.inquiry.ask_about(resource.owner, claim.job, decision.confirm_gone, memory)
        if decision.look_for_job is not None:
            await self.inquiry.look_for_job(resource.owner, decision.look_for_job, memory)
        for run in decision.inspect:
            await self.inquiry.inspect(resource, run, memory)
        if decision.look_for_pods:
            await self.inquiry.look_for_pods(resource.owner, memory, self.clock())
        return decision.asks

    async def _carry_out(
        self, resource: Resource, job: Job, seen: Observed, memory: Memory, decision: Decision
    ) -> bool:
        """Do a decision. True: something changed, decide again."""
        owner = resource.owner
        cronjob = decision.cronjob
        if cronjob is not None and _is_cronjob_first(job, seen, decision):
            if await self._cronjobs.do(resource, seen, memory, cronjob):
                return True
            cronjob = None
        changed = False
        for run in decision.discard:
            await self._jobs.discard(owner, run, memory)
            changed = True
        for new in decision.create:
            await self._jobs.create(resource, new, memory)
            self._tell_of_batch(resource, job.spec, memory)
        if decision.create:
            # What is to be told goes into the same write as the claim; or it was refused, which comes first.
            return True
        if decision.status is not None:
            with self._turn_to_tell(resource.status, decision.status) as has_turn:
                if has_turn and not await self._write(resource, decision.status):
                    return True
            if has_turn:
                self._tidy(resource, memory, decision.status)
                changed = True
            else:
                memory.put_off = PutOff.again(memory.put_off, self.clock(), random.uniform(1.0, 1.5))  # noqa: S311
        for release in decision.release:
            await self._jobs.release(resource, release, memory)
            changed = True
        if cronjob is not None:
            changed |= await self._cronjobs.do(resource, seen, memory, cronjob)
        changed |= await self._tell_by_hand(resource, decision.tell, memory)
        await self._prune(owner, decision.prune, memory)
        if not changed:
            await self._jobs.prune_pods(owner, memory)
        return changed

    async def _prune(self, owner: Owner, runs: Iterable[Run], memory: Memory) -> None:
        for run in filterfalse(self.listeners.needs, runs):
            await self._jobs.remove(owner, run, memory)

    def _turn_to_tell(self, before: Status, after: Status) -> contextlib.AbstractContextManager[bool]:
        """Yield whether a status is to be written now: what only counts more stands back behind all else."""
        if bookkeeping.only_counts_more(before, after):
            return self._pace.turn()
        return contextlib.nullcontext(True)

    async def _write(self, resource: Resource, status: Status) -> bool:
        """Write the status at the version that was decided on, then tell what changed. False: it changed since."""
        owner = resource.owner
        try:
            body = await self._cluster.write_status(owner, resource.resource_version, status.write())
        except ApiError as error:
            if error.too_large:
                self._recorder.tell(owner, too_large())
            if not (error.guard_failed or error.not_found):
                raise
            await self.inquiry.refresh(resource, error)
            return False
        self.store.put_resource(body)
        self.listeners.status_written(resource, status, self.store.runs(owner))
        spec = resource.spec if isinstance(resource.spec, Spec) else None
        for telling in changes(resource.status, status, spec):
            self._recorder.tell(owner, telling)
        return True

    def _tell_of_batch(self, resource: Resource, spec: Spec, memory: Memory) -> None:
        """Tell, once, that missed slots don't share Jobs as the spec asks, or only slowly."""
        if spec.backfill_batch == 1:
            return
        reason = self._planner.why_no_batch(spec)
        if reason is None and memory.no_batch is not None:
            reason = f"spec.backfillBatch: {memory.no_batch.message} Each missed slot gets a Job of its own."
        if reason is not None and reason not in memory.told_of_batch:
            memory.told_of_batch.add(reason)
            self._recorder.tell(resource.owner, Telling("BatchImpossible", reason, warning=True))

    def _tell_notes(self, resource: Resource, memory: Memory) -> None:
        """Tell, once, what a batch itself notes."""
        for note in memory.batch.progress.notes if memory.batch is not None else ():
            if note not in memory.told_of_batch:
                memory.told_of_batch.add(note)
                self._recorder.tell(resource.owner, Telling("BatchNote", note))

    async def _tell_by_hand(self, resource: Resource, runs: Iterable[Run], memory: Memory) -> bool:
        """Tell of runs made by hand that failed, once: their Jobs remember that, as no books hold them."""
        changed = False
        for run in runs:
            await self.inquiry.inspect(resource, run, memory)
            if await self._jobs.mark_told(resource.owner, run, memory):
                seen = memory.inspected[run.uid].evidence.failures
                attempt = seen[-1] if seen else bookkeeping.failed_unseen(run)
                self._recorder.tell(resource.owner, run_now_failed(run, attempt))
                changed = True
        return changed

    async def _tell_invalid(self, resource: Resource, sentences: tuple[str, ...], now: datetime) -> None:
        status = bookkeeping.invalid(resource.status, resource.generation, sentences, now)
        if status != resource.status:
            await self._write(resource, status)

    async def _look_before_command(self, resource: Resource, job: Job, memory: Memory) -> None:
        """Read what a mark or reset of a plain job is to disregard: the watches may be behind.

        A run that ended before the command must not be taken for one that ended after it. (Runs of a gated job
        are claimed, and the command drops the claim.)
        """
        record = commands.next_taken(job.status)
        if record is None or record.name not in commands.MOVE_CURSOR or not job.spec.is_plain:
            return
        command = (record.id, record.name)
        if memory.read_for != command:
            await self.inquiry.read_runs(resource.owner)
            memory.read_for = command

    async def _do_step(self, resource: Resource, spec: Spec, memory: Memory, step: commands.Step) -> None:
        owner = resource.owner
        if step.discard is not None:
            await self._jobs.discard(owner, step.discard, memory)
            return
        if step.remove:
            try:
                body = await self._cluster.remove_annotations(owner, resource.resource_version, step.remove)
                self.store.put_resource(body)
            except ApiError as error:
                if not (error.guard_failed or error.not_found):
                    raise
                await self.inquiry.refresh(resource, error)
            return
        status = step.status
        if step.run_now is not None and status is not None and step.done is not None:
            refusal = await self._jobs.run_now(resource, spec, step.run_now)
            if refusal is not None:
                done = replace(step.done, result=f"{commands.REFUSED}: {refusal}")
                records = tuple(done if one == step.done else one for one in status.last_commands)
                status = replace(status, last_commands=records)
        if status is not None:
            await self._write(resource, status)

    def _tidy(self, resource: Resource, memory: Memory, status: Status) -> None:
        """Forget what the written status has made useless."""
        claimed = status.ongoing.uid if status.ongoing is not None else None
        memory.gone = {uid for uid in memory.gone if uid == claimed}
        memory.replaced &= memory.gone
        memory.absent = None
        memory.put_off = None
        memory.taken_names.clear()
        if memory.inspected:
            known = {run.uid for run in self.store.runs(resource.owner)}
            memory.inspected = {uid: told for uid, told in memory.inspected.items() if uid in known}


def _is_cronjob_first(job: Job, seen: Observed, decision: Decision) -> bool:
    """Tell whether the CronJob is to be written first, so that nothing is told or started that can't be.

    It may be refused, or somebody else's may be there. Only where the decision settles slots, this is written
    before it: otherwise a crash between the two would forget that the schedule was edited.
    """
    if not isinstance(decision.cronjob, ApplyCronJob):
        return isinstance(decision.cronjob, RemoveFormer)
    settles = decision.status is not None and decision.status.settled_through != job.status.settled_through
    return seen.cronjob is None or not settles


def _next_look(
    seen: Observed, job: Job, memory: Memory, decision: Decision, now: datetime
) -> datetime | None:
    times = [decision.wake_at]
    if seen.cronjob is not None and not seen.cronjob.ours:
        times.append(now + CHECK_CONFLICT)
    if job.status.ongoing is not None:
        times.append(now + CHECK_CLAIMED)
    if memory.batch is not None:
        times.append(memory.batch.look_at)
    if memory.start is not None:
        times.append(memory.start.look_at)
    if memory.put_off is not None:
        times.append(memory.put_off.until)
    if memory.left_behind is not None and memory.left_behind.pods:
        times.append(memory.left_behind.look_at)
    if memory.refusal is not None:
        times.append(memory.refusal.retry_at)
    return min((time for time in times if time is not None and time > now), default=None)
