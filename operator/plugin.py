"""`kubectl crontabber`: the commands by annotation, and what goes with them, as a plugin of kubectl.

A command is given with an id of its own, so that it is done once however often it is asked for; then its
result in `status.lastCommands` is waited for and printed. All of it can be done with kubectl alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crontabber_operator import connection
from crontabber_operator.connection import EXIT_FAILED, EXIT_USAGE, CannotError, full_stop
from crontabber_operator.output_lines import harmless

if TYPE_CHECKING:
    from crontabber_operator.client import Client
    from crontabber_operator.cluster import Body

PROGRAM = "kubectl crontabber"
AT_ONCE = 16
"""So many jobs are given a command side by side."""
POLL_SECONDS = 0.5
LISTED_POLL_SECONDS = 2.0
FEW = 20
"""Of more jobs than this, the results are read from the list of all."""
ATTEMPTS = 20
Place = tuple[str, str]
"""Namespace and name of a job."""
TIMEOUT_SECONDS = 60.0

_DESCRIPTION = "Look after CrontabberJobs: list, mark, reset, run, explain, read their output."
_EPILOG = """\
Exit code 0: done; 1: refused, or not done in time; 2: wrong arguments. See 'kubectl crontabber COMMAND --help'.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; return the exit code.

    Raises SystemExit for --help and for arguments that can't be used, as argparse does.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["__complete"]:
        from crontabber_operator import completion  # noqa: PLC0415 - only for the shell

        return completion.complete(PROGRAM, words[1:])
    # argparse takes no arguments after -- where options stand between the name and it.
    end = words.index("--") if "--" in words else len(words)
    parser = build_parser()
    arguments = parser.parse_args(words[:end])
    if words[end:] and arguments.command != "run":
        parser.error(f"only run takes arguments after --, not {arguments.command}")
    arguments.args = words[end + 1 :]
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell reports a program that SIGPIPE ended
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `kubectl crontabber`."""
    from crontabber_operator import cli, completion, explain, logs_command  # noqa: PLC0415 - small, see main

    parser = cli.OneSentenceParser(
        prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=cli.OneLineEach
    )
    commands: Any = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=cli.OneSentenceParser
    )
    listing = commands.add_parser("list", help="list jobs, as kubectl get crontabberjobs does")
    listing.add_argument("jobs", nargs="*", metavar="NAME", help="these jobs (all)")
    listing.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    listing.add_argument("-l", "--selector", metavar="LABELS", default="", help="only with these labels")
    listing.add_argument("-o", "--output", choices=["wide"], help="wide: more columns")
    connection.add_flags(listing)
    listing.set_defaults(run=_run_list)

    mark = _add_command(commands, "mark-success", "say that jobs succeeded; slots since then are missed")
    mark.add_argument(
        "--at", metavar="TIME", default="now", help="when, such as 2026-11-24T08:00:00Z, or now (now)"
    )
    mark.set_defaults(run=lambda arguments: _run_command(arguments, "mark-success", arguments.at))

    reset = _add_command(commands, "reset", "forget all bookkeeping of jobs, as if they had never run")
    reset.set_defaults(run=lambda arguments: _run_command(arguments, "reset", ""))

    run = _add_command(commands, "run", "run jobs at once, outside the bookkeeping", many="jobs_to_run")
    run.usage = f"{PROGRAM} run NAME [options] [-- ARGUMENT ...]"
    run.epilog = "What stands after -- is given to the command, after its own arguments."
    run.add_argument("-f", "--follow", action="store_true", help="print its output until it ends")
    run.set_defaults(run=_run_now)

    explaining = commands.add_parser("explain", help="tell what a job will do next and why not sooner")
    explain.add_arguments(explaining)
    explaining.set_defaults(run=lambda arguments: explain.run(arguments, f"{PROGRAM} explain"))

    logs_command.add_parser(commands)
    completion.add_parser(commands, PROGRAM)
    return parser


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, many: str = "jobs"
) -> argparse.ArgumentParser:
    """Add what all commands by annotation take."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    if many == "jobs":
        parser.add_argument("jobs", nargs="*", metavar="NAME", help="these jobs")
        parser.add_argument("--all", action="store_true", help="all jobs of the namespace")
        parser.add_argument(
            "-A", "--all-namespaces", action="store_true", help="with --all or -l: of all namespaces"
        )
        parser.add_argument(
            "-l", "--selector", metavar="LABELS", default="", help="the jobs with these labels"
        )
    else:
        parser.add_argument("job", metavar="NAME", help="the job")
    parser.add_argument(
        "--id",
        metavar="ID",
        help="the command's id: with one that was done before, nothing is done (a new one)",
    )
    parser.add_argument("--no-wait", action="store_true", help="don't wait for the result")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"wait so long for the result ({TIMEOUT_SECONDS:g})",
    )
    connection.add_flags(parser)
    return parser


# --- list -----------------------------------------------------------------------------------------------


def _run_list(arguments: argparse.Namespace) -> int:
    return connection.run_connected(f"{PROGRAM} list", arguments, lambda client: _list(client, arguments))


async def _list(client: Client, arguments: argparse.Namespace) -> int:
    namespace = None if arguments.all_namespaces else client.namespace
    table = await client.table(namespace, arguments.selector)
    rows = table.get("rows") or []
    if arguments.jobs:
        rows = [row for row in rows if row["object"]["metadata"]["name"] in arguments.jobs]
    if not rows and not arguments.jobs:
        connection.tell(f"{PROGRAM} list", f"there are no CrontabberJobs in {namespace or 'any namespace'}.")
        return 0
    sys.stdout.write(
        format_table(table, rows, wide=bool(arguments.output), namespaces=arguments.all_namespaces)
    )
    missing = sorted(set(arguments.jobs) - {row["object"]["metadata"]["name"] for row in rows})
    for name in missing:
        connection.tell(
            f"{PROGRAM} list", f"there is no CrontabberJob {name} in namespace {client.namespace}."
        )
    return EXIT_FAILED if missing else 0


def format_table(table: Body, rows: Sequence[Body], *, wide: bool, namespaces: bool) -> str:
    """Write a table of the API server's as kubectl does: its own columns and cells, three blanks apart."""
    shown = [
        (number, column["name"].upper())
        for number, column in enumerate(table["columnDefinitions"])
        if wide or column.get("priority", 0) == 0
    ]
    lines = [[*(["NAMESPACE"] if namespaces else []), *(name for _, name in shown)]]
    for row in rows:
        first = [row["object"]["metadata"].get("namespace", "")] if namespaces else []
        lines.append([*first, *(_cell(row["cells"][number]) for number, _ in shown)])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def _cell(value: Any) -> str:
    return "" if value is None else harmless(str(value).split("\n", 1)[0])


# --- Commands by annotation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is to be given to jobs."""

    name: str
    value: str
    id: str


def _run_command(arguments: argparse.Namespace, name: str, value: str) -> int:
    program = f"{PROGRAM} {arguments.command}"
    chosen = bool(arguments.jobs), arguments.all, bool(arguments.selector)
    if sum(map(bool, chosen)) != 1 or (arguments.all_namespaces and arguments.jobs):
        connection.tell(program, "name jobs, or say --all or -l (and -A with one of these).")
        return EXIT_USAGE
    command = Command(name, value, arguments.id or uuid.uuid4().hex)

    async def work(client: Client) -> int:
        return await _give_all(client, await _chosen(client, arguments), command, arguments, program)

    return connection.run_connected(program, arguments, work)


async def _chosen(client: Client, arguments: argparse.Namespace) -> list[Place]:
    """Return namespace and name of the jobs that are meant."""
    if arguments.jobs:
        return [(client.namespace, name) for name in dict.fromkeys(arguments.jobs)]
    namespace = None if arguments.all_namespaces else client.namespace
    found = await client.list_resources(namespace, arguments.selector)
    if not found:
        message = f"there are no such CrontabberJobs in {namespace or 'any namespace'}."
        raise CannotError(message)
    return [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found]


class _Results:
    """Tells what became of a command for each job, as it becomes known."""

    def __init__(self, program: str, jobs: Sequence[Place]) -> None:
        self._program = program
        self._one_namespace = len({namespace for namespace, _ in jobs}) == 1
        self.failed = False

    def tell(self, job: Place, sentence: str, *, done: bool) -> None:
        """Print a line; on standard error where it was not done."""
        name = job[1] if self._one_namespace else "/".join(job)
        if done:
            sys.stdout.write(f"{name}: {sentence}\n")
            sys.stdout.flush()
        else:
            self.failed = True
            connection.tell(self._program, f"{name}: {sentence}")

    @property
    def code(self) -> int:
        """The exit code."""
        return EXIT_FAILED if self.failed else 0


async def _give_all(
    client: Client, jobs: Sequence[Place], command: Command, arguments: argparse.Namespace, program: str
) -> int:
    """Give a command to jobs, wait for the results and print them."""
    results, turn = _Results(program, jobs), asyncio.Semaphore(AT_ONCE)
    waiting: set[Place] = set()

    async def give(job: Place) -> None:
        async with turn:
            try:
                await _give(client, job, command)
            except CannotError as error:
                results.tell(job, str(error), done=False)
            else:
                waiting.add(job)

    await asyncio.gather(*map(give, jobs))
    if arguments.no_wait:
        for job in sorted(waiting):
            results.tell(job, f"{command.name} is given, with the id {command.id}.", done=True)
        return results.code
    await _wait_for_results(client, waiting, command, arguments.timeout, results)
    late = f"{command.name} is given and was not done in {arguments.timeout:g} s: is the operator running?"
    for job in sorted(waiting):
        results.tell(job, f"{late} It does it as soon as it is.", done=False)
    return results.code


async def _wait_for_results(
    client: Client, waiting: set[Place], command: Command, timeout_seconds: float, results: _Results
) -> None:
    """Tell the results as they come; who has none in time is left in `waiting`."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout_seconds
    while waiting:
        for job, body in (await _read(client, waiting)).items():
            outcome = _outcome(body, command)
            if outcome is not None:
                waiting.discard(job)
                results.tell(job, outcome[1], done=outcome[0])
        if waiting and clock() >= deadline:
            return
        if waiting:
            await asyncio.sleep(POLL_SECONDS if len(waiting) <= FEW else LISTED_POLL_SECONDS)


async def _give(client: Client, job: Place, command: Command) -> None:
    """Set the annotations of a command. Raises CannotError where that can't be."""
    from crontabber_operator.cluster import ApiError  # noqa: PLC0415 - with the client
    from crontabber_operator.commands import COMMAND_ID, NAMES  # noqa: PLC0415
    from crontabber_operator.manifests import PREFIX  # noqa: PLC0415

    for attempt in range(ATTEMPTS):
        body = await client.find_resource(*job)
        if body is None:
            message = f"there is no CrontabberJob {job[1]} in namespace {job[0]}."
            raise CannotError(message)
        if _outcome(body, command) is not None:
            return
        annotations = body["metadata"].get("annotations") or {}
        waiting = [name for name in NAMES if PREFIX + name in annotations]
        if waiting and annotations.get(COMMAND_ID) == command.id:
            return
        if waiting:
            message = f"{waiting[0]} was given before and is not done yet: is the operator running?"
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(POLL_SECONDS / 2)
                continue
            raise CannotError(message)
        try:
            await client.annotate(body, {PREFIX + command.name: command.value, COMMAND_ID: command.id})
        except ApiError as error:
            if error.guard_failed or error.transient:
                continue
            raise CannotError(full_stop(error.message)) from error
        else:
            return
    message = f"something else wrote to it {ATTEMPTS} times; try again."
    raise CannotError(message)


async def _read(client: Client, jobs: set[Place]) -> dict[Place, Body | None]:
    """Read jobs: each by itself, or many from the list of their namespace."""
    if len(jobs) <= FEW:
        bodies = await asyncio.gather(*(client.find_resource(*job) for job in jobs))
        return dict(zip(jobs, bodies, strict=True))
    namespaces = {namespace for namespace, _ in jobs}
    listed = await client.list_resources(namespaces.pop() if len(namespaces) == 1 else None)
    found = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in listed}
    return {job: found.get(job) for job in jobs}


def _outcome(body: Body | None, command: Command) -> tuple[bool, str] | None:
    """Return whether a command was done, and what there is to say; None: not known yet."""
    from crontabber_operator.commands import PENDING, REFUSED  # noqa: PLC0415 - with the client
    from crontabber_operator.models import Status  # noqa: PLC0415

    if body is None:
        return False, "it was deleted meanwhile."
    status = Status.read(body.get("status"))
    for record in status.last_commands:
        if record.id == command.id and record.name == command.name and record.result != PENDING:
            if record.result.startswith(REFUSED):
                return False, full_stop(record.result.removeprefix(REFUSED).lstrip(": "))
            return True, _effect(command, status, body["metadata"]["name"])
    return None


def _effect(command: Command, status: Any, name: str) -> str:
    from crontabber_operator.commands import run_now_name  # noqa: PLC0415 - with the client
    from crontabber_operator.times import format_time  # noqa: PLC0415

    if command.name == "mark-success" and status.last_success_time is not None:
        missed = "no slot is missed" if not status.missed else f"{status.missed} missed"
        return f"last success is {format_time(status.last_success_time)}; {missed}."
    if command.name == "reset":
        return "all bookkeeping is forgotten."
    return f"Job {run_now_name(name, command.id)} is made."


# --- run ------------------------------------------------------------------------------------------------


def _run_now(arguments: argparse.Namespace) -> int:
    program = f"{PROGRAM} run"
    command = Command("run-now", shlex.join(arguments.args), arguments.id or uuid.uuid4().hex)

    async def work(client: Client) -> int:
        from crontabber_operator import logs_command  # noqa: PLC0415 - only with --follow
        from crontabber_operator.commands import run_now_name  # noqa: PLC0415

        job = (client.namespace, arguments.job)
        code = await _give_all(client, [job], command, arguments, program)
        if code or not arguments.follow or arguments.no_wait:
            return code
        return await logs_command.follow_job(
            client, client.namespace, run_now_name(arguments.job, command.id), program
        )

    return connection.run_connected(program, arguments, work)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 86400")
    return seconds
