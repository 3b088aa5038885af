"""What is wrong in a watch ends that watch, not the operator; what kopf has to know reaches it."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import kopf
import pytest
from kopf._cogs.clients import errors, watching

from crontabber_operator import watches
from crontabber_operator.store import Kind

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
    kopfs = watching.continuous_watch
    watches.observe(kopf.OperatorSettings(), Heard())  # type: ignore[arg-type]
    assert watching.continuous_watch is not kopfs
    assert "continuous_watch(" in inspect.getsource(watching.infinite_watch)


LISTED = [
    {"type": None, "object": {"name": "a"}},
    {"type": None, "object": {"name": "b"}},
    watching.Bookmark.LISTED,
    {"type": "MODIFIED", "object": {"name": "a"}},
]


class Heard:
    """What listings.py is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *what: self.told.append((name, *what))


def observed(
    *events: Any, plural: str = "jobs", stop_after: int | None = None
) -> tuple[list[Any], list[Any]]:
    """Return what kopf and what listings.py get of a stream."""
    heard, settings = Heard(), kopf.OperatorSettings()

    async def stream(**_: Any) -> AsyncIterator[Any]:
        for event in events:
            yield event

    async def session() -> list[Any]:
        found: list[Any] = []
        resource = SimpleNamespace(group="batch", plural=plural)
        watch = cast("Any", watching.continuous_watch)(resource=resource, namespace="web")
        async for event in watch:
            found.append(event)
            if len(found) == stop_after:
                await watch.aclose()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "continuous_watch", watching.continuous_watch)
        patch.setattr(watches, "_continuous_watch", stream)
        watches.observe(settings, heard)  # type: ignore[arg-type]
        return asyncio.run(session()), heard.told


def test_no_object_is_handed_to_kopf() -> None:
    """It would have a task and a memory for each. That the listing is over it is told, and what it may know of."""
    bookmark = {"type": "BOOKMARK", "object": {}}
    seen, told = observed(*LISTED, bookmark)
    assert seen == [watching.Bookmark.LISTED, bookmark]
    assert told == [
        ("begins", Kind.JOB, "web"),
        ("shows", Kind.JOB, {"name": "a"}, None),
        ("shows", Kind.JOB, {"name": "b"}, None),
        ("ends", Kind.JOB, "web"),
        ("shows", Kind.JOB, {"name": "a"}, "MODIFIED"),
    ]


def test_what_kopf_watches_for_itself_is_left_to_it() -> None:
    """Namespaces and definitions."""
    assert observed(*LISTED, plural="namespaces") == (LISTED, [])


def test_a_stream_that_is_ended_leaves() -> None:
    """Nobody waits for its listing."""
    assert observed(*LISTED, stop_after=1)[1][-1] == ("leaves", Kind.JOB, "web")
