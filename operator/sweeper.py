"""Find the deletions that no watch reported, and wake whom they concern.

When a watch was interrupted for too long, kopf lists everything anew: what was changed meanwhile is shown, but
not what was deleted. So after such a listing, and now and then, what is remembered is compared with what there
is. Only identities are read, namespace by namespace; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.store import Key, Kind, Store
from crontabber_operator.templates import Templates

logger = logging.getLogger(__name__)

AFTER_LISTING = timedelta(seconds=3)
"""Of several listings, one for each namespace, most are over then."""
EVERY = timedelta(hours=1)
LOOK_SECONDS = 1.0


class Sweeper:
    """Compares what is remembered with what there is, each kind in its time."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        templates: Templates,
        wake: Callable[[Key], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._templates = templates
        self._wake = wake
        self._clock = clock
        self._due: dict[Kind, datetime] = dict.fromkeys(Kind, clock() + EVERY)

    def listed_again(self, kind: Kind) -> None:
        """Take notice that all of a kind was listed once more: what is not listed may be gone."""
        self._due[kind] = min(self._due[kind], self._clock() + AFTER_LISTING)

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._clock()
            for kind in [kind for kind, at in self._due.items() if not now < at <= now + EVERY]:
                self._due[kind] = now + EVERY
                try:
                    await self._sweep(kind)
                except ApiError as error:
                    logger.info("The %s could not be compared with what there is: %s", kind, error)
                    self._due[kind] = now + 10 * AFTER_LISTING
                except Exception:  # one object that can't be read must not end the operator
                    logger.exception("The %s could not be compared with what there is", kind)

    async def _sweep(self, kind: Kind) -> None:
        if kind is Kind.DEPLOYMENT:
            self._wake_all(await self._templates.look_again())
            return
        for namespace, known in self._store.known(kind).items():
            # Known before it was listed, and a uid never comes back: what the list doesn't have is gone.
            listed = await self._cluster.list_uids(kind, namespace)
            gone = [(key, uid) for key, uid in known if uid not in listed]
            for key, uid in gone:
                self._store.drop(kind, key, uid)
            self._wake_all({key for key, _ in gone})

    def _wake_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            logger.info("%s/%s: a deletion that was not reported is noticed", key.namespace, key.name)
            self._wake(key)
