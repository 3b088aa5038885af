"""`make soak`: many jobs every minute for an hour, under light faults; what the operator holds must not grow.

`python -m tests.chaos.soak --minutes 60 --jobs 1000 --every 1`. A machine whose API server can't make so many Jobs
falls behind and says so; with `--every 5` a fifth of the jobs is due each minute. Pods end at once (devcluster's
instant node). Writes samples, a plot and what it found into build/soak/; exit code 1 where something grows, or slots
were left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import urllib3

from devcluster import Cluster
from tests.chaos.crew import Berth, Place
from tests.chaos.dice import Tally
from tests.chaos.flatness import trend
from tests.chaos.plot import Curve, draw
from tests.chaos.proxy import ProxyThread
from tests.integration.operator_process import ROOT
from tests.integration.side_by_side import apply_crd
from tests.integration.testbed import Api, ApiError, Testbed

Body = dict[str, Any]

BUILD = ROOT / "build" / "soak"
NAMESPACE = "soak"
SAMPLE_SECONDS = 10.0
MAKERS = 16
RATE = 0.001
"""A fault for each thousand requests and events."""
EVENT_TTL = "5m"
"""So that Events, too, must come to rest within the time."""
BEHIND_MAX = timedelta(minutes=3)
GROWTH_MAX = {
    "operator's memory, MiB": 0.10,
    "tasks in the operator": 0.10,
    "connections of the operator": 0.25,
    "API requests a second": 0.15,
    "Jobs": 0.10,
    "Events": 0.25,
}
"""By so much of its level each may rise in the last 60 % of the time, and still be noise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured at one moment."""

    minutes: float
    memory_mib: float
    tasks: int
    connections: int
    requests: int
    """Since the start."""
    jobs: int
    events: int


def resource(number: int, every: int) -> Body:
    """Return one of the jobs, due every so many minutes: half of them plain, half with backfill and last success."""
    first = number // 2 % every
    gated = {"backfill": True, "passLastSuccess": True} if number % 2 else {}
    return {
        "apiVersion": "crontabber.dev/v1",
        "kind": "CrontabberJob",
        "metadata": {"name": f"job-{number:05}"},
        "spec": {
            "command": "work",
            "schedule": f"{first}-59/{every} * * * *",
            **gated,
            "template": {"spec": {"containers": [{"name": "app", "image": "app"}]}},
        },
    }


def soak(jobs: int, every: int, minutes: float, folder: Path) -> list[Sample]:
    """Do it, each job being due every so many minutes; return what was measured."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    observed = folder / "observed.jsonl"
    tally = Tally()
    flags = (
        f"--event-ttl={EVENT_TTL}",
        "--max-requests-inflight=1000",
        "--max-mutating-requests-inflight=500",
    )
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster.start(
                f"soak-{os.getpid()}",
                node="instant",
                api_server_flags=flags,
                controller_manager_flags=(
                    "--kube-api-qps=1000",
                    "--kube-api-burst=2000",
                    "--concurrent-cron-job-syncs=20",
                ),
            )
        )
        apply_crd(cluster)
        api = Api(cluster.kubeconfig)
        bed = Testbed(api, NAMESPACE, folder, list)
        proxies = stack.enter_context(ProxyThread())
        place = Place(
            proxies, cluster.kubeconfig, folder, NAMESPACE, "soak", module="tests.chaos.observed_operator"
        )
        berth = Berth(place, "one", tally=tally, rate=RATE)
        stack.callback(berth.close)
        process = psutil.Process(berth.start({"OBSERVED": str(observed)}).pid)
        with ThreadPoolExecutor(MAKERS) as pool:
            list(pool.map(lambda number: bed.create("crontabberjobs", resource(number, every)), range(jobs)))
        samples = list(_sample(api, berth, process, observed, minutes))
        (folder / "faults.json").write_text(json.dumps(tally.counts(), indent=1), encoding="utf-8")
        (folder / "behind.json").write_text(json.dumps(_behind(api, every)), encoding="utf-8")
    lines = "".join(json.dumps(asdict(one)) + "\n" for one in samples)
    (folder / "samples.jsonl").write_text(lines, encoding="utf-8")
    return samples


def _sample(
    api: Api, berth: Berth, process: psutil.Process, observed: Path, minutes: float
) -> Sequence[Sample]:
    started = time.monotonic()
    samples = []
    while time.monotonic() - started < minutes * 60:
        time.sleep(SAMPLE_SECONDS)
        if berth.process is None or not berth.process.runs:
            raise RuntimeError(f"the operator ended; see {berth.log}")
        with contextlib.suppress(
            ApiError, OSError, urllib3.exceptions.HTTPError, FileNotFoundError, IndexError
        ):
            told = json.loads(observed.read_text(encoding="utf-8").splitlines()[-1])
            sample = Sample(
                minutes=(time.monotonic() - started) / 60,
                memory_mib=process.memory_info().rss / 2**20,
                tasks=told["tasks"],
                connections=len(process.net_connections()),
                requests=berth.proxy.requests,
                jobs=_count(api, "/apis/batch/v1", "jobs"),
                events=_count(api, "/api/v1", "events"),
            )
            samples.append(sample)
            print(json.dumps(asdict(sample)))
    return samples


def _count(api: Api, root: str, plural: str) -> int:
    """Count objects without reading them."""
    found = api.request("GET", f"{root}/namespaces/{NAMESPACE}/{plural}?limit=1")
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)


def _behind(api: Api, every: int) -> dict[str, str]:
    """Return the jobs whose last settled slot is too long ago."""
    found = api.request("GET", f"/apis/crontabber.dev/v1/namespaces/{NAMESPACE}/crontabberjobs")
    since = (datetime.now(UTC) - timedelta(minutes=every - 1) - BEHIND_MAX).strftime("%Y-%m-%dT%H:%M:%SZ")
    settled = {
        one["metadata"]["name"]: str((one.get("status") or {}).get("settledThrough", ""))
        for one in found["items"]
    }
    return {name: time_ for name, time_ in settled.items() if time_ < since}


def curves(samples: Sequence[Sample]) -> list[Curve]:
    """Return what is drawn and judged."""
    rate = [
        (later.minutes, (later.requests - earlier.requests) / (later.minutes - earlier.minutes) / 60)
        for earlier, later in itertools.pairwise(samples[::6])
    ]
    of: Mapping[str, Sequence[tuple[float, float]]] = {
        "operator's memory, MiB": [(one.minutes, one.memory_mib) for one in samples],
        "tasks in the operator": [(one.minutes, one.tasks) for one in samples],
        "connections of the operator": [(one.minutes, one.connections) for one in samples],
        "API requests a second": rate,
        "Jobs": [(one.minutes, one.jobs) for one in samples],
        "Events": [(one.minutes, one.events) for one in samples],
    }
    return [Curve(title, points) for title, points in of.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="for how long")
    parser.add_argument("--jobs", type=int, default=1000, help="how many there are")
    parser.add_argument(
        "--every", type=int, default=1, help="each is due every so many minutes, a part of 60"
    )
    given = parser.parse_args(arguments)
    samples = soak(given.jobs, given.every, given.minutes, BUILD)
    drawn = curves(samples)
    title = f"{given.jobs} jobs, {given.jobs // given.every} due each minute, for {given.minutes:g} minutes"
    (BUILD / "soak.svg").write_text(draw(title, drawn), encoding="utf-8")
    grows = False
    for curve in drawn:
        found = trend(curve.points)
        is_flat = found.growth <= GROWTH_MAX[curve.title]
        grows |= not is_flat
        print(
            f"{curve.title}: {found.level:,.1f}, grew by {found.growth:+.1%}{'' if is_flat else ': not flat'}"
        )
    behind = json.loads((BUILD / "behind.json").read_text(encoding="utf-8"))
    print(f"{len(behind)} jobs behind by more than {BEHIND_MAX}", *list(behind.items())[:5])
    print(f"The plot is {BUILD / 'soak.svg'}")
    return int(grows or bool(behind))


if __name__ == "__main__":
    sys.exit(main())
