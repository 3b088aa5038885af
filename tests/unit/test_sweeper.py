"""When it is looked for deletions that no watch reported. What is then found is tested on a real API server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from crontabber_operator import sweeper
from crontabber_operator.store import Key, Kind, Store
from crontabber_operator.sweeper import Sweeper

START = datetime(2026, 11, 30, 12, tzinfo=UTC)
KEY = Key("web", "job")


class Bench:
    """A store that knows a CronJob, which is gone, and a clock."""

    def __init__(self) -> None:
        self.now = START
        self.store = Store()
        self.woken: list[Key] = []
        self.store.put_cronjob(
            {
                "metadata": {
                    "name": KEY.name,
                    "namespace": KEY.namespace,
                    "uid": "gone",
                    "resourceVersion": "7",
                    "creationTimestamp": "2026-11-30T11:00:00Z",
                    "labels": {"crontabber.dev/job": KEY.name},
                    "ownerReferences": [{"kind": "CrontabberJob", "name": KEY.name, "uid": "owner"}],
                }
            },
            asked_for=True,
        )

        async def list_uids(_kind: Kind, _namespace: str) -> set[str]:
            return {"other"}

        cluster = SimpleNamespace(list_uids=list_uids)
        self.sweeper = Sweeper(
            cluster,  # type: ignore[arg-type]
            self.store,
            SimpleNamespace(),  # type: ignore[arg-type]
            self.woken.append,
            lambda: self.now,
        )

    def finds(self, *, after: float) -> list[Key]:
        """Let it look, so many seconds after the start; return whom it woke."""
        self.now = START + timedelta(seconds=after)

        async def session() -> None:
            task = asyncio.create_task(self.sweeper.run())
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()

        asyncio.run(session())
        return self.woken


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return one that looks without a pause."""
    monkeypatch.setattr(sweeper, "LOOK_SECONDS", 0)
    return Bench()


def test_what_is_listed_again_may_hide_a_deletion(bench: Bench) -> None:
    """It is looked for when further listings, one for each namespace, are over as well."""
    assert bench.finds(after=70) == []
    bench.sweeper.listed_again(Kind.CRONJOB)
    assert bench.finds(after=72) == []
    assert bench.finds(after=74) == [KEY]
    assert bench.store.version(Kind.CRONJOB, KEY, "gone") == 0


def test_it_is_looked_for_now_and_then_in_any_case(bench: Bench) -> None:
    """A watch that shows nothing may also list nothing."""
    assert bench.finds(after=3599) == []
    assert bench.finds(after=3601) == [KEY]
