"""The pod template that jobs run in: that of the Deployment's last completed rollout."""

from __future__ import annotations

from typing import Any

import pytest

from crontabber_operator.workloads import completed_template, rollout_is_complete


def template(image: str, pod_hash: str | None = None) -> dict[str, Any]:
    """Build a pod template."""
    labels = {"app": "web"} | ({"pod-template-hash": pod_hash} if pod_hash else {})
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": image}]}}


def deployment(image: str = "app:2", replicas: int | None = 2, **status: int) -> dict[str, Any]:
    """Build a Deployment, completely rolled out unless its status says something else."""
    wanted = 1 if replicas is None else replicas
    complete = {
        "observedGeneration": 5,
        "replicas": wanted,
        "updatedReplicas": wanted,
        "availableReplicas": wanted,
    }
    return {
        "metadata": {"name": "web", "uid": "deployment", "generation": 5},
        "spec": {"replicas": replicas, "template": template(image)},
        "status": {**complete, **status},
    }


def replica_set(image: str, revision: str, available: int, owner: str = "deployment") -> dict[str, Any]:
    """Build a ReplicaSet of the Deployment."""
    return {
        "metadata": {
            "name": f"web-{revision}",
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"uid": owner}],
        },
        "spec": {"template": template(image, f"hash{revision}")},
        "status": {"availableReplicas": available} if available else {},
    }


def image_of(found: Any) -> str | None:
    """Name the image of a template."""
    return found["spec"]["containers"][0]["image"] if found is not None else None


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        (deployment(), True),
        (deployment(replicas=None), True),
        (deployment(replicas=0), True),
        (deployment(observedGeneration=4), False),
        (deployment(updatedReplicas=1), False),
        (deployment(replicas=2, availableReplicas=1), False),
        ({"metadata": {"uid": "d", "generation": 1}}, False),
    ],
)
def test_a_rollout_is_complete_as_kubectl_says(given: dict[str, Any], complete: bool) -> None:
    """All replicas updated and available, no old one left, and the controller has seen the newest spec."""
    assert rollout_is_complete(given) is complete


def test_old_replicas_that_are_left_make_a_rollout_incomplete() -> None:
    """One more than was updated."""
    given = deployment()
    given["status"]["replicas"] = 3
    assert not rollout_is_complete(given)


@pytest.mark.parametrize(
    ("replica_sets", "image"),
    [
        ([replica_set("app:1", "1", 2), replica_set("app:2", "2", 1)], "app:1"),
        ([replica_set("app:0", "1", 0), replica_set("app:1", "2", 2), replica_set("app:2", "3", 0)], "app:1"),
        # A rollout that never completed lies between: most pods are those of the one that did.
        (
            [replica_set("app:1", "1", 3), replica_set("app:bad", "2", 1), replica_set("app:2", "3", 1)],
            "app:1",
        ),
        # As many of both: the newer.
        ([replica_set("app:0", "1", 1), replica_set("app:1", "2", 1), replica_set("app:2", "3", 1)], "app:1"),
        # Paused, or not seen yet by its controller: there is no ReplicaSet of the new template.
        ([replica_set("app:0", "1", 0), replica_set("app:1", "2", 2)], "app:1"),
        # Rolled back to an older template, whose ReplicaSet is the newest again.
        ([replica_set("app:2", "4", 1), replica_set("app:3", "3", 1)], "app:3"),
        ([replica_set("app:2", "1", 1)], None),
        ([replica_set("app:1", "1", 0), replica_set("app:2", "2", 1)], None),
        ([replica_set("app:1", "1", 3, owner="another")], None),
        ([], None),
    ],
)
def test_while_a_rollout_goes_on_the_former_template_is_used(
    replica_sets: list[dict[str, Any]], image: str | None
) -> None:
    """That of the newest rollout that completed; None where none did."""
    assert image_of(completed_template(deployment(updatedReplicas=1), replica_sets)) == image


def test_the_template_is_as_the_deployment_had_it() -> None:
    """Without the ReplicaSet's own label: the same template has the same hash after the rollout as before."""
    found = completed_template(deployment(), [replica_set("app:1", "1", 2)])
    assert found == template("app:1")


@pytest.mark.parametrize("revision", ["", "x", "٣"])
def test_a_revision_that_is_no_number_is_the_oldest(revision: str) -> None:
    """Somebody edited it."""
    sets = [replica_set("app:0", revision, 1), replica_set("app:1", "1", 1)]
    assert image_of(completed_template(deployment(), sets)) == "app:1"
