"""`crontabber explain`: what a job will do next and why not sooner, and which slots it would catch up.

Of a resource in a cluster, or of a manifest that is not applied yet. It only looks; the words are
explanation.py's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crontabber_operator import connection
from crontabber_operator.connection import EXIT_USAGE, CannotError
from crontabber_operator.output_lines import harmless

if TYPE_CHECKING:
    from crontabber_operator.client import Client
    from crontabber_operator.explanation import Planned
    from crontabber_operator.live import Live
    from crontabber_operator.models import Defaults, Spec
    from crontabber_operator.store import Resource

PROGRAM = "crontabber explain"
DEFAULTS_FLAGS = ("webapp", "webapp-container", "manage-py")
"""The operator's settings that say how a job runs that does not say it itself."""
ATTENDED_SECONDS = 3.0
"""An operator that runs does what is to be done within this."""
SUFFIXES = (".yaml", ".yml", ".json")

_DESCRIPTION = """\
Tell what a CrontabberJob will do next, and why not sooner; and list the slots that it would catch up. Nothing
is changed.
"""
_EPILOG = """\
With -f, the manifest is judged as it is, without a cluster; with --live as well, as an edit of the resource
that the cluster has. Exit code 0: told; 1: no such resource, or a manifest with mistakes; 2: wrong arguments.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber explain`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "explain",
        help="tell what a job will do next and why not sooner",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `crontabber explain` and `kubectl crontabber explain` take."""
    parser.add_argument(
        "jobs",
        nargs="*",
        metavar="[NAMESPACE/]NAME",
        help="the jobs; all of the namespace where none is named",
    )
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="FILE",
        help="a manifest, or a folder of them, or - for standard input; repeatable",
    )
    parser.add_argument(
        "--live", action="store_true", help="with -f: as an edit of the resource in the cluster"
    )
    parser.add_argument("--slots", type=_count, metavar="N", help="list at most so many slots (20)")
    parser.add_argument(
        "--webapp",
        metavar="deployment/NAME",
        help="the operator's --webapp, where it isn't deployment/webapp",
    )
    parser.add_argument("--webapp-container", metavar="NAME", help="the operator's --webapp-container")
    parser.add_argument("--manage-py", metavar="COMMAND", help="the operator's --manage-py")
    connection.add_flags(parser)


def run(arguments: argparse.Namespace, program: str = PROGRAM) -> int:
    """Explain; see the epilog for the exit codes."""
    if arguments.filename and arguments.jobs:
        connection.tell(program, "give jobs of the cluster, or files with -f, not both.")
        return EXIT_USAGE
    if arguments.live and not arguments.filename:
        connection.tell(program, "--live goes only with -f.")
        return EXIT_USAGE
    if arguments.filename and not arguments.live:
        return connection.run_told(program, lambda: _explain_files(arguments))
    return connection.run_connected(program, arguments, lambda client: _explain_live(client, arguments))


# --- Jobs of a cluster ----------------------------------------------------------------------------------


async def _explain_live(client: Client, arguments: argparse.Namespace) -> int:
    code = 0
    for number, (namespace, name, spec) in enumerate(await _wanted(client, arguments)):
        if number:
            sys.stdout.write("\n")
        body = await client.find_resource(namespace, name)
        if body is None and spec is not None:
            sys.stdout.write(f"{namespace}/{name} does not exist yet.\n")
            code = max(
                code, _print_manifest(Manifest(f"{namespace}/{name}", name, namespace, spec), arguments)
            )
            continue
        if body is None:
            sys.stdout.flush()
            connection.tell(PROGRAM, f"there is no CrontabberJob {name} in namespace {namespace}.")
            code = connection.EXIT_FAILED
            continue
        edited = spec is not None and body.get("spec") != spec
        if spec is not None and edited:
            body = _edited(body, spec)
            sys.stdout.write("If this manifest were applied now:\n")
        code = max(code, await _print_live(client, body, arguments, may_wait=not edited))
    return code


async def _wanted(
    client: Client, arguments: argparse.Namespace
) -> list[tuple[str, str, Mapping[str, Any] | None]]:
    if arguments.filename:
        return [
            (one.namespace or client.namespace, one.name, one.spec)
            for one in read_manifests(arguments.filename)
        ]
    wanted: list[tuple[str, str, Mapping[str, Any] | None]] = []
    for job in arguments.jobs:
        namespace, slash, name = job.rpartition("/")
        wanted.append((namespace if slash else client.namespace, name, None))
    if wanted:
        return wanted
    listed = await client.list_resources(client.namespace)
    if not listed:
        message = f"there are no CrontabberJobs in namespace {client.namespace}."
        raise CannotError(message)
    return [(one["metadata"]["namespace"], one["metadata"]["name"], None) for one in listed]


def _edited(body: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resource as an edit would leave it."""
    changed = deepcopy(dict(body))
    changed["spec"] = dict(spec)
    changed["metadata"]["generation"] = int(changed["metadata"].get("generation") or 0) + 1
    return changed


async def _print_live(
    client: Client, body: dict[str, Any], arguments: argparse.Namespace, *, may_wait: bool
) -> int:
    """Explain a resource of the cluster."""
    from crontabber_operator import commands, explanation, live  # noqa: PLC0415 - only where there is something to explain

    defaults = _defaults(arguments)
    found = await live.look(client, body, defaults, _now())
    unattended = False
    if may_wait and isinstance(found, live.Live) and live.needs_the_operator(found):
        unattended, found = await _wait_until_attended(client, found, defaults)
    if not isinstance(found, live.Live):
        return _print_invalid(found)
    if found.resource.deleting:
        _write([explanation.explain_deleting(_place(found.resource))])
        return 0
    now = _now()
    told = explanation.Told(
        command=_live_command(found),
        where=_where(found.job.spec, defaults),
        refused=live.refusal(found),
        waiting_for=found.waiting_for.message if found.waiting_for is not None else None,
        pending=commands.pending(found.resource.annotations, found.resource.status),
        unattended=unattended,
    )
    _write(explanation.explain(found.job, found.seen, found.decision, told, now))
    caught_up = explanation.forecast(found.job, found.seen, now, _listed(arguments))
    held_back = explanation.is_held_back(found.job, found.seen, told, now)
    _write(explanation.tell_forecast(caught_up, found.job.spec, held_back=held_back))
    return 0


def _print_invalid(resource: Resource) -> int:
    from crontabber_operator import explanation  # noqa: PLC0415 - see above

    sentences = getattr(resource.spec, "sentences", ())
    _write(explanation.explain_invalid(_place(resource), sentences, resource.status, _now()))
    return 0


async def _wait_until_attended(
    client: Client, found: Live, defaults: Defaults
) -> tuple[bool, Live | Resource]:
    """Look again until the operator has done what is to be done; True: it did nothing at all."""
    from crontabber_operator import live  # noqa: PLC0415 - see above

    owner = found.resource.owner
    deadline = asyncio.get_running_loop().time() + ATTENDED_SECONDS
    newest: Live | Resource = found
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.5)
        body = await client.find_resource(owner.namespace, owner.name)
        if body is None:
            message = f"{_place(found.resource)} was deleted just now."
            raise CannotError(message)
        newest = await live.look(client, body, defaults, _now())
        if not isinstance(newest, live.Live) or not live.needs_the_operator(newest):
            return False, newest
    changed = isinstance(newest, live.Live) and newest.resource.version != found.resource.version
    return not changed, newest


def _live_command(found: Live) -> tuple[str, ...]:
    """Return the command line of the next run, its slot and last success filled in."""
    from crontabber_operator.explanation import next_slot  # noqa: PLC0415 - see above
    from crontabber_operator.observed import Unavailable  # noqa: PLC0415

    if isinstance(found.plan, Unavailable):
        return ()
    job = found.job
    slot = next_slot(job, found.seen, _now())
    values = {
        "RUN_TIME": job.spec.written(slot),
        "LAST_SUCCESS": job.spec.written(job.status.last_success_time),
    }
    return command_line(found.plan.manifest, values if job.spec.is_gated else {})


# --- Files ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manifest:
    """A CrontabberJob in a file."""

    source: str
    name: str
    namespace: str | None
    spec: Mapping[str, Any]


def read_manifests(filenames: Iterable[str]) -> list[Manifest]:
    """Read the CrontabberJobs in files and folders (one level, as kubectl does); `-` is standard input.

    Raises CannotError for what is no YAML, and where there is no CrontabberJob at all.
    """
    found = [
        one for filename in filenames for text, source in _texts(filename) for one in _parse(text, source)
    ]
    if not found:
        message = f"there is no CrontabberJob in {', '.join(filenames)}."
        raise CannotError(message, EXIT_USAGE)
    return found


def _texts(filename: str) -> Iterator[tuple[str, str]]:
    if filename == "-":
        yield sys.stdin.read(), "standard input"
        return
    path = Path(filename)
    try:
        if path.is_dir():
            for one in sorted(path.iterdir()):
                if one.suffix in SUFFIXES and one.is_file():
                    yield one.read_text(encoding="utf-8"), str(one)
        else:
            yield path.read_text(encoding="utf-8"), filename
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        message = f"{filename}: can't be read: {reason}."
        raise CannotError(message, EXIT_USAGE) from error


def _parse(text: str, source: str) -> Iterator[Manifest]:
    import yaml  # noqa: PLC0415 - only where there are files

    from crontabber_operator.models import KIND  # noqa: PLC0415

    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        message = f"{source}{where}: is not YAML: {getattr(error, 'problem', None) or error}."
        raise CannotError(message, EXIT_USAGE) from error
    for document in documents:
        items = document.get("items") if isinstance(document, dict) else None
        for one in items if isinstance(items, list) else [document]:
            if isinstance(one, dict) and one.get("kind") == KIND:
                metadata, spec = one.get("metadata"), one.get("spec")
                metadata = metadata if isinstance(metadata, dict) else {}
                yield Manifest(
                    source=source,
                    name=str(metadata.get("name") or ""),
                    namespace=metadata.get("namespace"),
                    spec=spec if isinstance(spec, dict) else {},
                )


def _explain_files(arguments: argparse.Namespace) -> int:
    code = 0
    for number, manifest in enumerate(read_manifests(arguments.filename)):
        if number:
            sys.stdout.write("\n")
        code = max(code, _print_manifest(manifest, arguments))
    return code


def _print_manifest(manifest: Manifest, arguments: argparse.Namespace) -> int:
    """Explain a manifest by itself; 1 where it has mistakes."""
    from crontabber_operator import explanation  # noqa: PLC0415 - see above

    planned, mistakes = plan_manifest(manifest, _defaults(arguments))
    if planned is None:
        _write([f"{manifest.source}: {manifest.name or 'a CrontabberJob'} can't be carried out:", *mistakes])
        return connection.EXIT_FAILED
    _write(explanation.explain_planned(planned, _now(), _listed(arguments)))
    return 0


def plan_manifest(manifest: Manifest, defaults: Defaults) -> tuple[Planned | None, tuple[str, ...]]:
    """Say what a manifest asks for, or what is wrong with it."""
    from crontabber_operator.explanation import Planned  # noqa: PLC0415 - see above
    from crontabber_operator.manifests import TemplateError, cron_fields  # noqa: PLC0415
    from crontabber_operator.models import InvalidSpec, Spec  # noqa: PLC0415

    if not manifest.name:
        return None, ("metadata.name: must be given",)
    try:
        spec = Spec.read(manifest.spec, name=manifest.name)
        made = plan_alone(manifest.namespace or "", manifest.name, spec, defaults)
    except InvalidSpec as error:
        return None, error.sentences
    except TemplateError as error:
        return None, (str(error),)
    fields = cron_fields(spec)
    place = f"{manifest.namespace}/{manifest.name}" if manifest.namespace else manifest.name
    planned = Planned(
        place=place,
        spec=spec,
        command=command_line(made, {}),
        where=_where(spec, defaults),
        cron_text=str(fields["schedule"]),
        time_zone=str(fields["timeZone"]),
    )
    return planned, ()


def plan_alone(namespace: str, name: str, spec: Spec, defaults: Defaults | None = None) -> dict[str, Any]:
    """Build the CronJob of a job whose web app is not at hand: its container has no image worth mentioning."""
    from crontabber_operator.manifests import NO_SETTINGS, Owner, plan  # noqa: PLC0415 - see above

    spec = spec.filled(defaults or NO_SETTINGS)
    container = (spec.webapp.container if spec.webapp is not None else None) or "webapp"
    stand_in = {"spec": {"containers": [{"name": container, "image": container}]}}
    template = spec.template if spec.template is not None else stand_in
    return plan(Owner(namespace, name, ""), spec, template).manifest


# --- Words ----------------------------------------------------------------------------------------------


def command_line(cronjob: Mapping[str, Any], values: Mapping[str, str]) -> tuple[str, ...]:
    """Return command and arguments of a CronJob's container, with these variables filled in."""
    from crontabber_operator.manifests import command_container  # noqa: PLC0415 - see above
    from crontabber_operator.variables import expand  # noqa: PLC0415

    containers = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    container = command_container(containers)
    words = [*(container.get("command") or []), *container["args"]]
    return tuple(expand(word, values) for word in words) if values else tuple(words)


def _where(spec: Spec, defaults: Defaults) -> str:
    webapp = spec.filled(defaults).webapp
    if webapp is None:
        return "in its own pod template"
    container = f", container {webapp.container}" if webapp.container else ""
    return f"in the pod template of Deployment {webapp.name}{container}"


def _defaults(arguments: argparse.Namespace) -> Defaults:
    from crontabber_operator.settings import SettingError, Settings  # noqa: PLC0415 - see above

    flags = {name: getattr(arguments, name.replace("-", "_")) for name in DEFAULTS_FLAGS}
    try:
        return Settings.read(flags).defaults
    except SettingError as error:
        raise CannotError(f"{error}.", EXIT_USAGE) from error


def _place(resource: Resource) -> str:
    return f"{resource.owner.namespace}/{resource.owner.name}"


def _listed(arguments: argparse.Namespace) -> int:
    from crontabber_operator.explanation import LISTED_SLOTS  # noqa: PLC0415 - see above

    return LISTED_SLOTS if arguments.slots is None else int(arguments.slots)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100000")
    return int(text)


def _now() -> datetime:
    return datetime.now(UTC)


def _write(lines: Iterable[str]) -> None:
    for line in lines:
        if line:
            sys.stdout.write(f"{harmless(line.rstrip())}\n")  # an error's text may hold anything
