"""`crontabber migrate`: a JOBS list of the original crontabber becomes CrontabberJob manifests.

With a dump of the original's Job table, the bookkeeping comes along as a file for `crontabber state import`.
Needs no cluster and runs nothing of the file that it reads.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from crontabber_operator.models import DEFAULT_COMMAND_PREFIX, GROUP, KIND, VERSION, InvalidSpec, Spec
from crontabber_operator.old_bookkeeping import DumpError, OldRecord, read_dump, restore
from crontabber_operator.old_jobs import DEFAULT_MAX_ONGOING_SECONDS, OldJob, OldJobsError, read_old_jobs
from crontabber_operator.settings import SettingError, words
from crontabber_operator.spec_rules import NAME_MAX_LENGTH
from crontabber_operator.state_file import StateItem, write_state
from crontabber_operator.times import format_time

EXIT_USAGE = 2
STATE_FILE = "crontabber.state"
"""Not *.json: `kubectl apply -f DIR/` would take it for a resource."""

_DESCRIPTION = """\
Read the jobs of the original crontabber (Socorro's cronrun) and write CrontabberJob manifests. The file is
parsed, never run. It has either a list such as JOBS = [{"cmd": "clearsessions", "frequency": "7d", ...}], or
lines package.Class|1d|05:00.
"""
_EPILOG = """\
Without --out the manifests go to standard output. What a person should know goes to standard error. Then:
kubectl apply -f DIR/, and with --state also: crontabber state import < DIR/crontabber.state
"""
_INTERVAL = re.compile(r"0*([0-9]+)\s*([A-Za-z])")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{1,2})")
_CLASS_ENDINGS = re.compile(r"(?:CronApp|CronJob|App|Job)$")
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z]|\d|$)|[A-Z]?[a-z]+|\d+|[A-Z]+")


@dataclass(frozen=True, slots=True)
class Migrated:
    """One job in its new form."""

    name: str
    manifest: Mapping[str, Any]
    spec: Spec
    comment: tuple[str, ...]
    notes: tuple[str, ...]
    old: OldJob


class MigrationError(ValueError):
    """Some jobs have no new form; `sentences` say which and what to do."""

    def __init__(self, sentences: Sequence[str]) -> None:
        """Take the sentences, in the order of the file."""
        super().__init__(" ".join(sentences))
        self.sentences = tuple(sentences)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says about all jobs."""

    namespace: str | None = None
    webapp: str | None = None
    manage_py: tuple[str, ...] = DEFAULT_COMMAND_PREFIX


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber migrate`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "migrate",
        help="turn the original crontabber's jobs into manifests",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("jobs", metavar="JOBS.py", type=Path, help="the file with the jobs; it is never run")
    parser.add_argument("--variable", metavar="NAME", help="the list's name in it, where there are several")
    parser.add_argument(
        "--state",
        metavar="DUMP.json",
        type=Path,
        help="a 'manage.py dumpdata cron.job cron.log': take the bookkeeping along (needs --out)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="write a file for each job here, and the bookkeeping"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("-n", "--namespace", metavar="NAME", help="write this namespace into the manifests")
    parser.add_argument(
        "--webapp", metavar="NAME", help="the Deployment that the jobs run in, where it isn't the operator's"
    )
    parser.add_argument(
        "--manage-py",
        metavar="COMMAND",
        help="what comes before the command, such as 'python webapp/manage.py' (python manage.py)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the manifests; 2 where the input can't be used (then nothing is written), 1 on a full disk."""
    if arguments.state is not None and arguments.out is None:
        _tell(["--state needs a folder for its file; add --out DIR."])
        return EXIT_USAGE
    try:
        old = read_old_jobs(_read(arguments.jobs), str(arguments.jobs), arguments.variable)
        wishes = Wishes(
            namespace=arguments.namespace,
            webapp=arguments.webapp,
            manage_py=_manage_py(arguments.manage_py),
        )
        records = (
            read_dump(_read(arguments.state), str(arguments.state)) if arguments.state is not None else {}
        )
        migrated = migrate(old.jobs, wishes, old.max_ongoing_seconds)
        files, notes = _files(migrated, wishes, records, with_state=arguments.state is not None)
        if arguments.out is not None:
            _check_free(arguments.out, files, overwrite=arguments.overwrite)
    except (OldJobsError, MigrationError) as error:
        _tell(error.sentences)
        return EXIT_USAGE
    except DumpError as error:
        _tell([str(error)])
        return EXIT_USAGE
    if arguments.out is None:
        sys.stdout.write("---\n".join(text for name, text in files.items() if name != STATE_FILE))
    else:
        try:
            _write(arguments.out, files)
        except OSError as error:
            _tell([f"{arguments.out}: can't be written: {error.strerror or error}."])
            return 1
        notes.append(f"{len(migrated)} jobs are in {arguments.out}; apply them with: {_next(arguments)}")
    _tell(notes)
    return 0


# --- Pure: from old to new ------------------------------------------------------------------------------


def migrate(
    jobs: Sequence[OldJob],
    wishes: Wishes,
    max_ongoing_seconds: int = DEFAULT_MAX_ONGOING_SECONDS,
) -> list[Migrated]:
    """Turn old jobs into new ones. Raises MigrationError where one has no new form."""
    mistakes: list[str] = []
    migrated: dict[str, Migrated] = {}
    names = {command: _resource_name(command)[0] for command in (_command_words(job)[0] for job in jobs)}
    names |= {name: name for name in names.values()}
    for job in jobs:
        try:
            new = _migrate_one(job, names, wishes, max_ongoing_seconds)
        except MigrationError as error:
            mistakes += error.sentences
            continue
        if new.name in migrated:
            mistakes.append(
                f"{job.place}: the name {new.name} is taken by {migrated[new.name].old.place};"
                " give one of the two another cmd."
            )
        migrated[new.name] = new
    if mistakes:
        raise MigrationError(mistakes)
    return list(migrated.values())


def _migrate_one(job: OldJob, names: Mapping[str, str], wishes: Wishes, max_ongoing_seconds: int) -> Migrated:
    command, *further = _command_words(job)
    name, shortened = _resource_name(command)
    unknown = [one for one in job.depends_on if one not in names]
    if unknown:
        raise MigrationError(
            [f"{job.place}: depends_on names {', '.join(unknown)}, which is none of these jobs; remove it."]
        )
    frequency, time = _schedule(job)
    fields: dict[str, Any] = {
        "command": command,
        "args": [*further, *job.args],
        "managePy": list(wishes.manage_py) if wishes.manage_py != DEFAULT_COMMAND_PREFIX else None,
        "frequency": frequency,
        "time": _Quoted(time) if time is not None else None,
        "backfill": job.backfill,
        "passLastSuccess": job.last_success,
        "dependsOn": [{"name": names[one]} for one in job.depends_on],
        "activeDeadlineSeconds": (
            max_ongoing_seconds if max_ongoing_seconds != DEFAULT_MAX_ONGOING_SECONDS else None
        ),
        "webapp": {"name": wishes.webapp} if wishes.webapp is not None else None,
    }
    # An empty managePy has a meaning: the image's own entrypoint.
    body = {key: value for key, value in fields.items() if value or (key == "managePy" and value is not None)}
    try:
        spec = Spec.read(body, name=name)
    except InvalidSpec as error:
        raise MigrationError([f"{job.place}: {sentence}." for sentence in error.sentences]) from error
    metadata = {"name": name, **({"namespace": wishes.namespace} if wishes.namespace else {})}
    return Migrated(
        name=name,
        manifest={"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": body},
        spec=spec,
        comment=(*job.comment, *_class_comment(job, command)),
        notes=tuple(f"{job.place}: {note}" for note in (*shortened, *_notes(job, name, command))),
        old=job,
    )


def _class_comment(job: OldJob, command: str) -> tuple[str, ...]:
    if job.class_path is None:
        return ()
    return (f"Was {job.class_path}: its run() has to become the management command {command}.",)


def _notes(job: OldJob, name: str, command: str) -> list[str]:
    notes = [f"the key {key!r} has no meaning to crontabber and is left out." for key in job.unknown_keys]
    if job.class_path is not None:
        notes.append(
            f"a class is not run as such; write a management command {command}, or set spec.command and"
            f" spec.managePy in {name} to what runs {job.class_path}."
        )
        if job.time is not None:
            notes.append(f"{job.time} was in PostgreSQL's time zone and is UTC now.")
    return notes


def _command_words(job: OldJob) -> list[str]:
    """Return the management command, and what follows it in `cmd`."""
    if job.class_path is None:
        try:
            return shlex.split(job.command) or [""]
        except ValueError:
            return [job.command]
    name = _CLASS_ENDINGS.sub("", job.class_path.rpartition(".")[2]) or job.class_path.rpartition(".")[2]
    return ["_".join(_WORDS.findall(name)).lower()]


def _resource_name(command: str) -> tuple[str, list[str]]:
    """Return the resource's name, and what there is to say about it."""
    name = re.sub(r"[^a-z0-9]+", "-", command.lower()).strip("-")
    if len(name) <= NAME_MAX_LENGTH:
        return name, []
    short = f"{name[: NAME_MAX_LENGTH - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return short, [f"{command} is longer than {NAME_MAX_LENGTH} characters; its resource is called {short}."]


def _schedule(job: OldJob) -> tuple[str, str | None]:
    """Return frequency and time in the new form: no leading zeros, days where a time of day is given."""
    match = _INTERVAL.fullmatch(job.frequency.strip())
    if match is None or int(match[1]) == 0 or match[2] not in "mhd":
        given = f"{job.place}: frequency {job.frequency!r}"
        raise MigrationError([f"{given} must be a number and m, h or d, such as 45m, 1h or 7d."])
    number, unit = int(match[1]), match[2]
    if job.time is None:
        return f"{number}{unit}", None
    time = _TIME.fullmatch(job.time.strip())
    if time is None or int(time[1]) > 23 or int(time[2]) > 59:
        raise MigrationError([f"{job.place}: time {job.time!r} must be HH:MM from 00:00 to 23:59."])
    a_day = {"m": 1440, "h": 24, "d": 1}[unit]
    if number % a_day:
        sentence = (
            f"{job.place}: time {job.time} goes only with a frequency in days, not with {job.frequency};"
            " remove time, or set a frequency such as 1d."
        )
        raise MigrationError([sentence])
    return f"{number // a_day}d", f"{int(time[1]):02}:{int(time[2]):02}"


# --- Pure: files ----------------------------------------------------------------------------------------


def _files(
    migrated: Sequence[Migrated], wishes: Wishes, records: Mapping[str, OldRecord], *, with_state: bool
) -> tuple[dict[str, str], list[str]]:
    """Return the files by name, and the notes."""
    files = {f"{one.name}.yaml": render(one) for one in migrated}
    notes = [note for one in migrated for note in one.notes]
    if not with_state:
        return files, notes
    items = []
    for one in migrated:
        command = _command_words(one.old)[0]
        record = records.get(command)
        if record is None:
            notes.append(f"{one.name}: the dump has no row of it; it starts with its first slot.")
            continue
        restored = restore(record, one.spec)
        notes += [f"{one.name}: {note}." for note in restored.notes]
        items.append(StateItem(wishes.namespace, one.name, restored.status))
        notes.append(f"{one.name}: {_goes_on(one, restored.status.settled_through)}")
    known = {_command_words(one.old)[0] for one in migrated}
    notes += [f"The dump's row of {name} is left out: no such job." for name in records if name not in known]
    files[STATE_FILE] = write_state(items, datetime.now(UTC))
    return files, notes


def _goes_on(one: Migrated, cursor: datetime | None) -> str:
    if cursor is None:
        return "it never ran; it starts with its first slot."
    following = one.spec.slots.next_after(cursor)
    first = format_time(following) if following is not None else "none"
    what = "each slot from there on" if one.spec.backfill else "one run for all slots from there on"
    return f"settled up to {format_time(cursor)}; the next slot is {first} ({what})."


def render(one: Migrated) -> str:
    """Write a manifest as YAML, its comment first."""
    comment = "".join(f"# {line}\n" for line in one.comment)
    body = yaml.dump(
        dict(one.manifest),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=110,
    )
    return comment + body


class _Quoted(str):
    """A text that some reader of YAML could take for a number."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes times of day in quotes: YAML 1.1 reads 15:00 as 900."""


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


# --- The shell ------------------------------------------------------------------------------------------


def _manage_py(text: str | None) -> tuple[str, ...]:
    if text is None:
        return DEFAULT_COMMAND_PREFIX
    try:
        return words("manage-py", text)
    except SettingError as error:
        raise MigrationError([f"{error}."]) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MigrationError([f"{path}: can't be read: {error.strerror or error}."]) from error
    except UnicodeDecodeError as error:
        raise MigrationError([f"{path}: is not text in UTF-8."]) from error


def _check_free(folder: Path, files: Mapping[str, str], *, overwrite: bool) -> None:
    taken = [name for name in files if (folder / name).exists()]
    if taken and not overwrite:
        raise MigrationError(
            [f"{folder}: {', '.join(taken[:3])} {'…' if len(taken) > 3 else ''}exists; add --overwrite."]
        )


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _next(arguments: argparse.Namespace) -> str:
    """Return the commands that bring the jobs into a cluster."""
    steps = f"kubectl apply -f {arguments.out}/"
    return f"{steps} && crontabber state import < {arguments.out}/{STATE_FILE}" if arguments.state else steps


def _tell(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        sys.stderr.write(f"crontabber migrate: {sentence}\n")
