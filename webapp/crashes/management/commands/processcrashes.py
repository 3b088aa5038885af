"""processcrashes: gives the crashes that wait for it their signature."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from crashes.models import CrashReport
from crashes.runs import ScheduledCommand
from crashes.signatures import make_signature

DEFAULT_LIMIT = 10_000
ROWS_PER_WRITE = 500


class Command(ScheduledCommand):
    help = "Processes the crashes that are not processed yet, oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, metavar="N", help="process at most N")

    def work(self, **options: Any) -> str:
        limit = options["limit"]
        if limit < 1:
            raise CommandError(f"--limit is {limit}: it must be at least 1")
        waiting = CrashReport.objects.filter(date_processed=None)
        processed = 0
        while processed < limit:
            with transaction.atomic():
                # Where the database can, rows that another processor holds are left to it.
                crashes = list(
                    waiting.order_by("date_submitted").select_for_update(skip_locked=True)[
                        : min(ROWS_PER_WRITE, limit - processed)
                    ]
                )
                for crash in crashes:
                    crash.signature = make_signature(crash.frames)
                    crash.date_processed = timezone.now()
                CrashReport.objects.bulk_update(crashes, ["signature", "date_processed"])
            if not crashes:
                break
            processed += len(crashes)
            self.stdout.write(f"Processed {processed} crashes so far")
        return f"{processed} crashes processed, {waiting.count()} still waiting"
