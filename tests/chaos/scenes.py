"""Scenes in which one mistake of the operator's must show: each plays in a namespace of its own, and is judged.

The operator as it is must come through all of them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from devcluster import Cluster
from tests.chaos.cast import GATED, Part
from tests.chaos.checker import PERSON, PREFIX, Verdict, judge
from tests.chaos.crew import Berth, Place
from tests.chaos.dice import Tally
from tests.chaos.evidence import COMMANDS_FOLDER, Evidence, parse_time, read_runs
from tests.chaos.grid import grid_of
from tests.chaos.proxy import Held, ProxyThread, Strike
from tests.chaos.recorder import Recorder
from tests.integration.testbed import Api, Body, Testbed, written

JOB = "job-1"
MARK = f"{PREFIX}mark-success"
STILL_SECONDS = 15.0
"""A mutant may never have rest: when so long nothing has changed it is judged by what it did until now."""
LONGEST_SECONDS = 200.0
ENOUGH_RUNS = 40


@dataclass(frozen=True)
class Studio:
    """What all scenes share."""

    cluster: Cluster
    recorder: Recorder
    proxies: ProxyThread
    folder: Path


class Scene:
    """A namespace with one job, two places for operators, and a person who acts at the right moment."""

    def __init__(self, studio: Studio, name: str, mutant: str) -> None:
        """Make the namespace."""
        self.namespace = name
        self._studio = studio
        self.folder = studio.folder / name
        (self.folder / COMMANDS_FOLDER).mkdir(parents=True)
        self.api = Api(studio.cluster.kubeconfig)
        place = Place(studio.proxies, studio.cluster.kubeconfig, self.folder, name, name, mutant)
        self.first, self.second = (Berth(place, berth, tally=Tally()) for berth in ("one", "two"))
        self.bed = Testbed(self.api, name, self.folder, list)
        self.slots: Sequence[datetime] = ()
        self._held: list[Held] = []

    def close(self) -> None:
        """End its operators and remove the namespace."""
        for held in self._held:
            held.let_go()
        for berth in (self.first, self.second):
            berth.signal(signal.SIGCONT)
            berth.close()
        self.bed.remove()

    def job(self, missed: int, part: Part) -> None:
        """Make the job, with so many slots missed; no further one falls due while the scene plays."""
        until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=30)
        self.slots = [until - timedelta(hours=1 + back) for back in reversed(range(missed))]
        manifest = part.manifest(1, self.namespace, self.folder / COMMANDS_FOLDER, {MARK: self.before()})
        manifest["spec"] |= {"schedule": f"{until.minute} * * * *"}
        self.bed.create("crontabberjobs", manifest)

    def before(self, minutes: int = 1) -> str:
        """Return a time so long before the first missed slot."""
        return written(self.slots[0] - timedelta(minutes=minutes))

    def annotate(self, command: str, value: str) -> None:
        """Give a command, as a person does."""
        self.by_hand("crontabberjobs", JOB, {"metadata": {"annotations": {PREFIX + command: value}}})

    def by_hand(self, plural: str, name: str, patch: Body) -> None:
        """Change something by hand."""
        path = f"{self.bed.path(plural, name)}?fieldManager={PERSON}"
        self.api.request("PATCH", path, patch, "application/merge-patch+json")

    def status(self) -> Body:
        """Read the status."""
        return self.bed.status(JOB)

    def runs(self) -> list[Any]:
        """Return what its commands wrote so far."""
        path = self.folder / COMMANDS_FOLDER / f"{JOB}.jsonl"
        return list(read_runs(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []

    def wait_running(self) -> str:
        """Wait until a command runs; return the name of its Job."""
        self.bed.wait(lambda: any(run.outcome is None for run in self.runs()), "a command runs")
        return str(self.status()["ongoing"]["job"])

    def hold(self, berth: Berth, matches: Callable[[str, str, bytes], bool]) -> Held:
        """Hold the next such write of the operator in this place."""
        held = Held()
        self._held.append(held)
        berth.proxy.strike = Strike(1, before=True, do=held.hold, matches=matches)
        return held

    def wait_rest(self) -> None:
        """Wait until all slots are settled and nothing is left to do, or until it is clear that they won't be."""
        since, before = time.monotonic(), ""
        self.bed.needs = self.second.process or self.first.process

        def is_over() -> bool:
            nonlocal since, before
            resource = self.bed.resource(JOB)
            present = f"{resource['metadata']['resourceVersion']} {len(self.runs())}"
            if present != before or "schedule" not in resource.get("status", {}):
                since, before = time.monotonic(), present
            still = time.monotonic() - since > STILL_SECONDS
            return still or self._has_rest(resource) or len(self.runs()) > ENOUGH_RUNS

        self.bed.wait(is_over, "all is done", LONGEST_SECONDS)

    @staticmethod
    def _has_rest(resource: Body) -> bool:
        status = resource.get("status") or {}
        newest = grid_of(resource["spec"]).newest_until(datetime.now(UTC))
        asked = any(key.startswith(PREFIX) for key in resource["metadata"].get("annotations") or {})
        settled = parse_time(status.get("settledThrough", "2000-01-01T00:00:00Z")) >= newest
        pending = any(one["result"] == "Pending" for one in status.get("lastCommands") or [])
        return settled and not pending and not asked and "ongoing" not in status

    def judge(self) -> Verdict:
        """Judge what happened in this namespace."""
        versions = [
            one
            for one in self._studio.recorder.versions()
            if one.body["metadata"].get("namespace") == self.namespace
        ]
        return judge(Evidence(tuple(versions), tuple(self.runs()), datetime.now(UTC)))


# --- The writes that scenes look for --------------------------------------------------------------------------


def is_claim(_: str, path: str, body: bytes) -> bool:
    """A write of the status that claims a run."""
    return path.endswith("/status") and b'"ongoing"' in body


def is_release(method: str, path: str, _: bytes) -> bool:
    """The patch that starts a run."""
    return method == "PATCH" and "/jobs/" in path


def is_removal(_: str, path: str, body: bytes) -> bool:
    """The patch that takes an annotation away."""
    return path.endswith(f"/crontabberjobs/{JOB}") and b"annotations" in body


# --- Scenes ---------------------------------------------------------------------------------------------------


def catching_up(scene: Scene) -> None:
    """Slots are caught up, and some fail at first."""
    scene.job(6, Part("job", {**GATED, "passLastSuccess": True}, behaviour={"fail": 0.5}))
    scene.first.start()
    scene.wait_rest()


def catching_up_in_batches(scene: Scene) -> None:
    """Slots share Jobs, which go on for so long that what succeeded is recorded meanwhile; some fail at first."""
    batch = {**GATED, "backfillBatch": 4, "passLastSuccess": True}
    scene.job(6, Part("job", batch, behaviour={"fail": 0.4, "slow": 1}))
    scene.first.start()
    scene.wait_rest()


def marked_while_it_runs(scene: Scene) -> None:
    """A mark drops the claim of a run that goes on: what follows has to wait for it."""
    scene.job(2, Part("job", GATED, behaviour={"slow": 1}))
    scene.first.start()
    scene.wait_running()
    scene.annotate("mark-success", scene.before(2))
    scene.wait_rest()


def frozen_in_a_claim(scene: Scene) -> None:
    """An operator is frozen when it claims; another one does the work; then the claim arrives."""
    scene.job(4, Part("job", GATED))
    held = scene.hold(scene.first, is_claim)
    scene.first.start()
    scene.bed.wait(held.struck.is_set, "it claims")
    scene.first.signal(signal.SIGSTOP)
    scene.second.start()
    scene.bed.wait(
        lambda: scene.status().get("settledThrough", "") >= written(scene.slots[1]), "two slots ran"
    )
    held.let_go()
    scene.first.signal(signal.SIGCONT)
    scene.wait_rest()


def release_of_a_former_job(scene: Scene) -> None:
    """An operator dies when it releases; the slot is marked anew; the release arrives at the next Job of that name."""
    scene.job(1, Part("job", {**GATED, "passLastSuccess": True}))
    late = scene.hold(scene.first, is_release)
    scene.first.start()
    scene.bed.wait(late.struck.is_set, "it releases")
    scene.first.kill()
    scene.annotate("mark-success", scene.before(2))
    own = scene.hold(scene.second, is_release)
    scene.second.start()
    scene.bed.wait(own.struck.is_set, "the other one releases")
    late.let_go()
    scene.bed.wait(lambda: scene.first.proxy.idle, "the late release has arrived")
    own.let_go()
    scene.wait_rest()


def release_of_what_was_suspended(scene: Scene) -> None:
    """An operator dies when it releases; the next one does it; a person suspends the Job; the release arrives."""
    scene.job(1, Part("job", GATED, behaviour={"slow": 1}))
    late = scene.hold(scene.first, is_release)
    scene.first.start()
    scene.bed.wait(late.struck.is_set, "it releases")
    scene.first.kill()
    scene.second.start()
    job = scene.wait_running()
    scene.by_hand("jobs", job, {"spec": {"suspend": True}})
    scene.bed.wait(lambda: not scene.bed.get("jobs", job)["status"].get("active"), "it is suspended")
    late.let_go()
    scene.bed.wait(lambda: scene.first.proxy.idle, "the late release has arrived")
    scene.by_hand("jobs", job, {"spec": {"suspend": False}})
    scene.wait_rest()


def job_deleted_while_its_command_goes_on(scene: Scene) -> None:
    """A person deletes the Job of a run; its command takes its time to end; the slot runs again after it."""
    scene.job(2, Part("job", GATED, behaviour={"slow": 1}, is_stubborn=True))
    scene.first.start()
    job = scene.wait_running()
    scene.bed.delete("jobs", job)
    scene.wait_rest()


def removal_that_is_late(scene: Scene) -> None:
    """An operator dies when it takes a command's annotation away; when that arrives, the same was asked again."""
    scene.job(1, Part("job", GATED))
    scene.first.start()
    scene.wait_rest()
    late = scene.hold(scene.first, is_removal)
    scene.annotate("reset", "")
    scene.bed.wait(late.struck.is_set, "it takes the command")
    scene.first.kill()
    scene.second.start()
    scene.wait_rest()
    scene.second.signal(signal.SIGSTOP)
    scene.annotate("reset", "")
    late.let_go()
    scene.bed.wait(lambda: scene.first.proxy.idle, "the late removal has arrived")
    scene.second.signal(signal.SIGCONT)
    scene.wait_rest()


SCENES: tuple[Callable[[Scene], None], ...] = (
    catching_up,
    catching_up_in_batches,
    marked_while_it_runs,
    frozen_in_a_claim,
    release_of_a_former_job,
    release_of_what_was_suspended,
    job_deleted_while_its_command_goes_on,
    removal_that_is_late,
)


@contextmanager
def played(studio: Studio, scene: Callable[[Scene], None], name: str, mutant: str = "") -> Iterator[Scene]:
    """Play a scene; give it to be judged."""
    stage = Scene(studio, name, mutant)
    try:
        scene(stage)
        yield stage
    finally:
        stage.close()
