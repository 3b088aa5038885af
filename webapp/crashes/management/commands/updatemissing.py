"""updatemissing: looks again at the crashes that were missing, and notes which were processed after all."""

from typing import Any

from django.db.models import OuterRef, Subquery

from crashes.models import CrashReport, MissingProcessed
from crashes.runs import ScheduledCommand


class Command(ScheduledCommand):
    help = "Notes which of the crashes that `verifyprocessed` listed have been processed since."

    def work(self, **_options: Any) -> str:
        processed_at = CrashReport.objects.filter(crash_id=OuterRef("crash_id")).values("date_processed")
        still_missing = MissingProcessed.objects.filter(processed_at=None)
        found = still_missing.filter(crash__date_processed__isnull=False).update(
            processed_at=Subquery(processed_at)
        )
        return f"{found} missing crashes were processed since, {still_missing.count()} are still missing"
