"""The operator with an unexpected error in it, or a wrong clock: `kopf run -m poisoned_operator`. For tests only.

OPERATOR_POISON is `<where>:<name>:<times>`: what is done there for this resource raises, so often.
OPERATOR_CLOCK names a file: this machine's clock, as the operator reads it, is so many seconds ahead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import crontabber_operator.handlers  # noqa: F401 - registers with kopf
from crontabber_operator import reconciler, server_clock
from crontabber_operator.neighbours import Neighbours
from crontabber_operator.projection import owner_name
from crontabber_operator.store import Store


def _of_body(_self: Store, body: Mapping[str, Any], **_: object) -> str:
    return owner_name(body) or str(body["metadata"]["name"])


PLACES: dict[str, tuple[object, str, Callable[..., str]]] = {
    "put_resource": (Store, "put_resource", _of_body),
    "put_job": (Store, "put_job", _of_body),
    "put_cronjob": (Store, "put_cronjob", _of_body),
    "decide": (reconciler, "decide", lambda job, *_: job.name),
    "begins": (Neighbours, "begins", lambda _self, key: key.name),
    "rests": (Neighbours, "rests", lambda _self, key, **_: key.name),
}
"""What can be poisoned: a function, and of which resource it is called for."""


def _poison(told: str) -> None:
    where, name, times = told.split(":")
    holder, attribute, whom = PLACES[where]
    original: Callable[..., Any] = getattr(holder, attribute)
    left = int(times)

    def poisoned(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left and whom(*args, **kwargs) == name:
            left -= 1
            raise RuntimeError("poisoned")
        return original(*args, **kwargs)

    setattr(holder, attribute, poisoned)


def _shift(file: Path) -> None:
    def local_time() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(file.read_text(encoding="utf-8")))

    server_clock.ServerClock.__init__.__defaults__ = (local_time, time.monotonic)  # type: ignore[misc]


if "OPERATOR_POISON" in os.environ:
    _poison(os.environ["OPERATOR_POISON"])
if "OPERATOR_CLOCK" in os.environ:
    _shift(Path(os.environ["OPERATOR_CLOCK"]))
