"""`crontabber state export` and `import`: bookkeeping moves to another cluster, or comes back from a file.

An import writes `status` itself, guarded by the resourceVersion that it was decided on, so that it can't
undo what the operator writes meanwhile. What is decided is in `merge()`, which is pure.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crontabber_operator import bookkeeping, commands, connection
from crontabber_operator.connection import EXIT_FAILED, EXIT_USAGE, CannotError
from crontabber_operator.models import InvalidSpec, Status
from crontabber_operator.observed import Observed
from crontabber_operator.state_file import StateFileError, StateItem, read_state, travelling, write_state
from crontabber_operator.state_merge import Kind, Outcome, merge, written
from crontabber_operator.store import Resource, Store

if TYPE_CHECKING:
    from crontabber_operator.client import Client
    from crontabber_operator.cluster import Body

EXPORT, IMPORT = "crontabber state export", "crontabber state import"
AT_ONCE = 16
"""So many jobs are imported side by side."""
ATTEMPTS = 20
"""So often an import starts anew because the operator wrote first."""
POLL_SECONDS = 1.0

_DESCRIPTION = """\
Save and restore the bookkeeping of jobs: last success, settled slots, errors, history, commands. For a move
to another cluster, or to restore what was deleted.
"""
_IMPORT_EPILOG = """\
A job that doesn't exist, is running, or has succeeded later than the file knows is left as it is, told, and
makes the exit code 1; the others are imported. To import the same file again changes nothing.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber state`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "state", help="save and restore the bookkeeping of jobs", description=_DESCRIPTION
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|import")
    export = actions.add_parser(
        "export",
        help="write the bookkeeping to standard output",
        description="Write the bookkeeping of jobs to standard output, as JSON.",
    )
    export.add_argument("jobs", nargs="*", metavar="[NAMESPACE/]NAME", help="these jobs")
    export.add_argument("--all", action="store_true", help="all jobs of the namespace")
    export.add_argument("-A", "--all-namespaces", action="store_true", help="all jobs of all namespaces")
    export.add_argument("-l", "--selector", metavar="LABELS", default="", help="only jobs with these labels")
    connection.add_flags(export)
    export.set_defaults(run=run_export)
    importing = actions.add_parser(
        "import",
        help="read bookkeeping from standard input or a file",
        description="Give jobs that exist the bookkeeping that was exported.",
        epilog=_IMPORT_EPILOG,
    )
    importing.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the file (standard input)")
    importing.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    importing.add_argument(
        "--force", action="store_true", help="also move a last success back: the slots since then run again"
    )
    importing.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for jobs that don't exist yet or are running (0)",
    )
    connection.add_flags(importing)
    importing.set_defaults(run=run_import)


# --- Export ---------------------------------------------------------------------------------------------


def run_export(arguments: argparse.Namespace) -> int:
    """Export; 1 where a job doesn't exist, 2 for wrong arguments."""
    chosen = bool(arguments.jobs), arguments.all, arguments.all_namespaces, bool(arguments.selector)
    if not any(chosen) or (arguments.jobs and any(chosen[1:])):
        connection.tell(EXPORT, "name jobs, or say --all, -A or -l.")
        return EXIT_USAGE
    return connection.run_connected(EXPORT, arguments, lambda client: _export(client, arguments))


async def _export(client: Client, arguments: argparse.Namespace) -> int:
    items = []
    for resource in map(_read, await _chosen(client, arguments)):
        owner, status = resource.owner, resource.status
        items.append(StateItem(owner.namespace, owner.name, exported(resource)))
        place = f"{owner.namespace}/{owner.name}"
        if status.ongoing is not None:
            slot = written(status.ongoing.slot)
            connection.tell(
                EXPORT,
                f"{place} is running slot {slot}: it is not counted and runs again where this is imported."
                " Suspend the job and wait, then export.",
            )
        for command in commands.pending(resource.annotations, status):
            connection.tell(EXPORT, f"{place}: the command {command} is not done yet and is left out.")
    sys.stdout.write(write_state(items, _now()))
    return 0


async def _chosen(client: Client, arguments: argparse.Namespace) -> list[Body]:
    if not arguments.jobs:
        namespace = None if arguments.all_namespaces else client.namespace
        found = await client.list_resources(namespace, arguments.selector)
        if not found:
            message = f"there are no such CrontabberJobs in {namespace or 'any namespace'}."
            raise CannotError(message)
        return found
    bodies = []
    for job in arguments.jobs:
        namespace, slash, name = job.rpartition("/")
        body = await client.find_resource(namespace if slash else client.namespace, name)
        if body is None:
            message = (
                f"there is no CrontabberJob {name} in namespace {namespace if slash else client.namespace}."
            )
            raise CannotError(message)
        bodies.append(body)
    return bodies


def _read(body: Body) -> Resource:
    store = Store()
    resource = store.resource(store.put_resource(body))
    if resource is None:
        raise TypeError(body["metadata"]["name"])
    return resource


def exported(resource: Resource) -> Status:
    """Return what of a resource's bookkeeping travels. Its cursor is written out, where it comes from."""
    if isinstance(resource.spec, InvalidSpec):
        return travelling(resource.status, resource.status.settled_through or resource.created)
    return travelling(resource.status, bookkeeping.cursor(resource.job(), resource.status))


# --- Import ---------------------------------------------------------------------------------------------


def run_import(arguments: argparse.Namespace) -> int:
    """Import; 1 where something was left as it was, 2 for a file that can't be used (nothing is done then)."""
    try:
        items = _read_file(arguments)
    except CannotError as error:
        connection.tell(IMPORT, str(error))
        return error.code
    return connection.run_connected(IMPORT, arguments, lambda client: _import_all(client, items, arguments))


def _read_file(arguments: argparse.Namespace) -> list[StateItem]:
    name = str(arguments.file) if arguments.file is not None else "standard input"
    try:
        if arguments.file is None:
            text = sys.stdin.buffer.read().decode("utf-8")
        else:
            text = arguments.file.read_text(encoding="utf-8")
        items = read_state(text, name)
    except OSError as error:
        message = f"{name}: can't be read: {error.strerror or error}."
        raise CannotError(message, EXIT_USAGE) from error
    except UnicodeDecodeError as error:
        message = f"{name}: is not text in UTF-8."
        raise CannotError(message, EXIT_USAGE) from error
    except StateFileError as error:
        raise CannotError(str(error), EXIT_USAGE) from error
    if arguments.namespace is not None:
        namespaces = {item.namespace for item in items}
        if len(namespaces) > 1:
            message = f"{name}: has jobs of several namespaces; -n would mix them. Leave it out."
            raise CannotError(message, EXIT_USAGE)
    return items


async def _import_all(client: Client, items: list[StateItem], arguments: argparse.Namespace) -> int:
    until = asyncio.get_running_loop().time() + arguments.wait
    turn = asyncio.Semaphore(AT_ONCE)
    counts: Counter[Kind] = Counter()

    async def one(item: StateItem) -> None:
        # --namespace is the client's too, where it is given; so is that of a file without any.
        namespace = arguments.namespace or item.namespace or client.namespace
        outcome = await _import_one(client, item, namespace, arguments, turn)
        while outcome.may_pass and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(POLL_SECONDS)
            outcome = await _import_one(client, item, namespace, arguments, turn)
        counts[outcome.kind] += 1
        sys.stdout.write(f"{namespace}/{item.name}: {outcome.sentence}\n")

    await asyncio.gather(*(one(item) for item in items))
    connection.tell(IMPORT, ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind) + ".")
    return EXIT_FAILED if counts[Kind.LEFT] else 0


async def _import_one(
    client: Client, item: StateItem, namespace: str, arguments: argparse.Namespace, turn: asyncio.Semaphore
) -> Outcome:
    """Import one item, as things are now."""
    from crontabber_operator.cluster import ApiError  # noqa: PLC0415 - where it is needed

    for _ in range(ATTEMPTS):
        async with turn:
            try:
                outcome, resource = await _decide(client, item, namespace, force=arguments.force)
                if outcome.status is None or resource is None:
                    return outcome
                if arguments.dry_run:
                    return replace(outcome, sentence=f"{outcome.sentence} (dry run)")
                await client.write_status(resource.owner, resource.resource_version, outcome.status.write())
            except ApiError as error:
                if not (error.guard_failed or error.not_found):
                    return Outcome(Kind.LEFT, f"left as it was: {error.message}")
            else:
                return outcome
    return Outcome(Kind.LEFT, f"left as it was: something else wrote to it {ATTEMPTS} times; try again.")


async def _decide(
    client: Client, item: StateItem, namespace: str, *, force: bool
) -> tuple[Outcome, Resource | None]:
    from crontabber_operator import live  # noqa: PLC0415 - where it is needed

    body = await client.find_resource(namespace, item.name)
    if body is None:
        return Outcome(Kind.LEFT, "left out: there is no such CrontabberJob.", may_pass=True), None
    without_runs = merge(item.status, _read(body), Observed(), _now(), force=force)
    if without_runs.kind is Kind.UNCHANGED:
        return without_runs, None
    resource, seen = await live.read_runs(client, body)
    return merge(item.status, resource, seen, _now(), force=force), resource


def _now() -> datetime:
    return datetime.now(UTC)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 86400")
    return seconds
