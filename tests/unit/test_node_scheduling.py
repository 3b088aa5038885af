"""Which pods may run on the node."""

from __future__ import annotations

from typing import Any

import pytest

from devcluster.node.scheduling import refusal

NODE: dict[str, Any] = {
    "metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux", "disk": "ssd", "size": "10"}}
}
CORDONED = {**NODE, "spec": {"unschedulable": True}}


def pod(**spec: Any) -> dict[str, Any]:
    """Return a pod."""
    return {"metadata": {"name": "p"}, "spec": spec}


def requires(*terms: dict[str, Any]) -> dict[str, Any]:
    """Return a pod with a required node affinity."""
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return pod(affinity={"nodeAffinity": required})


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    """Return a term of one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    "fitting",
    [
        pod(),
        pod(nodeSelector={"disk": "ssd", "kubernetes.io/os": "linux"}),
        requires(expression("disk", "In", "hdd", "ssd")),
        requires(expression("disk", "NotIn", "hdd")),
        requires(expression("none", "NotIn", "x")),
        requires(expression("disk", "Exists")),
        requires(expression("none", "DoesNotExist")),
        requires(expression("size", "Gt", "9")),
        requires(expression("size", "Lt", "11")),
        requires(expression("none", "Exists"), expression("disk", "Exists")),
        requires({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}),
    ],
)
def test_a_fitting_pod_is_taken(fitting: dict[str, Any]) -> None:
    """Selector and one of the affinity's terms match."""
    assert refusal(fitting, NODE) is None


@pytest.mark.parametrize(
    "unfit",
    [
        pod(nodeSelector={"disk": "hdd"}),
        pod(nodeSelector={"none": "x"}),
        requires(expression("disk", "In", "hdd")),
        requires(expression("disk", "NotIn", "ssd")),
        requires(expression("none", "Exists")),
        requires(expression("disk", "DoesNotExist")),
        requires(expression("size", "Gt", "10")),
        requires(expression("disk", "Lt", "11")),
        requires(expression("disk", "Whatever")),
        requires({}),
        requires({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-2"]}]}),
    ],
)
def test_an_unfit_pod_waits(unfit: dict[str, Any]) -> None:
    """The message is the scheduler's."""
    assert (
        refusal(unfit, NODE)
        == "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    )


def test_a_cordoned_node_takes_nothing_new() -> None:
    """But what tolerates it, as DaemonSets do."""
    assert refusal(pod(), CORDONED) == "0/1 nodes are available: 1 node(s) were unschedulable."
    tolerations = [
        {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert refusal(pod(tolerations=tolerations), CORDONED) is None
    assert refusal(pod(tolerations=[{"operator": "Exists"}]), CORDONED) is None
    assert refusal(pod(tolerations=[{"key": "other", "operator": "Exists"}]), CORDONED) is not None
