"""Read one CrontabberJob of a cluster, and all that was made for it, as `decide()` gets it.

For commands that only look. It asks the API server once for each kind of object; what it returns is a moment's
picture. Nothing is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from crontabber_operator import bookkeeping, commands, dependencies
from crontabber_operator.admission import WAITING_FOR_LIMIT, Waiting, keeps_waiting
from crontabber_operator.backfill import decide
from crontabber_operator.client import Client
from crontabber_operator.cluster import ApiError, Body
from crontabber_operator.decision import Decision
from crontabber_operator.failures import evidence
from crontabber_operator.manifests import PREFIX, Owner, Plan, TemplateError, plan
from crontabber_operator.models import ConditionType, Defaults, InvalidSpec, Spec, WebApp
from crontabber_operator.neighbours import JobsOfNamespace
from crontabber_operator.observed import (
    CronJobSeen,
    Desired,
    Evidence,
    Hold,
    Job,
    Observed,
    Unavailable,
    View,
)
from crontabber_operator.projection import schedule_key
from crontabber_operator.store import Key, Resource, Store
from crontabber_operator.templates import Templates
from crontabber_operator.times import format_time

REFUSALS = ("Refused", "InvalidTemplate")
"""The reasons of Ready=False that only the operator can know, because it asked the API server to write."""
NAMED = 3
"""So many of those that go before a job are told by name."""
QUESTIONS_MAX = 20
"""More questions of the core about the same picture would be a fault of its."""


@dataclass(frozen=True, slots=True)
class Live:
    """A resource with a valid spec, and what exists of it."""

    resource: Resource
    job: Job
    seen: Observed
    decision: Decision
    """What `decide()` says of it; its questions are answered."""
    plan: Plan | Unavailable
    waiting_for: Hold | None = None
    """Why its due slot may not start, for dependencies, a concurrency group or the namespace's limit."""


async def look(client: Client, body: Body, defaults: Defaults, now: datetime) -> Live | Resource:
    """Look at a CrontabberJob that was read; only the resource where its spec is invalid. Raises ApiError."""
    store = Store()
    key = store.put_resource(body)
    resource = store.resource(key)
    if resource is None:
        raise TypeError(key)
    if isinstance(resource.spec, InvalidSpec):
        return resource
    await asyncio.gather(_read_jobs(client, store, key), _read_cronjob(client, store, key))
    job, owner = resource.job(), resource.owner
    made = await _plan(client, resource, resource.spec, defaults)
    others = await _neighbours(client, job)
    problem = dependencies.problem(job, others)
    hold = _hold(job, others, problem, now)
    seen = Observed(
        runs=store.runs(owner),
        cronjob=_undrifted(store, owner),
        desired=made if isinstance(made, Unavailable) else _reduced(made),
        hold=hold,
        problem=problem,
    )
    seen, decision = await _ask_all(client, job, seen, now)
    due = bookkeeping.head(View.of_job(job, seen, now), decision.status or job.status)
    return Live(
        resource=resource,
        job=job,
        seen=seen,
        decision=decision,
        plan=made,
        waiting_for=hold(due) if due is not None else None,
    )


def needs_the_operator(found: Live) -> bool:
    """Tell whether there is something to do for this resource that should not wait."""
    decision, status = found.decision, found.job.status
    if refusal(found) is not None:
        return False  # it is tried again, with growing delays
    after = decision.status or status
    return bool(
        decision.create
        or decision.release
        or decision.discard
        or decision.cronjob is not None
        or any(PREFIX + name in found.resource.annotations for name in commands.NAMES)
        # Not the conditions: they say why, and that is known better to the operator.
        or (after.observed_generation, after.missed, after.ongoing, after.settled_through)
        != (status.observed_generation, status.missed, status.ongoing, status.settled_through)
    )


def refusal(found: Live) -> str | None:
    """Return what the API server said when it refused what the operator wants to write, if it does."""
    ready = found.job.status.condition(ConditionType.READY)
    if ready is None or ready.status != "False" or ready.observed_generation != found.job.generation:
        return None
    return ready.message if ready.reason in REFUSALS and isinstance(found.seen.desired, Desired) else None


def _undrifted(store: Store, owner: Owner) -> CronJobSeen | None:
    # Only the operator knows whether it has repaired the CronJob since somebody else wrote to it.
    cronjob = store.cronjob(owner)
    return None if cronjob is None else replace(cronjob, drifted=False)


async def read_runs(client: Client, body: Body) -> tuple[Resource, Observed]:
    """Look only at a resource, its runs and its CronJob; nothing is decided. Raises ApiError."""
    store = Store()
    key = store.put_resource(body)
    resource = store.resource(key)
    if resource is None:
        raise TypeError(key)
    await asyncio.gather(_read_jobs(client, store, key), _read_cronjob(client, store, key))
    owner = resource.owner
    return resource, Observed(runs=store.runs(owner), cronjob=store.cronjob(owner))


async def _read_jobs(client: Client, store: Store, key: Key) -> None:
    for job in await client.list_jobs(key.namespace, key.name):
        store.put_job(job, asked_for=key)


async def _read_cronjob(client: Client, store: Store, key: Key) -> None:
    try:
        store.put_cronjob(await client.get_cronjob(key.namespace, key.name), asked_for=True)
    except ApiError as error:
        if not error.not_found:
            raise


async def _plan(client: Client, resource: Resource, spec: Spec, defaults: Defaults) -> Plan | Unavailable:
    webapp = spec.filled(defaults).webapp or WebApp()
    body: Mapping[str, object] | None = spec.template
    if body is None:
        key = Key(resource.owner.namespace, resource.owner.name)
        template = await Templates(client).find(Key(key.namespace, webapp.name or ""), key)
        if isinstance(template, Unavailable):
            return template
        body = template.body
    try:
        return plan(resource.owner, spec, body, defaults)
    except TemplateError as error:
        return Unavailable("InvalidTemplate", str(error), stalled=True)


def _reduced(made: Plan) -> Desired:
    return Desired(
        hash=made.hash, template_hash=made.template_hash, schedule=schedule_key(made.manifest["spec"])
    )


async def _ask_all(client: Client, job: Job, seen: Observed, now: datetime) -> tuple[Observed, Decision]:
    """Decide, answering what `decide()` asks first."""
    for _ in range(QUESTIONS_MAX):
        decision = decide(job, seen, now)
        if decision.confirm_gone is not None:
            # All Jobs were listed a moment ago.
            seen = replace(seen, gone=seen.gone | {decision.confirm_gone})
        elif decision.look_for_job is not None:
            seen = replace(seen, absent=decision.look_for_job)
        elif decision.inspect:
            known: dict[str, Evidence] = dict(seen.evidence)
            for run in decision.inspect:
                known[run.uid] = evidence(await client.list_job_pods(job.namespace, run.uid), {})
            seen = replace(seen, evidence=known)
        else:
            return seen, decision
    return seen, decision


# --- Other jobs -----------------------------------------------------------------------------------------


async def _neighbours(client: Client, job: Job) -> dict[str, Job]:
    """Read the namespace's jobs, where this one has to wait for any of them."""
    if not job.spec.depends_on and job.spec.concurrency_group is None:
        return {}
    store = Store()
    for body in await client.list_resources(job.namespace):
        store.put_resource(body)
    return dict(JobsOfNamespace(store, job.namespace))


def _hold(
    job: Job, others: Mapping[str, Job], problem: Unavailable | None, now: datetime
) -> Callable[[datetime], Hold | None]:
    """Say why a slot may not start: its dependencies, then its concurrency group, then what the operator told."""

    def why(slot: datetime) -> Hold | None:
        waiting = dependencies.hold(job, slot, others, problem)
        return waiting or _group(job, slot, others, now) or _limit(job)

    return why


def _group(job: Job, slot: datetime, others: Mapping[str, Job], now: datetime) -> Hold | None:
    """Say whom the slot waits for in its group, by name; whoever seems to be able to start counts."""
    group = job.spec.concurrency_group
    if group is None:
        return None
    members = [one for one in others.values() if one.spec.concurrency_group == group and one.name != job.name]
    running = {one.name: group for one in members if one.status.ongoing is not None}
    waiting = [
        Waiting(due, one.name, group)
        for one in members
        if one.name not in running and (due := _due(one, others, now)) is not None
    ]
    own = Waiting(slot, job.name, group)
    hold = keeps_waiting(own, sorted(waiting), running, limit=None)
    if hold is None:
        return None
    before = sorted(one for one in waiting if one < own)
    goes = [f"{name} runs" for name in running]
    goes += [f"{one.key} is before it with slot {format_time(one.slot)}" for one in before[:NAMED]]
    goes += [f"{len(before) - NAMED} more are before it"] if len(before) > NAMED else []
    return replace(hold, message=f"{hold.message} Now {', '.join(goes)}.")


def _due(job: Job, others: Mapping[str, Job], now: datetime) -> datetime | None:
    """Return the slot that a job seems to be waiting with."""
    view = View.of_job(job, Observed(), now)
    due = bookkeeping.head(view, job.status)
    if due is None or job.spec.suspend or bookkeeping.retries_exhausted(view, job.status):
        return None
    retry = job.status.retry
    if retry is not None and retry.not_before is not None and now < retry.not_before:
        return None
    return due if dependencies.waits_for(job, due, others) is None else None


def _limit(job: Job) -> Hold | None:
    """Believe the operator that the namespace's limit of runs is reached: only it knows the setting."""
    told = job.status.condition(ConditionType.CAUGHT_UP)
    if told is None or told.status != "False" or told.reason != WAITING_FOR_LIMIT:
        return None
    return Hold(told.reason, told.message.partition("due; ")[2] or told.message, is_turn=True)
