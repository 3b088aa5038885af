"""From a Job's creation to its release, when idle; a storm of Jobs due at one minute; chains; writes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.figures import Line, Result, cumulative, percentile, plot, ratio, spread
from benchmarks.stand import JobWatch, Seen, Stand, resource, resources_path

SECONDS_BEFORE_A_STORM = 20
AWAITED_AT_MOST = 1000
"""The runs of a greater storm are not waited for: on two cores they would take ten minutes."""
OF_A_RUN = ("create jobs", "patch crontabberjobs/", "patch jobs")
"""The writes that runs cost; those of edits and of the commands' annotations are not counted, nor is pruning."""


def away() -> str:
    """Return a schedule that does not fall due while this is measured."""
    return f"{(datetime.now(UTC) + timedelta(minutes=30)).minute} * * * *"


def before(schedule: str, slots: int) -> str:
    """Return the mark-success that makes so many slots of an hourly schedule missed."""
    now = datetime.now(UTC)
    newest = now.replace(minute=int(schedule.partition(" ")[0]), second=0, microsecond=0)
    if newest > now:
        newest -= timedelta(hours=1)
    return (newest - timedelta(hours=slots)).strftime("%Y-%m-%dT%H:%M:%SZ")


def idle(stand: Stand, count: int) -> Result:
    """One Job at a time, in an operator that has nothing else to do."""
    namespace = stand.namespace("idle")
    schedule = away()
    path = resources_path(namespace)
    stand.create(path, [resource("single", schedule=schedule, backfill=True)])
    watch = JobWatch(stand.api, namespace)
    mark = {"metadata": {"annotations": {"crontabber.dev/mark-success": before(schedule, 1)}}}
    for _ in range(count):
        stand.calm()
        wanted = _done(watch) + 1
        stand.patch([f"{path}/single"], mark)
        stand.wait(partial(_rests, stand, watch, f"{path}/single", wanted), "it is done", 60)
    watch.close()
    times = [one.released - one.made for one in watch.jobs.values() if one.released is not None]
    line = Line("a Job's creation to its release, idle", spread(times), target="p99 ≤ 50 ms")
    return Result([line], {"idle_release_ms": [round(1000 * one, 1) for one in times]})


def _rests(stand: Stand, watch: JobWatch, path: str, wanted: int) -> bool:
    if _done(watch) < wanted:
        return False
    status = stand.api.request("GET", path).get("status") or {}
    return status.get("missed") == 0 and "ongoing" not in status


def next_minute() -> datetime:
    """Return the first minute that is far enough away."""
    soon = datetime.now(UTC) + timedelta(seconds=SECONDS_BEFORE_A_STORM)
    return soon.replace(second=0, microsecond=0) + timedelta(minutes=1)


def storm(stand: Stand, count: int) -> Result:
    """So many gated jobs due at one minute, and before them as many plain CronJobs."""
    beside = _cronjobs(stand, count)
    namespace = stand.namespace(f"storm-{count}")
    path = resources_path(namespace)
    # First far away, so that all are there and reconciled before their minute comes.
    schedule = away()
    names = [f"job-{number}" for number in range(count)]
    stand.create(path, (resource(name, schedule=schedule, passLastSuccess=True) for name in names))
    stand.wait(lambda: _count(stand, namespace, "cronjobs") == count, "all CronJobs are made")
    due = next_minute() + timedelta(minutes=1 + count // 1500)
    stand.patch((f"{path}/{name}" for name in names), {"spec": {"schedule": f"{due.minute} * * * *"}})
    # Every resource and its CronJob are to have taken the edit, or its writes would be a part of the storm.
    stand.wait(
        lambda: all(_has_taken_edit(one, due) for one in stand.resources(namespace)), "all took the edit"
    )
    if datetime.now(UTC) > due:
        raise TimeoutError(f"the edit of {count} resources took until after the minute of the storm")
    _, position = stand.writes(0, namespace)
    watch = JobWatch(stand.api, namespace)
    stand.wait(lambda: _released(watch) == count, "all Jobs are released")
    if count <= AWAITED_AT_MOST:
        stand.wait(lambda: _done(watch) == count, "all Jobs are done")
        stand.calm()
    writes, _ = stand.writes(position, namespace)
    watch.close()
    at = due.timestamp()
    ran = [
        (one.made - at, one.released - at) for one in list(watch.jobs.values()) if one.released is not None
    ]
    made, released = [one for one, _ in ran], [one for _, one in ran]
    between = [one - another for another, one in ran]
    behind = max(released) - max(made)
    counted = Counter(writes)
    for_runs = sum(counted[what] for what in OF_A_RUN)
    lines = [
        Line(
            f"storm of {count}: Jobs made after their minute",
            spread(made, "s", 1),
            spread(beside, "s", 1),
            ratio(percentile(made, 50), percentile(beside, 50)),
        ),
        Line(
            f"storm of {count}: released after their minute",
            spread(released, "s", 1),
            spread(beside, "s", 1),
            ratio(max(released), max(beside)),
        ),
        Line(f"storm of {count}: a Job's creation to its release", spread(between, "s", 1)),
        Line(f"storm of {count}: last Job made to last release", f"{behind:.2f} s", target="≤ 1 s"),
        Line(
            f"storm of {count}: Jobs that the operator made, as the controller was too late",
            str(counted["create jobs"]),
        ),
    ]
    if count <= AWAITED_AT_MOST:
        lines.append(Line(f"storm of {count}: writes a run", f"{for_runs / count:.2f}", target="≤ 3"))
    figures: dict[str, Any] = {
        f"storm_{count}": {
            "behind_seconds": round(behind, 3),
            "writes": dict(counted),
        }
    }
    drawn = plot(
        f"{count} jobs due at one minute",
        "seconds after it",
        "% of Jobs",
        {
            "plain CronJobs: made": cumulative(beside),
            "crontabber: made": cumulative(made),
            "crontabber: released": cumulative(released),
        },
    )
    return Result(lines, figures, {f"storm-{count}": drawn})


def _has_taken_edit(body: dict[str, Any], due: datetime) -> bool:
    status = body.get("status") or {}
    is_seen = status.get("observedGeneration") == body["metadata"]["generation"]
    return is_seen and status.get("nextRunTime") == due.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cronjobs(stand: Stand, count: int) -> list[float]:
    """Return when, after their minute, the Jobs of so many plain CronJobs were seen."""
    namespace = stand.namespace(f"plain-{count}")
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "app"}]}
    far = (datetime.now(UTC) + timedelta(minutes=30)).minute
    names = [f"job-{number}" for number in range(count)]
    stand.create(
        path,
        (
            {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": name},
                "spec": {
                    "schedule": f"{far} * * * *",
                    "timeZone": "Etc/UTC",
                    "jobTemplate": {"spec": {"template": {"spec": pod}}},
                },
            }
            for name in names
        ),
    )
    due = next_minute() + timedelta(minutes=count // 2500)
    stand.patch((f"{path}/{name}" for name in names), {"spec": {"schedule": f"{due.minute} * * * *"}})
    watch = JobWatch(stand.api, namespace)
    stand.wait(lambda: _done(watch) == count, "the plain CronJobs' Jobs are done")
    watch.close()
    stand.calm()
    return [one.made - due.timestamp() for one in watch.jobs.values()]


def _done(watch: JobWatch) -> int:
    return sum(one.finished is not None for one in list(watch.jobs.values()))


def _released(watch: JobWatch) -> int:
    return sum(one.released is not None for one in list(watch.jobs.values()))


def _count(stand: Stand, namespace: str, plural: str) -> int:
    page = stand.api.request("GET", f"/apis/batch/v1/namespaces/{namespace}/{plural}?limit=1")
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)


def chains(stand: Stand, count: int, slots: int, seconds: float) -> Result:
    """So many jobs catch up at once: from a Job's completion to the release of the next one.

    `seconds`: how long a run takes, half as long to half as long again; 0: nothing, so that all is busy all the time.
    """
    namespace = stand.namespace(f"chains-{seconds:g}")
    path = resources_path(namespace)
    schedule = away()
    names = [f"chain-{number}" for number in range(count)]
    stand.create(
        path,
        (
            resource(
                name,
                schedule=schedule,
                backfill=True,
                suspend=True,
                pod_annotations={"devcluster/result": f"seconds={seconds * (0.5 + number / count):.2f}"},
            )
            for number, name in enumerate(names)
        ),
    )
    mark = {
        "metadata": {"annotations": {"crontabber.dev/mark-success": before(schedule, slots)}},
        "spec": {"suspend": False},
    }
    _, position = stand.writes(0, namespace)
    watch = JobWatch(stand.api, namespace)
    stand.patch((f"{path}/{name}" for name in names), mark)
    took = stand.wait(lambda: _done(watch) == count * slots, "all chains are done")
    stand.calm()
    writes, _ = stand.writes(position, namespace)
    watch.close()
    gaps = [gap for name in names for gap in _gaps([one for one in watch.jobs.values() if one.job == name])]
    counted = Counter(writes)
    for_runs = sum(counted[what] for what in OF_A_RUN)
    rate = count * slots / took
    what = f"{count} chains of {slots}, " + (f"runs of {seconds:g} s" if seconds else "runs that end at once")
    lines = [
        Line(
            f"{what}: a Job's completion to the next release",
            spread(gaps),
            target="p50 ≤ 30 ms" if seconds else "",
        ),
        Line(f"{what}: runs a second", f"{rate:.1f}"),
        Line(f"{what}: writes a run", f"{for_runs / (count * slots):.2f}", target="≤ 3"),
    ]
    drawn = plot(
        what,
        "ms from a completion to the next release",
        "%",
        {"chains": cumulative([1000 * one for one in gaps])},
    )
    figures = {"gaps": spread(gaps), "runs_a_second": round(rate, 2), "writes": dict(counted)}
    return Result(lines, {f"chains-{seconds:g}": figures}, {f"chains-{seconds:g}": drawn})


def _gaps(jobs: Sequence[Seen]) -> list[float]:
    ordered = sorted(jobs, key=lambda one: one.slot)
    return [
        later.released - earlier.finished
        for earlier, later in pairwise(ordered)
        if earlier.finished is not None and later.released is not None
    ]


def idle_writes(stand: Stand, seconds: float) -> Result:
    """What the operator writes while nothing is due."""
    _, position = stand.writes(0, "bench-chains-0")
    time.sleep(seconds)
    writes, _ = stand.writes(position, "bench-chains-0")
    line = Line(f"writes for idle resources in {seconds:.0f} s", str(len(writes)), target="0")
    return Result([line], {"idle_writes": len(writes)})
