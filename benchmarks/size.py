"""Ten thousand resources and more: first creation, a restart, memory, and what it costs to do nothing."""

from __future__ import annotations

import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil

from benchmarks.figures import Line, Result, plot
from benchmarks.release import away
from benchmarks.stand import Stand, resource, resources_path
from tests.integration.chart_release import free_ports

GATED_SHARE = 10
ASK_SECONDS = 1.0
"""How often the operator is asked for its metrics, which of 10,000 resources take it most of a second."""
_COUNT = re.compile(r"^crontabber_reconcile_duration_seconds_count(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def passes(port: int) -> int:
    """Return how many passes over resources an operator has done; 0 while it doesn't answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            found = _COUNT.search(answer.read().decode())
    except OSError:
        return 0
    return int(float(found[1])) if found else 0


def grown(stand: Stand, sizes: list[int], idle_seconds: float, edit_at: int) -> Iterator[Result]:
    """Measure at each of these sizes, growing from one to the next; at one of them edit all. Figures come last."""
    namespace = stand.namespace("size")
    path = resources_path(namespace)
    rows: list[dict[str, Any]] = []
    made = 0
    for size in sizes:
        if not stand.operators or not stand.operators[-1].runs:
            stand.start_operator()
        schedule = away()
        _, position = stand.writes(0, namespace)
        began = time.monotonic()
        created = stand.create(
            path,
            (
                resource(
                    f"job-{number}",
                    schedule=schedule,
                    **({"passLastSuccess": True} if number % GATED_SHARE == 0 else {}),
                )
                for number in range(made, size)
            ),
        )
        stand.wait(partial(_are_scheduled, stand, namespace, size), "all are scheduled")
        scheduled = time.monotonic() - began
        stand.calm()
        writes, position = stand.writes(position, namespace)
        stand.operators[-1].kill()
        (port,) = free_ports(1)
        operator = stand.start_operator(CRONTABBER_METRICS=f"127.0.0.1:{port}")
        process = psutil.Process(operator.pid)
        restarted = stand.wait(
            partial(_were_looked_at, port, size),
            "all were looked at after the restart",
            every_seconds=ASK_SECONDS,
        )
        peak = _peak_bytes(operator.pid)
        time.sleep(3)
        before, at = process.cpu_times(), time.monotonic()
        time.sleep(idle_seconds)
        after = process.cpu_times()
        cpu = (after.user + after.system - before.user - before.system) / (time.monotonic() - at)
        again, _ = stand.writes(position, namespace)
        rows.append(
            {
                "resources": size,
                "created_by_the_client_seconds": round(created, 1),
                "scheduled_seconds": round(scheduled, 1),
                "writes_at_first": dict(Counter(writes)),
                "restart_seconds": round(restarted, 1),
                "peak_rss_mb": round(peak / 1e6),
                "idle_cpu_percent": round(100 * cpu, 2),
                "writes_after_restart": len(again),
            }
        )
        new = size - made
        lines = [
            Line(
                f"{size} resources: {new} new ones scheduled",
                f"{scheduled:.1f} s",
                f"{created:.1f} s to create them",
                f"{scheduled / created:.2f}",
            ),
            Line(f"{size} resources: writes for each new one", f"{len(writes) / new:.2f}"),
            Line(
                f"{size} resources: all looked at after a restart",
                f"{restarted:.1f} s",
                target="≤ 15 s at 10,000",
            ),
            Line(f"{size} resources: writes after a restart", str(len(again)), target="0"),
            Line(f"{size} resources: peak memory", f"{peak / 1e6:.0f} MB", target="≤ 250 MB at 10,000"),
            Line(f"{size} resources: idle CPU", f"{100 * cpu:.2f} %", target="≤ 2 % of a core"),
        ]
        yield Result(lines)
        made = size
        if size == edit_at:
            yield _edited(stand, namespace, size)
    plots = {}
    if len(rows) > 1:
        plots["size"] = plot(
            "Growth with the number of resources",
            "resources",
            "seconds after a restart; memory in 10 MB",
            {
                "restart, s": [(0, 0), *((row["resources"], row["restart_seconds"]) for row in rows)],
                "peak RSS, 10 MB": [(row["resources"], row["peak_rss_mb"] / 10) for row in rows],
            },
        )
    yield Result(figures={"size": rows}, plots=plots)


def _edited(stand: Stand, namespace: str, size: int) -> Result:
    """Edit all of them: what a mass edit costs in writes."""
    path = resources_path(namespace)
    _, position = stand.writes(0, namespace)
    began = time.monotonic()
    stand.patch((f"{path}/job-{number}" for number in range(size)), {"spec": {"failedJobsHistoryLimit": 2}})
    stand.wait(
        lambda: all(
            one["status"].get("observedGeneration") == one["metadata"]["generation"]
            for one in stand.resources(namespace)
        ),
        "all edits were seen",
    )
    took = time.monotonic() - began
    stand.calm()
    writes, _ = stand.writes(position, namespace)
    line = Line(f"edit of {size} resources", f"{took:.1f} s, {len(writes) / size:.2f} writes each")
    return Result([line], {"mass_edit": {"seconds": round(took, 1), "writes": dict(Counter(writes))}})


def _are_scheduled(stand: Stand, namespace: str, size: int) -> bool:
    page = stand.api.request("GET", f"/apis/batch/v1/namespaces/{namespace}/cronjobs?limit=1")
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0) >= size


def _were_looked_at(port: int, size: int) -> bool:
    return passes(port) >= size


def _peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    assert found is not None
    return 1024 * int(found[1])
