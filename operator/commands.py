"""Commands that people give by annotation: mark-success, reset, run-now.

Each is done once, wherever the operator is killed: it is written into `status.lastCommands` as pending,
its annotation is removed, then it is done and its result written with its effect in one go. What was given
first is done first; of several at once, in the order reset, mark-success, run-now. `lastCommands` has them
newest first, so the next one is the last of those that are pending. Pure: `next_step()` says what to do next.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from crontabber_operator import bookkeeping
from crontabber_operator.manifests import PREFIX
from crontabber_operator.models import HISTORY_LENGTH, CommandRecord, Ongoing, Status
from crontabber_operator.observed import Job, Observed, Run, latest_proof
from crontabber_operator.times import format_time, parse_time

RESET, MARK_SUCCESS, RUN_NOW = "reset", "mark-success", "run-now"
NAMES = (RESET, MARK_SUCCESS, RUN_NOW)
"""In the order in which they are done, where they are given at once."""
MOVE_CURSOR = frozenset({RESET, MARK_SUCCESS})
"""After them, other slots are due than before."""
COMMAND_ID = f"{PREFIX}command-id"
PENDING = "Pending"
DONE = "Done"
REFUSED = "Refused"
VALUE_MAX_CHARACTERS = 1024
ID_MAX_CHARACTERS = 256
CLOCK_TOLERANCE = timedelta(seconds=2)
"""A time given by a clock that is a little ahead of the operator's is not in the future."""

_WITHOUT_SECONDS = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d)([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class BadValueError(ValueError):
    """The annotation's value can't be used; the message says what is accepted."""


@dataclass(frozen=True, slots=True)
class RunNow:
    """A Job to be made at once, outside the bookkeeping."""

    command_id: str
    extra_args: tuple[str, ...]
    run_time: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; afterwards `next_step()` is asked again."""

    status: Status | None = None
    """To be written."""
    remove: tuple[str, ...] = ()
    """Annotations to be removed, if nothing was changed since."""
    discard: Run | None = None
    """A run that was claimed and not released yet: it goes before its claim is dropped."""
    run_now: RunNow | None = None
    """To be made first; only then `status` is written."""
    done: CommandRecord | None = None
    """What this step completes, to be told."""


def next_step(job: Job, annotations: Mapping[str, str], seen: Observed, now: datetime) -> Step | None:
    """Say what has to be done next for the commands that were given; None: what decide() says."""
    now = latest_proof(seen, now)
    given = {name: annotations[PREFIX + name] for name in NAMES if PREFIX + name in annotations}
    if given:
        return _take(job, given, annotations, now)
    record = next_taken(job.status)
    return None if record is None else _do(job, record, seen, record.time or now.replace(microsecond=0))


def next_taken(status: Status) -> CommandRecord | None:
    """Return the command that is written down and to be done next."""
    return next((record for record in reversed(status.last_commands) if record.result == PENDING), None)


def pending(annotations: Mapping[str, str], status: Status) -> tuple[str, ...]:
    """Name the commands that were given or taken, and are not done."""
    given = [name for name in NAMES if PREFIX + name in annotations]
    taken = [record.name for record in status.last_commands if record.result == PENDING]
    return tuple(dict.fromkeys((*taken, *given)))


def parse_mark(value: str, now: datetime) -> datetime:
    """Read the value of mark-success: empty, `now`, or a time that is not in the future.

    Raises BadValueError.
    """
    text = value.strip()
    if text in ("", "now"):
        return now.replace(microsecond=0)
    short = _WITHOUT_SECONDS.fullmatch(text)
    try:
        time = parse_time(f"{short[1]}:00{short[2]}" if short else text)
    except ValueError as error:
        message = (
            f"mark-success takes 'now' or an RFC 3339 time such as 2026-11-24T08:00:00Z, not {value[:80]!r}."
        )
        raise BadValueError(message) from error
    if time > now + CLOCK_TOLERANCE:
        message = f"mark-success takes 'now' or a time in the past; {format_time(time)} is in the future."
        raise BadValueError(message)
    return time


def parse_run_now(value: str) -> tuple[str, ...]:
    """Read the value of run-now: further arguments, quoted as for a shell (none of which ever sees them).

    Raises BadValueError.
    """
    try:
        args = tuple(shlex.split(value))
    except ValueError as error:
        message = (
            f"run-now takes further arguments in shell quoting, such as --dry-run --day='24 Nov': {error}."
        )
        raise BadValueError(message) from error
    if any("\0" in arg for arg in args) or len(value) > VALUE_MAX_CHARACTERS:
        message = f"run-now takes at most {VALUE_MAX_CHARACTERS} characters of arguments, without NUL."
        raise BadValueError(message)
    return args


def parse_reset(value: str) -> None:
    """Check the value of reset: it takes none. Raises BadValueError."""
    if value.strip():
        message = f"reset takes no value (crontabber.dev/reset=), not {value[:80]!r}."
        raise BadValueError(message)


def _take(job: Job, given: Mapping[str, str], annotations: Mapping[str, str], now: datetime) -> Step:
    """Write the commands down as pending, unless they are; then remove their annotations."""
    wanted_id = annotations.get(COMMAND_ID)
    new = [
        record
        for name, value in given.items()
        if not _is_known(
            job.status,
            record := CommandRecord(
                id=_short(wanted_id) if wanted_id else f"{job.resource_version}-{name}",
                name=name,
                value=value,
                time=now.replace(microsecond=0),
                result=PENDING,
            ),
            has_id=bool(wanted_id),
        )
    ]
    if new:
        records = (*reversed(new), *job.status.last_commands)[:HISTORY_LENGTH]
        return Step(status=replace(job.status, last_commands=records))
    ids = (COMMAND_ID,) if wanted_id is not None else ()
    return Step(remove=(*(PREFIX + name for name in given), *ids))


def _is_known(status: Status, taken: CommandRecord, *, has_id: bool) -> bool:
    """It is pending (then only its annotation is left), or a command with its id was done before.

    `taken` is compared as it would be stored: what is too long for the status is cut there.
    """
    return any(
        record.name == taken.name
        and (record.id == taken.id if has_id else record.result == PENDING and record.value == taken.value)
        for record in status.last_commands
    )


def _short(command_id: str) -> str:
    """Shorten a very long id so that it stays another one than all others."""
    if len(command_id) <= ID_MAX_CHARACTERS:
        return command_id
    digest = hashlib.sha256(command_id.encode(errors="replace")).hexdigest()
    return f"{command_id[: ID_MAX_CHARACTERS - 20]}…{digest[:19]}"


def _do(job: Job, record: CommandRecord, seen: Observed, at: datetime) -> Step | None:
    """Do a command as of the time it was given: the operator may have been killed meanwhile."""
    try:
        if record.name == RUN_NOW:
            run_now = RunNow(record.id, parse_run_now(record.value), at)
            return _complete(job, job.status, record, DONE, run_now=run_now)
        if record.name == RESET:
            parse_reset(record.value)
            after = bookkeeping.reset(job.status, at, bookkeeping.disregard(seen))
        else:
            time = parse_mark(record.value, at)
            after = bookkeeping.mark_success(job.status, time, bookkeeping.disregard(seen))
    except BadValueError as error:
        return _complete(job, job.status, record, f"{REFUSED}: {error}")
    claim = job.status.ongoing
    claimed = next((run for run in seen.runs if claim is not None and run.uid == claim.uid), None)
    if claimed is not None and not claimed.released:
        return Step(discard=claimed)
    if claim is not None and claimed is None and _is_looked_up(seen, claim):
        return None
    return _complete(job, after, record, DONE)


def _is_looked_up(seen: Observed, claim: Ongoing) -> bool:
    """Tell whether decide() has the claimed run looked up, which may only be not seen yet."""
    return claim.uid not in seen.gone and (seen.cronjob is None or seen.cronjob.ours)


def _complete(
    job: Job, after: Status, record: CommandRecord, result: str, run_now: RunNow | None = None
) -> Step:
    done = replace(record, result=result)
    records = tuple(done if one == record else one for one in job.status.last_commands)
    return Step(status=replace(after, last_commands=records), run_now=run_now, done=done)


def run_now_name(name: str, command_id: str) -> str:
    """Name the Job of a run-now; the same command gives the same name, so it is made once."""
    return f"{name}-run-{hashlib.sha256(command_id.encode()).hexdigest()[:8]}"
