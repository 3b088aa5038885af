"""`kubectl crontabber logs`: what the run of a slot printed, found by the annotations of its Job.

Reads only. What the Job's pod prints is passed on byte by byte.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crontabber_operator import connection
from crontabber_operator.connection import EXIT_FAILED, CannotError, full_stop

if TYPE_CHECKING:
    from crontabber_operator.client import Client
    from crontabber_operator.cluster import Body
    from crontabber_operator.observed import Run
    from crontabber_operator.store import Resource

PROGRAM = "kubectl crontabber logs"
POLL_SECONDS = 0.5
END_SECONDS = 30.0
"""A Job is counted as ended at most so long after its pod."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `logs`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "logs",
        help="print what a run printed",
        description="Print what the newest run of a job printed, or the newest run of a slot. Which one it is goes"
        " to standard error.",
    )
    parser.add_argument("job", metavar="NAME", help="the job")
    parser.add_argument("--slot", type=_time, metavar="TIME", help="the slot, such as 2026-11-24T08:00Z")
    parser.add_argument("--attempt", type=_count, metavar="N", help="the attempt at the slot (the newest)")
    parser.add_argument("-f", "--follow", action="store_true", help="wait for the output, until the run ends")
    parser.add_argument("--tail", type=_count, metavar="LINES", help="only the last lines (all)")
    connection.add_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the output; 1 where there is none."""
    return connection.run_connected(PROGRAM, arguments, lambda client: _logs(client, arguments))


async def _logs(client: Client, arguments: argparse.Namespace) -> int:
    from crontabber_operator import live  # noqa: PLC0415 - with the client

    body = await client.find_resource(client.namespace, arguments.job)
    if body is None:
        message = f"there is no CrontabberJob {arguments.job} in namespace {client.namespace}."
        raise CannotError(message)
    resource, seen = await live.read_runs(client, body)
    chosen = choose(seen.runs, arguments.slot, arguments.attempt)
    while chosen is None and arguments.follow and _is_to_come(resource, arguments.slot):
        await asyncio.sleep(POLL_SECONDS)
        body = await client.find_resource(client.namespace, arguments.job) or body
        resource, seen = await live.read_runs(client, body)
        chosen = choose(seen.runs, arguments.slot, arguments.attempt)
    if chosen is None:
        raise CannotError(why_none(resource, arguments.slot))
    await _print(client, client.namespace, chosen, arguments.tail, follow=arguments.follow)
    return 0


def choose(runs: Sequence[Run], slot: datetime | None, attempt: int | None) -> Run | None:
    """Return the run that is meant: the newest that was started, of a slot where one is given."""
    from crontabber_operator.observed import RunKind  # noqa: PLC0415 - with the client

    fitting = [
        run
        for run in runs
        if run.released
        and (slot is None or (run.slot <= slot <= run.through and run.kind is not RunKind.MANUAL))
        and (attempt is None or run.attempt == attempt)
    ]
    return max(fitting, key=lambda run: (run.started or run.created, run.attempt, run.name), default=None)


def why_none(resource: Resource, slot: datetime | None) -> str:
    """Say why no run can be shown, and where else to look."""
    from crontabber_operator.times import format_time  # noqa: PLC0415

    name, status = resource.owner.name, resource.status
    if slot is None:
        return f"{name} has no run to show; 'kubectl crontabber explain {name}' tells when it runs."
    for entry in status.history:
        if entry.slot == slot:
            when = f" at {format_time(entry.finished)}" if entry.finished is not None else ""
            return (
                f"the Job of slot {format_time(slot)} is removed; its attempt {entry.attempt} ended{when}:"
                f" {entry.result}{f', {entry.message}' if entry.message else ''}. More of them are kept with"
                " spec.successfulJobsHistoryLimit and failedJobsHistoryLimit."
            )
    return f"{name} has no run of slot {format_time(slot)} (any more)."


def _is_to_come(resource: Resource, slot: datetime | None) -> bool:
    """Tell whether it makes sense to wait for a run."""
    settled = resource.status.settled_through
    return slot is None or settled is None or slot > settled


async def follow_job(client: Client, namespace: str, name: str, program: str) -> int:
    """Print what a Job prints until it ends; 0 where it succeeded."""
    from crontabber_operator.projection import read_run  # noqa: PLC0415 - with the client

    found = read_run(await client.get_job(namespace, name))
    if found is None:
        message = f"Job {name} is none of crontabber's."
        raise CannotError(message)
    await _print(client, namespace, found, None, follow=True)
    deadline = asyncio.get_running_loop().time() + END_SECONDS
    while found.finished is None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_SECONDS / 2)
        found = read_run(await client.get_job(namespace, name)) or found
    if found.succeeded:
        return 0
    connection.tell(program, f"Job {name} {'failed' if found.finished is not None else 'has not ended'}.")
    return EXIT_FAILED


async def _print(client: Client, namespace: str, chosen: Run, tail: int | None, *, follow: bool) -> None:
    """Pass on what a run's newest pod printed."""
    from crontabber_operator.cluster import ApiError  # noqa: PLC0415 - with the client
    from crontabber_operator.manifests import command_container  # noqa: PLC0415
    from crontabber_operator.times import format_time  # noqa: PLC0415

    pod = await _pod(client, namespace, chosen, follow=follow)
    if pod is None:
        message = f"Job {chosen.name} has no pod that was started; see 'kubectl describe job {chosen.name}'."
        raise CannotError(message)
    name, container = pod["metadata"]["name"], command_container(pod["spec"]["containers"])["name"]
    attempt = f", attempt {chosen.attempt}" if chosen.attempt else ""
    connection.tell(PROGRAM, f"slot {format_time(chosen.slot)}{attempt}, pod {name}")
    try:
        async for chunk in client.stream_log(namespace, name, container, follow=follow, tail=tail):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    except ApiError as error:
        if error.status != 400:
            raise
        raise CannotError(full_stop(error.message)) from error


async def _pod(client: Client, namespace: str, chosen: Run, *, follow: bool) -> Body | None:
    """Return the newest pod of a run whose containers were started; with `follow` wait for it."""
    from crontabber_operator.cluster import ApiError  # noqa: PLC0415 - with the client

    while True:
        pods = await client.list_job_pods(namespace, chosen.uid)
        pods.sort(key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))
        started = [pod for pod in pods if (pod.get("status") or {}).get("phase") != "Pending"]
        if started:
            return started[-1]
        if not follow:
            return None
        try:
            job = await client.get_job(namespace, chosen.name)
        except ApiError as error:
            if not error.not_found:
                raise
            return None
        conditions = (job.get("status") or {}).get("conditions") or []
        if any(
            one.get("type") in ("Complete", "Failed") and one.get("status") == "True" for one in conditions
        ):
            return None
        await asyncio.sleep(POLL_SECONDS)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-24T08:00Z") from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
