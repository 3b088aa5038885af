"""A pod that can't start is known by what its containers wait for. Tables of pods as the API has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crontabber_operator.pod_starts import (
    FIRST_LOOK,
    LONGEST_WAIT,
    UNSCHEDULED_FOR,
    CannotStart,
    cannot_start,
    look_at,
    pod_refused,
)

START = datetime(2026, 6, 3, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def pod(reason: str = "", message: str = "", *, init: bool = False, **status: Any) -> dict[str, Any]:
    """Return a pod whose container, or init container, waits."""
    waiting = {"name": "app", "state": {"waiting": {"reason": reason, "message": message}}}
    kind = "initContainerStatuses" if init else "containerStatuses"
    return {
        "metadata": {"name": "pod", "uid": "u"},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Pending", kind: [waiting], **status},
    }


NOT_FOUND = 'failed to pull and unpack image "x:1": not found'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (pod("ErrImagePull", NOT_FOUND), f"ErrImagePull: {NOT_FOUND}"),
        (
            pod("ImagePullBackOff", f'Back-off pulling image "x:1": ErrImagePull: {NOT_FOUND}'),
            f"ErrImagePull: {NOT_FOUND}",
        ),
        (
            pod("ImagePullBackOff", 'Back-off pulling image "x:1"'),
            'ErrImagePull: Back-off pulling image "x:1"',
        ),
        (pod("ErrImagePull", "", init=True), "ErrImagePull: Its image can't be pulled."),
        (pod("InvalidImageName", "no\nname"), "InvalidImageName: no name"),
        (
            pod("CreateContainerConfigError", 'secret "db" not found'),
            'CreateContainerConfigError: secret "db" not found',
        ),
        (pod("ErrImagePull", "x" * 1000), f"ErrImagePull: {'x' * 299}…"),
    ],
)
def test_what_a_pod_waits_for_in_vain_is_said_in_a_line(body: dict[str, Any], message: str) -> None:
    """The same line, whether it was tried just now or the kubelet backs off."""
    found = cannot_start([body], MINUTE)
    assert found is not None
    assert (found.pod_uid, found.message) == ("u", message)


@pytest.mark.parametrize(
    "body",
    [
        pod("ContainerCreating"),
        pod("PodInitializing"),
        pod(),
        {"metadata": {"name": "p", "uid": "u"}},
        pod("ErrImagePull", phase="Running"),
        pod("ErrImagePull", phase="Failed"),
        {**pod("ErrImagePull"), "metadata": {"name": "p", "uid": "u", "deletionTimestamp": "x"}},
    ],
)
def test_a_pod_that_starts_runs_or_goes_is_not_told(body: dict[str, Any]) -> None:
    """Only what is known not to work by itself."""
    assert cannot_start([body], timedelta(hours=1)) is None


def test_the_pod_that_waits_is_found_among_others() -> None:
    """Failed ones of earlier attempts are there still."""
    waiting = pod("ErrImagePull")
    waiting["metadata"]["uid"] = "new"
    found = cannot_start([pod(phase="Failed"), waiting], MINUTE)
    assert found is not None
    assert found.pod_uid == "new"


def test_a_pod_without_a_node_has_time_to_find_one() -> None:
    """A cluster that grows on demand takes minutes."""
    full = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
    }
    body = pod(conditions=[full])
    assert cannot_start([body], UNSCHEDULED_FOR - timedelta(seconds=1)) is None
    found = cannot_start([body], UNSCHEDULED_FOR)
    assert found == CannotStart(
        "u", ("FailedScheduling", "No node has room for it, or may run it."), "0/3 nodes are available"
    )


def test_a_pod_behind_a_scheduling_gate_is_told_by_the_gates_name() -> None:
    """Kueue's goes when it admits the pod, which may take long in a full queue."""
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    body = pod(conditions=[gated])
    body["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    found = cannot_start([body], UNSCHEDULED_FOR)
    assert found is not None
    assert found.message == "SchedulingGated: it is held back by kueue.x-k8s.io/admission"
    assert cannot_start([pod(conditions=[{"type": "Ready"}])], UNSCHEDULED_FOR) is None


def test_looks_are_few_and_never_end() -> None:
    """Half a minute after the start, then twice as late each time, at the latest five minutes later."""
    looks = [look_at(START, None)]
    for _ in range(8):
        looks.append(look_at(START, looks[-1]))
    seconds = [int((look - START).total_seconds()) for look in looks]
    assert seconds == [30, 60, 120, 240, 480, 780, 1080, 1380, 1680]
    assert looks[0] - START == FIRST_LOOK
    assert looks[-1] - looks[-2] == LONGEST_WAIT


def test_a_job_without_pods_tells_by_its_newest_event() -> None:
    """The name of the pod, another each time, is left out: the same refusal is the same thing."""
    events = [
        {"reason": "SuccessfulCreate", "message": "x", "lastTimestamp": "2026-06-03T12:00:00Z"},
        {"reason": "FailedCreate", "message": "old", "lastTimestamp": "2026-06-03T10:00:00Z"},
        {
            "reason": "FailedCreate",
            "message": 'Error creating: pods "job-29-x7f2k" is forbidden: exceeded quota: few, requested: pods=1',
            "lastTimestamp": "2026-06-03T11:00:00Z",
        },
    ]
    assert pod_refused("u", events).message == "PodRefused: exceeded quota: few, requested: pods=1"


def test_a_job_without_pods_whose_events_may_not_be_read_tells_where_to_look() -> None:
    """The operator is not given more rights than it needs."""
    assert "The Job's Events say why" in pod_refused("u", []).message
