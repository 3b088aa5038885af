"""What the API is told about a pod, from what is known of its containers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devcluster.node.status import (
    ContainerRecord,
    Progress,
    Running,
    Terminated,
    Verdict,
    Waiting,
    clip,
    ended_reason,
    pod_phase,
    pod_status,
    waiting_records,
)

NOW = datetime(2026, 11, 24, 8, 0, 30, tzinfo=UTC)
START = NOW - timedelta(seconds=30)

WAITS = ContainerRecord(Waiting("ContainerCreating"))
RUNS = ContainerRecord(Running(START), ready=True, started=True)
STARTING = ContainerRecord(Running(START))
GOOD = ContainerRecord(Terminated(0, "Completed", NOW, START))
BAD = ContainerRecord(Terminated(1, "Error", NOW, START))
CRASHED = ContainerRecord(
    Waiting("CrashLoopBackOff"), last=Terminated(1, "Error", NOW, START), restart_count=2
)
DONE_BEFORE = ContainerRecord(Waiting("ContainerCreating"), last=Terminated(0, "Completed", NOW, START))


def pod(policy: str = "Never", mains: int = 1, inits: str = "", **metadata: Any) -> dict[str, Any]:
    """Return a pod: main containers m0, m1…; init containers i0…: one an `i`, sidecars one an `s`."""
    init_containers = [
        {"name": f"i{at}", "image": "x"} | ({"restartPolicy": "Always"} if kind == "s" else {})
        for at, kind in enumerate(inits)
    ]
    spec: dict[str, Any] = {
        "restartPolicy": policy,
        "containers": [{"name": f"m{at}", "image": "x"} for at in range(mains)],
    }
    if init_containers:
        spec["initContainers"] = init_containers
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u", **metadata}, "spec": spec}


def records(manifest: dict[str, Any], *known: ContainerRecord) -> dict[str, ContainerRecord]:
    """Return records by name, init containers first."""
    return dict(zip(waiting_records(manifest["spec"]), known, strict=True))


@pytest.mark.parametrize(
    ("policy", "inits", "known", "finished", "expected"),
    [
        ("Never", "", [WAITS], False, "Pending"),
        ("Never", "", [RUNS], False, "Running"),
        ("Never", "", [GOOD], False, "Succeeded"),
        ("Never", "", [BAD], False, "Failed"),
        ("OnFailure", "", [BAD], False, "Running"),
        ("OnFailure", "", [CRASHED], False, "Running"),
        ("OnFailure", "", [GOOD], False, "Succeeded"),
        ("Always", "", [GOOD], False, "Running"),
        ("Always", "", [CRASHED], False, "Running"),
        ("Always", "", [GOOD], True, "Succeeded"),
        ("Always", "", [BAD], True, "Failed"),
        ("OnFailure", "", [BAD], True, "Failed"),
        ("Never", "", [GOOD, RUNS], False, "Running"),
        ("Never", "", [GOOD, WAITS], False, "Pending"),
        ("Never", "", [GOOD, BAD], False, "Failed"),
        ("Never", "", [GOOD, GOOD], False, "Succeeded"),
        ("Never", "i", [WAITS, WAITS], False, "Pending"),
        ("Never", "i", [RUNS, WAITS], False, "Pending"),
        ("Never", "i", [GOOD, WAITS], False, "Pending"),
        ("Never", "i", [GOOD, RUNS], False, "Running"),
        ("Never", "i", [BAD, WAITS], False, "Failed"),
        ("OnFailure", "i", [CRASHED, WAITS], False, "Pending"),
        ("Always", "i", [BAD, WAITS], False, "Pending"),
        ("Never", "s", [WAITS, WAITS], False, "Pending"),
        ("Never", "s", [STARTING, WAITS], False, "Pending"),
        ("Never", "s", [RUNS, WAITS], False, "Pending"),
        ("Never", "s", [RUNS, RUNS], False, "Running"),
        ("Never", "s", [RUNS, GOOD], False, "Running"),
        ("Never", "s", [BAD, GOOD], False, "Succeeded"),
        ("Never", "s", [BAD, BAD], False, "Failed"),
        ("Never", "s", [CRASHED, RUNS], False, "Running"),
    ],
)
def test_phase_follows_from_the_containers(
    policy: str, inits: str, known: list[ContainerRecord], finished: bool, expected: str
) -> None:
    """The kubelet's table; a sidecar neither holds nor fails its pod."""
    manifest = pod(policy, mains=len(known) - len(inits), inits=inits)
    assert pod_phase(manifest["spec"], records(manifest, *known), finished=finished) == expected


def status(manifest: dict[str, Any], *known: ContainerRecord, **progress: Any) -> dict[str, Any]:
    """Return the status."""
    return pod_status(manifest, Progress(START, records(manifest, *known), **progress), "127.0.0.1", NOW)


def conditions(of: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Return status and reason by type."""
    return {each["type"]: (each["status"], each["reason"]) for each in of["conditions"]}


def test_a_running_pod_is_ready() -> None:
    """With addresses, start time and the generation that was looked at."""
    of = status(pod(generation=3), RUNS)
    assert of["phase"] == "Running"
    assert (of["podIP"], of["hostIP"], of["startTime"]) == ("127.0.0.1", "127.0.0.1", "2026-11-24T08:00:00Z")
    assert of["observedGeneration"] == 3
    assert conditions(of) == {
        "PodScheduled": ("True", None),
        "Initialized": ("True", None),
        "ContainersReady": ("True", None),
        "Ready": ("True", None),
    }
    assert of["containerStatuses"][0]["state"] == {"running": {"startedAt": "2026-11-24T08:00:00Z"}}


def test_a_pod_with_an_unready_container_is_not_ready() -> None:
    """The message names it."""
    of = status(pod(mains=2), RUNS, STARTING)
    assert conditions(of)["Ready"] == ("False", "ContainersNotReady")
    assert of["conditions"][2]["message"] == "containers with unready status: [m1]"


def test_a_pod_that_is_not_initialized_says_for_what_it_waits() -> None:
    """An init container that runs is no sidecar that started."""
    of = status(pod(inits="is"), RUNS, WAITS, WAITS)
    assert conditions(of)["Initialized"] == ("False", "ContainersNotInitialized")
    assert of["conditions"][1]["message"] == "containers with incomplete status: [i0 i1]"


def test_a_succeeded_pod_is_completed_and_not_ready() -> None:
    """As `kubectl get pods` shows it: 0/1 Completed."""
    assert conditions(status(pod(), GOOD, finished=True)) == {
        "PodScheduled": ("True", None),
        "Initialized": ("True", "PodCompleted"),
        "ContainersReady": ("False", "PodCompleted"),
        "Ready": ("False", "PodCompleted"),
    }


def test_readiness_gates_hold_readiness() -> None:
    """Until somebody sets their condition."""
    manifest = pod()
    manifest["spec"]["readinessGates"] = [{"conditionType": "example/gate"}]
    assert conditions(status(manifest, RUNS))["Ready"] == ("False", "ReadinessGatesNotReady")
    manifest["status"] = {"conditions": [{"type": "example/gate", "status": "True"}]}
    assert conditions(status(manifest, RUNS))["Ready"] == ("True", None)


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    """What is watched is the moment of the change."""
    earlier = "2026-11-24T07:00:00Z"
    manifest = pod()
    manifest["status"] = {
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": earlier},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": earlier},
        ]
    }
    times = {each["type"]: each["lastTransitionTime"] for each in status(manifest, RUNS)["conditions"]}
    assert times["PodScheduled"] == earlier
    assert times["Ready"] == "2026-11-24T08:00:30Z"


def test_an_ended_container_tells_how() -> None:
    """Exit code, reason, times, message, id; and the end before."""
    last = Terminated(137, "OOMKilled", NOW, START, "message", "process://1")
    record = ContainerRecord(
        Terminated(3, "Error", NOW, START, "bad", "process://2"), last, 1, container_id="process://2"
    )
    (of,) = status(pod(), record)["containerStatuses"]
    assert of["state"] == {
        "terminated": {
            "exitCode": 3,
            "reason": "Error",
            "message": "bad",
            "startedAt": "2026-11-24T08:00:00Z",
            "finishedAt": "2026-11-24T08:00:30Z",
            "containerID": "process://2",
        }
    }
    assert of["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert (of["restartCount"], of["ready"], of["started"]) == (1, False, False)


def test_a_container_that_could_not_start_has_no_start_time() -> None:
    """As with containerd: the epoch."""
    record = ContainerRecord(Terminated(128, "StartError", NOW))
    (of,) = status(pod(), record)["containerStatuses"]
    assert of["state"]["terminated"]["startedAt"] is None


def test_a_deadline_fails_the_pod_whatever_its_containers_say() -> None:
    """With the reason on the pod itself, once nothing runs any more."""
    verdict = Verdict("DeadlineExceeded", "too long")
    assert status(pod(), RUNS, verdict=verdict)["phase"] == "Running"
    assert "reason" not in status(pod(), RUNS, verdict=verdict)
    of = status(pod(), GOOD, verdict=verdict, finished=True)
    assert (of["phase"], of["reason"], of["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_finished_pod_whose_container_never_ran_failed() -> None:
    """The container counts as lost, as a kubelet has it."""
    of = status(pod(), WAITS, finished=True)
    assert of["phase"] == "Failed"
    ended = of["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")


def test_a_container_stopped_while_it_waited_for_its_restart_shows_its_last_end() -> None:
    """Not a container that was lost."""
    of = status(pod("OnFailure"), CRASHED, finished=True)
    assert of["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
    assert of["phase"] == "Failed"


def test_containers_behind_a_failed_init_container_still_wait() -> None:
    """They are not lost: it never was their turn."""
    of = status(pod(inits="i"), BAD, waiting_records(pod(inits="i")["spec"])["m0"], finished=True)
    assert of["phase"] == "Failed"
    assert of["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


@pytest.mark.parametrize(("containers", "limit"), [(1, 4096), (3, 4096), (4, 3072), (12, 1024)])
def test_messages_of_all_containers_share_a_limit(containers: int, limit: int) -> None:
    """4,096 bytes a container, 12 KiB a pod; of a longer message the end."""
    record = ContainerRecord(Terminated(0, "Completed", NOW, START, "x" * 5000 + "end"))
    of = status(pod(mains=containers), *[record] * containers)
    messages = [each["state"]["terminated"]["message"] for each in of["containerStatuses"]]
    assert {len(message) for message in messages} == {limit}
    assert all(message.endswith("end") for message in messages)


def test_a_message_is_clipped_by_bytes() -> None:
    """A character cut in two does not break the status."""
    assert clip("äöü".encode(), 3) == "\ufffdü"
    assert clip(b"", 3) == ""


@pytest.mark.parametrize(
    ("code", "out_of_memory", "expected"),
    [(0, False, "Completed"), (1, False, "Error"), (143, False, "Error"), (137, True, "OOMKilled")],
)
def test_an_end_has_its_reason(code: int, out_of_memory: bool, expected: str) -> None:
    """The words of Kubernetes."""
    assert ended_reason(code, out_of_memory=out_of_memory) == expected
