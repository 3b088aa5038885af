"""What the status page shows of a job: a row of the table, and what a click on it opens.

PURE. All is data for JSON; the page writes it as text, never as markup. No arguments and no values of annotations are
in it: people put secrets there. It must not import kopf, kubernetes or aiohttp, or read a clock.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from crontabber_operator.figures import Figures
from crontabber_operator.models import ConditionType, HistoryEntry, InvalidSpec, Status
from crontabber_operator.store import Resource

NOTE_MAX_CHARACTERS: Final = 300


def row(resource: Resource, figures: Figures | None) -> dict[str, Any]:
    """Return what the table shows; `figures` are None where the spec is invalid."""
    spec, status = resource.spec, resource.status
    schedule, zone, command = status.schedule, "", ""
    if not isinstance(spec, InvalidSpec):
        schedule, zone, command = spec.schedule_text, spec.time_zone or "", spec.command
    return {
        "namespace": resource.owner.namespace,
        "name": resource.owner.name,
        "state": status.state.value if status.state is not None else "",
        "schedule": schedule,
        "zone": zone,
        "command": command,
        "last": _epoch(status.last_success_time),
        "next": _epoch(status.next_run_time),
        "missed": figures.missed if figures is not None else None,
        "errors": status.error_count,
        "note": _note(status)[:NOTE_MAX_CHARACTERS],
        "runs": [_run(entry) for entry in reversed(status.history)],
    }


def _run(entry: HistoryEntry) -> list[Any]:
    return [entry.result.value, _epoch(entry.slot), entry.seconds, entry.attempt]


def _note(status: Status) -> str:
    """Return the one sentence that a person on call wants to read first."""
    ready = status.condition(ConditionType.READY)
    if ready is not None and ready.status == "False":
        return ready.message
    if status.error_count and status.last_error is not None:
        return status.last_error.message
    caught_up = status.condition(ConditionType.CAUGHT_UP)
    return caught_up.message if caught_up is not None and caught_up.status == "False" else ""


def details(resource: Resource) -> dict[str, Any]:
    """Return what else is known of a job."""
    status = resource.status
    error, ongoing = status.last_error, status.ongoing
    return {
        "error": {
            "text": error.traceback or error.message,
            "slot": _epoch(error.slot),
            "time": _epoch(error.time),
            "job": error.job,
        }
        if error is not None
        else None,
        "ongoing": {"slot": _epoch(ongoing.slot), "since": _epoch(ongoing.since), "attempt": ongoing.attempt}
        if ongoing is not None
        else None,
        "history": [
            {
                "result": entry.result.value,
                "slot": _epoch(entry.slot),
                "attempt": entry.attempt,
                "started": _epoch(entry.started),
                "seconds": entry.seconds,
                "message": entry.message,
            }
            for entry in status.history
        ],
        "conditions": [
            {"type": one.type, "status": one.status, "message": one.message or one.reason}
            for one in status.conditions
        ],
        "commands": [
            {"name": one.name, "time": _epoch(one.time), "result": one.result} for one in status.last_commands
        ],
    }


def _epoch(time: datetime | None) -> int | None:
    return int(time.timestamp()) if time is not None else None
