"""The pods of many Jobs, asked for together.

For a list by label the API server looks at every pod of the namespace: ten thousand Jobs that end in the same
minute, each asking for itself, would cost it a hundred million looks. Who asks while a request of the namespace
is under way shares the next one.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from crontabber_operator.cluster import Body, Cluster

JOBS_AT_ONCE: Final = 100
CONTROLLER_UID: Final = "batch.kubernetes.io/controller-uid"

_Waiting = dict[str, list[asyncio.Future[list[Body]]]]
"""By the Job's uid."""


class PodLists:
    """Lists pods by the Job that they are of."""

    def __init__(self, cluster: Cluster, turns: asyncio.Semaphore) -> None:
        """`turns`: how many requests are made at once, of all namespaces."""
        self._cluster = cluster
        self._turns = turns
        self._waiting: dict[str, _Waiting] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    async def of_job(self, namespace: str, uid: str) -> list[Body]:
        """Return a Job's pods as they are now or a moment later. Raises ApiError."""
        answer: asyncio.Future[list[Body]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(namespace, {}).setdefault(uid, []).append(answer)
        if namespace not in self._working:
            self._working[namespace] = asyncio.create_task(self._work(namespace), name=f"pods of {namespace}")
        return await answer

    async def close(self) -> None:
        """End; nobody may be waiting any more."""
        tasks = set(self._working.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _work(self, namespace: str) -> None:
        try:
            while self._waiting.get(namespace):
                async with self._turns:
                    waiting = self._waiting[namespace]
                    asked = {uid: waiting.pop(uid) for uid in list(islice(waiting, JOBS_AT_ONCE))}
                    await self._answer(namespace, asked)
            self._waiting.pop(namespace, None)
        finally:
            del self._working[namespace]

    async def _answer(self, namespace: str, asked: _Waiting) -> None:
        answers = [(uid, answer) for uid, waiting in asked.items() for answer in waiting]
        try:
            found: dict[str, list[Body]] = {uid: [] for uid in asked}
            for pod in await self._cluster.list_job_pods(namespace, *asked):
                found[pod["metadata"]["labels"][CONTROLLER_UID]].append(pod)
        except Exception as error:  # noqa: BLE001 - it is theirs who asked
            for _, answer in answers:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for uid, answer in answers:
                if not answer.done():
                    answer.set_result(list(found[uid]))
