"""What kopf watches: remember what is seen, wake whom it concerns. Nothing is decided here.

Started by `crontabber operator`, or `kopf run -m crontabber_operator.handlers`. What the watches list and show comes
by watches.py and listings.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from typing import Any

import kopf

from crontabber_operator import collector
from crontabber_operator.campaign import Campaign
from crontabber_operator.cluster import Cluster
from crontabber_operator.elector import place_of
from crontabber_operator.following import Following
from crontabber_operator.health import Health
from crontabber_operator.listings import Listings
from crontabber_operator.manifests import JOB_LABEL
from crontabber_operator.onlookers import Onlookers
from crontabber_operator.presence import guard_watch, may_list_namespaces, not_watched, wait_until_served
from crontabber_operator.projection import owner_name
from crontabber_operator.reconciler import Reconciler
from crontabber_operator.reporting import Reporting
from crontabber_operator.server_clock import keep
from crontabber_operator.settings import Settings
from crontabber_operator.store import PLACES, Key, Kind
from crontabber_operator.watches import observe
from crontabber_operator.watching import Watching

logger = logging.getLogger(__name__)

Body = Mapping[str, Any]

BACKOFFS_SECONDS = (1, 1, 2, 3, *[5] * 10)
"""While the API server can't be reached: kopf's own waits grow to 21 s, so late its return would be noticed."""

CONNECT_SECONDS = 10.0
"""An address that swallows packets must not hold a watch for the minutes that TCP would try."""


class Operator:
    """What runs between kopf's start-up and its end."""

    def __init__(self, cluster: Cluster, settings: Settings, health: Health, for_lease: Cluster) -> None:
        """`for_lease`: a connection of its own, so that a renewal never waits; not used yet."""
        self.cluster = cluster
        self.health = health
        self.reconciler = Reconciler(cluster, settings)
        self.reporting = Reporting(cluster, settings, self.reconciler.store, self.reconciler.inquiry)
        self.following = Following(cluster, settings, self.reconciler.wake)
        for listener in (self.reporting, self.following):
            self.reconciler.listeners.add(listener)
        self.watching = Watching(self.reconciler.store)
        cluster.wrote = self.watching.wrote
        self.listings = Listings(
            self.shown, self.reconciler.has_picture, self.reconciler.sweeper.listed_again
        )
        self.campaign: Campaign | None = None
        if settings.leader_election:
            place = place_of(settings.lease)
            self.campaign = Campaign(for_lease, place, self.reconciler.lead, self.reconciler.follow)
            cluster.may_write = self.campaign.elector.may_write
        health.unready = self._unready
        health.standing["election"] = self._standing
        self.onlookers = Onlookers(settings, self.reconciler)
        self.task = asyncio.create_task(self._run(), name="reconciler")
        self.task.add_done_callback(self._ended)

    async def _run(self) -> None:
        if self.campaign is None:
            self.reconciler.lead()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reconciler.run())
            group.create_task(guard_watch(self.cluster))
            group.create_task(self.health.run(self._seems_wrong, self.cluster.serves_resource))
            if self.campaign is not None:
                group.create_task(self.campaign.run())
            group.create_task(keep(self.cluster.clock, self.cluster.ask_time))

    async def stop(self) -> None:
        """End the passes, let another operator lead, and close the connections."""
        self.task.cancel()
        await asyncio.wait({self.task})  # what it may have ended with is logged already
        if self.campaign is not None:
            self.campaign.retire()
        await self.reconciler.follow()
        await self.following.close()
        if self.campaign is not None:
            await self.campaign.give_back()
        await self.reporting.close()
        await self.onlookers.close()
        await self.cluster.close()
        await self.health.close()

    def shown(self, kind: Kind, body: Body, type_: str | None) -> None:
        """Take what a watch shows, or lists (which has no type).

        What goes wrong is told once, with the resource, and tried again: kopf would log it and leave it at that.
        """
        try:
            if kind is Kind.DEPLOYMENT:
                self._take_deployment(body, type_)
            else:
                self._take(kind, body, type_)
        except Exception as error:  # noqa: BLE001 - one object must never stop the others
            self.reconciler.could_not_take(_concerned(kind, body), error)

    def _take(self, kind: Kind, body: Body, type_: str | None) -> None:
        """Remember it, or that it is gone, and have the resource looked at where this is news."""
        store, key = self.reconciler.store, _concerned(kind, body)
        self.watching.saw(body)
        if type_ == "DELETED":
            store.drop(kind, key, body["metadata"]["uid"])
        else:
            store.put(kind, body)
            if self.reconciler.knows(key):
                return
        self.reconciler.wake(key)

    def _take_deployment(self, body: Body, type_: str | None) -> None:
        """Perhaps a rollout that jobs follow is complete."""
        templates = self.reconciler.templates
        concerned = templates.lost_deployment(body) if type_ == "DELETED" else templates.saw_deployment(body)
        for key in concerned:
            self.reconciler.wake(key)

    def _seems_wrong(self) -> list[str]:
        return self.reconciler.seems_wrong() + self.watching.seems_wrong()

    def _unready(self) -> str:
        missing = not_watched(PLACES.values())
        if missing:
            return f"not watched yet: {', '.join(missing)}"
        elector = self.campaign.elector if self.campaign is not None else None
        return elector.trouble if elector is not None and elector.is_refused else ""

    def _standing(self) -> str:
        return self.campaign.elector.standing if self.campaign is not None else "off"

    @staticmethod
    def _ended(task: asyncio.Task[None]) -> None:
        """Without its ticker the operator would only look alive: end it, so that it is started anew."""
        if not task.cancelled():
            logger.critical("The reconciler ended", exc_info=task.exception())
            signal.raise_signal(signal.SIGTERM)


_running: Operator | None = None


def _operator() -> Operator:
    if _running is None:
        raise kopf.PermanentError("the operator is not started")
    return _running


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)  # a wrong setting does not mend itself: end and say so
async def start(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Log in, and tell kopf what to watch and how."""
    global _running  # noqa: PLW0603 - kopf gives handlers copies of its memo, one for each object
    collector.spare()
    settings.posting.enabled = False
    settings.networking.error_backoffs = BACKOFFS_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    for kind in (Kind.JOB, Kind.CRONJOB):
        settings.watching.label_selectors[PLACES[kind]] = JOB_LABEL
    # kopf has --liveness of its own; there, ours are served only where they are asked for.
    ours = (
        memo
        if isinstance(memo, Settings)
        else Settings.read({"health": os.environ.get("CRONTABBER_HEALTH", "off")})
    )
    async with contextlib.AsyncExitStack() as unless_started:
        health = Health()
        unless_started.push_async_callback(health.close)
        if ours.health is not None:
            await health.serve(ours.health)
        cluster = await Cluster.connect()
        unless_started.push_async_callback(cluster.close)
        await wait_until_served(cluster)
        if not settings.peering.clusterwide and not await may_list_namespaces(cluster):
            # kopf would be refused for a minute before it does without. It can't follow what it may not list.
            settings.scanning.disabled = True
        _running = Operator(cluster, ours, health, await Cluster.connect())
        observe(settings, _running.listings)
        unless_started.pop_all()


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Stop; whatever was half done is finished by the next operator."""
    if _running is not None:
        await _running.stop()
    for task in asyncio.all_tasks():
        # Where kopf was stopped in the middle of an event it leaves this behind, and would wait 5 s for it.
        if task.get_name().startswith("pause-waiter for "):
            task.cancel()


@kopf.on.probe(id="operator", errors=kopf.ErrorsMode.PERMANENT)
async def works(**_: Any) -> str:
    """Tell kopf's own --liveness what /healthz tells."""
    failures = _operator().health.failures()
    if failures:
        raise kopf.PermanentError("; ".join(failures))
    return "ok"


@kopf.on.event(*PLACES[Kind.RESOURCE])
@kopf.on.event(*PLACES[Kind.JOB])
@kopf.on.event(*PLACES[Kind.CRONJOB])
@kopf.on.event(*PLACES[Kind.DEPLOYMENT])
async def saw(**_: Any) -> None:
    """Have kopf watch these. What they show goes to `Operator.shown` (watches.py), and not through its handlers."""


def _concerned(kind: Kind, body: Body) -> Key:
    place = Key(body["metadata"]["namespace"], body["metadata"]["name"])
    return Key(place.namespace, owner_name(body) or place.name) if kind is Kind.JOB else place
