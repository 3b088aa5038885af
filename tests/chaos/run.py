"""`make chaos`: a cluster, jobs of all kinds, faults of all kinds and people, from a seed; then the checker judges.

`python -m tests.chaos.run --seed 7 --minutes 10`. Leaves its evidence in build/chaos/<seed>/ where a promise
was broken (or with --keep); exit code 1 then, 2 where the run itself failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devcluster import Cluster, LocalImage
from tests.chaos import evidence, recorder
from tests.chaos.cast import PARTS
from tests.chaos.checker import Verdict, judge
from tests.chaos.crew import Crew, Place
from tests.chaos.dice import Tally
from tests.chaos.disturbance import Disturbance
from tests.chaos.evidence import COMMANDS_FOLDER, OBJECTS_FILE, parse_time
from tests.chaos.grid import grid_of
from tests.chaos.people import People
from tests.chaos.proxy import KINDS, ProxyThread
from tests.chaos.recorder import API_SERVER_FLAGS, Recorder
from tests.integration.operator_process import ROOT
from tests.integration.side_by_side import apply_crd
from tests.integration.testbed import Api, ApiError, Testbed

Body = dict[str, Any]

BUILD = ROOT / "build" / "chaos"
NAMESPACE = "chaos"
SETTLE_SECONDS = 300.0
"""So long all may take to have rest once the faults have stopped: Kubernetes' own retries wait for a minute here."""
LOOK_SECONDS = 1.0
SHORT_FORM_MINUTES = 2.0
"""A run that is longer than this has longer disturbances."""
LONGEST_SCALE = 5.0
LONGEST_WAIT = 1.6
"""So much longer than was asked for it goes on until every kind of fault has come up."""


@dataclass(frozen=True)
class Plan:
    """What a run is to be."""

    seed: str
    minutes: float
    copies: int = 1
    """So many jobs of each kind."""
    rate: float = 0.12
    """The probability of a fault for each request and each event of a watch."""
    only: tuple[str, ...] = ()
    """The kinds of jobs; empty: all."""
    mutant: str = ""
    """See mutant_operator.py."""
    disturbs: bool = True
    peopled: bool = True

    @property
    def scale(self) -> float:
        """How long each disturbance lasts, compared with the short form."""
        return min(LONGEST_SCALE, max(1.0, self.minutes / SHORT_FORM_MINUTES))


@dataclass
class Outcome:
    """What came of it."""

    plan: Plan
    folder: Path
    verdict: Verdict
    faults: Mapping[str, int]
    seconds: float
    unsettled: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """Say it to a person."""
        lines = [
            f"Chaos with SEED={self.plan.seed} MINUTES={self.plan.minutes:g}, {self.seconds:.0f} s in all"
        ]
        lines += [f"  {count:6d} {kind}" for kind, count in self.faults.items()]
        lines += ["Judged:"]
        lines += [f"  {count:6d} {kind}" for kind, count in sorted(self.verdict.counts.items())]
        lines += [f"Violations: {len(self.verdict.violations)}"]
        lines += [f"  {violation}" for violation in self.verdict.violations[:50]]
        lines += [f"  had no rest: {name}" for name in self.unsettled]
        return "\n".join(lines)


def carry_out(plan: Plan, folder: Path) -> Outcome:
    """Do a run from beginning to end, with a cluster of its own; its evidence is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    commands = folder / COMMANDS_FOLDER
    commands.mkdir(parents=True)
    tally, started = Tally(), time.monotonic()
    parts = {
        f"{part.name}-{number}": (part, number)
        for number in range(1, plan.copies + 1)
        for part in PARTS
        if not plan.only or part.name in plan.only
    }

    def make(name: str, annotations: Mapping[str, str]) -> Body:
        part, number = parts[name]
        return part.manifest(number, plan.seed, commands, annotations)

    with _cluster(folder) as cluster, contextlib.ExitStack() as stack:
        apply_crd(cluster)
        record = stack.enter_context(Recorder(cluster))
        api = Api(cluster.kubeconfig)
        Testbed(api, NAMESPACE, folder, list)
        people = People(
            api, NAMESPACE, {name: part for name, (part, _) in parts.items()}, make, plan.seed, tally
        )
        people.make_all()
        proxies = stack.enter_context(ProxyThread())
        place = Place(proxies, cluster.kubeconfig, folder, NAMESPACE, plan.seed, plan.mutant)
        crew = stack.enter_context(Crew(place, tally=tally, rate=plan.rate))
        disturbance = Disturbance(cluster, crew, plan.seed, tally, plan.scale)
        if plan.peopled:
            people.begin()
        if plan.disturbs:
            disturbance.begin()
        kinds = {
            *KINDS,
            *(people.kinds if plan.peopled else ()),
            *(disturbance.kinds if plan.disturbs else ()),
        }
        _wait_for_faults(plan, tally, kinds)
        if plan.disturbs:
            disturbance.stop()
        if plan.peopled:
            people.stop()
        crew.calm()
        (commands / "calm").touch()
        due_until = datetime.now(UTC)
        unsettled = _settle(api, due_until)
        recorder.write(folder / OBJECTS_FILE, record.versions())
    verdict = judge(evidence.read(folder, due_until))
    outcome = Outcome(plan, folder, verdict, tally.counts(), time.monotonic() - started, unsettled)
    (folder / "report.txt").write_text(outcome.text() + "\n", encoding="utf-8")
    (folder / "due_until").write_text(due_until.isoformat(), encoding="utf-8")
    return outcome


def _wait_for_faults(plan: Plan, tally: Tally, kinds: set[str]) -> None:
    """Wait as long as was asked for, and longer until all kinds of faults have come up."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < LONGEST_WAIT * plan.minutes * 60:
        missing = kinds - tally.counts().keys()
        if passed >= plan.minutes * 60 and not missing:
            return
        time.sleep(LOOK_SECONDS)
    for kind in sorted(missing):
        tally.add(f"{kind}: did not come up", 0)


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster that stores JSON; its logs are kept beside the evidence."""
    images = {"app": LocalImage.of(Path(__file__).with_name("command_app"))}
    with Cluster.start(f"chaos-{os.getpid()}", images=images, api_server_flags=API_SERVER_FLAGS) as cluster:
        try:
            yield cluster
        finally:
            for component in ("kube-apiserver", "kube-controller-manager", "etcd", "node"):
                shutil.copy(cluster.log_path(component), folder / f"{component}.log")


def _settle(api: Api, due_until: datetime) -> list[str]:
    """Wait until all slots that were due are settled and nothing is left to do; return who did not manage."""
    deadline = time.monotonic() + SETTLE_SECONDS
    waiting = {"all"}
    while waiting and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        with contextlib.suppress(ApiError, OSError):
            found = api.request("GET", f"/apis/crontabber.dev/v1/namespaces/{NAMESPACE}/crontabberjobs")
            waiting = {one["metadata"]["name"] for one in found["items"] if not _has_rest(one, due_until)}
    return sorted(waiting)


def _has_rest(resource: Body, due_until: datetime) -> bool:
    status = resource.get("status") or {}
    annotations = resource["metadata"].get("annotations") or {}
    pending = any(one["result"] == "Pending" for one in status.get("lastCommands") or [])
    settled = parse_time(status.get("settledThrough") or resource["metadata"]["creationTimestamp"])
    newest = grid_of(resource["spec"]).newest_until(due_until)
    created = parse_time(resource["metadata"]["creationTimestamp"])
    asked = any(key.startswith("crontabber.dev/") for key in annotations)
    is_over = settled >= newest or (created >= newest and not resource["spec"].get("backfill"))
    return is_over and not pending and not asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "--seed", default="1", help="whatever it was before, the same seed draws the same faults"
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long all is disturbed")
    parser.add_argument("--copies", type=int, default=1, help="jobs of each kind")
    parser.add_argument(
        "--rate", type=float, default=0.12, help="faults for each request and event of a watch"
    )
    parser.add_argument("--only", default="", help="kinds of jobs, with commas between them")
    parser.add_argument(
        "--without-people", action="store_true", help="nobody edits, marks, deletes and so on"
    )
    parser.add_argument("--keep", action="store_true", help="keep the evidence in any case")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="judge the evidence of a former run")
    given = parser.parse_args(arguments)
    if given.judge is not None:
        due_until = datetime.fromisoformat((given.judge / "due_until").read_text(encoding="utf-8"))
        verdict = judge(evidence.read(given.judge, due_until))
        print(json.dumps(dict(verdict.counts), indent=1), *verdict.violations, sep="\n")
        return int(bool(verdict.violations))
    only = tuple(filter(None, given.only.split(",")))
    plan = Plan(given.seed, given.minutes, given.copies, given.rate, only, peopled=not given.without_people)
    folder = BUILD / given.seed
    outcome = carry_out(plan, folder)
    print(outcome.text())
    if outcome.verdict.violations or outcome.unsettled:
        print(
            f"The evidence is in {folder}; to repeat it: make chaos SEED={plan.seed} MINUTES={plan.minutes:g}"
        )
        return 1
    if not given.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
