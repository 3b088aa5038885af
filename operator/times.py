"""Times as the API server writes them: RFC 3339, UTC, whole seconds. It must not read a clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_NOT_A_TIME = "must be an RFC 3339 time, such as 2026-11-24T08:00:00Z"
_WHOLE_SECONDS_LENGTH = len("2026-11-24T08:00:00Z")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; the result is UTC, cut to whole seconds.

    Raises ValueError for anything else, a time without an offset included.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(_NOT_A_TIME)
    if text.endswith("Z") and len(text) == _WHOLE_SECONDS_LENGTH:
        return datetime.fromisoformat(text)  # all that the API server and we write; 40 of them in a status
    return _whole_utc(datetime.fromisoformat(text.upper()))


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
        return _whole_utc(value)
    if isinstance(value, str):
        return parse_time(value)
    raise ValueError(_NOT_A_TIME)


UtcTime = Annotated[
    datetime,
    BeforeValidator(read_time),
    PlainSerializer(format_time, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
