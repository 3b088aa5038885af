"""One listing of a namespace's unended pods serves all who need one that is new enough."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from crontabber_operator.cluster import ApiError
from crontabber_operator.inquiry import Inquiry
from crontabber_operator.leftovers import Leftovers, UnendedPod
from crontabber_operator.listening import Listener
from crontabber_operator.manifests import Owner
from crontabber_operator.memory import Memory
from crontabber_operator.store import Key, Store
from crontabber_operator.times import parse_time
from tests.unit.turns import settle

KEY = Key("web", "job")


def pod(name: str, job: str = "job", owner: str = "gone") -> dict[str, Any]:
    """Build the metadata of a pod."""
    labels = {"crontabber.dev/job": job}
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": [{"kind": "Job", "uid": owner}]}}


class Server:
    """Answers when that is allowed."""

    def __init__(self, *answers: list[dict[str, Any]] | ApiError) -> None:
        """The last answer is given again and again."""
        self._answers = list(answers)
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def list_unended_pods(self, _namespace: str) -> list[dict[str, Any]]:
        """Give the next answer."""
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await self.may_answer.wait()
        if isinstance(answer, ApiError):
            raise answer
        return answer


def test_whoever_needs_no_newer_listing_shares_one() -> None:
    """A thousand jobs that are due at one minute cost one request."""

    async def session() -> None:
        server = Server([pod("p1"), pod("p2", job="other"), pod("p3")])
        leftovers, since = Leftovers(server), time.monotonic()  # type: ignore[arg-type]
        found = await asyncio.gather(*(leftovers.of_job(KEY, since) for _ in range(1000)))
        assert {tuple(one.name for one in pods) for pods in found} == {("p1", "p3")}
        assert found[0][0] == UnendedPod("p1", frozenset({"gone"}))
        assert await leftovers.of_job(Key("web", "third"), since) == ()
        assert server.asked == 1
        await leftovers.of_job(Key("elsewhere", "job"), since)
        assert server.asked == 2

    asyncio.run(session())


def test_a_listing_that_was_asked_for_before_does_not_do() -> None:
    """What began since may not be in it: all who came meanwhile share the next one."""

    async def session() -> None:
        server = Server([], [pod("p1")])
        server.may_answer.clear()
        leftovers = Leftovers(server)  # type: ignore[arg-type]
        first = asyncio.create_task(leftovers.of_job(KEY, time.monotonic()))
        await settle()
        later = [asyncio.create_task(leftovers.of_job(KEY, time.monotonic())) for _ in range(100)]
        await settle()
        server.may_answer.set()
        assert await first == ()
        assert {tuple(one.name for one in await task) for task in later} == {("p1",)}
        assert server.asked == 2

    asyncio.run(session())


def test_an_error_is_told_to_all_who_wait_and_the_next_one_asks_again() -> None:
    """Nobody queues behind a thousand time-outs."""

    async def session() -> None:
        server = Server(ApiError(503, "Unavailable", "later"), [pod("p1")])
        leftovers, since = Leftovers(server), time.monotonic()  # type: ignore[arg-type]
        told = await asyncio.gather(*(leftovers.of_job(KEY, since) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [ApiError] * 3
        assert [one.name for one in await leftovers.of_job(KEY, since)] == ["p1"]
        assert server.asked == 2

    asyncio.run(session())


def test_who_stops_waiting_does_not_stop_the_others() -> None:
    """A pass is cancelled when the lease is lost."""

    async def session() -> None:
        server = Server([pod("p1")])
        server.may_answer.clear()
        leftovers, since = Leftovers(server), time.monotonic()  # type: ignore[arg-type]
        waiting = [asyncio.create_task(leftovers.of_job(KEY, since)) for _ in range(2)]
        await settle()
        waiting[0].cancel()
        await settle()
        server.may_answer.set()
        assert [one.name for one in await waiting[1]] == ["p1"]
        assert server.asked == 1

    asyncio.run(session())


@pytest.mark.parametrize(("now", "left"), [([], ()), ([pod("p1")], ("p1",))])
def test_what_an_older_listing_shows_is_asked_for_again(
    now: list[dict[str, Any]], left: tuple[str, ...]
) -> None:
    """The Job of a pod in it may have ended and gone since, as it should: that holds up nothing."""

    async def session() -> None:
        owner = Owner("web", "job", "uid")
        at = parse_time("2026-11-24T08:00:00Z")
        inquiry, memory = Inquiry(Server([pod("p1")], now), Store(), None, Listener()), Memory()  # type: ignore[arg-type]
        await inquiry.look_for_pods(owner, memory, at)
        assert memory.left_behind is not None
        assert memory.left_behind.pods == left

    asyncio.run(session())


def test_the_pods_of_jobs_that_go_on_are_not_left_behind() -> None:
    """Nor is one of a Job whose run the store still shows: its Job says all that counts."""
    run = SimpleNamespace(uid="goes-on", unfinished=True)
    store = SimpleNamespace(runs=lambda _owner: (run,))
    server = Server([pod("p1", owner="goes-on"), pod("p2", owner="gone")])

    async def session() -> tuple[str, ...]:
        inquiry, memory = Inquiry(server, store, None, Listener()), Memory()  # type: ignore[arg-type]
        await inquiry.look_for_pods(Owner("web", "job", "uid"), memory, parse_time("2026-11-24T08:00:00Z"))
        assert memory.left_behind is not None
        return memory.left_behind.pods

    assert asyncio.run(session()) == ("p2",)
