"""Binds pods to this node: there is no kube-scheduler in a devcluster.

A pod waits as long as it has scheduling gates, its node selector or required node affinity does not match, or
the node is cordoned. Resources, taints and spreading are not looked at: the node takes everything.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devcluster.node.api import STRATEGIC_MERGE_PATCH, Api, ApiError, Listing, insist
from devcluster.node.status import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devcluster.node.events import Events

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_SCHEDULER = "default-scheduler"
_UNBOUND = "spec.nodeName=,status.phase!=Succeeded,status.phase!=Failed"
_CONCURRENT_BINDINGS = 32


def refusal(pod: Manifest, node: Manifest) -> str | None:
    """Return why a pod may not run on a node, in the scheduler's words; None if it may."""
    if (node.get("spec") or {}).get("unschedulable") and not _tolerates_cordon(pod):
        return "0/1 nodes are available: 1 node(s) were unschedulable."
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    fits = all(labels.get(key) == value for key, value in selector.items())
    if fits and affinity:
        fits = any(_term_matches(term, node) for term in affinity.get("nodeSelectorTerms") or ())
    return None if fits else "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."


def _tolerates_cordon(pod: Manifest) -> bool:
    return any(
        each.get("key") in (None, "", "node.kubernetes.io/unschedulable")
        and (each.get("operator") == "Exists" or each.get("key"))
        and each.get("effect") in (None, "", "NoSchedule")
        for each in pod["spec"].get("tolerations") or ()
    )


def _term_matches(term: Manifest, node: Manifest) -> bool:
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    expressions = [
        *((each, labels) for each in term.get("matchExpressions") or ()),
        *((each, fields) for each in term.get("matchFields") or ()),
    ]
    return bool(expressions) and all(_expression_matches(each, values) for each, values in expressions)


def _expression_matches(expression: Manifest, values: Mapping[str, str]) -> bool:
    value = values.get(expression["key"])
    wanted: Sequence[str] = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and value.isdecimal() and int(value) > int(wanted[0])
        case "Lt":
            return value is not None and value.isdecimal() and int(value) < int(wanted[0])
    return False


class Scheduler:
    """Watches the pods that have no node, and binds them to this one."""

    def __init__(self, api: Api, events: Events, node_name: str) -> None:
        """Bind nothing before `run` and the first `node_changed`."""
        self._api = api
        self._events = events
        self._node_name = node_name
        self._node: Manifest | None = None
        self._waiting: dict[str, Manifest] = {}
        self._limit = asyncio.Semaphore(_CONCURRENT_BINDINGS)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def node_changed(self, node: Manifest) -> None:
        """Take note of the node's labels and whether it is cordoned; pods that waited may fit now."""
        self._node = node
        for pod in list(self._waiting.values()):
            self._consider(pod)

    async def run(self) -> None:
        """Bind pods for ever."""
        async for news in self._api.follow("/api/v1/pods", fieldSelector=_UNBOUND):
            if isinstance(news, Listing):
                self._waiting = {each["metadata"]["uid"]: each for each in news.objects}
                for pod in news.objects:
                    self._consider(pod)
            elif news.is_removed:
                self._waiting.pop(news.object["metadata"]["uid"], None)
            else:
                self._waiting[news.object["metadata"]["uid"]] = news.object
                self._consider(news.object)

    def _consider(self, pod: Manifest) -> None:
        uid, spec = pod["metadata"]["uid"], pod["spec"]
        is_ours = spec.get("schedulerName", _SCHEDULER) == _SCHEDULER and not spec.get("schedulingGates")
        if not is_ours or "deletionTimestamp" in pod["metadata"] or self._node is None or uid in self._tasks:
            return
        task = asyncio.create_task(self._place(pod, self._node))
        self._tasks[uid] = task
        task.add_done_callback(lambda _task: self._tasks.pop(uid, None))

    async def _place(self, pod: Manifest, node: Manifest) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        why = refusal(pod, node)
        async with self._limit:
            try:
                if why is None:
                    await insist(lambda: self._api.create(f"{path}/binding", self._binding(pod)))
                elif not _is_told(pod, why):
                    self._events.tell(pod, "FailedScheduling", why)
                    body = {"metadata": {"uid": metadata["uid"]}, "status": _unschedulable(why)}
                    await insist(lambda: self._api.patch(f"{path}/status", body, STRATEGIC_MERGE_PATCH))
            except ApiError as error:
                # gone, or bound by somebody else: both are answered by the next event
                _log.debug("%s: not bound: %s", path, error)

    def _binding(self, pod: Manifest) -> dict[str, Any]:
        metadata = pod["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._node_name},
        }


def _is_told(pod: Manifest, why: str) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "PodScheduled" and each.get("message") == why for each in conditions)


def _unschedulable(why: str) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": why,
        "lastTransitionTime": timestamp(datetime.now(UTC)),
    }
    return {"conditions": [condition]}
