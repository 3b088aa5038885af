"""Who is looked at when, and by whom. What is then done is tested on a real API server (tests/integration)."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from crontabber_operator.listening import Listener
from crontabber_operator.manifests import Owner, plan
from crontabber_operator.models import Spec
from crontabber_operator.reconciler import Reconciler
from crontabber_operator.server_clock import ServerClock
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Kind
from tests.unit.turns import settle

KEY = Key("web", "job")
TEMPLATE = {"spec": {"containers": [{"name": "app", "image": "app"}]}}


class Passes(Listener):
    """Keeps whose passes ended."""

    def __init__(self) -> None:
        """None yet."""
        self.of: list[Key] = []

    def passed(self, key: Key, seconds: float) -> None:
        """Keep it."""
        self.of.append(key)


def test_who_was_woken_as_the_lease_was_lost_is_looked_at_by_the_next_leader() -> None:
    """The pass was ended before it began; that must not keep all later ones away."""

    async def session() -> list[Key]:
        cluster = SimpleNamespace(clock=ServerClock())
        reconciler = Reconciler(cluster, Settings())  # type: ignore[arg-type]
        passes = Passes()
        reconciler.listeners.add(passes)
        reconciler.has_picture()
        reconciler.lead()
        reconciler.wake(KEY)
        await reconciler.follow()
        assert passes.of == []
        reconciler.lead()
        reconciler.wake(KEY)
        for _ in range(20):
            await asyncio.sleep(0)
        await reconciler.follow()
        return passes.of

    assert asyncio.run(session()) == [KEY]


# --- What needs no hurry ---------------------------------------------------------------------------------


class Server:
    """Takes statuses; its clock can be set, and its answers can be held back."""

    def __init__(self) -> None:
        """It is a quarter past nine."""
        self.time = datetime(2026, 6, 3, 9, 15, tzinfo=UTC)
        self.clock = ServerClock(local=lambda: self.time)
        self.answers = asyncio.Event()
        self.answers.set()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.wrote: list[str] = []
        self._versions = itertools.count(100)

    def make(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a suspended hourly job with backfill, and its CronJob."""
        raw = {
            "command": "work",
            "schedule": "0 * * * *",
            "backfill": True,
            "suspend": True,
            "template": TEMPLATE,
        }
        owner = Owner("web", name, f"uid-{name}")
        manifest = plan(owner, Spec.read(raw, name=name), TEMPLATE, Settings().defaults).manifest
        stamped = {"resourceVersion": "1", "creationTimestamp": "2026-06-03T09:00:00Z"}
        cronjob = {
            **manifest,
            "metadata": {**manifest["metadata"], **stamped, "uid": f"cronjob-{name}"},
            "status": {},
        }
        metadata = {"namespace": "web", "name": name, "uid": owner.uid, "generation": 1, **stamped}
        self.bodies[name] = {"metadata": metadata, "spec": raw, "status": {}}
        return self.bodies[name], cronjob

    async def write_status(self, owner: Owner, _version: str, status: dict[str, Any]) -> dict[str, Any]:
        """Take it, and answer when that is allowed."""
        self.wrote.append(owner.name)
        await self.answers.wait()
        before = self.bodies[owner.name]
        metadata = {**before["metadata"], "resourceVersion": str(next(self._versions))}
        self.bodies[owner.name] = {**before, "metadata": metadata, "status": status}
        return self.bodies[owner.name]


def test_that_more_slots_fell_due_is_told_of_one_job_at_a_time_and_holds_up_nothing_else() -> None:
    """A slow API server has claims to write; nothing is lost, the others are told a little later."""

    async def session() -> None:
        server = Server()
        reconciler = Reconciler(server, Settings())  # type: ignore[arg-type]
        names = ["a", "b", "c"]
        for name in names:
            resource, cronjob = server.make(name)
            reconciler.store.put(Kind.RESOURCE, resource)
            reconciler.store.put(Kind.CRONJOB, cronjob)
        reconciler.has_picture()
        reconciler.lead()
        await settle()
        assert sorted(server.wrote) == names  # that they are suspended

        server.time += timedelta(hours=1)
        server.answers.clear()
        server.wrote.clear()
        for name in names:
            reconciler.wake(Key("web", name))
        await settle()
        assert server.wrote == ["a"]  # that one slot more is missed: the others stand back
        edited = {**server.bodies["c"], "metadata": {**server.bodies["c"]["metadata"], "generation": 2}}
        edited["metadata"]["resourceVersion"] = "99999"
        reconciler.store.put(Kind.RESOURCE, edited)
        reconciler.wake(Key("web", "c"))
        await settle()
        assert server.wrote == ["a", "c"]  # an edit was seen, which is told at once

        server.answers.set()
        for _ in range(100):
            server.time += timedelta(seconds=1)
            for name in names:
                reconciler.wake(Key("web", name))
            await settle()
        assert {body["status"]["missed"] for body in server.bodies.values()} == {1}
        await reconciler.follow()

    asyncio.run(session())
