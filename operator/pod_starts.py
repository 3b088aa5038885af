"""Why the command of a pod did not start, or its node ended it: read from the pod and its Events.

PURE: pods and Events come in as the API has them. Reasons have one name each, however far the kubelet was with
trying again, so that one failure is one issue. It must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from crontabber_operator.manifests import command_container

Body = Mapping[str, Any]

Why: TypeAlias = tuple[str, str]
"""A word for what happened, and a sentence that is always the same."""

UNSCHEDULED_FOR: Final = timedelta(minutes=5)
"""So long a pod may wait for a node before that is told: one may have to be bought first."""
DETAILS_MAX_CHARACTERS: Final = 300
FIRST_LOOK: Final = timedelta(seconds=30)
"""Pods that don't run by then are looked at; the kubelet has tried an image two or three times."""
LONGEST_WAIT: Final = timedelta(minutes=5)

_PULL: Final = ("ErrImagePull", "Its image can't be pulled.")
_CONFIG: Final = (
    "CreateContainerConfigError",
    "Its container can't be made: a Secret or ConfigMap is missing, or a key of it.",
)
_NEVER_STARTED: Final = (
    "NeverStarted",
    "Its container was never started: its image, a volume or its node was not to be had. The pod's Events say which.",
)
# A name for each, however far the kubelet was with trying again: else one failure would be two issues.
_WAITING: Final = {
    "ErrImagePull": _PULL,
    "ImagePullBackOff": _PULL,
    "ErrImageNeverPull": ("ErrImageNeverPull", "Its image is not on the node, and may not be pulled."),
    "InvalidImageName": ("InvalidImageName", "Its image has an invalid name."),
    "ImageInspectError": ("ImageInspectError", "Its image can't be read."),
    "RegistryUnavailable": ("RegistryUnavailable", "The registry of its image can't be reached."),
    "CreateContainerConfigError": _CONFIG,
    "CreateContainerError": ("CreateContainerError", "Its container can't be made."),
    "RunContainerError": ("RunContainerError", "Its container can't be started."),
}
_BACK_OFF: Final = re.compile(r'^Back-off pulling image "[^"]*": (?:ErrImagePull: )?')
_EVENTS: Final = (
    (
        re.compile(r"ErrImageNeverPull|is not present with pull policy of Never"),
        _WAITING["ErrImageNeverPull"],
    ),
    (re.compile(r"InvalidImageName|Failed to apply default image tag"), _WAITING["InvalidImageName"]),
    (re.compile(r"[Pp]ull(?:ing)? image|ErrImagePull|ImagePullBackOff"), _PULL),
    (re.compile(r"(?:secret|configmap) \"[^\"]*\" not found|couldn't find key"), _CONFIG),
)
_EVENT_REASONS: Final = {
    "FailedMount": ("FailedMount", "One of its volumes can't be mounted."),
    "FailedAttachVolume": ("FailedMount", "One of its volumes can't be mounted."),
    "FailedScheduling": ("FailedScheduling", "No node has room for it, or may run it."),
    "FailedCreatePodSandBox": ("FailedCreatePodSandBox", "Its node can't make its network or sandbox."),
}
_GATED: Final = (
    "SchedulingGated",
    "It is held back by a scheduling gate, such as Kueue's until it is admitted.",
)
_NO_POD: Final = (
    "PodRefused",
    "No pod was made for it. The Job's Events say why (a quota, a webhook, Pod Security), or the controller is behind.",
)
_POD_NAME: Final = re.compile(r'^Error creating: (?:pods "[^"]*" is forbidden: )?')
"""The name is another each time."""
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": ("Preempted", "It had to make room for a pod of higher priority."),
    "DeletionByTaintManager": ("NodeLost", "Its node was lost, or must not run it any more."),
    "DeletionByPodGC": ("NodeLost", "Its node was lost."),
    "EvictionByEvictionAPI": ("Evicted", "It was evicted, for instance because its node was drained."),
    "TerminationByKubelet": ("Evicted", "Its node ended it: the node was short of something, or shut down."),
}


def never_started(pod: Body) -> bool:
    """Whether the command of a failed pod never ran. Then only the pod's Events tell why.

    The kubelet turns what such a container waited for into an invented end, ContainerStatusUnknown.
    """
    ended = terminated(pod)
    started = str(ended.get("startedAt") or "")
    return not ended or (
        ended.get("reason") == "ContainerStatusUnknown"
        and (not started or started.startswith(("0001-", "1970-")))
    )


def why_not(pod: Body, events: Iterable[Body] = ()) -> Why | None:
    """Say what was wrong with a failed pod itself; None: it was its command that failed.

    `events` are its Events, needed where it never started.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    return _fault_of_node(status) or (_why_not_started(spec, status, events) if never_started(pod) else None)


def terminated(pod: Body) -> Body:
    """Return how the container of the command ended, as the API has it; empty where it did not."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = spec.get("containers") or []
    name = command_container(containers).get("name") if containers else None
    for one in status.get("containerStatuses") or ():
        if one.get("name") == name:
            ended: Body = (one.get("state") or {}).get("terminated") or {}
            return ended
    return {}


# --- A pod that waits -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CannotStart:
    """A pod that waits for what is not to be had; Kubernetes goes on trying."""

    pod_uid: str
    why: Why
    details: str = ""
    """What the kubelet or the scheduler said."""

    @property
    def message(self) -> str:
        """Say it in a line."""
        kind, sentence = self.why
        return f"{kind}: {self.details or sentence}"


def look_at(started: datetime, looked: datetime | None) -> datetime:
    """Return when to look at the pods of a run that doesn't start; `looked`: when that was done last."""
    if looked is None:
        return started + FIRST_LOOK
    return looked + min(max(looked - started, FIRST_LOOK), LONGEST_WAIT)


def cannot_start(pods: Iterable[Body], waited: timedelta) -> CannotStart | None:
    """Find a pod among those of a run that can't start, though it has had this long; None: none is known to."""
    for pod in pods:
        status = pod.get("status") or {}
        if status.get("phase") != "Pending" or pod["metadata"].get("deletionTimestamp"):
            continue
        found = _waiting(status) or (
            _unscheduled(pod.get("spec") or {}, status) if waited >= UNSCHEDULED_FOR else None
        )
        if found is not None:
            why, details = found
            return CannotStart(pod["metadata"]["uid"], why, _one_line(details))
    return None


def pod_refused(job_uid: str, events: Iterable[Body]) -> CannotStart:
    """Say why a Job that was released a while ago has no pod; `events` are the Job's, as far as they can be read."""
    told = [one for one in events if one.get("reason") == "FailedCreate"]
    newest = max(told, key=lambda one: str(one.get("lastTimestamp") or ""), default=None)
    details = _POD_NAME.sub("", str(newest.get("message") or "")) if newest is not None else ""
    return CannotStart(job_uid, _NO_POD, _one_line(details))


def _waiting(status: Body) -> tuple[Why, str] | None:
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting") or {}
        why = _WAITING.get(str(waiting.get("reason") or ""))
        if why is not None:
            # The same details, whether it was tried just now or the kubelet backs off.
            return why, _BACK_OFF.sub("", str(waiting.get("message") or ""))
    return None


def _unscheduled(spec: Body, status: Body) -> tuple[Why, str] | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") != "PodScheduled":
            continue
        if condition.get("reason") == "Unschedulable":
            return _EVENT_REASONS["FailedScheduling"], str(condition.get("message") or "")
        if condition.get("reason") == "SchedulingGated":
            gates = ", ".join(str(one.get("name")) for one in spec.get("schedulingGates") or ())
            return _GATED, f"it is held back by {gates}"
    return None


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= DETAILS_MAX_CHARACTERS else line[: DETAILS_MAX_CHARACTERS - 1] + "…"


# --- A pod that failed ------------------------------------------------------------------------------------


def _fault_of_node(status: Body) -> Why | None:
    if status.get("reason") == "NodeLost":
        return _DISRUPTIONS["DeletionByPodGC"]
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _DISRUPTIONS.get(str(condition.get("reason") or ""))
    return None


def _why_not_started(spec: Body, status: Body, events: Iterable[Body]) -> Why | None:
    inits = status.get("initContainerStatuses") or ()
    for one in (*inits, *(status.get("containerStatuses") or ())):
        reason = str(((one.get("state") or {}).get("waiting") or {}).get("reason") or "")
        if reason in _WAITING:
            return _WAITING[reason]
    sidecars = {
        one.get("name") for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    }
    for one in inits:
        code = ((one.get("state") or {}).get("terminated") or {}).get("exitCode")
        if code and one.get("name") not in sidecars:
            return "InitContainerFailed", f"Its init container {one.get('name')} ended with exit code {code}."
    for event in events:
        reason, message = str(event.get("reason") or ""), str(event.get("message") or "")
        for pattern, told in _EVENTS:
            if reason in ("Failed", "BackOff", "InspectFailed", "ErrImageNeverPull") and pattern.search(
                message
            ):
                return told
        if reason in _EVENT_REASONS:
            return _EVENT_REASONS[reason]
    return _NEVER_STARTED if status.get("reason") == "DeadlineExceeded" else None
