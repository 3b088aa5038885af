"""What the API is told about a pod: phase, conditions, container statuses. Pure.

The rules are the kubelet's (``getPhase`` in ``pkg/kubelet/kubelet_pods.go``,
``pkg/kubelet/status/generate.go``). Containers are described by frozen records; only `pod_status` knows the
API's shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from devcluster.node.restarts import Policy

    Manifest = Mapping[str, Any]

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]

MESSAGE_LIMIT_BYTES = 4096
"""The most that one container's termination message may hold."""
POD_MESSAGES_LIMIT_BYTES = 12 * 1024
"""The most that the messages of all containers of a pod may hold together; each gets an equal part."""
FALLBACK_LIMIT_BYTES = 2048
FALLBACK_LIMIT_LINES = 80


@dataclass(frozen=True, slots=True)
class Waiting:
    """The container has not started, or waits to be started again."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs."""

    started_at: datetime


@dataclass(frozen=True, slots=True)
class Terminated:
    """The container ended, or could not start."""

    exit_code: int
    reason: str
    finished_at: datetime
    started_at: datetime | None = None
    message: str = ""
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """All that is known of one container of a pod."""

    state: Waiting | Running | Terminated
    last: Terminated | None = None
    restart_count: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""
    image_id: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason for which the node itself ends a pod."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pod has come."""

    start_time: datetime
    records: Mapping[str, ContainerRecord]
    finished: bool = False
    """No container runs, and none will be started any more."""
    verdict: Verdict | None = None


def is_sidecar(container: Manifest) -> bool:
    """Tell whether an init container is a sidecar.

    Runs beside the main containers and doesn't hold completion.
    """
    return container.get("restartPolicy") == "Always"


def pod_status(pod: Manifest, progress: Progress, address: str, now: datetime) -> dict[str, Any]:
    """Return the status to write; conditions keep their transition times from the pod's present status."""
    spec = pod["spec"]
    finished = progress.finished
    records = _unaccounted_ended(spec, progress, now) if finished else progress.records
    phase = pod_phase(spec, records, finished=finished)
    status: dict[str, Any] = {
        "phase": phase,
        "hostIP": address,
        "hostIPs": [{"ip": address}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": timestamp(progress.start_time),
    }
    if finished and (progress.verdict or phase not in ("Succeeded", "Failed")):
        phase = status["phase"] = "Failed"
    if finished and progress.verdict:
        status |= {"reason": progress.verdict.reason, "message": progress.verdict.message}
    generation = pod["metadata"].get("generation")
    if generation is not None:
        status["observedGeneration"] = generation
    status["conditions"] = list(_conditions(pod, records, phase, now))
    limit = min(
        MESSAGE_LIMIT_BYTES,
        POD_MESSAGES_LIMIT_BYTES // (len(spec["containers"]) + len(spec.get("initContainers") or ())),
    )
    if spec.get("initContainers"):
        status["initContainerStatuses"] = [
            _container_status(container, records[container["name"]], limit)
            for container in spec["initContainers"]
        ]
    status["containerStatuses"] = [
        _container_status(container, records[container["name"]], limit) for container in spec["containers"]
    ]
    return status


def pod_phase(spec: Manifest, records: Mapping[str, ContainerRecord], *, finished: bool) -> Phase:
    """Return the phase that follows from the containers' records."""
    policy: Policy = spec.get("restartPolicy") or "Always"
    inits = [each for each in spec.get("initContainers") or () if not is_sidecar(each)]
    sidecars = [each for each in spec.get("initContainers") or () if is_sidecar(each)]
    init_ends = [_end(records[each["name"]]) for each in inits]
    mains = [records[each["name"]] for each in spec["containers"]]
    sidecar_records = [records[each["name"]] for each in sidecars]
    if policy == "Never" and any(end is not None and end.exit_code for end in init_ends):
        return "Failed"
    initialized = _has_main_started(spec, records)
    sidecars_pending = not initialized and any(
        not (record.started if isinstance(record.state, Running) else _end(record))
        for record in sidecar_records
    )
    ends = [_end(record) for record in mains]
    running = any(isinstance(record.state, Running) for record in [*mains, *sidecar_records])
    if None in init_ends or sidecars_pending:
        return "Pending"
    if any(isinstance(record.state, Waiting) and record.last is None for record in mains):
        return "Pending"
    if running:
        return "Running"
    succeeded = all(
        end is not None and end.exit_code == 0 and isinstance(record.state, Terminated)
        for record, end in zip(mains, ends, strict=True)
    )
    if finished:
        return "Succeeded" if succeeded else "Failed"
    if policy == "Always":
        return "Running"
    if succeeded:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def waiting_records(spec: Manifest) -> dict[str, ContainerRecord]:
    """Return the records of a pod of which nothing has been started."""
    reason = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
    waiting = ContainerRecord(Waiting(reason))
    return {each["name"]: waiting for each in [*(spec.get("initContainers") or ()), *spec["containers"]]}


def container_statuses(pod: Manifest) -> list[Manifest]:
    """Return what a pod's status says of its containers, init containers first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def has_started_containers(pod: Manifest) -> bool:
    """Tell whether a pod's status shows that any of its containers was ever started."""
    return any(
        "waiting" not in (each.get("state") or {"waiting": {}})
        or each.get("lastState")
        or each.get("restartCount")
        for each in container_statuses(pod)
    )


def ended_reason(exit_code: int, *, out_of_memory: bool = False) -> str:
    """Return the reason that Kubernetes gives an exit code."""
    if out_of_memory:
        return "OOMKilled"
    return "Completed" if exit_code == 0 else "Error"


def clip(message: bytes, limit_bytes: int) -> str:
    """Return the end of a message, at most so many bytes, as text."""
    return message[-limit_bytes:].decode(errors="replace") if message else ""


def timestamp(moment: datetime) -> str:
    """Return a time as the API writes it, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _end(record: ContainerRecord) -> Terminated | None:
    if isinstance(record.state, Terminated):
        return record.state
    return record.last if isinstance(record.state, Waiting) else None


def _has_main_started(spec: Manifest, records: Mapping[str, ContainerRecord]) -> bool:
    return any(
        not isinstance(record.state, Waiting) or record.last is not None
        for record in (records[each["name"]] for each in spec["containers"])
    )


def _unaccounted_ended(spec: Manifest, progress: Progress, now: datetime) -> dict[str, ContainerRecord]:
    """Count main containers of a finished pod that never got to run as lost, as the kubelet does."""
    records = dict(progress.records)
    inits = [records[each["name"]] for each in spec.get("initContainers") or () if not is_sidecar(each)]
    if not all(isinstance(record.state, Terminated) and record.state.exit_code == 0 for record in inits):
        return records  # never initialized: they stay "waiting: PodInitializing"
    for container in spec["containers"]:
        record = records[container["name"]]
        if isinstance(record.state, Waiting):
            lost = record.last or Terminated(
                137,
                "ContainerStatusUnknown",
                now,
                message="The container could not be located when the pod was terminated",
            )
            records[container["name"]] = replace(record, state=lost, last=None, ready=False, started=False)
    return records


@dataclass(frozen=True, slots=True)
class _Truth:
    """Whether a condition holds, and why not."""

    holds: bool = True
    reason: str = ""
    message: str = ""


def _conditions(
    pod: Manifest, records: Mapping[str, ContainerRecord], phase: Phase, now: datetime
) -> Iterator[dict[str, Any]]:
    containers_ready = _containers_ready(pod["spec"], records, phase)
    yield _condition(pod, "PodScheduled", _Truth(), now)
    yield _condition(pod, "Initialized", _initialized(pod["spec"], records, phase), now)
    yield _condition(pod, "ContainersReady", containers_ready, now)
    yield _condition(pod, "Ready", _ready(pod, containers_ready), now)


def _initialized(spec: Manifest, records: Mapping[str, ContainerRecord], phase: Phase) -> _Truth:
    if phase == "Succeeded":
        return _Truth(reason="PodCompleted")
    inits: Sequence[Manifest] = spec.get("initContainers") or ()
    incomplete = [each["name"] for each in inits if not _is_initialized(each, records[each["name"]])]
    if not incomplete or _has_main_started(spec, records):
        return _Truth()
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return _Truth(holds=False, reason="ContainersNotInitialized", message=message)


def _containers_ready(spec: Manifest, records: Mapping[str, ContainerRecord], phase: Phase) -> _Truth:
    if phase in ("Succeeded", "Failed"):
        return _Truth(holds=False, reason="PodCompleted" if phase == "Succeeded" else "PodFailed")
    counted = [*(each for each in spec.get("initContainers") or () if is_sidecar(each)), *spec["containers"]]
    unready = [each["name"] for each in counted if not records[each["name"]].ready]
    if not unready:
        return _Truth()
    message = f"containers with unready status: [{' '.join(unready)}]"
    return _Truth(holds=False, reason="ContainersNotReady", message=message)


def _ready(pod: Manifest, containers_ready: _Truth) -> _Truth:
    if not containers_ready.holds:
        return containers_ready
    missing = [
        f'the status of pod readiness gate "{gate["conditionType"]}" is not "True"'
        for gate in pod["spec"].get("readinessGates") or ()
        if not _holds(pod, gate["conditionType"])
    ]
    if not missing:
        return _Truth()
    return _Truth(holds=False, reason="ReadinessGatesNotReady", message=", ".join(missing))


def _is_initialized(container: Manifest, record: ContainerRecord) -> bool:
    if is_sidecar(container):
        return record.started
    return isinstance(record.state, Terminated) and record.state.exit_code == 0


def _holds(pod: Manifest, condition_type: str) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == condition_type and each["status"] == "True" for each in conditions)


def _condition(pod: Manifest, kind: str, truth: _Truth, now: datetime) -> dict[str, Any]:
    value = "True" if truth.holds else "False"
    conditions: Sequence[Manifest] = (pod.get("status") or {}).get("conditions") or ()
    before = next((each for each in conditions if each["type"] == kind), None)
    since = before.get("lastTransitionTime") if before and before.get("status") == value else None
    condition: dict[str, Any] = {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": since or timestamp(now),
        # None removes in a merge what an earlier status said
        "reason": truth.reason or None,
        "message": truth.message or None,
    }
    if pod["metadata"].get("generation") is not None:
        condition["observedGeneration"] = pod["metadata"]["generation"]
    return condition


def _container_status(container: Manifest, record: ContainerRecord, limit_bytes: int) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": record.image_id,
        "containerID": record.container_id,
        "restartCount": record.restart_count,
        "ready": record.ready,
        "started": record.started,
        "state": _state(record.state, limit_bytes),
        "lastState": _state(record.last, limit_bytes) if record.last else {},
    }


def _state(state: Waiting | Running | Terminated, limit_bytes: int) -> dict[str, Any]:
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started_at)}}
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason} | ({"message": state.message} if state.message else {})}
    ended: dict[str, Any] = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": timestamp(state.started_at) if state.started_at else None,
        "finishedAt": timestamp(state.finished_at),
    }
    if state.message:
        ended["message"] = clip(state.message.encode(), limit_bytes)
    if state.container_id:
        ended["containerID"] = state.container_id
    return {"terminated": ended}
