"""A probe fails for what is wrong with this process, if it lasts; never because the API server is away."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from crontabber_operator.echoes import Echoes
from crontabber_operator.health import BEAT_SECONDS, LASTS_SECONDS, Health
from crontabber_operator.settings import Address
from crontabber_operator.store import Key, Store
from crontabber_operator.watching import Watching
from tests.integration.chart_release import free_ports


class Scene:
    """A process that is looked at, and an API server that answers or not."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seems: list[str] = []
        self.answers = True
        self.asked = 0
        self.health = Health(lambda: self.now)

    async def _ask(self) -> None:
        self.asked += 1
        if not self.answers:
            raise ConnectionError

    def look(self, *, after: float = 5.0) -> list[str]:
        """Let time pass, look, and return what the probe tells."""
        self.now += after
        asyncio.run(self.health.look(lambda: list(self.seems), self._ask))
        return self.health.failures()

    def look_for(self, seconds: float) -> list[str]:
        """Look again and again for so long; return what the probe tells in the end."""
        found: list[str] = []
        for _ in range(int(seconds / 5)):
            found = self.look()
        return found


def test_what_lasts_fails_the_probe_and_says_what() -> None:
    """Not at once: it may pass by itself."""
    scene = Scene()
    scene.seems = ["the watch of jobs shows nothing"]
    assert scene.look() == []
    assert scene.look_for(LASTS_SECONDS - 5) == []
    assert scene.look() == ["the watch of jobs shows nothing"]


def test_what_passes_by_itself_is_no_failure() -> None:
    """Neither is it remembered for the next time."""
    scene = Scene()
    for _ in range(5):
        scene.seems = ["x"]
        assert scene.look_for(LASTS_SECONDS - 10) == []
        scene.seems = []
        assert scene.look() == []


def test_an_api_server_that_is_away_is_no_fault_of_the_operators() -> None:
    """However long: nothing that it seems to do wrong meanwhile counts, and it has its time afterwards."""
    scene = Scene()
    scene.seems = ["x"]
    assert scene.look_for(LASTS_SECONDS - 10) == []
    scene.answers = False
    assert scene.look_for(3600) == []
    scene.answers = True
    assert scene.look_for(LASTS_SECONDS) == []
    assert scene.look() == ["x"]


def test_the_api_server_is_asked_only_where_something_seems_wrong() -> None:
    """A probe must cost nothing."""
    scene = Scene()
    scene.look_for(600)
    assert scene.asked == 0


def test_nobody_who_looks_is_a_failure_too() -> None:
    """The task that looks hangs, or the loop hardly gets to it."""
    scene = Scene()
    assert scene.health.failures() == []  # it is starting
    scene.look()
    scene.now += BEAT_SECONDS + 1
    assert scene.health.failures() == ["nothing is looked at any more"]


def test_probes_are_answered_before_anything_is_ready() -> None:
    """An operator that waits for its CRD lives, and isn't ready."""

    async def answers() -> dict[str, tuple[int, object]]:
        (port,) = free_ports(1)
        health = Health()
        await health.serve(Address("127.0.0.1", port))
        found = {}
        try:
            async with aiohttp.ClientSession() as session:
                for path in ("healthz", "readyz", "metrics"):
                    async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                        is_json = answer.content_type == "application/json"
                        found[path] = answer.status, await answer.json() if is_json else None
        finally:
            await health.close()
        return found

    assert asyncio.run(answers()) == {
        "healthz": (200, {"ok": True, "reasons": []}),
        "readyz": (503, {"ok": False, "reasons": ["it is starting"]}),
        "metrics": (404, None),
    }


@pytest.mark.parametrize(
    ("heard", "late"),
    [
        ([], "jobs"),
        ([("a", 7)], None),
        ([("a", 8)], None),
        ([("b", 7)], "jobs"),
        ([("a", 6)], None),  # an older state: it hears, and gets a new time
    ],
)
def test_an_echo_of_a_write_is_waited_for(heard: list[tuple[str, int]], late: str | None) -> None:
    """Of the same object, at the version that was written or a later one."""
    echoes: Echoes[str] = Echoes()
    echoes.wrote("jobs", "a", 7, now=0.0)
    for uid, version in heard:
        echoes.heard(uid, version, now=90.0)
    assert echoes.late(now=100.0, seconds=100.0) is None
    found = echoes.late(now=101.0, seconds=100.0)
    assert (found.what if found is not None else None) == late


def test_an_object_that_is_written_again_and_again_waits_since_the_first_time() -> None:
    """A deaf watch is noticed however busy the operator is; one that is only behind is not taken for deaf."""
    echoes: Echoes[str] = Echoes()
    for now in range(0, 200, 10):
        echoes.wrote("jobs", "a", now + 1, now=float(now))
    assert echoes.late(now=200.0, seconds=100.0) == ("jobs", "a")
    echoes.heard("a", 100, now=200.0)
    assert echoes.late(now=290.0, seconds=100.0) is None
    echoes.heard("a", 191, now=295.0)
    assert echoes.late(now=9999.0, seconds=100.0) is None


def test_a_write_to_what_was_deleted_since_has_no_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its deletion fell into a gap of the watch, and was found by the sweep: no watch is deaf for that."""
    monkeypatch.setattr("crontabber_operator.watching.ECHO_SECONDS", -1.0)
    store = Store()
    watching = Watching(store)
    job = {
        "kind": "Job",
        "metadata": {
            "name": "job-1",
            "namespace": "web",
            "uid": "the-uid",
            "resourceVersion": "7",
            "creationTimestamp": "2026-11-30T11:00:00Z",
            "labels": {"crontabber.dev/job": "job"},
            "annotations": {"crontabber.dev/slot": "2026-11-30T11:00:00Z"},
            "ownerReferences": [{"kind": "CrontabberJob", "name": "job", "uid": "owner"}],
        },
    }
    watching.wrote(job)
    store.put_job(job)
    assert watching.seems_wrong() == ["the watch of jobs shows nothing"]
    store.drop_job(Key("web", "job"), "the-uid")
    assert watching.seems_wrong() == []
