"""The operator with a crash in it: `kopf run -m faulty_operator`. For tests only.

OPERATOR_FAULT is `<point>:<before|after>[:<which>[:stop|raise|hang|block]]`: at the n-th write (from 1) of that
kind the process kills itself, before the request is sent or after it was answered. With `stop` it only stops (SIGSTOP),
as a process does whose machine was paused, and the test lets it go on when all is different; with `raise` something
goes wrong that nobody expects; with `hang` the pass never goes on, with `block` nothing does. `none`: no fault. `deaf`:
the watches are not heard; `blind-to-jobs`, `blind-to-runs`: those of Jobs, or of CronJobs too, show nothing; `clock`:
nobody is woken by time; `ended`: nor is anything else, as the ticker has ended.
HEALTH_LASTS_SECONDS, HEALTH_ECHO_SECONDS, HEALTH_STUCK_SECONDS, HEALTH_TICKER_SECONDS: after so long a probe fails.
OPERATOR_USURPS=on: it takes the Lease whoever holds it, and always believes that it leads.
OPERATOR_FOLLOWED_AT_ONCE lowers the number of outputs that are followed at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from crontabber_operator import following, health, reconciler, watching
from crontabber_operator.cluster import Cluster
from crontabber_operator.election import Watch
from crontabber_operator.elector import Elector
from crontabber_operator.handlers import Operator
from crontabber_operator.manifests import RUN_NOW
from crontabber_operator.store import Kind
from crontabber_operator.ticker import Ticker
from crontabber_operator.watching import Watching

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
    """Count what this process itself wrote as Pending before, not what was done before it began."""
    told = status.get("lastCommands") or []
    _seen.update(f"pending {one['id']}" for one in told if one["result"] == "Pending")
    return any(
        one["result"] == "Done" and f"pending {one['id']}" in _seen and _once(f"done {one['id']}")
        for one in told
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
        if strikes and rest[1:] == ["hang"]:
            await asyncio.Event().wait()
        if strikes and rest[1:] == ["block"]:
            threading.Event().wait()
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


async def _for_ever(_: object) -> None:
    await asyncio.Event().wait()


def _blind_to(*kinds: Kind) -> Callable[..., None]:
    shown = Operator.shown

    def shows(self: Operator, kind: Kind, body: Mapping[str, Any], type_: str | None = None) -> None:
        if kind not in kinds:
            shown(self, kind, body, type_)

    return shows


async def _ends(_: object) -> None:
    raise RuntimeError("the ticker has a fault")


WHOLE: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "deaf": (Watching, "saw", _always),
    "blind-to-jobs": (Operator, "shown", _blind_to(Kind.JOB)),
    "blind-to-runs": (Operator, "shown", _blind_to(Kind.JOB, Kind.CRONJOB)),
    "clock": (Ticker, "run", _for_ever),
    "ended": (Ticker, "run", _ends),
}
"""Faults that are there from the start."""
TIMES: dict[str, Callable[[float], None]] = {
    "HEALTH_LASTS_SECONDS": lambda seconds: setattr(health, "LASTS_SECONDS", seconds),
    "HEALTH_ECHO_SECONDS": lambda seconds: setattr(watching, "ECHO_SECONDS", seconds),
    "HEALTH_STUCK_SECONDS": lambda seconds: setattr(reconciler, "PASS_SECONDS", seconds),
    "HEALTH_TICKER_SECONDS": lambda seconds: setattr(reconciler, "TICKER_LATE", timedelta(seconds=seconds)),
}

if os.environ["OPERATOR_FAULT"] in WHOLE:
    setattr(*WHOLE[os.environ["OPERATOR_FAULT"]])
elif os.environ["OPERATOR_FAULT"] != "none":
    _install(os.environ["OPERATOR_FAULT"])
if "OPERATOR_FOLLOWED_AT_ONCE" in os.environ:
    following.FOLLOWED_AT_ONCE = int(os.environ["OPERATOR_FOLLOWED_AT_ONCE"])  # type: ignore[misc]
for variable, shorten in TIMES.items():
    if variable in os.environ:
        shorten(float(os.environ[variable]))
        health.LOOK_SECONDS = 1.0
if os.environ.get("OPERATOR_USURPS") == "on":
    setattr(Watch, "may_take", _always)  # noqa: B010 - mypy knows that it is a method
    setattr(Elector, "may_write", _always)  # noqa: B010
    setattr(Elector, "_is_lost", lambda _: False)  # noqa: B010
