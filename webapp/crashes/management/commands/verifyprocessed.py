"""verifyprocessed: finds the crashes of the day before that were never processed."""

from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone

from crashes.models import CrashReport, MissingProcessed
from crashes.runs import ScheduledCommand

ROWS_PER_WRITE = 500
MISSING_PRINTED = 20


class Command(ScheduledCommand):
    help = (
        "Lists the crashes submitted on the UTC day before --run-time that are still not processed, and "
        "keeps them for `updatemissing`. Repeating a day adds only what is not listed yet."
    )
    takes_run_time = True

    def work(self, **options: Any) -> str:
        run_time = (options["run_time"] or timezone.now()).astimezone(UTC)
        end = run_time.replace(hour=0, minute=0, second=0, microsecond=0)
        start = end - timedelta(days=1)
        self.stdout.write(f"Checking the crashes submitted on {start:%Y-%m-%d}")
        submitted = CrashReport.objects.filter(date_submitted__gte=start, date_submitted__lt=end)
        total = submitted.count()
        missing = list(submitted.filter(date_processed=None).order_by("date_submitted"))
        for crash in missing[:MISSING_PRINTED]:
            self.stdout.write(f"Missing: {crash}")
        if len(missing) > MISSING_PRINTED:
            self.stdout.write(f"… and {len(missing) - MISSING_PRINTED} more")
        before = MissingProcessed.objects.count()
        MissingProcessed.objects.bulk_create(
            [MissingProcessed(crash=crash) for crash in missing],
            ignore_conflicts=True,
            batch_size=ROWS_PER_WRITE,
        )
        new = MissingProcessed.objects.count() - before
        return f"{start:%Y-%m-%d}: {total} crashes, {len(missing)} not processed, {new} of them newly found"
