"""What is wrong in a watch ends that watch, not the operator; what kopf has to know reaches it."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kopf._cogs.clients import errors, watching

from crontabber_operator import watches

EVENT = {"type": "ADDED", "object": {}}


async def watched(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[Any]:
    """Return what is seen of a watch that shows one event and then fails."""

    async def failing(**_: Any) -> AsyncIterator[Any]:
        yield EVENT
        raise error

    monkeypatch.setattr(watches, "_continuous_watch", failing)
    monkeypatch.setattr(watches, "WAIT_SECONDS", 0)
    return [event async for event in watches._forgiving_watch(resource="jobs")]  # noqa: SLF001 - what kopf calls


@pytest.mark.parametrize(
    "error",
    [
        watching.WatchingError("Error in the watch-stream: etcdserver: no leader"),
        json.JSONDecodeError("Unterminated string", "{", 1),
        AttributeError("'NoneType' object has no attribute 'get'"),
        errors.APIServerError("overloaded", status=503, headers={}),
        errors.APIClientError("too old", status=410, headers={}),
    ],
)
def test_interrupted_watch_ends_and_kopf_begins_anew(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What was seen before counts."""
    assert asyncio.run(watched(monkeypatch, error)) == [EVENT]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_gone_or_forbidden_is_left_to_kopf(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """It logs in again, waits for permissions, or ends."""
    with pytest.raises(errors.APIClientError):
        asyncio.run(watched(monkeypatch, errors.APIClientError("no", status=status, headers={})))


def test_kopf_still_asks_for_its_watches_where_they_are_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new kopf may do it elsewhere: then this has to move."""
    monkeypatch.setattr(watching, "continuous_watch", watching.continuous_watch)
    watches.forgive()
    assert watching.continuous_watch is watches._forgiving_watch  # noqa: SLF001 - what kopf calls
    assert "continuous_watch(" in inspect.getsource(watching.infinite_watch)
