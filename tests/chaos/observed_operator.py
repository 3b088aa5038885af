"""The operator, and beside it a task that tells what it holds: `kopf run -m tests.chaos.observed_operator`.

OBSERVED names the file that a JSON line is added to every few seconds. What it tells can't be seen from outside.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from pathlib import Path
from typing import Any

import kopf

import crontabber_operator.handlers  # noqa: F401 - registers with kopf

EVERY_SECONDS = 5.0
_tasks: set[asyncio.Task[None]] = set()


@kopf.on.startup()
async def observe(**_: Any) -> None:
    """Begin to tell."""
    task = asyncio.create_task(_tell(Path(os.environ["OBSERVED"])), name="observer")
    _tasks.add(task)


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Tell no more."""
    for task in _tasks:
        task.cancel()


async def _tell(path: Path) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        entry = {"at": time.time(), "tasks": len(asyncio.all_tasks()), "objects": len(gc.get_objects())}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
