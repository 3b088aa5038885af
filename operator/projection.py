"""Turn the API's objects into the values that the core reads.

Dicts end here. Whatever people did to an object by hand, reading it must not fail: what can't be read is
left out, and the decision is made from the rest. This module must
not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from crontabber_operator.manifests import (
    ATTEMPT,
    CLAIMED,
    HASH,
    INSTANTIATE,
    JOB_LABEL,
    OUTPUT_TOLD,
    QUEUE,
    RUN_NOW,
    RUN_TIME,
    SCHEDULED,
    SLOT,
    TEMPLATE_HASH,
    THROUGH,
    TOLD,
    Owner,
)
from crontabber_operator.models import KIND
from crontabber_operator.observed import CronJobSeen, Run, RunKind
from crontabber_operator.schedule import ScheduleError, Slots, parse_frequency, parse_schedule
from crontabber_operator.times import parse_time

Body = Mapping[str, Any]

FIELD_MANAGER = "crontabber-operator"
_EVERY = re.compile(r"@every (\d+)([mh])(?:0m)?(?:0s)?")


def owner_name(body: Body) -> str | None:
    """Return the name of the CrontabberJob that an object was made for, or None."""
    name = (body["metadata"].get("labels") or {}).get(JOB_LABEL)
    return name if isinstance(name, str) and name else None


def resource_version(body: Body) -> int:
    """Return the resourceVersion; the API server's own are integers that grow."""
    try:
        return int(body["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return 0


def read_run(body: Body) -> Run | None:
    """Read a Job; None where it isn't one of a CrontabberJob's."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    annotations = metadata.get("annotations") or {}
    kind = _kind(metadata, annotations)
    created = _time(metadata.get("creationTimestamp"))
    if kind is None or created is None:
        return None
    slot = _time(annotations.get(SCHEDULED if kind is RunKind.NATIVE else SLOT)) or created
    conditions = {
        one.get("type"): one for one in status.get("conditions") or [] if one.get("status") == "True"
    }
    complete, failed = conditions.get("Complete"), conditions.get("Failed")
    finished = None
    if complete is not None:
        finished = _time(status.get("completionTime")) or _time(complete.get("lastTransitionTime")) or created
    elif failed is not None:
        finished = _time(failed.get("lastTransitionTime")) or created
    suspended = bool(spec.get("suspend"))
    released = not suspended or RUN_TIME in annotations or _was_released(spec, status)
    return Run(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        kind=kind,
        slot=slot,
        through=max(slot, _time(annotations.get(THROUGH)) or slot),
        attempt=_number(annotations.get(ATTEMPT)),
        template_hash=annotations.get(TEMPLATE_HASH) or "",
        created=created,
        suspended=suspended,
        released=released,
        by_hand=released
        and kind is not RunKind.MANUAL
        and RUN_TIME not in annotations
        and _run_time(spec) == "",
        claimed=_time(annotations.get(CLAIMED)),
        started=_time(status.get("startTime")),
        finished=finished,
        succeeded=complete is not None,
        reason=str((failed or {}).get("reason") or ""),
        failed_pods=int(status.get("failed") or 0),
        active=bool(status.get("active")),
        ready=bool(status.get("ready")),
        told=_number(annotations.get(TOLD)),
        output_told=str(annotations.get(OUTPUT_TOLD) or ""),
        deleting=metadata.get("deletionTimestamp") is not None,
        queue=str((metadata.get("labels") or {}).get(QUEUE) or ""),
    )


def belongs_to(body: Body, owner_uid: str, cronjob_uid: str | None) -> bool:
    """Tell whether a Job was made for this very resource, not for a former one of its name."""
    uids = {one.get("uid") for one in body["metadata"].get("ownerReferences") or []}
    return owner_uid in uids or (cronjob_uid is not None and cronjob_uid in uids)


def read_cronjob(body: Body, owner: Owner) -> CronJobSeen | None:
    """Read the CronJob of the resource's name."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    annotations = metadata.get("annotations") or {}
    created = _time(metadata.get("creationTimestamp"))
    if created is None:
        return None
    template = spec.get("jobTemplate") or {}
    template_annotations = (template.get("metadata") or {}).get("annotations") or {}
    owners = [one for one in metadata.get("ownerReferences") or [] if one.get("kind") == KIND]
    return CronJobSeen(
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        ours=any(one.get("uid") == owner.uid for one in owners),
        former=any(
            one.get("name") == owner.name and one.get("uid") != owner.uid and one.get("controller")
            for one in owners
        ),
        created=created,
        hash=annotations.get(HASH) or "",
        template_hash=template_annotations.get(TEMPLATE_HASH) or "",
        drifted=_spec_has_other_writer(metadata),
        slots=_slots_of(spec),
        schedule=schedule_key(spec),
        suspended=bool(spec.get("suspend")),
        last_schedule=_time(status.get("lastScheduleTime")),
        last_successful=_time(status.get("lastSuccessfulTime")),
        written=max(_written_at(metadata), default=None),
        active=bool(status.get("active")),
        starts_runs=not (template.get("spec") or {}).get("suspend"),
    )


def schedule_key(cronjob_spec: Mapping[str, Any]) -> str:
    """Join schedule and time zone, to compare them as one."""
    return f"{cronjob_spec.get('schedule', '')} {cronjob_spec.get('timeZone', '')}"


def _kind(metadata: Mapping[str, Any], annotations: Mapping[str, Any]) -> RunKind | None:
    references = metadata.get("ownerReferences") or []
    if any(one.get("kind") == "CronJob" and one.get("controller") for one in references):
        return (
            RunKind.NATIVE if SCHEDULED in annotations and INSTANTIATE not in annotations else RunKind.MANUAL
        )
    if any(one.get("kind") == KIND for one in references):
        return RunKind.MANUAL if RUN_NOW in annotations or SLOT not in annotations else RunKind.ONE_OFF
    return None


def _was_released(spec: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """A suspended Job was released before, if its run time was filled in or it has ever had a pod.

    Who suspends Jobs again may restore their pod template too (Kueue does), so the release writes the run time
    on the Job as well. A template without the annotation was never gated: then a person suspended the Job.
    """
    return _run_time(spec) != "" or bool(status.get("failed") or status.get("startTime"))


def _run_time(spec: Mapping[str, Any]) -> str | None:
    """Return the run time that pods are told: empty until the release; None: the job is not gated."""
    annotations = ((spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}
    return annotations.get(RUN_TIME)


def _spec_has_other_writer(metadata: Mapping[str, Any]) -> bool:
    return any(
        entry.get("manager") != FIELD_MANAGER
        and not entry.get("subresource")
        and "f:spec" in (entry.get("fieldsV1") or {})
        for entry in metadata.get("managedFields") or []
    )


def _written_at(metadata: Mapping[str, Any]) -> Iterator[datetime]:
    for entry in metadata.get("managedFields") or []:
        at = _time(entry.get("time"))
        if entry.get("manager") == FIELD_MANAGER and at is not None:
            yield at


def _slots_of(cronjob_spec: Mapping[str, Any]) -> Slots | None:
    text = str(cronjob_spec.get("schedule", ""))
    every = _EVERY.fullmatch(text)
    try:
        if every:
            return parse_frequency(f"{every[1]}{every[2]}")
        return parse_schedule(text, cronjob_spec.get("timeZone"))
    except ScheduleError:
        return None


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _number(value: object) -> int:
    return (
        int(value)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 9
        else 0
    )
