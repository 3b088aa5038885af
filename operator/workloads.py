"""The pod template that a job runs in: that of its workload's last completed rollout.

Pure. A template is `Rolling` while a rollout goes on: then what was used before stays in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Body = Mapping[str, Any]

REVISION = "deployment.kubernetes.io/revision"
POD_TEMPLATE_HASH = "pod-template-hash"


def rollout_is_complete(deployment: Body) -> bool:
    """Tell whether all replicas of a Deployment run its present template, as `kubectl rollout status`."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    generation = deployment["metadata"].get("generation") or 0
    replicas = spec.get("replicas")
    wanted = 1 if replicas is None else replicas
    return bool(
        (status.get("observedGeneration") or 0) >= generation
        and (status.get("updatedReplicas") or 0) >= wanted
        and (status.get("replicas") or 0) <= (status.get("updatedReplicas") or 0)
        and (status.get("availableReplicas") or 0) >= (status.get("updatedReplicas") or 0)
    )


def completed_template(deployment: Body, replica_sets: Iterable[Body]) -> Body | None:
    """Find the template of the newest rollout that completed, while a later one is going on or paused.

    That is the former template that most available pods still have, of two the newer. None: there is none,
    the first rollout was never completed.
    """
    uid = deployment["metadata"]["uid"]
    new = _template(deployment)
    former = [
        (_available(one), _revision(one), _template(one))
        for one in replica_sets
        if any(reference.get("uid") == uid for reference in one["metadata"].get("ownerReferences") or [])
        and _template(one) != new
    ]
    available, _, template = max(former, key=lambda one: one[:2], default=(0, 0, None))
    return template if available else None


def _template(workload: Body) -> Body:
    """Return the pod template without the label that the Deployment controller gives each ReplicaSet's."""
    template = dict((workload.get("spec") or {}).get("template") or {})
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != POD_TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _available(replica_set: Body) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas") or 0)


def _revision(replica_set: Body) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get(REVISION) or "0"
    return int(text) if text.isascii() and text.isdecimal() else 0
