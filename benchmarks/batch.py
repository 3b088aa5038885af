"""Many missed slots of the sample app: in batches, one Job a slot, and in one process as the original did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.figures import Line, Result, ratio
from benchmarks.release import away, before
from benchmarks.stand import ROOT, Body, Stand, resource, resources_path

COMMAND = "updatesignatures"
WEBAPP = ROOT / "webapp"


def compared(stand: Stand, slots: int, single_slots: int, rounds: int) -> Result:
    """Measure all three in turn, so many times."""
    namespace = stand.namespace("batch")
    loops, batched, singles = [], [], []
    for number in range(rounds):
        loops.append(_loop(_database(stand, f"loop-{number}"), slots))
        batched.append(_job(stand, namespace, f"batch-{number}", slots, 1000))
        singles.append(_job(stand, namespace, f"single-{number}", single_slots, 1) / single_slots)
    loop, batch, single = min(loops), min(batched), min(singles)
    lines = [
        Line(
            f"{slots} missed slots in batches, beside one process with call_command",
            f"{batch:.1f} s ({1000 * batch / slots:.1f} ms a slot)",
            f"{loop:.1f} s ({1000 * loop / slots:.1f} ms a slot)",
            ratio(batch, loop),
        ),
        Line(
            "a missed slot in a batch, beside one Job a slot (local processes)",
            f"{1000 * batch / slots:.1f} ms",
            f"{1000 * single:.0f} ms",
            f"1/{single * slots / batch:.0f}",
        ),
    ]
    figures: dict[str, Any] = {
        "batch": {
            "slots": slots,
            "loop_seconds": [round(one, 2) for one in loops],
            "batch_seconds": [round(one, 2) for one in batched],
            "job_a_slot_seconds_each": [round(one, 3) for one in singles],
        }
    }
    return Result(lines, figures)


def _database(stand: Stand, name: str) -> Path:
    path = stand.folder / f"{name}.sqlite3"
    manage = [sys.executable, "manage.py"]
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{path}"}
    for arguments in (["migrate", "-v0"], ["seed", "--crashes=1000", "--until=2026-11-24T12:00"]):
        subprocess.run(
            [*manage, *arguments], cwd=WEBAPP, env=environment, check=True, stdout=subprocess.DEVNULL
        )
    return path


def _loop(database: Path, slots: int) -> float:
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(hours=slots)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "old_loop.py"), COMMAND, first.isoformat(), str(slots)],
        cwd=WEBAPP,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{database}"},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(json.loads(done.stderr.strip().splitlines()[-1])["seconds"])


def _job(stand: Stand, namespace: str, name: str, slots: int, batch: int) -> float:
    """Return the seconds from the mark that makes the slots missed to the moment at which none is."""
    database = _database(stand, name)
    schedule = away()
    env = [{"name": "DATABASE_URL", "value": f"sqlite:///{database}"}]
    container = {"name": "web", "image": "webapp", "env": env}
    body = resource(
        name,
        command=COMMAND,
        schedule=schedule,
        backfill=True,
        passLastSuccess=True,
        backfillBatch=batch,
        template={"spec": {"containers": [container]}},
    )
    path = resources_path(namespace)
    stand.create(path, [body])
    stand.wait(lambda: (_status(stand, path, name)).get("state") == "Waiting", "it is scheduled")
    mark = {"metadata": {"annotations": {"crontabber.dev/mark-success": before(schedule, slots)}}}
    began = time.monotonic()
    stand.patch([f"{path}/{name}"], mark)
    stand.wait(lambda: _status(stand, path, name).get("missed") == slots, "its slots are missed")
    stand.wait(lambda: _status(stand, path, name).get("missed") == 0, "it has caught up")
    return time.monotonic() - began


def _status(stand: Stand, path: str, name: str) -> Body:
    found: Body = stand.api.request("GET", f"{path}/{name}").get("status") or {}
    return found
