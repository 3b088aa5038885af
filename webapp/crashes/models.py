"""The app's tables. Times are UTC; a build id is `YYYYMMDDhhmmss`, so that text order is time order."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

# Longer signatures are cut: they are made of function names, whose length nothing bounds.
SIGNATURE_MAX_LENGTH = 255
# What a run says of itself is one line; the whole output is in the pod's log.
SUMMARY_MAX_LENGTH = 500


class CrashReport(models.Model):
    """A crash as submitted, and what processing made of it: unprocessed, it has no `date_processed`."""

    crash_id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    product = models.CharField(max_length=50)
    version = models.CharField(max_length=50)
    build_id = models.CharField(max_length=14)
    frames = models.TextField(help_text="Function names of the crashing thread, innermost first, one a line")
    date_submitted = models.DateTimeField(default=timezone.now, db_index=True)
    date_processed = models.DateTimeField(null=True, db_index=True)
    signature = models.CharField(max_length=SIGNATURE_MAX_LENGTH, blank=True, db_index=True)

    class Meta:
        indexes = (
            models.Index(
                fields=["date_submitted"],
                condition=Q(date_processed__isnull=True),
                name="crash_not_processed",
            ),
        )

    def __str__(self) -> str:
        return str(self.crash_id)


class Signature(models.Model):
    """A kind of crash: when it was first seen, and in which build first. Kept by `updatesignatures`."""

    signature = models.CharField(max_length=SIGNATURE_MAX_LENGTH, unique=True)
    first_seen = models.DateTimeField(db_index=True)
    first_build = models.CharField(max_length=14)

    def __str__(self) -> str:
        return str(self.signature)


class Bug(models.Model):
    """A bug of the tracker, as last imported. `crash_signature` names signatures as `[@ name]`."""

    number = models.PositiveBigIntegerField(primary_key=True)
    summary = models.CharField(max_length=255)
    status = models.CharField(max_length=20)
    crash_signature = models.TextField(blank=True)
    last_changed = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"bug {self.number}"


class BugAssociation(models.Model):
    """A signature that a bug is about. Kept by `bugassociations`."""

    bug = models.ForeignKey(Bug, on_delete=models.CASCADE, related_name="associations")
    signature = models.CharField(max_length=SIGNATURE_MAX_LENGTH, db_index=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["bug", "signature"], name="bug_and_signature"),)

    def __str__(self) -> str:
        return f"{self.bug}: {self.signature}"


class MissingProcessed(models.Model):
    """A crash that `verifyprocessed` found unprocessed; `updatemissing` notes when it was at last."""

    crash = models.OneToOneField(CrashReport, on_delete=models.CASCADE, primary_key=True)
    found_at = models.DateTimeField(default=timezone.now)
    processed_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(fields=["found_at"], condition=Q(processed_at__isnull=True), name="still_missing"),
        )

    def __str__(self) -> str:
        return str(self.crash_id)


class GroupAudit(models.Model):
    """A user whom `auditgroups` took out of a group, and why. Outlives the user."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    username = models.CharField(max_length=150)
    group = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.username} left {self.group}: {self.reason}"


class CronRun(models.Model):
    """One start of a command: what it was told and what came of it. For the page; decides nothing."""

    class Outcome(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    command = models.CharField(max_length=100)
    run_time = models.DateTimeField(null=True, help_text="The slot that it was told, if any")
    last_success = models.DateTimeField(null=True, help_text="The last success that it was told, if any")
    started = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.RUNNING)
    summary = models.CharField(max_length=SUMMARY_MAX_LENGTH, blank=True)

    class Meta:
        indexes = (models.Index(fields=["command", "-id"], name="newest_runs_of_command"),)

    def __str__(self) -> str:
        return f"{self.command} {self.outcome}"


class Fault(models.Model):
    """A failure planted by `breakslot`: so many more runs of the command for the slot fail. No slot: any."""

    command = models.CharField(max_length=100)
    slot = models.DateTimeField(null=True)
    remaining = models.PositiveIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["command", "slot"], name="one_fault_for_a_slot"),
            models.UniqueConstraint(
                fields=["command"], condition=Q(slot__isnull=True), name="one_fault_for_any_slot"
            ),
        )

    def __str__(self) -> str:
        return f"{self.command} {self.slot or 'any slot'}: {self.remaining}"
