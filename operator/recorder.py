"""Send Events on the resource, aggregated: the same thing again raises the count of the first.

Many Events of a resource with one reason in a short time go on as one, whose message is that of the newest
(kubectl's own Events do likewise): a job that fails each minute must not fill the namespace.
Events are told after the fact and may get lost; nothing is ever decided from them. So they stand back while passes
go on, which claim and release: but not for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.manifests import MANAGER, Owner
from crontabber_operator.models import GROUP, KIND, VERSION
from crontabber_operator.output_lines import harmless
from crontabber_operator.telling import Telling

logger = logging.getLogger(__name__)

REMEMBERED = 4096
SIMILAR = "(the newest of many like it)"
WAITING_MAX = 10_000
MESSAGE_MAX_CHARACTERS = 1000
SIMILAR_MAX = 10
SIMILAR_WITHIN = timedelta(minutes=10)
"""So many Events with one reason in so long a time are enough."""
RETRY_SECONDS = (1, 2, 5, 10, 20)
STANDS_BACK_SECONDS = 2.0
"""So long an Event waits at most for what is more urgent."""


class Recorder:
    """Sends Events in the background, in order; drops the oldest where too many wait."""

    def __init__(self, cluster: Cluster, clock: Callable[[], datetime], calm: asyncio.Event) -> None:
        """`calm`: set while nothing more urgent goes on."""
        self._cluster = cluster
        self._clock = clock
        self._calm = calm
        self._waiting: asyncio.Queue[tuple[Owner, Telling, float]] = asyncio.Queue(WAITING_MAX)
        self._sent: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._made: OrderedDict[tuple[str, str], deque[datetime]] = OrderedDict()
        """When the newest Events of a resource with a reason were made."""

    def tell(self, owner: Owner, telling: Telling) -> None:
        """Queue an Event on the resource, and log it."""
        level = logging.WARNING if telling.warning else logging.INFO
        # A command's value must not look like a line of its own, or paint the terminal.
        shown = harmless(" ".join(telling.message.split()))
        logger.log(level, "%s/%s: %s: %s", owner.namespace, owner.name, telling.reason, shown)
        if self._waiting.full():
            self._waiting.get_nowait()
        until = asyncio.get_running_loop().time() + STANDS_BACK_SECONDS
        self._waiting.put_nowait((owner, telling, until))

    async def run(self) -> None:
        """Send for ever."""
        while True:
            owner, telling, until = await self._waiting.get()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._calm.wait()
            try:
                await self._send_patiently(owner, telling)
            except Exception as error:  # noqa: BLE001 - an Event is not worth the operator
                logger.info("An Event could not be sent: %s", error)

    async def _send_patiently(self, owner: Owner, telling: Telling) -> None:
        """Send an Event; while the API server can't take it, wait and try again."""
        for delay in RETRY_SECONDS:
            try:
                await self._send(owner, telling)
            except ApiError as error:
                if not error.transient:
                    raise
                await asyncio.sleep(max(delay, error.retry_after_seconds or 0))
            else:
                return
        await self._send(owner, telling)

    async def _send(self, owner: Owner, telling: Telling) -> None:
        now = self._clock().astimezone(UTC)
        written = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        digest = hashlib.sha256(telling.message.encode()).hexdigest()
        key = f"{owner.uid}/{telling.reason}/{digest}"
        if key not in self._sent and self._are_many(owner, telling, now):
            key = f"{owner.uid}/{telling.reason}/similar"
            telling = replace(telling, message=f"{SIMILAR} {telling.message}")
        known = self._sent.get(key)
        if known is not None:
            name, count = known
            change = {"count": count + 1, "lastTimestamp": written, "message": _cut(telling.message)}
            try:
                await self._cluster.patch_event(owner.namespace, name, change)
            except ApiError as error:
                if not error.not_found:
                    raise
            else:
                self._remember(key, name, count + 1)
                return
        made = await self._cluster.create_event(owner.namespace, _event(owner, telling, written))
        self._remember(key, made["metadata"]["name"], 1)
        self._made.setdefault((owner.uid, telling.reason), deque(maxlen=SIMILAR_MAX)).append(now)
        self._made.move_to_end((owner.uid, telling.reason))
        while len(self._made) > REMEMBERED:
            self._made.popitem(last=False)

    def _are_many(self, owner: Owner, telling: Telling, now: datetime) -> bool:
        made = self._made.get((owner.uid, telling.reason))
        return made is not None and len(made) == SIMILAR_MAX and now - made[0] < SIMILAR_WITHIN

    def _remember(self, key: str, name: str, count: int) -> None:
        self._sent[key] = name, count
        self._sent.move_to_end(key)
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)


def _cut(message: str) -> str:
    return message[:MESSAGE_MAX_CHARACTERS]


def _event(owner: Owner, telling: Telling, now: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{owner.name}.", "namespace": owner.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
        "type": "Warning" if telling.warning else "Normal",
        "reason": telling.reason,
        "message": _cut(telling.message),
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": "",
    }
