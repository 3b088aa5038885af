"""Whether the resource is served by the API server, and watched.

kopf looks for the CRD when something happens to it, and finds it only if it is served at that very moment: a
CRD that comes after the operator, or comes again, can go unnoticed, and the operator would idle for ever. So it
is waited for before kopf looks, and an operator that has lost it ends, to be started anew. Decides nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.models import GROUP, PLURAL, VERSION

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
UNREACHABLE_MAX = 30
LOOK_SECONDS = 2.0
MISSED_LOOKS = 10
"""A stream that is made anew is away for a moment."""
NEEDED = frozenset({f"{GROUP}/{VERSION}", "batch/v1", "apps/v1"})
"""An API server that was just started lists what it serves bit by bit, and kopf asks only once."""
_STREAM = "pause-waiter for "
"""How kopf calls a task that lives as long as it watches a kind."""
STREAM = f"{_STREAM}{PLURAL}.{VERSION}.{GROUP}"
OTHER_STREAM = f"{_STREAM}jobs.v1.batch"
"""Without this one either, there is no namespace to watch."""


class WatchLostError(Exception):
    """The resource is served and kopf doesn't watch it any more."""


async def wait_until_served(cluster: Cluster) -> None:
    """Return when the API server serves the resource; tell once what is missing.

    Raises ApiError where the API server refuses to tell, or can't be reached for a minute.
    """
    unreachable, told = 0, False
    while True:
        try:
            served = await cluster.serves_resource()
            missing = NEEDED - await cluster.list_served() if served else set[str]()
            if served and not missing:
                break
        except ApiError as error:
            unreachable += 1
            if not error.transient or unreachable > UNREACHABLE_MAX:
                raise
            logger.warning("The API server can't be reached yet: %s", error)
        else:
            unreachable = 0
            if not told and missing:
                logger.warning("The API server does not list %s yet; waiting", ", ".join(sorted(missing)))
            elif not told:
                crd = f"{PLURAL}.{GROUP}"
                logger.warning("The CRD %s is not installed; waiting for it (kubectl apply -f crds/)", crd)
            told = True
        await asyncio.sleep(WAIT_SECONDS)
    if told:
        # Behind a load balancer another API server may come to know it a moment later.
        await asyncio.sleep(WAIT_SECONDS)
        logger.info("The API server serves all that is watched")


def not_watched(kinds: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return those of some kinds (group, version, plural) that kopf doesn't watch at this moment."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [
        plural
        for group, version, plural in kinds
        if not any(name.startswith(f"{_STREAM}{plural}.{version}.{group}") for name in names)
    ]


async def may_list_namespaces(cluster: Cluster) -> bool:
    """Tell whether the operator has this right; without an answer it is taken to have it."""
    try:
        return await cluster.may("list", "namespaces")
    except ApiError as error:
        logger.info("Whether namespaces may be listed can't be told: %s", error)
        return True


async def guard_watch(cluster: Cluster) -> None:
    """Look for ever whether the resource is watched. Raises WatchLostError.

    It was served before kopf started, so a kopf that watches only the rest has lost it, however early.
    """
    missed = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        names = [task.get_name() for task in asyncio.all_tasks()]
        is_watched = any(name.startswith(STREAM) for name in names)
        if is_watched or not any(name.startswith(OTHER_STREAM) for name in names):
            missed = 0
            continue
        missed += 1
        if missed < MISSED_LOOKS:
            continue
        try:
            served = await cluster.serves_resource()
        except ApiError as error:
            logger.info("Whether the CRD is served can't be told: %s", error)
            continue
        if served:
            message = (
                f"{PLURAL}.{GROUP} is served, perhaps again, and not watched; the operator must start anew"
            )
            raise WatchLostError(message)
