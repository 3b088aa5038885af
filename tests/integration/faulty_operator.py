"""The operator with a crash in it: `kopf run -m faulty_operator`. For tests only.

OPERATOR_FAULT is `<point>:<before|after>[:<which>[:stop|raise]]`: at the n-th write (from 1) of that kind the process
kills itself, before the request is sent or after it was answered; with `stop` it only stops (SIGSTOP), as a
process does whose machine was paused, and the test lets it go on when the world has changed; with `raise` something
goes wrong that nobody expects. `none`: no fault.
OPERATOR_FIRST_LISTING_SECONDS shortens the time after the start in which listings are the first ones.
OPERATOR_FOLLOWED_AT_ONCE lowers the number of outputs that are followed at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import crontabber_operator.handlers  # noqa: F401 - registers with kopf
from crontabber_operator import following, sweeper
from crontabber_operator.cluster import Cluster
from crontabber_operator.manifests import RUN_NOW

Status = Mapping[str, Any]
_seen: set[str] = set()


def _once(token: str) -> bool:
    fresh = token not in _seen
    _seen.add(token)
    return fresh


def _claims(_owner: object, _version: str, status: Status) -> bool:
    ongoing = status.get("ongoing")
    return ongoing is not None and _once(f"claim {ongoing['uid']}")


def _records(_owner: object, _version: str, status: Status) -> bool:
    history = status.get("history") or []
    return bool(history) and _once(f"record {history[0]}")


def _takes_command(_owner: object, _version: str, status: Status) -> bool:
    return any(
        one["result"] == "Pending" and _once(f"pending {one['id']}")
        for one in status.get("lastCommands") or []
    )


def _completes_command(_owner: object, _version: str, status: Status) -> bool:
    return any(
        one["result"] == "Done" and _once(f"done {one['id']}") for one in status.get("lastCommands") or []
    )


def _is_run_now(manifest: Mapping[str, Any]) -> bool:
    return RUN_NOW in manifest["metadata"]["annotations"]


def _always(*_: object, **__: object) -> bool:
    return True


POINTS: dict[str, tuple[str, Callable[..., bool]]] = {
    "create": ("create_job", lambda manifest: not _is_run_now(manifest)),
    "claim": ("write_status", _claims),
    "release": ("patch_job", _always),
    "record": ("write_status", _records),
    "discard": ("delete_job", _always),
    "pending": ("write_status", _takes_command),
    "removal": ("remove_annotations", _always),
    "done": ("write_status", _completes_command),
    "run-now": ("create_job", _is_run_now),
    "cronjob": ("create_cronjob", _always),
    "move": ("move_last_schedule", _always),
}
"""What can be told apart: the request, and whether it is of this kind."""


def _install(fault: str) -> None:
    point, when, *rest = fault.split(":")
    which = int(rest[0]) if rest else 1
    raises = rest[1:] == ["raise"]
    number = signal.SIGSTOP if rest[1:] == ["stop"] else signal.SIGKILL
    name, concerns = POINTS[point]
    original: Callable[..., Awaitable[Any]] = getattr(Cluster, name)
    count = 0

    async def faulty(self: Cluster, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += concerns(*args, **kwargs)
        strikes = count == which
        if strikes:
            count += 1
        if strikes and raises:
            raise RuntimeError("an unexpected fault")
        if strikes and when == "before":
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
        answer = await original(self, *args, **kwargs)
        if strikes and when == "after":
            os.kill(os.getpid(), number)
        return answer

    setattr(Cluster, name, faulty)


if os.environ["OPERATOR_FAULT"] != "none":
    _install(os.environ["OPERATOR_FAULT"])
if "OPERATOR_FOLLOWED_AT_ONCE" in os.environ:
    following.FOLLOWED_AT_ONCE = int(os.environ["OPERATOR_FOLLOWED_AT_ONCE"])  # type: ignore[misc]
if "OPERATOR_FIRST_LISTING_SECONDS" in os.environ:
    sweeper.FIRST_LISTING = timedelta(seconds=float(os.environ["OPERATOR_FIRST_LISTING_SECONDS"]))
