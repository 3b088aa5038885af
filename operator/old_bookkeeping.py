"""Read the original crontabber's bookkeeping from a Django `dumpdata` of its Job (and Log) table.

The original's failure path stores the failed slot as the last success, so its `last_success` can't be trusted
while `error_count` isn't 0: then the Log has the truth, else it is found by counting back. This module must
not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from crontabber_operator.models import LastError, Spec, Status
from crontabber_operator.observed import SECOND

JOB_MODEL, LOG_MODEL = "job", "log"
_CLASS = re.compile(r"<class '(?P<path>[\w.]+)'>")
_VALUE = re.compile(r"'value': (?P<quote>['\"])(?P<value>.*?)(?P=quote)(?:,|\})", re.DOTALL)


class DumpError(ValueError):
    """The dump can't be read; the message says where and what is expected."""


@dataclass(frozen=True, slots=True)
class OldRecord:
    """What the original knew of one job. Times are UTC."""

    first_run: datetime | None = None
    last_run: datetime | None = None
    last_success: datetime | None = None
    """As the Job table has it: the failed slot, where `error_count` isn't 0."""
    next_run: datetime | None = None
    error_count: int = 0
    error: LastError | None = None
    ongoing: datetime | None = None
    logged_success: datetime | None = None
    """The newest success in the Log; None also where the dump has no Log."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The bookkeeping as a status, and what a person should know about it."""

    status: Status
    notes: tuple[str, ...] = ()


def read_dump(text: str, filename: str) -> dict[str, OldRecord]:
    """Read a dump (JSON, or a JSON object a line), by the name of the command. Raises DumpError."""
    records: dict[str, OldRecord] = {}
    logged: dict[str, datetime] = {}
    errors: dict[str, tuple[datetime, LastError]] = {}
    for number, entry in enumerate(_entries(text, filename), start=1):
        model, fields = str(entry.get("model", "")), entry.get("fields")
        kind = model.rpartition(".")[2]
        if kind not in (JOB_MODEL, LOG_MODEL) or not isinstance(fields, dict) or "app_name" not in fields:
            continue
        place = f"{filename}: entry {number} ({model} {fields['app_name']})"
        name = str(fields["app_name"])
        if kind == JOB_MODEL:
            records[name] = _record(fields, place)
            continue
        success, logged_at = _time(fields.get("success"), place), _time(fields.get("log_time"), place)
        if success is not None:
            logged[name] = max(success, logged.get(name, success))
        elif logged_at is not None and (name not in errors or errors[name][0] < logged_at):
            errors[name] = logged_at, _logged_error(fields, logged_at)
    if not records:
        message = (
            f"{filename}: has no rows of the Job table; make it with 'manage.py dumpdata cron.job cron.log'."
        )
        raise DumpError(message)
    return {
        name: replace(
            record,
            logged_success=logged.get(name),
            error=errors[name][1] if record.error_count and name in errors else record.error,
        )
        for name, record in records.items()
    }


def restore(record: OldRecord, spec: Spec) -> Restored:
    """Turn a record into the status that its job goes on from."""
    notes = []
    success, cursor = _last_success(record, spec)
    if record.error_count and spec.backfill and success is not None and record.logged_success is None:
        notes.append(
            f"it failed {record.error_count} times in a row, and the original keeps the failed slot as the"
            f" last success: that is taken to be {success:%Y-%m-%dT%H:%MZ}, so that each failed slot runs"
            " again. Dump cron.log too, to have it exactly"
        )
    elif record.error_count and success is None and cursor is not None:
        notes.append("its last success is not known (it fails, and the dump has no Log of it)")
    elif record.error_count and success is not None:
        notes.append(
            f"it fails; its last success was {success:%Y-%m-%dT%H:%MZ}, and it runs again from there"
        )
    if record.ongoing is not None:
        notes.append(f"it was running since {record.ongoing:%Y-%m-%dT%H:%MZ}; that run is not counted")
    status = Status(
        first_run_time=record.first_run,
        last_run_time=record.last_run,
        last_success_time=success,
        settled_through=cursor,
        error_count=record.error_count,
        last_error=record.error if record.error_count else None,
    )
    return Restored(status, tuple(notes))


def _last_success(record: OldRecord, spec: Spec) -> tuple[datetime | None, datetime | None]:
    """Return the last success, and up to when no slot has to run any more."""
    if record.last_success is None and record.logged_success is None:
        return None, None
    if not record.error_count or record.last_success is None:
        success = record.last_success or record.logged_success
        return success, success
    if record.logged_success is not None:
        return record.logged_success, record.logged_success
    if spec.backfill:
        # It failed at that many consecutive slots, the newest of which is `last_success`.
        success = spec.slots.nth_newest_until(record.last_success, record.error_count + 1)
        return success, success
    due = spec.slots.newest_until(record.last_success)
    return None, due - SECOND if due is not None else None


def _entries(text: str, filename: str) -> Iterator[Mapping[str, Any]]:
    try:
        parsed = json.loads(text)
    except ValueError:
        try:
            parsed = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            message = f"{filename}: is not the JSON that 'manage.py dumpdata' writes: {error}."
            raise DumpError(message) from error
    if isinstance(parsed, dict):
        parsed = [parsed]
    if not isinstance(parsed, list) or not all(isinstance(entry, dict) for entry in parsed):
        message = f"{filename}: is not a list of objects, as 'manage.py dumpdata' writes it."
        raise DumpError(message)
    yield from parsed


def _record(fields: Mapping[str, Any], place: str) -> OldRecord:
    count = fields.get("error_count") or 0
    if not isinstance(count, int) or count < 0:
        message = f"{place}: error_count must be a number from 0, not {count!r}."
        raise DumpError(message)
    return OldRecord(
        first_run=_time(fields.get("first_run"), place),
        last_run=_time(fields.get("last_run"), place),
        last_success=_time(fields.get("last_success"), place),
        next_run=_time(fields.get("next_run"), place),
        error_count=count,
        error=_error(fields.get("last_error")),
        ongoing=_time(fields.get("ongoing"), place),
    )


def _time(value: object, place: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as error:
        message = f"{place}: {value!r} is no time such as 2026-11-24T08:00:00Z."
        raise DumpError(message) from error
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return aware.replace(microsecond=0)


def _error(value: object) -> LastError | None:
    """Read `last_error`: JSON, or what Python prints of a dict with a class in it."""
    if not value or value == "{}":
        return None
    text = str(value)
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict) and parsed:
        kind = _class_name(str(parsed.get("type", "")))
        return LastError(
            type=kind, value=str(parsed.get("value", "")), traceback=str(parsed.get("traceback", ""))
        )
    found = _VALUE.search(text)
    return LastError(type=_class_name(text), value=found["value"] if found else text)


def _logged_error(fields: Mapping[str, Any], at: datetime) -> LastError:
    return LastError(
        type=_class_name(str(fields.get("exc_type") or "")),
        value=str(fields.get("exc_value") or ""),
        traceback=str(fields.get("exc_traceback") or ""),
        time=at,
    )


def _class_name(text: str) -> str:
    found = _CLASS.search(text)
    name = (found["path"] if found else text).rpartition(".")[2].strip()
    return name if name.isidentifier() else "Error"
