"""Shell completion for `crontabber` and `kubectl crontabber`, read from their own parsers.

The shell's few lines ask the program itself (`__complete WORD…`), which answers a candidate a line; so the
completion is always that of the installed version. Names of jobs and namespaces come from the cluster, and
are left out where that takes longer than a person waits.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module

PATIENCE_SECONDS = 2.0
"""So long the cluster may take to name its jobs."""
SHELLS = ("bash", "zsh", "fish")
KUBECTL_DIRECTIVE_NO_FILES = ":4"
"""What kubectl's own completion takes as: these candidates, no file names."""
_JOB_DESTINATIONS = {"job", "jobs"}
_FILE_DESTINATIONS = {"filename", "file", "state", "out", "kubeconfig", "manage_py"}

_BASH = """\
_{function}() {{
    local IFS=$'\\n'
    COMPREPLY=($({program} __complete "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
    if [ ${{#COMPREPLY[@]}} -eq 0 ]; then compopt -o default; fi
}}
complete -F _{function} {program}
"""
_ZSH = """\
#compdef {program}
_{function}() {{
    local -a candidates
    candidates=("${{(@f)$({program} __complete "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    if [[ -n "$candidates" ]]; then compadd -a candidates; else _files; fi
}}
compdef _{function} {program}
"""
_FISH = """\
complete -c {program} -a '({program} __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"""
_TEXTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_EPILOGS = {
    "crontabber": "For this session: source <(crontabber completion bash).",
    "kubectl crontabber": "kubectl 1.26 and later completes 'kubectl crontabber' by itself, through the program"
    " kubectl_complete-crontabber that is installed beside this one. This is for kubectl-crontabber, called so.",
}


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], program: str = "crontabber"
) -> None:
    """Add `completion`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion for a shell",
        description="Print the completion for a shell, to be sourced by it.",
        epilog=_EPILOGS[program],
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=lambda arguments: _run(arguments, program))


def _run(arguments: argparse.Namespace, program: str) -> int:
    executable = program.replace(" ", "-")
    text = _TEXTS[arguments.shell].format(program=executable, function=executable.replace("-", "_"))
    sys.stdout.write(text)
    return 0


def kubectl_main() -> int:
    """Answer kubectl's own completion: candidates, then what it should do with them."""
    code = complete("kubectl crontabber", sys.argv[1:])
    sys.stdout.write(f"{KUBECTL_DIRECTIVE_NO_FILES}\n")
    return code


def complete(program: str, words: Sequence[str]) -> int:
    """Print the candidates for the last word; whatever goes wrong, there are none."""
    for candidate in candidates(program, words):
        sys.stdout.write(f"{candidate}\n")
    return 0


def candidates(program: str, words: Sequence[str]) -> list[str]:
    """Return what the last word may be."""
    *before, last = words or [""]
    action, parser, values = _walk(_parser(program, before), before)
    options = parser._option_string_actions  # noqa: SLF001 - argparse tells them in no other way
    if action is not None:
        found = _values(action, values)
    elif last.startswith("-"):
        found = sorted(option for option in options if option.startswith("--") or len(last) < 2)
    else:
        found = _positionals(parser, values)
    return [candidate for candidate in found if candidate.startswith(last)]


def _parser(program: str, before: Sequence[str]) -> argparse.ArgumentParser:
    """Return the program's parser, with the sub-command that is typed loaded."""
    from crontabber_operator import cli, plugin  # noqa: PLC0415 - they import this module

    if program != "crontabber":
        return plugin.build_parser()
    parser = argparse.ArgumentParser(prog=program)
    subparsers = parser.add_subparsers()
    asked_for = next((word for word in before if not word.startswith("-")), None)
    for command in cli.COMMANDS:
        if command.name == asked_for:
            import_module(command.module).add_parser(subparsers)
        else:
            subparsers.add_parser(command.name)
    return parser


def _walk(
    parser: argparse.ArgumentParser, before: Sequence[str]
) -> tuple[argparse.Action | None, argparse.ArgumentParser, dict[str, str]]:
    """Follow the words typed so far: the option that waits for its value, the parser reached, values given."""
    values: dict[str, str] = {}
    waiting: argparse.Action | None = None
    for word in before:
        if waiting is not None:
            values[waiting.dest] = word
            waiting = None
            continue
        option = parser._option_string_actions.get(word.partition("=")[0])  # noqa: SLF001 - see candidates
        if option is not None:
            if option.nargs == 0:
                continue
            if "=" in word:
                values[option.dest] = word.partition("=")[2]
            else:
                waiting = option
            continue
        for action in parser._actions:  # noqa: SLF001 - see candidates
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:  # noqa: SLF001
                parser = action.choices[word]
                break
    return waiting, parser, values


def _positionals(parser: argparse.ArgumentParser, values: dict[str, str]) -> list[str]:
    found: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - see candidates
        if not action.option_strings:
            found += _values(action, values)
    return found


def _values(action: argparse.Action, values: dict[str, str]) -> list[str]:
    """Return what an argument may be."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if action.dest in _FILE_DESTINATIONS:
        return []  # the shell's own completion of file names
    if action.dest in _JOB_DESTINATIONS:
        return _from_cluster(values, namespaces=False)
    if action.dest == "namespace":
        return _from_cluster(values, namespaces=True)
    return []


def _from_cluster(values: dict[str, str], *, namespaces: bool) -> list[str]:
    from crontabber_operator.client import connected  # noqa: PLC0415 - only where names are needed

    async def ask() -> list[str]:
        async with connected(
            values.get("kubeconfig"), values.get("context"), values.get("namespace")
        ) as client:
            if namespaces:
                return await client.namespaces()
            return sorted(one["metadata"]["name"] for one in await client.list_resources(client.namespace))

    try:
        return asyncio.run(asyncio.wait_for(ask(), PATIENCE_SECONDS))
    except Exception:  # noqa: BLE001 - no cluster, no names; nothing may be printed into a prompt
        return []
