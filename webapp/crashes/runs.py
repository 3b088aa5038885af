"""What all commands that run on a schedule have in common: their arguments, their evidence, planted faults.

The evidence (table CronRun) is for people to look at. It must decide nothing, nor fail a run that worked.
"""

from abc import abstractmethod
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, OperationalError, transaction
from django.db.models import F, Q
from django.utils import timezone

from crashes.models import SUMMARY_MAX_LENGTH, CronRun, Fault
from crashes.times import format_time, time_argument

# How far a command looks back beyond the last success: rows come a little after the time that they carry.
OVERLAP = timedelta(minutes=10)
# Older evidence of the command goes as new comes: the table stays small without a job of its own.
RUNS_KEPT_PER_COMMAND = 500


class ScheduledCommand(BaseCommand):
    """A command with a slot. Subclasses say what they take and do their work in `work`.

    `--run-time` is the slot, what the operator passes with `backfill`; `--last-success` what it passes with
    `passLastSuccess`. Work must be safe to repeat: a slot can run again after it succeeded.
    """

    takes_run_time = False
    takes_last_success = False
    takes_dry_run = False

    def add_arguments(self, parser: CommandParser) -> None:
        if self.takes_run_time:
            parser.add_argument(
                "--run-time",
                type=time_argument,
                metavar="TIME",
                help="the slot, UTC, as 2026-11-24T05:00 or RFC 3339; now if it is absent or empty",
            )
        if self.takes_last_success:
            parser.add_argument(
                "--last-success",
                type=time_argument,
                metavar="TIME",
                help="the last success, UTC, as 2026-11-24T05:00 or RFC 3339; empty where there is none",
            )
        if self.takes_dry_run:
            parser.add_argument(
                "--dry-run", action="store_true", help="say what would change, change nothing"
            )

    @abstractmethod
    def work(self, **options: Any) -> str:
        """Does the work; returns one line on what came of it. Raises CommandError for a wrong order."""

    def handle(self, *_args: str, **options: Any) -> None:
        if options.get("dry_run"):
            self.stdout.write(f"Dry run: {self.work(**options)}")
            return
        command = type(self).__module__.rpartition(".")[2]
        run = self._begin(command, options.get("run_time"), options.get("last_success"))
        try:
            _fail_if_planned(command, options.get("run_time"))
            summary = self.work(**options)
        except Exception as error:
            self._end(run, CronRun.Outcome.FAILED, f"{type(error).__name__}: {error}")
            raise
        self.stdout.write(summary)
        self._end(run, CronRun.Outcome.SUCCEEDED, summary)

    def _begin(self, command: str, run_time: datetime | None, last_success: datetime | None) -> CronRun:
        run = CronRun(command=command, run_time=run_time, last_success=last_success)
        self._keep(run)
        return run

    def _end(self, run: CronRun, outcome: str, summary: str) -> None:
        run.finished = timezone.now()
        run.outcome = outcome
        lines = summary.strip().splitlines() or [""]
        run.summary = lines[0][:SUMMARY_MAX_LENGTH]
        self._keep(run)

    def _keep(self, run: CronRun) -> None:
        try:
            with transaction.atomic():
                run.save()
                runs = CronRun.objects.filter(command=run.command).order_by("-id")
                oldest_kept = runs.values_list("id", flat=True)[
                    RUNS_KEPT_PER_COMMAND - 1 : RUNS_KEPT_PER_COMMAND
                ]
                for oldest_id in oldest_kept:
                    runs.filter(id__lt=oldest_id).delete()
        except DatabaseError as error:
            if run.id is None and run.finished:
                return  # said at the start already
            self.stderr.write(
                f"This run is not in the table of runs: {type(error).__name__}: {error}".strip()
            )


def _fail_if_planned(command: str, slot: datetime | None) -> None:
    """Fails as if the database had gone away, as often as `breakslot` planned it for this slot or for any."""
    try:
        faults = Fault.objects.filter(Q(slot=slot) | Q(slot=None), command=command, remaining__gt=0)
        fault = faults.order_by("slot").first()
        # The condition in the update makes each planted failure happen once, however many processes ask.
        planned = (
            fault is not None
            and Fault.objects.filter(id=fault.id, remaining__gt=0).update(remaining=F("remaining") - 1) == 1
        )
    except DatabaseError:
        return  # no such table yet: the work itself will say so, if it needs one
    if planned:
        when = format_time(slot) if slot else "this run"
        raise OperationalError(f"server closed the connection unexpectedly (planted by breakslot for {when})")
