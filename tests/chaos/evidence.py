"""What a run of the system leaves behind, as frozen values: the input of the checker.

Two witnesses that know nothing of each other: the lines that each command wrote itself, and every version of
every object as etcd kept it, in one order. Nothing here judges, and nothing here knows the operator's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Body = Mapping[str, Any]

OBJECTS_FILE = "objects.jsonl"
COMMANDS_FOLDER = "commands"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; of a deletion, the last that there was."""

    revision: int
    """Its place in the order of all changes to anything."""
    kind: str
    """Plural, as in its path."""
    body: Body
    deleted: bool = False

    @property
    def uid(self) -> str:
        """Whose version it is."""
        return str(self.body["metadata"]["uid"])

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class CommandRun:
    """One process of a command, as it told itself."""

    id: str
    job: str
    """The name of the CrontabberJob that it was given in its environment."""
    job_uid: str
    """The uid of the Kubernetes Job that it ran for."""
    argv: tuple[str, ...]
    started: float
    run_time: str | None = None
    """The environment's RUN_TIME."""
    last_success: str | None = None
    beside: tuple[str, ...] = ()
    """The ids of the other runs of that name whose processes lived when it started."""
    ended: float | None = None
    outcome: str | None = None
    """`good`, `failed`, `terminated`; None: it was killed, or still runs."""

    def option(self, name: str) -> str | None:
        """Return the value of `--name=value` among its arguments."""
        return next((arg[len(name) + 1 :] for arg in self.argv if arg.startswith(f"{name}=")), None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run left."""

    versions: tuple[Version, ...]
    runs: tuple[CommandRun, ...]
    due_until: datetime
    """Every slot at or before this had its chance: no fault came later, and it was waited until all had rest."""


def read_runs(lines: Iterable[str]) -> Iterator[CommandRun]:
    """Read what commands wrote; a last line that was cut off by a kill is left out."""
    runs: dict[str, CommandRun] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["event"] == "start":
            runs[entry["id"]] = CommandRun(
                id=entry["id"],
                job=entry["job"],
                job_uid=entry["job_uid"],
                argv=tuple(entry["argv"]),
                started=entry["at"],
                run_time=entry["run_time"],
                last_success=entry["last_success"],
            )
        elif entry["event"] == "beside":
            runs[entry["id"]] = replace(runs[entry["id"]], beside=tuple(entry["ids"]))
        else:
            runs[entry["id"]] = replace(runs[entry["id"]], ended=entry["at"], outcome=entry["outcome"])
    yield from runs.values()


def read_versions(lines: Iterable[str]) -> Iterator[Version]:
    """Read what `write_version` wrote."""
    for line in lines:
        entry = json.loads(line)
        yield Version(entry["revision"], entry["kind"], entry["body"], entry["deleted"])


def write_version(version: Version) -> str:
    """Write a version as a line."""
    return json.dumps(
        {
            "revision": version.revision,
            "kind": version.kind,
            "deleted": version.deleted,
            "body": version.body,
        }
    )


def read(folder: Path, due_until: datetime) -> Evidence:
    """Read the evidence of a run from its folder."""
    runs: list[CommandRun] = []
    for path in sorted((folder / COMMANDS_FOLDER).glob("*.jsonl")):
        runs += read_runs(path.read_text(encoding="utf-8").splitlines())
    with (folder / OBJECTS_FILE).open(encoding="utf-8") as file:
        versions = tuple(read_versions(file))
    return Evidence(versions, tuple(sorted(runs, key=lambda run: run.started)), due_until)


def parse_time(text: str) -> datetime:
    """Read a time of the API or of an argument: RFC 3339, or without zone for UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
