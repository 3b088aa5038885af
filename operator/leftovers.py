"""The pods of a namespace that have not ended, listed once for all its jobs.

Before a job's first release somebody must have looked for pods whose Jobs are gone. For a list by label the API
server looks at every pod of the namespace: a thousand jobs that are due at the same minute, each asking for itself,
would cost it a million looks and each of them the time to wait for it. Decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from crontabber_operator.cluster import Body, Cluster
from crontabber_operator.projection import owner_name
from crontabber_operator.store import Key


class UnendedPod(NamedTuple):
    """A pod that has not ended."""

    name: str
    owners: frozenset[str]
    """The uids of its Jobs, mostly one."""


class _Listing(NamedTuple):
    asked_at: float
    pods: Mapping[str, tuple[UnendedPod, ...]]
    """By the name of the CrontabberJob."""


class Leftovers:
    """Lists the pods that have not ended."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._listed: dict[str, _Listing] = {}
        """The newest listing of each namespace."""
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def of_job(self, key: Key, since: float) -> tuple[UnendedPod, ...]:
        """Return the unended pods of a job as they were at `since` (monotonic seconds) or later. Raises ApiError."""
        while (listing := self._listed.get(key.namespace)) is None or listing.asked_at < since:
            task = self._asking.get(key.namespace)
            if task is None:
                task = asyncio.create_task(self._ask(key.namespace), name=f"unended pods of {key.namespace}")
                self._asking[key.namespace] = task
            await asyncio.shield(task)  # who stops waiting must not stop the others
        return listing.pods.get(key.name, ())

    async def _ask(self, namespace: str) -> None:
        asked_at = time.monotonic()
        pods: dict[str, tuple[UnendedPod, ...]] = {}
        try:
            for body in await self._cluster.list_unended_pods(namespace):
                name = owner_name(body) or ""
                pods[name] = (*pods.get(name, ()), _read(body))
            self._listed[namespace] = _Listing(asked_at, pods)
        finally:
            del self._asking[namespace]


def _read(body: Body) -> UnendedPod:
    owners = body["metadata"].get("ownerReferences") or []
    return UnendedPod(str(body["metadata"]["name"]), frozenset(one.get("uid", "") for one in owners))
