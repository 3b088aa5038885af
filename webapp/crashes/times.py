"""Times as the commands are told them: UTC, `YYYY-MM-DDTHH:MM` or RFC 3339. Reads no clock."""

import argparse
import re
from datetime import UTC, datetime

_ACCEPTED = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII | re.IGNORECASE
)


def parse_time(text: str) -> datetime:
    """The time that `text` means, aware and in UTC; without an offset it is UTC, without a time of day 00:00.

    Raises ValueError with a sentence that says what is accepted.
    """
    text = text.strip()
    if _ACCEPTED.fullmatch(text):
        try:
            time = datetime.fromisoformat(text.upper())
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is not a time: {error}") from None
    raise ValueError(f"{text!r} is not a time: write it as 2026-11-24T05:00 or 2026-11-24T05:00:00Z (UTC)")


def time_argument(text: str) -> datetime | None:
    """For argparse: as parse_time; the empty string, which stands for an absent last success, is None."""
    if not text.strip():
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def format_time(time: datetime) -> str:
    """`2026-11-24T05:00Z`, with seconds only where there are some."""
    time = time.astimezone(UTC).replace(tzinfo=None)
    return time.isoformat(timespec="seconds" if time.second else "minutes") + "Z"
