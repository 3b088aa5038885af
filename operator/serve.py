"""`crontabber operator`: read the settings, set up the log, and let kopf run handlers.py."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

import kopf

from crontabber_operator import logs
from crontabber_operator.settings import (
    DEFAULT_HEALTH,
    DEFAULT_LEASE,
    DEFAULT_MANAGE_PY,
    DEFAULT_METRICS,
    DEFAULT_WEBAPP,
    MAX_RUNS,
    SettingError,
    Settings,
)

FLAGS = (
    "namespace",
    "webapp",
    "webapp-container",
    "manage-py",
    "health",
    "metrics",
    "page",
    "log-format",
    "output",
    MAX_RUNS,
    "leader-election",
    "lease",
    "sentry-crons",
    "sentry-secrets",
)

_EPILOG = """\
Each flag is also an environment variable: --log-format is CRONTABBER_LOG_FORMAT. In a pod, and with a
KUBECONFIG, none is needed. SENTRY_DSN, SENTRY_ENVIRONMENT and SENTRY_RELEASE mean what they mean everywhere.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber operator`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "operator",
        help="run the operator",
        description="Run the operator: watch CrontabberJobs and run their slots. Ends at SIGTERM.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--namespace", action="append", metavar="NAME", help="watch only this namespace; repeatable (all)"
    )
    parser.add_argument(
        "--webapp",
        metavar="deployment/NAME",
        help=f"the workload that jobs run in where they don't say ({DEFAULT_WEBAPP})",
    )
    parser.add_argument(
        "--webapp-container", metavar="NAME", help="the container of that workload to run in (its first)"
    )
    parser.add_argument(
        "--manage-py",
        metavar="COMMAND",
        help=f"what comes before the command where jobs don't say; '': the image's entrypoint ({DEFAULT_MANAGE_PY})",
    )
    parser.add_argument(
        "--health",
        metavar="[HOST]:PORT",
        help=f"serve /healthz and /readyz here; 'off' for not ({DEFAULT_HEALTH})",
    )
    parser.add_argument(
        "--metrics",
        metavar="[HOST]:PORT",
        help=f"serve Prometheus metrics at /metrics here; 'off' for not ({DEFAULT_METRICS})",
    )
    parser.add_argument(
        "--page",
        metavar="[HOST]:PORT",
        help="serve a status page for people here, read-only, without login (off)",
    )
    parser.add_argument(
        "--log-format", metavar="FORMAT", help="text; json: one object a line; mozlog: Mozilla's (text)"
    )
    parser.add_argument(
        "--output",
        metavar="WHAT",
        help="what of the commands' output to log: All, Failures (of failed runs, when they have failed) or None (All)",
    )
    parser.add_argument(
        f"--{MAX_RUNS}",
        metavar="N",
        help="start no run of a namespace while so many go on, the oldest slot first (any number)",
    )
    parser.add_argument(
        "--sentry-crons",
        nargs="?",
        const="on",
        metavar="on|off",
        help="make each job a monitor of Sentry Crons, which costs money there (off)",
    )
    parser.add_argument(
        "--sentry-secrets",
        metavar="on|off",
        help="use the DSN in a namespace's Secret crontabber-sentry for its jobs (on)",
    )
    parser.add_argument(
        "--leader-election",
        nargs="?",
        const="on",
        metavar="on|off",
        help="of several operators only the one that holds the Lease decides; the others stand by (off)",
    )
    parser.add_argument(
        "--lease",
        metavar="[NAMESPACE/]NAME",
        help=f"the Lease that they share ({DEFAULT_LEASE}, where the operator runs)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run until told to stop; 2 where a setting can't be used."""
    flags: dict[str, Any] = {name: getattr(arguments, name.replace("-", "_")) for name in FLAGS}
    if flags["namespace"] is not None:
        flags["namespace"] = ",".join(flags["namespace"])
    try:
        settings = Settings.read(flags)
    except SettingError as error:
        print(f"crontabber operator: {error}", file=sys.stderr)  # noqa: T201 - a command's own error
        return 2
    logs.configure(settings.log_format)
    import crontabber_operator.handlers  # noqa: F401, PLC0415 - registers with kopf, only where it runs

    logging.getLogger(__name__).info("Watching %s", ", ".join(settings.namespaces) or "all namespaces")
    kopf.run(
        standalone=True,
        memo=settings,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
    )
    return 0
