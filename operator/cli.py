"""The console script `crontabber`: finds the sub-command and hands over.

Each sub-command is a module with `add_parser(subparsers)`, which sets `run`, a function of the parsed
arguments that returns the exit code. Only the module of the command that is asked for is imported, so that
small commands start fast: this module must import nothing of the operator.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_USAGE = 2
"""The arguments can't be used."""
_EXIT_BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended


class Command(NamedTuple):
    """A sub-command: what it is called, where it is, and its line in `crontabber --help`."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("operator", "crontabber_operator.serve", "run the operator"),
    Command("explain", "crontabber_operator.explain", "tell what a job will do next and why not sooner"),
    Command("slots", "crontabber_operator.slots_cli", "print the slots of a schedule or frequency"),
    Command("state", "crontabber_operator.state_transfer", "save and restore the bookkeeping of jobs"),
    Command("run-local", "crontabber_operator.run_local", "run jobs on this machine, without Kubernetes"),
    Command("migrate", "crontabber_operator.migrate", "turn the original crontabber's jobs into manifests"),
    Command("crd", "crontabber_operator.crd", "print the CustomResourceDefinition"),
    Command("completion", "crontabber_operator.completion", "print the completion for a shell"),
)


class OneSentenceParser(argparse.ArgumentParser):
    """Tells a wrong argument in one sentence, without the usage that would bury it; exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence on standard error and exit."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class OneLineEach(argparse.HelpFormatter):
    """Leaves room for the longest command, which argparse forgets to indent, so that each has one line."""

    def format_help(self) -> str:
        """Return the text of --help."""
        self._action_max_length += self._indent_increment
        return super().format_help()


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than many a command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata  # noqa: PLC0415 - half of the time that a small command takes

        sys.stdout.write(f"crontabber {metadata.version('crontabber-operator')}\n")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return the exit code.

    Raises SystemExit for --help and for arguments that can't be used, as argparse does.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["operator"]:
        # kopf listens to signals later; process 1 of a container would not even be ended by this one.
        signal.signal(signal.SIGTERM, _end)
    if words[:1] == ["__complete"]:  # what the shell's completion asks
        return import_module("crontabber_operator.completion").complete("crontabber", words[1:])  # type: ignore[no-any-return]
    arguments = _parse(words)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    return code


def _end(*_: object) -> NoReturn:
    """End the process at once: an exception could be raised, and lost, in a callback of the import system."""
    os._exit(0)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = OneSentenceParser(
        prog="crontabber",
        description="Django management commands on schedule, on Kubernetes.",
        formatter_class=OneLineEach,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=OneSentenceParser
    )
    asked_for = next((argument for argument in argv if not argument.startswith("-")), None)
    for command in COMMANDS:
        if command.name == asked_for:
            import_module(command.module).add_parser(subparsers)
        else:
            subparsers.add_parser(command.name, help=command.help)
    return parser.parse_args(argv)
