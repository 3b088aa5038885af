"""crontest: says what it was told, and fails when told to. For trying schedules, retries, reports."""

from typing import Any

from django.core.management.base import CommandParser

from crashes.runs import ScheduledCommand
from crashes.times import format_time


class PlannedCrashError(Exception):
    """What `--crash` raises: an error that nobody handles, with a traceback."""


class Command(ScheduledCommand):
    help = "Prints what it was told; with --crash, raises an exception."
    takes_run_time = True
    takes_last_success = True

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--print", metavar="TEXT", default="crontest ran", help="what to print")
        parser.add_argument("--crash", action="store_true", help="fail with an exception")

    def work(self, **options: Any) -> str:
        for name in ("run_time", "last_success"):
            if options[name] is not None:
                self.stdout.write(f"{name}: {format_time(options[name])}")
        if options["crash"]:
            raise PlannedCrashError("crash requested")
        return str(options["print"])
