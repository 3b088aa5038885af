"""breakslot: plans a failure of a command, to see what a failing slot does. For demonstrations and tests."""

from typing import Any

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser

from crashes.models import Fault
from crashes.runs import ScheduledCommand
from crashes.times import format_time, parse_time

ANY_SLOT = "any"


class Command(BaseCommand):
    help = "Makes the next runs of a command for a slot fail, as if the database went away, so many times."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("command", help="the command that is to fail, such as updatesignatures")
        parser.add_argument(
            "slot", help=f"the --run-time to fail for, as 2026-11-24T05:00 (UTC); `{ANY_SLOT}`: the next runs"
        )
        parser.add_argument(
            "--times", type=int, default=1, metavar="N", help="how often; 0 takes the plan back (default: 1)"
        )

    def handle(self, *_args: str, **options: Any) -> None:
        command, times = options["command"], options["times"]
        if times < 0:
            raise CommandError(f"--times is {times}: it must be 0 or more")
        app = get_commands().get(command)
        scheduled = load_command_class(app, command) if app == "crashes" else None
        if not isinstance(scheduled, ScheduledCommand):
            raise CommandError(f"{command!r} is not a scheduled command of this app")
        if options["slot"] == ANY_SLOT:
            slot = None
        elif not scheduled.takes_run_time:
            raise CommandError(f"{command} is not told its slot (--run-time): use `{ANY_SLOT}`")
        else:
            try:
                slot = parse_time(options["slot"])
            except ValueError as error:
                raise CommandError(str(error)) from None
        Fault.objects.update_or_create(command=command, slot=slot, defaults={"remaining": times})
        when = f"for {format_time(slot)}" if slot else "whatever its slot"
        self.stdout.write(f"{command} will fail {times} times {when}")
