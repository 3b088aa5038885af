"""updatesignatures: notes when, and in which build, each signature was first seen."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.management.base import CommandError
from django.db import transaction
from django.db.models import Count, Min
from django.utils import timezone

from crashes.models import CrashReport, Signature
from crashes.runs import OVERLAP, ScheduledCommand
from crashes.times import format_time

# Without a last success. As wide as Socorro's own: an hourly slot and half of the one before.
DEFAULT_WINDOW = timedelta(minutes=90)
SIGNATURES_PER_WRITE = 500
NEW_SIGNATURES_PRINTED = 10


class Sighting(NamedTuple):
    """What the window knows of one signature."""

    signature: str
    crashes: int
    first_seen: datetime
    first_build: str


class Command(ScheduledCommand):
    help = (
        "Notes the signatures of the crashes processed from ten minutes before --last-success (without one, "
        "from 90 minutes before --run-time) up to --run-time. A first sighting only ever moves back in time, "
        "so any slot can run again, and in any order."
    )
    takes_run_time = True
    takes_last_success = True
    takes_dry_run = True

    def work(self, **options: Any) -> str:
        end = options["run_time"] or timezone.now()
        start = options["last_success"] - OVERLAP if options["last_success"] else end - DEFAULT_WINDOW
        if start >= end:
            raise CommandError(
                f"--last-success ({format_time(options['last_success'])}) is after --run-time "
                f"({format_time(end)}): there is nothing between them"
            )
        self.stdout.write(f"Looking at the crashes processed from {format_time(start)} to {format_time(end)}")
        sightings = _sightings(start, end)
        if options["dry_run"]:
            known = Signature.objects.filter(signature__in=[each.signature for each in sightings]).count()
            new, moved = len(sightings) - known, 0
        else:
            with transaction.atomic():
                names, moved = _record(sightings)
            new = len(names)
            for name in names[:NEW_SIGNATURES_PRINTED]:
                self.stdout.write(f"New: {name}")
            if new > NEW_SIGNATURES_PRINTED:
                self.stdout.write(f"… and {new - NEW_SIGNATURES_PRINTED} more")
        crashes = sum(each.crashes for each in sightings)
        return f"{crashes} crashes, {len(sightings)} signatures: {new} new, {moved} known ones moved back"


def _sightings(start: datetime, end: datetime) -> list[Sighting]:
    rows = (
        CrashReport.objects.filter(date_processed__gte=start, date_processed__lt=end)
        .values_list("signature")
        .annotate(Count("crash_id"), Min("date_processed"), Min("build_id"))
        .order_by("signature")
    )
    return [Sighting(*row) for row in rows]


def _record(sightings: Sequence[Sighting]) -> tuple[list[str], int]:
    """Writes the sightings; returns the names of the new signatures, and how many known ones moved back."""
    new_names: list[str] = []
    moved = 0
    # In the order of the names: two runs at once then wait for each other instead of deadlocking.
    for begin in range(0, len(sightings), SIGNATURES_PER_WRITE):
        batch = {each.signature: each for each in sightings[begin : begin + SIGNATURES_PER_WRITE]}
        known = set(Signature.objects.filter(signature__in=batch).values_list("signature", flat=True))
        new = [each for each in batch.values() if each.signature not in known]
        Signature.objects.bulk_create(
            [
                Signature(signature=each.signature, first_seen=each.first_seen, first_build=each.first_build)
                for each in new
            ],
            ignore_conflicts=True,
        )
        earlier = []
        for row in Signature.objects.select_for_update().filter(signature__in=batch).order_by("signature"):
            sighting = batch[row.signature]
            first = min(row.first_seen, sighting.first_seen), min(row.first_build, sighting.first_build)
            if first != (row.first_seen, row.first_build):
                row.first_seen, row.first_build = first
                earlier.append(row)
        Signature.objects.bulk_update(earlier, ["first_seen", "first_build"], batch_size=SIGNATURES_PER_WRITE)
        new_names += [each.signature for each in new]
        moved += len(earlier)
    return new_names, moved
