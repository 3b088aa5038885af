"""What goes to Sentry at all: by `reportErrors`, and by what an app with a Sentry of its own can report itself.

PURE. Nothing is to be told twice, and nothing not at all. It must not import kopf, kubernetes or sentry_sdk, or
read a clock.
"""

from __future__ import annotations

from crontabber_operator.models import ReportErrors, Result
from crontabber_operator.sentry_news import FailedRun, JobTold, Recovered, ending_of
from crontabber_operator.tracebacks import Ending, How, Raised


def is_worth_reporting(run: FailedRun) -> bool:
    """Whether a failure goes to Sentry, by `reportErrors` and what the app could report by itself."""
    return is_wanted(run.job) and not (
        _leaves_it_to_app(run) and _app_could(run.ended.result, ending_of(run))
    )


def is_recovery_worth_reporting(recovered: Recovered) -> bool:
    """Whether a recovery goes to Sentry: unless nothing about the job does."""
    return is_wanted(recovered.job)


def is_wanted(job: JobTold) -> bool:
    """Whether anything about a job goes to Sentry at all."""
    return job.report_errors is not ReportErrors.NEVER


def _leaves_it_to_app(run: FailedRun) -> bool:
    return (
        run.job.report_errors is ReportErrors.AUTO
        and run.pod is not None
        and run.pod.app_reports
        and run.pod.why is None
    )


def _app_could(result: Result, ending: Ending | None) -> bool:
    """Whether the Sentry SDK within the app saw this exception.

    It sees what a logger or the interpreter got, but no CommandError (Django turns it into a line and an exit
    code), nothing that killed the process, and nothing from before the settings had started it.
    """
    return (
        result is Result.FAILED
        and ending is not None
        and ending.how in (How.UNCAUGHT, How.LOGGED)
        and ending.raised.type != "KeyboardInterrupt"
        and not _is_early(ending.raised)
    )


def _is_early(raised: Raised) -> bool:
    """Whether it was raised before the settings were loaded, which is where the SDK is started."""
    frames = raised.frames
    if not frames:
        return False
    settings = [
        number
        for number, frame in enumerate(frames)
        if frame.path.endswith("django/conf/__init__.py") and frame.function in ("_setup", "__init__")
    ]
    if settings and settings[-1] < len(frames) - 1:
        return True
    return all(frame.path == frames[0].path for frame in frames) and frames[0].path.endswith("manage.py")
