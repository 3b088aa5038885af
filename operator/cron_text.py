"""Cron texts: five fields, or a descriptor such as @daily.

PURE. Accepts what robfig/cron's ParseStandard accepts, because the API server and the CronJob controller
read a schedule with it; only two forms are left out that a CrontabberJob has fields of their own for: a
zone in front (`TZ=`) and `@every`. What a text means to a calendar is in `wall_clock`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from crontabber_operator.wall_clock import WallClock


class ScheduleError(ValueError):
    """A schedule, timeZone, frequency or time that can't be used; the message names it and the mend."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def accepts(self) -> str:
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"{self.low}-{self.high}{named}"


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS),
)
_DESCRIPTORS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# What Go's unicode.IsSpace takes for space; str.split() would split at a few control characters more.
_SPACE = re.compile("[\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
# The API server refuses every schedule with TZ in it, wherever.
_ZONE = re.compile(r"(?:CRON_)?TZ=?(\S*)")
# Go's strconv.Atoi: ASCII digits, a sign, 64 bits.
_NUMBER = re.compile(r"[+-]?[0-9]+")
_LARGEST_INT = 2**63 - 1


def parse_cron_text(text: str) -> WallClock:
    """Read a cron text. Raises ScheduleError, which names `schedule`."""
    return _read_fields(text, _DESCRIPTORS.get(text) or _check_form(text))


def cron_fields(text: str) -> list[str]:
    """Split a cron text at white space, as Go does."""
    return [part for part in _SPACE.split(text) if part]


def _check_form(text: str) -> str:
    """Refuse what has no five fields at all, by what it was probably meant to be."""
    if zone := _ZONE.search(text):
        wrong = f"a zone can't be given here: remove {zone[0]!r} and set timeZone: {zone[1] or 'UTC'}"
    elif text.startswith("@every"):
        wrong = "@every can't be used here: set frequency instead, such as 45m, 7h or 3d"
    elif text.strip().startswith("@"):
        wrong = f"is none of {', '.join(_DESCRIPTORS)} (written exactly so)"
    else:
        count = len(cron_fields(text))
        if count == len(_FIELDS):
            return text
        wrong = f"has {count} fields, but must have 5: minute, hour, day of month, month and day of week"
        if count > len(_FIELDS):
            wrong += " (no seconds, no year)"
    raise ScheduleError(f"schedule {text!r}: {wrong}.")


def _read_fields(text: str, fields: str) -> WallClock:
    bits: list[int] = []
    stars: list[bool] = []
    for field, part in zip(_FIELDS, cron_fields(fields), strict=True):
        try:
            values, star = _read_field(field, part)
        except ScheduleError as error:
            raise ScheduleError(f"schedule {text!r}: {field.name} {part!r}: {error}.") from None
        bits.append(values)
        stars.append(star)
    minutes, hours, month_days, months, weekdays = bits
    either_day = not (stars[2] or stars[4])
    return WallClock(minutes, hours, month_days, months, weekdays, either_day)


def _read_field(field: _Field, part: str) -> tuple[int, bool]:
    """Return a field's values as bits, and whether it counts as a star; empty parts of a list are nothing."""
    values, star = 0, False
    for item in part.split(","):
        if item:
            more, is_star = _read_range(field, item)
            values |= more
            star |= is_star
    return values, star


def _read_range(field: _Field, item: str) -> tuple[int, bool]:
    """Read `*`, `?`, `5`, `5-9`, each with or without a step.

    With a step above 1, a star is not a star any more: `*/2` restricts the days, as `1-31/2` does.
    """
    range_text, *steps = item.split("/")
    low_text, *high_texts = range_text.split("-")
    if len(steps) > 1:
        raise ScheduleError(f"{item!r} has more than one '/'; write one step, such as */5")
    star = low_text in ("*", "?")
    if star:
        low, high = field.low, field.high
    elif len(high_texts) > 1:
        raise ScheduleError(
            f"{item!r} has more than one '-'; write one range, such as 1-5, and commas between ranges"
        )
    else:
        low = _read_value(field, low_text)
        # A step without an end goes on to the largest value: 5/15 is 5-59/15.
        high = _read_value(field, high_texts[0]) if high_texts else field.high if steps else low
    # `*/5` and, oddly, `*-3/5`: what follows the star's hyphen is never looked at.
    step = _read_number(steps[0]) if steps else 1
    if step is None or step == 0:
        raise ScheduleError(f"the step {steps[0]!r} must be a whole number from 1")
    for value in (low, high):
        if not field.low <= value <= field.high:
            raise ScheduleError(_out_of_range(field, value))
    if low > high:
        raise ScheduleError(f"the range {range_text!r} ends before it begins; write it as two, with a comma")
    values = 0
    for value in range(low, high + 1, step):
        values |= 1 << value
    return values, star and step == 1


def _read_value(field: _Field, text: str) -> int:
    if text.isascii() and text.upper() in field.names:
        return field.low + field.names.index(text.upper())
    value = _read_number(text)
    if value is None:
        what = f"{text!r} is not a value" if text else "a value is missing"
        raise ScheduleError(f"{what}; write {field.accepts}, *, lists, ranges or steps")
    return value


def _out_of_range(field: _Field, value: int) -> str:
    wrong = f"{value} is not within {field.accepts}"
    if field.names is _WEEKDAYS and value == len(_WEEKDAYS):
        return f"{wrong}; Sunday is 0"
    return wrong


def _read_number(text: str) -> int | None:
    """Read a number that is not negative, as Go does; None where it isn't one."""
    if not _NUMBER.fullmatch(text) or len(text) > 1_000:
        return None
    value = int(text)
    return value if 0 <= value <= _LARGEST_INT else None
