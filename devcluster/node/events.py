"""Tells what happens to pods in Events, as the kubelet does.

Events never hold anything up and may be lost.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from devcluster.node.api import TRANSIENT, ApiError
from devcluster.node.status import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devcluster.node.api import Api

_log = logging.getLogger(__name__)
_WAITING_EVENTS = 1000
_REMEMBERED_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class _Told:
    """An event that was written, to be counted up when it happens again."""

    path: str
    count: int


class Events:
    """Writes events one after the other; equal ones are counted rather than repeated."""

    def __init__(self, api: Api, node_name: str) -> None:
        """Write nothing before `run`."""
        self._api = api
        self._node_name = node_name
        self._waiting: asyncio.Queue[tuple[Mapping[str, Any], str, str, str]] = asyncio.Queue(_WAITING_EVENTS)
        self._told: OrderedDict[tuple[str, str, str], _Told] = OrderedDict()

    def tell(
        self,
        pod: Mapping[str, Any],
        reason: str,
        message: str,
        kind: Literal["Normal", "Warning"] = "Warning",
    ) -> None:
        """Tell something about a pod; dropped if a thousand others wait to be written."""
        try:
            self._waiting.put_nowait((pod, kind, reason, message[:1024]))
        except asyncio.QueueFull:
            _log.debug("event dropped: %s %s", reason, message)

    async def run(self) -> None:
        """Write events for ever."""
        while True:
            pod, kind, reason, message = await self._waiting.get()
            try:
                await self._write(pod, kind, reason, message)
            except (ApiError, *TRANSIENT) as error:
                # the namespace may be going away, the API server may be down: an event is not worth a retry
                _log.debug("event not written: %s %s: %s", reason, message, error)

    async def _write(self, pod: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        now = timestamp(datetime.now(UTC))
        key = (metadata["uid"], reason, message)
        if key in self._told:
            told = self._told[key]
            try:
                await self._api.patch(told.path, {"count": told.count + 1, "lastTimestamp": now})
            except ApiError:
                del self._told[key]  # it has expired: told anew below
            else:
                self._remember(key, _Told(told.path, told.count + 1))
                return
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        name = f"{metadata['name'][:230]}.{uuid.uuid4().hex[:16]}"
        event = {
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": "kubelet", "host": self._node_name},
        }
        await self._api.create(path, event)
        self._remember(key, _Told(f"{path}/{name}", 1))

    def _remember(self, key: tuple[str, str, str], told: _Told) -> None:
        self._told[key] = told
        self._told.move_to_end(key)
        if len(self._told) > _REMEMBERED_EVENTS:
            self._told.popitem(last=False)
