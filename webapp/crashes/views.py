"""The page that shows what is in the tables, and the address that crash reports are sent to."""

import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID, uuid4

from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.db.models import Count, Max, Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from crashes.models import (
    BugAssociation,
    CrashReport,
    CronRun,
    Fault,
    GroupAudit,
    MissingProcessed,
    Signature,
)

ROWS_SHOWN = 12
HOURS_SHOWN = 24
HOURLY_COMMAND = "updatesignatures"
FRAMES_ACCEPTED = 200
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Hour(NamedTuple):
    """One hour of the chart: how many crashes it had, and what the hourly command last did about it."""

    start: datetime
    end: datetime
    crashes: int
    percent: int
    outcome: str


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    try:
        response = render(request, "crashes/overview.html", _tables(timezone.now()))
    except DatabaseError as error:
        return HttpResponse(
            f"The tables can't be read ({type(error).__name__}). Is the database up, and is it migrated?\n",
            status=503,
            content_type="text/plain",
        )
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "no-store"
    return response


def _tables(now: datetime) -> dict[str, Any]:
    last_ids = CronRun.objects.order_by("command").values("command").annotate(last=Max("id")).values("last")
    still_missing = MissingProcessed.objects.filter(processed_at=None)
    return {
        "now": now,
        "counts": [
            (name, f"{count:,}")
            for name, count in (
                ("Crash reports", CrashReport.objects.count()),
                ("Signatures", Signature.objects.count()),
                ("Bug associations", BugAssociation.objects.count()),
                ("Not processed yet", CrashReport.objects.filter(date_processed=None).count()),
                ("Known missing", still_missing.count()),
                ("Expired sessions", Session.objects.filter(expire_date__lt=now).count()),
            )
        ],
        "hourly_command": HOURLY_COMMAND,
        "hours": _hours(now),
        "commands": list(CronRun.objects.filter(id__in=last_ids).order_by("command")),
        "runs": list(CronRun.objects.order_by("-id")[:ROWS_SHOWN]),
        "faults": list(Fault.objects.filter(remaining__gt=0).order_by("command", "slot")),
        "signatures": _newest_signatures(),
        "crashes": list(CrashReport.objects.order_by("-date_submitted")[:ROWS_SHOWN]),
        "missing": list(still_missing.select_related("crash").order_by("-found_at")[:ROWS_SHOWN]),
        "audits": list(GroupAudit.objects.order_by("-at", "-id")[:ROWS_SHOWN]),
    }


def _hours(now: datetime) -> list[Hour]:
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    ends = [this_hour - timedelta(hours=back) for back in reversed(range(HOURS_SHOWN))]
    within = Q(date_processed__gte=ends[0] - timedelta(hours=1), date_processed__lt=ends[-1])
    counts = CrashReport.objects.filter(within).aggregate(
        **{
            f"hour{index}": Count(
                "crash_id", filter=Q(date_processed__gte=end - timedelta(hours=1), date_processed__lt=end)
            )
            for index, end in enumerate(ends)
        }
    )
    runs = CronRun.objects.filter(command=HOURLY_COMMAND, run_time__in=ends).order_by("id")
    outcomes = dict(runs.values_list("run_time", "outcome"))
    most = max(*counts.values(), 1)
    return [
        Hour(
            start=end - timedelta(hours=1),
            end=end,
            crashes=counts[f"hour{index}"],
            percent=round(100 * counts[f"hour{index}"] / most),
            outcome=outcomes.get(end, "none"),
        )
        for index, end in enumerate(ends)
    ]


def _newest_signatures() -> list[dict[str, Any]]:
    newest = list(Signature.objects.order_by("-first_seen")[:ROWS_SHOWN])
    names = [each.signature for each in newest]
    crashes = dict(
        CrashReport.objects.filter(signature__in=names).values_list("signature").annotate(Count("crash_id"))
    )
    bugs: dict[str, list[int]] = {}
    for name, number in BugAssociation.objects.filter(signature__in=names).values_list("signature", "bug_id"):
        bugs.setdefault(name, []).append(number)
    return [
        {
            "row": each,
            "crashes": crashes.get(each.signature, 0),
            "bugs": sorted(bugs.get(each.signature, [])),
        }
        for each in newest
    ]


class BadReportError(Exception):
    """A report that can't be taken; the text says why, to whom sent it."""


@csrf_exempt  # reports come from programs that crashed, not from browsers with a session
@require_POST
def submit(request: HttpRequest) -> JsonResponse:
    """Takes a report as JSON: product, version, build_id, frames (a list); crash_id, if it may come twice."""
    try:
        report = _read_report(request.body)
    except BadReportError as error:
        return JsonResponse({"error": str(error)}, status=400)
    crash, is_new = CrashReport.objects.get_or_create(crash_id=report.pop("crash_id"), defaults=report)
    return JsonResponse({"crash_id": str(crash.crash_id)}, status=201 if is_new else 200)


def _read_report(body: bytes) -> dict[str, Any]:
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        raise BadReportError("the body is not JSON") from None
    if not isinstance(report, dict):
        raise BadReportError("the body is not a JSON object")
    for name in ("product", "version"):
        length = CrashReport._meta.get_field(name).max_length  # noqa: SLF001 - the documented way to a field
        text = report.get(name)
        if not (_is_text(text) and 0 < len(text) <= length):
            raise BadReportError(f"{name} must be a text of 1 to {length} characters")
    build_id = report.get("build_id")
    if not (isinstance(build_id, str) and build_id.isascii() and build_id.isdigit() and len(build_id) == 14):
        raise BadReportError("build_id must be a text of 14 digits, YYYYMMDDhhmmss")
    frames = report.get("frames", [])
    if not (isinstance(frames, list) and len(frames) <= FRAMES_ACCEPTED and all(map(_is_text, frames))):
        raise BadReportError(f"frames must be a list of at most {FRAMES_ACCEPTED} texts")
    try:
        crash_id = UUID(report["crash_id"]) if "crash_id" in report else uuid4()
    except (ValueError, AttributeError, TypeError):
        raise BadReportError("crash_id must be a UUID") from None
    return {
        "crash_id": crash_id,
        "product": report["product"],
        "version": report["version"],
        "build_id": build_id,
        "frames": "\n".join(frames),
    }


def _is_text(value: object) -> TypeGuard[str]:
    # PostgreSQL refuses a NUL and a lone surrogate in a text; better here, with a sentence.
    return (
        isinstance(value, str)
        and "\0" not in value
        and not any("\ud800" <= char <= "\udfff" for char in value)
    )
