"""What an import of bookkeeping makes of a job's status.

Pure: the status that was exported, the resource and its runs come in, an `Outcome` goes out. This module must
not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from crontabber_operator.bookkeeping import disregard
from crontabber_operator.commands import DONE
from crontabber_operator.models import HISTORY_LENGTH, CommandRecord, HistoryEntry, Status
from crontabber_operator.observed import Observed, RunKind
from crontabber_operator.store import Resource
from crontabber_operator.times import format_time

CLOCK_TOLERANCE = timedelta(seconds=2)
"""A time by a clock that is a little ahead of this one is not in the future."""
COMMAND = "import"
"""How an import is called in `status.lastCommands`."""


class Kind(Enum):
    """What became of an item."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    LEFT = "left as they were"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an import does with one job."""

    kind: Kind
    sentence: str
    status: Status | None = None
    """To be written."""
    may_pass: bool = False
    """It may turn out otherwise later, with nothing done here."""


def merge(incoming: Status, resource: Resource, seen: Observed, now: datetime, *, force: bool) -> Outcome:
    """Say what a job's status is after an import.

    Never invents a run: the cursor moves back only with `force`, or where the job has not succeeded yet.
    Never runs a slot twice: what ran here after the file's cursor, and isn't in the books yet, still counts.
    """
    record = _record(incoming, now)
    if not force and any((one.id, one.name) == (record.id, COMMAND) for one in resource.status.last_commands):
        return Outcome(Kind.UNCHANGED, "unchanged: it was imported before; --force does it again.")
    latest = _latest(incoming.last_success_time, incoming.settled_through)
    if latest is None:
        return Outcome(Kind.UNCHANGED, "unchanged: the file says that it never ran.")
    moves_back = _moves_back(incoming, resource.status)
    refusal = _refusal(latest, resource, seen, now)
    if refusal is not None:
        return refusal
    if moves_back and not force:
        given = incoming.last_success_time
        return Outcome(
            Kind.LEFT,
            f"left as it was: its last success is {written(resource.status.last_success_time)}, in the file"
            f" {written(given)}; --force moves it back, and the slots since then run again.",
        )
    after = _merged(incoming, resource.status, record, moves_back=moves_back)
    if moves_back:
        after = replace(after, disregarded=disregard(seen))
    return Outcome(
        Kind.IMPORTED,
        f"imported: last success {written(after.last_success_time)}, settled up to"
        f" {written(after.settled_through)}.",
        after,
    )


def _refusal(latest: datetime, resource: Resource, seen: Observed, now: datetime) -> Outcome | None:
    """Say why nothing may be written now."""
    if latest > now + CLOCK_TOLERANCE:
        return Outcome(Kind.LEFT, f"left as it was: {written(latest)} is in the future; is this clock right?")
    if resource.deleting:
        return Outcome(Kind.LEFT, "left as it was: it is being deleted.", may_pass=True)
    claim = resource.status.ongoing
    running = [run.name for run in seen.runs if run.running and run.kind is not RunKind.MANUAL]
    if claim is not None or running:
        job = claim.job if claim is not None else running[0]
        sentence = f"left as it was: Job {job} is running; wait for its end (--wait SECONDS), or delete it."
        return Outcome(Kind.LEFT, sentence, may_pass=True)
    return None


def _moves_back(incoming: Status, here: Status) -> bool:
    """Tell whether an import would take a success back."""
    if here.last_success_time is None:
        return False
    given, settled = incoming.last_success_time, incoming.settled_through
    return (
        given is None
        or given < here.last_success_time
        or (settled is not None and here.settled_through is not None and settled < here.settled_through)
    )


def _merged(incoming: Status, here: Status, record: CommandRecord, *, moves_back: bool) -> Status:
    """Put what travels into a status; what belongs to this cluster (conditions, state…) stays."""
    history = sorted({*incoming.history, *here.history}, key=_when, reverse=True)
    commands = sorted({*incoming.last_commands, *here.last_commands}, key=_given, reverse=True)
    settled = incoming.settled_through
    if not moves_back and here.last_success_time is not None:
        settled = _latest(settled, here.settled_through)
    return replace(
        here,
        first_run_time=_earliest(incoming.first_run_time, here.first_run_time),
        last_run_time=_latest(incoming.last_run_time, here.last_run_time),
        last_success_time=incoming.last_success_time,
        settled_through=settled,
        skipped=max(incoming.skipped, here.skipped),
        skipped_by=(incoming if incoming.skipped >= here.skipped else here).skipped_by,
        error_count=incoming.error_count,
        last_error=incoming.last_error,
        retry=None,
        history=tuple(history[:HISTORY_LENGTH]),
        last_commands=(record, *commands)[:HISTORY_LENGTH],
    )


def _record(incoming: Status, now: datetime) -> CommandRecord:
    """Write an import down as a command: its id is that of what was imported."""
    text = json.dumps(incoming.write(), sort_keys=True)
    return CommandRecord(
        id=f"import-{hashlib.sha256(text.encode()).hexdigest()[:16]}",
        name=COMMAND,
        value=written(incoming.last_success_time),
        time=now.replace(microsecond=0),
        result=DONE,
    )


def _when(entry: HistoryEntry) -> tuple[datetime, int]:
    return entry.finished or entry.started or entry.slot, entry.attempt


def _given(record: CommandRecord) -> datetime:
    return record.time or datetime.min.replace(tzinfo=UTC)


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def written(time: datetime | None) -> str:
    """Write a time for people; there may be none."""
    return format_time(time) if time is not None else "none"
