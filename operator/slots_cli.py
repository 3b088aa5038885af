"""`crontabber slots`: prints when a schedule or a frequency is due, one slot a line.

To try a schedule out before it is applied. Needs no cluster, and starts fast because it imports nothing but
`schedule`.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crontabber_operator.schedule import ScheduleError, parse_frequency, parse_schedule

if TYPE_CHECKING:
    from crontabber_operator.schedule import Slots

DEFAULT_COUNT = 10

_EXIT_USAGE = 2
_DESCRIPTION = """\
Print the slots of a schedule or a frequency: the times at which a CrontabberJob with it is due, in UTC, one a
line. They are those that Kubernetes' CronJob controller fires.
"""
_EPILOG = """\
Times are RFC 3339 or shorter: 2026-03-28T00:00Z, 2026-03-28T01:00+01:00, 2026-03-28. Without an offset they
are in UTC.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber slots`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "slots",
        help="print the slots of a schedule or frequency",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--schedule", metavar="CRON", help="a cron text, such as '0 5 * * 1', or @hourly")
    what.add_argument("--frequency", metavar="N", help="such as 45m, 7h or 1d")
    parser.add_argument("--time-zone", metavar="ZONE", help="of the schedule, such as Europe/Berlin (UTC)")
    parser.add_argument("--time", metavar="HH:MM", help="of a frequency in days, in UTC (00:00)")
    parser.add_argument(
        "--after", metavar="TIME", type=_time, help="print the slots that come after it (now)"
    )
    parser.add_argument("--until", metavar="TIME", type=_time, help="print no slot that comes after it")
    parser.add_argument(
        "--count",
        metavar="N",
        type=_count,
        help=f"print at most so many ({DEFAULT_COUNT}, with --until all)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the slots; 2 where the schedule can't be used, 0 also where it has none."""
    try:
        slots = _slots(arguments)
    except ScheduleError as error:
        sys.stderr.write(f"crontabber slots: {error}\n")
        return _EXIT_USAGE
    until: datetime | None = arguments.until
    left: int | None = arguments.count
    if left is None and until is None:
        left = DEFAULT_COUNT
    slot = slots.next_after(arguments.after or datetime.now(UTC))
    if slot is None:
        sys.stderr.write("crontabber slots: there is no slot within five years.\n")
    while slot is not None and (until is None or slot <= until) and left != 0:
        sys.stdout.write(f"{slot.isoformat().removesuffix('+00:00')}Z\n")
        left = None if left is None else left - 1
        slot = slots.next_after(slot)
    return 0


def _slots(arguments: argparse.Namespace) -> Slots:
    if arguments.schedule is not None:
        if arguments.time is not None:
            raise ScheduleError("time: goes only with a frequency in days; remove --time.")
        return parse_schedule(arguments.schedule, arguments.time_zone)
    if arguments.time_zone is not None:
        raise ScheduleError(
            "timeZone: goes only with a schedule, a frequency is always UTC; remove --time-zone."
        )
    return parse_frequency(arguments.frequency, arguments.time)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-03-28T00:00Z") from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
