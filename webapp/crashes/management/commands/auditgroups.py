"""auditgroups: takes users who are not active any more out of their groups, and keeps a record of it."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from crashes.models import GroupAudit
from crashes.runs import ScheduledCommand

DEFAULT_IDLE_DAYS = 365


class Command(ScheduledCommand):
    help = (
        "Removes users from all groups who are deactivated, or who have not logged in for --idle-days days."
    )
    takes_dry_run = True

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--idle-days", type=int, default=DEFAULT_IDLE_DAYS, metavar="DAYS")

    def work(self, **options: Any) -> str:
        idle_days = options["idle_days"]
        if idle_days < 1:
            raise CommandError(f"--idle-days is {idle_days}: it must be at least 1, or nobody would be left")
        last_seen_limit = timezone.now() - timedelta(days=idle_days)
        removed = 0
        with transaction.atomic():
            users = (
                get_user_model()
                .objects.annotate(last_seen=Coalesce("last_login", "date_joined"))
                .filter(Q(is_active=False) | Q(last_seen__lt=last_seen_limit), groups__isnull=False)
                .distinct()
                .order_by("username")
                .prefetch_related("groups")
            )
            for user in users:
                reason = "deactivated" if not user.is_active else f"not seen since {user.last_seen:%Y-%m-%d}"
                for group in user.groups.all():
                    self.stdout.write(f"Removing {user.username} from {group.name}: {reason}")
                    removed += 1
                    if not options["dry_run"]:
                        GroupAudit.objects.create(
                            user=user, username=user.username, group=group.name, reason=reason
                        )
                if not options["dry_run"]:
                    user.groups.clear()
        return f"{removed} group memberships removed"
