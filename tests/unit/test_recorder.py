"""When Events are sent. What they say, and how they are aggregated, is tested on a real API server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from crontabber_operator import recorder
from crontabber_operator.manifests import Owner
from crontabber_operator.recorder import Recorder
from crontabber_operator.telling import Telling
from tests.unit.turns import settle

OWNER = Owner("web", "job", "uid")


class Server:
    """Takes Events."""

    def __init__(self) -> None:
        """None yet."""
        self.reasons: list[str] = []
        self.more = asyncio.Event()

    async def create_event(self, _namespace: str, event: dict[str, Any]) -> dict[str, Any]:
        """Take one."""
        self.reasons.append(event["reason"])
        self.more.set()
        return {"metadata": {"name": f"event-{len(self.reasons)}"}}


def recording(server: Server, calm: asyncio.Event) -> Recorder:
    """Build a recorder."""
    return Recorder(server, lambda: datetime(2026, 6, 3, tzinfo=UTC), calm)  # type: ignore[arg-type]


def test_events_stand_back_while_something_more_urgent_goes_on() -> None:
    """A claim and a release must not wait behind what only tells of them; the order is kept."""

    async def session() -> None:
        server, calm = Server(), asyncio.Event()
        events = recording(server, calm)
        sending = asyncio.create_task(events.run())
        events.tell(OWNER, Telling("First", "one"))
        events.tell(OWNER, Telling("Second", "two"))
        await settle()
        assert server.reasons == []
        calm.set()
        await settle()
        assert server.reasons == ["First", "Second"]
        events.tell(OWNER, Telling("Third", "three"))
        await settle()
        assert server.reasons == ["First", "Second", "Third"]
        sending.cancel()

    asyncio.run(session())


def test_events_do_not_stand_back_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the operator is never idle they are told none the less, and as many as come."""
    monkeypatch.setattr(recorder, "STANDS_BACK_SECONDS", 0.01)

    async def session() -> None:
        server = Server()
        events = recording(server, asyncio.Event())
        sending = asyncio.create_task(events.run())
        for number in range(100):
            events.tell(OWNER, Telling(f"Reason{number}", "so it is"))
        async with asyncio.timeout(20):
            while len(server.reasons) < 100:
                server.more.clear()
                await server.more.wait()
        sending.cancel()

    asyncio.run(session())
