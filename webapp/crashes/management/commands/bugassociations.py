"""bugassociations: keeps the list of which bugs are about which signatures."""

from typing import Any

from django.db import transaction

from crashes.models import Bug, BugAssociation
from crashes.runs import OVERLAP, ScheduledCommand
from crashes.signatures import signatures_of_bug
from crashes.times import format_time

ROWS_PER_WRITE = 500


class Command(ScheduledCommand):
    help = (
        "Reads the bugs changed since ten minutes before --last-success (without one, all bugs) and makes "
        "the associations say what their crash_signature field says: new ones are added, others removed."
    )
    takes_last_success = True
    takes_dry_run = True

    def work(self, **options: Any) -> str:
        bugs = Bug.objects.order_by("number")
        if options["last_success"]:
            since = options["last_success"] - OVERLAP
            bugs = bugs.filter(last_changed__gte=since)
            self.stdout.write(f"Looking at the bugs changed since {format_time(since)}")
        else:
            self.stdout.write("Looking at all bugs: no last success was given")
        looked_at = 0
        added: list[BugAssociation] = []
        removed: list[BugAssociation] = []
        with transaction.atomic():
            for bug in bugs.prefetch_related("associations").iterator(chunk_size=ROWS_PER_WRITE):
                looked_at += 1
                wanted = signatures_of_bug(bug.crash_signature)
                present = {association.signature: association for association in bug.associations.all()}
                removed += [association for name, association in present.items() if name not in wanted]
                added += [BugAssociation(bug=bug, signature=name) for name in sorted(wanted - present.keys())]
            for association in removed:
                self.stdout.write(f"Removed: {association}")
            for association in added:
                self.stdout.write(f"Added: {association}")
            if not options["dry_run"]:
                for begin in range(0, len(removed), ROWS_PER_WRITE):
                    gone = [association.id for association in removed[begin : begin + ROWS_PER_WRITE]]
                    BugAssociation.objects.filter(id__in=gone).delete()
                BugAssociation.objects.bulk_create(added, ignore_conflicts=True, batch_size=ROWS_PER_WRITE)
        return f"{looked_at} bugs: {len(added)} associations added, {len(removed)} removed"
