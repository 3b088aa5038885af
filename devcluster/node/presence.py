"""Keeps the node's own objects: a Node that is Ready, and the Lease that proves that it lives."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devcluster.node.api import STRATEGIC_MERGE_PATCH, TRANSIENT, Api, ApiError, Listing, insist
from devcluster.node.status import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_LEASE_SECONDS = 40
_RENEW_SECONDS = 10
_CONFLICT, _NOT_FOUND = 409, 404
_PODS = "10000"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What the node is called and where it serves."""

    name: str
    address: str
    port: int


def allocatable() -> dict[str, str]:
    """Return what of this machine pods may use: all of it."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory_bytes // 1024}Ki", "pods": _PODS}


class Presence:
    """Registers the node, again if it is deleted, and renews its Lease."""

    def __init__(self, api: Api, identity: Identity, on_node: Callable[[Manifest], None]) -> None:
        """`on_node` hears of every version of the Node object."""
        self._api = api
        self._identity = identity
        self._on_node = on_node
        self._path = f"/api/v1/nodes/{identity.name}"
        self._node: Manifest | None = None

    async def register(self) -> None:
        """Create the Node, or take over the one that exists; waits for the API server."""
        labels = {
            "kubernetes.io/hostname": self._identity.name,
            "kubernetes.io/os": sys.platform,
            "kubernetes.io/arch": _architecture(),
        }
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._identity.name, "labels": labels},
        }
        try:
            await insist(lambda: self._api.create("/api/v1/nodes", node))
        except ApiError as error:
            if error.code != _CONFLICT:
                raise
        patch = {"metadata": {"labels": labels}, "status": self._status()}
        await insist(lambda: self._api.patch(f"{self._path}/status", patch, STRATEGIC_MERGE_PATCH))

    async def watch(self) -> None:
        """Follow the Node for ever.

        Registers it anew when it is deleted, makes it Ready when it no longer is.
        """
        selector = f"metadata.name={self._identity.name}"
        async for news in self._api.follow("/api/v1/nodes", fieldSelector=selector):
            nodes = news.objects if isinstance(news, Listing) else () if news.is_removed else (news.object,)
            try:
                if not nodes:
                    await self.register()
                for node in nodes:
                    self._node = node
                    self._on_node(node)
                    if not _is_ready(node):
                        await self._report()
            except (ApiError, *TRANSIENT) as error:
                _log.warning("the node could not be registered: %s", error)

    async def renew(self) -> None:
        """Renew the Lease for ever; with it the node's status, should it no longer be Ready."""
        while True:
            try:
                await self._renew_lease()
                if self._node is not None and not _is_ready(self._node):
                    await self._report()
            except (ApiError, *TRANSIENT) as error:
                _log.debug("the lease was not renewed: %s", error)
            await asyncio.sleep(_RENEW_SECONDS)

    async def _report(self) -> None:
        body = {"status": self._status()}
        await self._api.patch(f"{self._path}/status", body, STRATEGIC_MERGE_PATCH)

    async def _renew_lease(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": self._identity.name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": now,
        }
        try:
            await self._api.patch(f"{_LEASES}/{self._identity.name}", {"spec": spec})
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
            lease = {"metadata": {"name": self._identity.name}, "spec": spec}
            await self._api.create(_LEASES, lease)

    def _status(self) -> dict[str, Any]:
        now, sizes = timestamp(datetime.now(UTC)), allocatable()
        conditions = [
            {
                "type": kind,
                "status": "True" if kind == "Ready" else "False",
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
            for kind, reason, message in (
                ("MemoryPressure", "KubeletHasSufficientMemory", "pods are local processes"),
                ("DiskPressure", "KubeletHasNoDiskPressure", "pods are local processes"),
                ("PIDPressure", "KubeletHasSufficientPID", "pods are local processes"),
                ("Ready", "KubeletReady", "the node runs pods as local processes"),
            )
        ]
        return {
            "capacity": sizes,
            "allocatable": sizes,
            "addresses": [
                {"type": "InternalIP", "address": self._identity.address},
                {"type": "Hostname", "address": self._identity.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._identity.port}},
            "conditions": conditions,
            "nodeInfo": {
                "architecture": _architecture(),
                "operatingSystem": sys.platform,
                "kernelVersion": platform.release(),
                "osImage": platform.platform(),
                "kubeletVersion": "v1.34.0-devcluster",
                "containerRuntimeVersion": "process://1",
                "bootID": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "systemUUID": "",
            },
        }


def _is_ready(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())
