"""Who is looked at when, and by whom. What is then done is tested on a real API server (tests/integration)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from crontabber_operator.listening import Listener
from crontabber_operator.reconciler import Reconciler
from crontabber_operator.server_clock import ServerClock
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key

KEY = Key("web", "job")


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
