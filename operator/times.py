"""Times as the API server writes them: RFC 3339, UTC, whole seconds. It must not read a clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

YEARS = range(1970, 2200)
_FIRST_TIME = datetime(YEARS.start, 1, 1, tzinfo=UTC)
_LAST_TIME = datetime(YEARS.stop - 1, 12, 31, 23, 59, 59, tzinfo=UTC)
_NOT_A_TIME = "must be an RFC 3339 time, such as 2026-11-24T08:00:00Z"
_NOT_OUR_TIME = f"must be a time from {YEARS.start} to {YEARS.stop - 1}"
_WHOLE_SECONDS_LENGTH = len("2026-11-24T08:00:00Z")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; the result is UTC, cut to whole seconds.

    Raises ValueError for anything else: a time without an offset, or one that no run can have. (To count the
    slots since the year 1 would hold up all jobs.)
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(_NOT_A_TIME)
    if text.endswith("Z") and len(text) == _WHOLE_SECONDS_LENGTH:
        time = datetime.fromisoformat(text)  # all that the API server and we write; 40 of them in a status
    else:
        time = _whole_utc(datetime.fromisoformat(text.upper()))
    if time.year not in YEARS:
        raise ValueError(_NOT_OUR_TIME)
    return time


def format_time(time: datetime) -> str:
    """Write an aware time as the API server does: `2026-11-24T08:00:00Z`, whole seconds."""
    return _whole_utc(time).isoformat().removesuffix("+00:00") + "Z"


def _whole_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        message = "a time without a time zone"
        raise ValueError(message)
    if time.tzinfo is UTC and not time.microsecond:
        return time
    try:
        return time.astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        message = "a time outside of the years 1 to 9999"
        raise ValueError(message) from error


def read_time(value: object) -> datetime:
    """Take an aware time, or read one. Raises ValueError."""
    if isinstance(value, datetime):
        # What is written must be read again as it is, or it would be written again and again.
        return min(max(_whole_utc(value), _FIRST_TIME), _LAST_TIME)
    if isinstance(value, str):
        return parse_time(value)
    raise ValueError(_NOT_A_TIME)


UtcTime = Annotated[
    datetime,
    BeforeValidator(read_time),
    PlainSerializer(format_time, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
