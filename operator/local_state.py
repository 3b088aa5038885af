"""The file that `crontabber run-local` keeps its jobs in: their books, their runs, what it knows of them.

Written whole, and before any command is started, so that it can be killed at any line. One process at a time
holds it. A command that outlives its run-local is known by a lock that it inherited.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from crontabber_operator.models import Status
from crontabber_operator.observed import CronJobSeen, Desired, Evidence, Job, Run
from crontabber_operator.simulation import SimulatedJob

VERSION = 1


class LocalStateError(ValueError):
    """The file can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class SavedCronJob:
    """What the CronJob of a job would hold."""

    created: datetime
    hash: str
    template_hash: str
    schedule: str
    suspended: bool
    last_schedule: datetime | None = None
    last_successful: datetime | None = None


@dataclass(frozen=True, slots=True)
class SavedJob:
    """A job between two runs of run-local."""

    created: datetime
    generation: int
    fingerprint: str
    """Tells whether its manifest was edited."""
    status: dict[str, Any] = field(default_factory=dict)
    """As `status` of the resource in a cluster."""
    runs: tuple[Run, ...] = ()
    cronjob: SavedCronJob | None = None
    evidence: dict[str, Evidence] = field(default_factory=dict)
    next_pod: dict[str, datetime] = field(default_factory=dict)
    """When a plain run's next attempt is made, by uid."""


_SAVED = TypeAdapter(dict[str, SavedJob])


def save_job(simulated: SimulatedJob, fingerprint: str) -> SavedJob:
    """Take a picture of a job."""
    live = simulated.cronjob
    return SavedJob(
        created=simulated.job.created,
        generation=simulated.job.generation,
        fingerprint=fingerprint,
        status=simulated.status.write(),
        runs=tuple(simulated.runs.values()),
        cronjob=None
        if live is None
        else SavedCronJob(
            created=live.created,
            hash=live.hash,
            template_hash=live.template_hash,
            schedule=live.schedule,
            suspended=live.suspended,
            last_schedule=live.last_schedule,
            last_successful=live.last_successful,
        ),
        evidence=dict(simulated.evidence),
        next_pod=dict(simulated.next_pod),
    )


def restore_job(saved: SavedJob, job: Job, desired: Desired) -> SimulatedJob:
    """Go on from a picture; `job` has the spec of now."""
    kept = saved.cronjob
    return SimulatedJob(
        job=job,
        desired=desired,
        runs={run.uid: run for run in saved.runs},
        cronjob=None
        if kept is None
        else CronJobSeen(
            uid=f"{job.name}-cronjob",
            resource_version="1",
            ours=True,
            created=kept.created,
            hash=kept.hash,
            template_hash=kept.template_hash,
            drifted=False,
            # Of another schedule only until it is applied, which is the first thing that is done.
            slots=job.spec.slots if kept.schedule == desired.schedule else None,
            schedule=kept.schedule,
            suspended=kept.suspended,
            last_schedule=kept.last_schedule,
            last_successful=kept.last_successful,
        ),
        evidence=dict(saved.evidence),
        next_pod=dict(saved.next_pod),
    )


class StateFile:
    """The file, held by this process."""

    def __init__(self, path: Path) -> None:
        """Use `held`."""
        self.path = path
        self._locks = path.with_name(f"{path.name}.locks")

    @classmethod
    @contextlib.contextmanager
    def held(cls, path: Path) -> Iterator[StateFile]:
        """Hold the file for the time of a `with` block. Raises LocalStateError where somebody else does."""
        made = cls(path)
        try:
            made._locks.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(made._locks / "run-local", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            message = f"{path}: can't be written: {error.strerror or error}."
            raise LocalStateError(message) from error
        try:
            if not _lock(descriptor):
                message = f"{path}: another crontabber run-local works with it; end that one, or name another --state."
                raise LocalStateError(message)
            yield made
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, SavedJob]:
        """Read all jobs; none where there is no file yet. Raises LocalStateError."""
        try:
            body = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            message = f"{self.path}: can't be read: {error}. Remove it to begin anew."
            raise LocalStateError(message) from error
        if not isinstance(body, dict) or body.get("version") != VERSION:
            message = (
                f"{self.path}: was not written by this version of crontabber run-local; name another --state."
            )
            raise LocalStateError(message)
        try:
            return _SAVED.validate_python(body.get("jobs"))
        except ValidationError as error:
            message = f"{self.path}: can't be read: {error.errors()[0]['msg']}. Remove it to begin anew."
            raise LocalStateError(message) from error

    def write(self, jobs: Mapping[str, SavedJob]) -> None:
        """Write all jobs, as a whole: after a crash there is the old file or the new one."""
        body = {"version": VERSION, "jobs": _SAVED.dump_python(dict(jobs), mode="json")}
        draft = self.path.with_name(f"{self.path.name}.draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(body, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def lock_for_command(self, key: str) -> int | None:
        """Open the lock that a job's command inherits and holds as long as it lives; None: one still does."""
        descriptor = os.open(self._locks / f"job-{key.replace('/', '_')}", os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor):
            return descriptor
        os.close(descriptor)
        return None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_status(saved: SavedJob) -> Status:
    """Return the books of a saved job."""
    return Status.read(saved.status)
