"""kopf's watches, for many objects and for API servers that say what is wrong.

kopf gives each object a task, a queue and a memory of its own; has those that are listed all wait for each other;
and lets each event pass through all that its handlers could ask for. Here an event is only remembered, and wakes
somebody: so it goes straight to listings.py. kopf finds out what there is to watch, logs in, and keeps the watches.

What an API server or a proxy before it says wrongly in a watch ends that watch, not the operator. For kopf an
ERROR event that is not 410, an answer that is no JSON, or a listing that was refused too often, is fatal: the
process ends, and has to list everything anew. It is no more than an interruption: the watch lists and goes on,
after a moment. What says that the resource itself is gone or forbidden is left to kopf. Decides nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any

import kopf
from kopf._cogs.clients import errors, watching

from crontabber_operator.listings import Listings
from crontabber_operator.store import PLACES

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
INTERRUPTIONS = (watching.WatchingError, ValueError, TypeError, AttributeError, errors.APIServerError)
"""ValueError: no JSON, or cut off; TypeError and AttributeError: an empty answer, which is read as None."""
EXPIRED = 410
PAGE_SIZE = 500
TAKEN = (None, "ADDED", "MODIFIED", "DELETED")
"""None: it was there when it was listed."""
AT_ONCE = 50
"""So many objects are taken before anything else has its turn."""
KINDS = {(group, plural): kind for kind, (group, _, plural) in PLACES.items()}

_continuous_watch = watching.continuous_watch


def observe(settings: kopf.OperatorSettings, listings: Listings) -> None:
    """Have kopf watch as is said above. It has no settings for that, but for the size of a page."""
    settings.watching.chunk_size = PAGE_SIZE
    watching.continuous_watch = functools.partial(_watch, listings)


async def _watch(listings: Listings, **options: Any) -> AsyncIterator[Any]:
    resource, namespace = options["resource"], options["namespace"]
    kind = KINDS.get((resource.group, resource.plural))
    stream = _forgiving_watch(**options)
    if kind is None:  # kopf's own, of namespaces and definitions
        async for event in stream:
            yield event
        return
    listings.begins(kind, namespace)
    count = 0
    try:
        async for event in stream:
            if event is watching.Bookmark.LISTED:
                listings.ends(kind, namespace)
            elif event["type"] in TAKEN:
                listings.shows(kind, event["object"], event["type"])
                count += 1
                if count % AT_ONCE == 0:
                    await asyncio.sleep(0)
                continue
            yield event
    except (asyncio.CancelledError, GeneratorExit):
        listings.leaves(kind, namespace)
        raise


async def _forgiving_watch(**options: Any) -> AsyncIterator[Any]:
    try:
        async for event in _continuous_watch(**options):
            yield event
    except errors.APIClientError as error:
        if error.status != EXPIRED:
            raise
        await _pause(options, error)
    except INTERRUPTIONS as error:
        await _pause(options, error)


async def _pause(options: dict[str, Any], error: Exception) -> None:
    logger.warning("The watch of %s was interrupted: %s", options.get("resource"), str(error)[:300])
    await asyncio.sleep(WAIT_SECONDS)
