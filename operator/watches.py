"""What an API server or a proxy before it says wrongly in a watch ends that watch, not the operator.

For kopf an ERROR event that is not 410, an answer that is no JSON, or a listing that was refused too often, is fatal:
the process ends, and has to list everything anew. It is no more than an interruption: the watch lists and
goes on, after a moment. What says that the resource itself is gone or forbidden is left to kopf. Decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from kopf._cogs.clients import errors, watching

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
INTERRUPTIONS = (watching.WatchingError, ValueError, TypeError, AttributeError, errors.APIServerError)
"""ValueError: no JSON, or cut off; TypeError and AttributeError: an empty answer, which is read as None."""
EXPIRED = 410

_continuous_watch = watching.continuous_watch


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


def forgive() -> None:
    """Have kopf take what is wrong in a watch for its end. It has no setting for that."""
    watching.continuous_watch = _forgiving_watch
