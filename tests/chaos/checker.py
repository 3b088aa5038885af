"""PURE. Judges the promise by the evidence of a run, with no word from the operator's code.

The promise (docs/reliability.md): every due slot of a backfill job is run to success at least once, oldest first,
never two at a time, never again after it was recorded; last success never passes a slot that did not succeed; what
the command is told is right; a plain job is what a CronJob with Forbid is, and its books are never wrong.

Each CrontabberJob is judged by all versions of it and of its Jobs, in the one order that etcd gave them, and by
what its commands wrote. What a person did (marks, resets, edits of the status by hand) begins a new epoch: what
was settled before it may run again, and what runs is judged from there.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tests.chaos.evidence import Body, CommandRun, Evidence, Version, parse_time
from tests.chaos.grid import Grid, grid_of

PREFIX = "crontabber.dev/"
PERSON = "person"
"""The field manager of all that a person does by hand, as kubectl would be."""
COMMANDS = ("mark-success", "reset", "run-now")
CLOCK_SLACK = timedelta(seconds=2)
"""Times of the API are whole seconds, written by different processes."""


class Clause(StrEnum):
    """What of the promise was broken."""

    ORDER = "oldest first"
    ALONE = "never two at a time"
    ONCE = "never again after it was recorded"
    SUCCEEDED = "recorded only when it succeeded"
    LAST_SUCCESS = "last success never passes a slot that did not succeed"
    ARGUMENTS = "told the right run time and last success"
    FENCE = "started only what was claimed"
    BOOKS = "the books are never wrong"
    COMMANDS = "what a person asks for is done once"
    HANDS_OFF = "what a person suspended stays suspended"
    SETTLED = "in the end every due slot has run"


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach of the promise."""

    clause: Clause
    job: str
    """The CrontabberJob's name."""
    message: str
    revision: int = 0
    """Where in the evidence; 0: at the end."""

    def __str__(self) -> str:
        """Say it in a line."""
        return f"[{self.clause}] {self.job} at revision {self.revision or 'the end'}: {self.message}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out."""

    violations: tuple[Violation, ...]
    counts: Mapping[str, int]
    """How much was judged, by kind."""

    @property
    def clauses(self) -> set[Clause]:
        """The clauses that were broken."""
        return {violation.clause for violation in self.violations}


def judge(evidence: Evidence) -> Verdict:
    """Judge all CrontabberJobs of a run."""
    runs: dict[str, list[CommandRun]] = {}
    for run in evidence.runs:
        runs.setdefault(run.job_uid, []).append(run)
    bench = _Bench(runs)
    for version in evidence.versions:
        bench.take(version)
    judges = list(bench.judges.values())
    for each in judges:
        each.end(evidence.due_until)
    _judge_overlaps(evidence.runs, bench.of_job)
    counts: Counter[str] = Counter()
    for each in judges:
        counts.update(each.counts)
    counts["resources"] = len(judges)
    counts["commands' runs"] = len(evidence.runs)
    counts["versions of objects"] = len(evidence.versions)
    found = [violation for each in judges for violation in each.violations]
    return Verdict(tuple(sorted(found, key=lambda one: one.revision or 1 << 62)), counts)


class _Bench:
    """Gives each version to the judge whom it concerns."""

    def __init__(self, runs: Mapping[str, list[CommandRun]]) -> None:
        self.judges: dict[str, _Judge] = {}
        """By the uid of the CrontabberJob."""
        self.of_job: dict[str, _Judge] = {}
        self._cronjobs: dict[str, str] = {}
        """The uid of a CronJob, and that of the CrontabberJob that it is for."""
        self._runs = runs

    def take(self, version: Version) -> None:
        """Take the next version."""
        if version.kind == "crontabberjobs":
            if version.uid not in self.judges:
                self.judges[version.uid] = _Judge(version, self._runs)
            self.judges[version.uid].resource_changed(version)
            return
        owners = list(_owners(version.body))
        owners += [self._cronjobs[uid] for uid in owners if uid in self._cronjobs]
        owner = next((uid for uid in owners if uid in self.judges), None)
        if version.kind == "cronjobs" and owner is not None:
            self._cronjobs[version.uid] = owner
            if version.deleted:
                self.judges[owner].cronjob_deleted(version.uid)
        if version.kind == "jobs" and owner is not None:
            self.of_job[version.uid] = self.judges[owner]
        if version.kind == "jobs" and version.uid in self.of_job:
            self.of_job[version.uid].job_changed(version)


def _judge_overlaps(runs: tuple[CommandRun, ...], of_job: Mapping[str, _Judge]) -> None:
    """No two processes of one CrontabberJob lived at the same time, but for those that a person started."""
    by_id = {run.id: run for run in runs}
    for run in runs:
        mine = of_job.get(run.job_uid)
        for other in (by_id[one] for one in run.beside if one in by_id):
            if mine is None or of_job.get(other.job_uid) is not mine:
                continue  # of a resource that was deleted and made anew
            if mine.is_by_hand(run.job_uid) or mine.is_by_hand(other.job_uid):
                continue
            mine.break_(
                Clause.ALONE,
                f"run {run.id} of {mine.describe(run.job_uid)} began while run {other.id} of"
                f" {mine.describe(other.job_uid)} still lived",
                mine.jobs[run.job_uid].released_at or 0,
            )


# --- One resource ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Job:
    """A Kubernetes Job, as far as the versions seen so far tell."""

    name: str
    uid: str
    manual: bool
    """A person asked for it: outside the bookkeeping."""
    gated: bool
    slot: datetime
    through: datetime
    created_at: int
    suspended: bool = False
    released_at: int | None = None
    by_hand: bool = False
    """A person released it, never the operator."""
    claimed_at: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    result: str | None = None
    """`Complete` or `Failed`."""
    ended_at: int | None = None
    failed_pods: int = 0
    deleted_at: int | None = None
    owners: tuple[str, ...] = ()
    is_doomed: bool = False
    """The CronJob that made it is gone: the garbage collector is about to delete it."""

    @property
    def is_lost(self) -> bool:
        """It is gone, or about to be whatever happens."""
        return self.deleted_at is not None or self.is_doomed

    @property
    def is_batch(self) -> bool:
        """It runs several slots, one after the other."""
        return self.slot != self.through

    @property
    def goes_on(self) -> bool:
        """It was started and may still run."""
        return self.released_at is not None and self.result is None and self.deleted_at is None

    @property
    def is_counted(self) -> bool:
        """The operator, or the controller for it, started it for its slot."""
        return not self.manual and not self.by_hand


@dataclass(frozen=True, slots=True)
class _Books:
    """A status, as far as it is judged."""

    cursor: datetime
    last_success: datetime | None
    claim: Mapping[str, Any] | None
    skipped: int
    errors: int
    history: tuple[Mapping[str, Any], ...]
    commands: tuple[Mapping[str, Any], ...]
    observed: int | None

    @classmethod
    def of(cls, body: Body) -> _Books:
        status, spec = body.get("status") or {}, body["spec"]
        cursor = parse_time(body["metadata"]["creationTimestamp"])
        if "settledThrough" in status:
            cursor = parse_time(status["settledThrough"])
        elif spec.get("backfill") and "backfillSince" in spec:
            cursor = parse_time(spec["backfillSince"]) - timedelta(seconds=1)
        success = status.get("lastSuccessTime")
        return cls(
            cursor=cursor,
            last_success=parse_time(success) if success else None,
            claim=status.get("ongoing"),
            skipped=status.get("skipped") or 0,
            errors=status.get("errorCount") or 0,
            history=tuple(status.get("history") or ()),
            commands=tuple(status.get("lastCommands") or ()),
            observed=status.get("observedGeneration"),
        )

    @property
    def claimed(self) -> str | None:
        """The uid of the claimed Job."""
        return None if self.claim is None else str(self.claim["uid"])


class _Judge:
    """Follows one CrontabberJob through all that happened to it."""

    def __init__(self, first: Version, runs: Mapping[str, list[CommandRun]]) -> None:
        self.name = first.name
        self.jobs: dict[str, _Job] = {}
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self._runs = runs
        self._body = first.body
        self._is_new = True
        self._deleted = False
        self._epochs = [first.revision]
        """Where a person set the books anew, from the creation on."""
        self._written_until = math.inf
        """When the newest version was written at the latest, in seconds since 1970."""
        self._edited_at = 0
        """Where the status was last edited by hand."""
        self._disregarded: set[str] = set()
        """The Jobs that had ended at the last mark: plain ones don't count any more; one that went on may."""
        self._claim_grids: dict[str, Grid] = {}
        self._vain_claims: set[str] = set()
        """The Jobs that were claimed when they had been started already, for a claim that a mark dropped."""
        self._done: set[tuple[str, str]] = set()
        self._annotated: dict[str, Body] = {}
        """The pod template's annotations of a released Job."""

    # --- What is said -----------------------------------------------------------------------------------

    def break_(self, clause: Clause, message: str, revision: int = 0) -> None:
        """Note a violation."""
        self.violations.append(Violation(clause, self.name, message, revision))

    def is_by_hand(self, job_uid: str) -> bool:
        """Tell whether a person started this Job."""
        return not self.jobs[job_uid].is_counted

    def describe(self, job_uid: str) -> str:
        """Name a Job and its slot."""
        job = self.jobs[job_uid]
        return f"Job {job.name} (slot {job.slot:%Y-%m-%dT%H:%MZ})"

    # --- The resource -----------------------------------------------------------------------------------

    def resource_changed(self, version: Version) -> None:
        """Take the next version of the resource."""
        if version.deleted:
            self._deleted = True
            return
        before, self._body = self._body, version.body
        self._written_until = _written_until(version.body)
        if self._is_new:
            self._is_new = False
            return
        self._judge_annotations(before, version)
        if (before.get("status") or {}) == (version.body.get("status") or {}):
            return
        old, new = _Books.of(before), _Books.of(version.body)
        if _by_hand(before, version.body, "status"):
            self._begin_epoch(version.revision, forget=False)
            self._edited_at = version.revision
            self.counts["statuses edited by hand"] += 1
            self._take_claim(before, new, version.revision)
            return
        done = self._commands_done(old, new, version.revision)
        if done:
            self._begin_epoch(version.revision, forget=True)
            self._judge_effect(done[-1], new, version.revision)
            return
        if "lastSuccessTime" not in (before.get("status") or {}) and "status" not in before:
            old = _Books.of({**before, "status": {}})
        self._judge_settling(before, old, new, version.revision)
        self._judge_last_success(before, old, new, version.revision)
        self._judge_history(old, new, version.revision)
        if old.claimed is not None and new.claimed != old.claimed:
            self._judge_dropped(old.claimed, version.revision)
        if new.claimed is not None and new.claimed != old.claimed:
            self._judge_claim(before, new, version.revision)
            self._take_claim(before, new, version.revision)

    def _begin_epoch(self, revision: int, *, forget: bool) -> None:
        self._epochs.append(revision)
        self._disregarded = {uid for uid, job in self.jobs.items() if forget and job.result is not None}

    def _take_claim(self, before: Body, new: _Books, revision: int) -> None:
        job = self.jobs.get(new.claimed or "")
        if job is None or job.uid in self._vain_claims:
            return
        if job.claimed_at is None or job.claimed_at < self._epochs[-1]:
            job.claimed_at = revision
            self._claim_grids[job.uid] = grid_of(before["spec"])
            self.counts["claims"] += 1

    def _judge_annotations(self, before: Body, version: Version) -> None:
        """A command's annotation is only taken away once the command is written down."""
        old, new = _annotations(before), _annotations(version.body)
        asked = old.get(PREFIX + "command-id")
        records = _Books.of(version.body).commands
        for name in COMMANDS:
            key = PREFIX + name
            if key in new and old.get(key) != new[key]:
                self.counts["commands by annotation"] += 1
            if key not in old or key in new:
                continue
            if not any(
                one["id"] == asked
                if asked is not None
                else (one["name"], one.get("value", ""), one["result"]) == (name, old[key], "Pending")
                for one in records
            ):
                self.break_(
                    Clause.COMMANDS,
                    f"{name}={old[key]} was taken away and not written down",
                    version.revision,
                )

    def _commands_done(self, old: _Books, new: _Books, revision: int) -> list[Body]:
        """Return the marks and resets that this write did."""
        pending = {_identity(one) for one in old.commands if one["result"] == "Pending"}
        known = {_identity(one) for one in old.commands if one["result"] != "Pending"}
        done = [one for one in new.commands if one["result"] == "Done" and _identity(one) not in known]
        for one in done:
            if _identity(one) in self._done:
                self.break_(Clause.COMMANDS, f"{one['name']} {one['id']} was done twice", revision)
            if _identity(one) not in pending:
                self.break_(Clause.COMMANDS, f"{one['name']} {one['id']} was done unannounced", revision)
            self._done.add(_identity(one))
            self.counts[f"{one['name']} done"] += 1
        return [one for one in done if one["name"] != "run-now"]

    def _judge_effect(self, command: Body, new: _Books, revision: int) -> None:
        """A mark sets last success and the cursor to its time, a reset forgets all up to its own."""
        at = parse_time(command["time"])
        value = command.get("value", "")
        if command["name"] == "reset":
            wanted, success = at, None
        else:
            wanted = at if value in ("", "now") else parse_time(value)
            success = wanted
        if (new.cursor, new.last_success) != (wanted, success):
            self.break_(
                Clause.COMMANDS,
                f"{command['name']}={value} left settledThrough {new.cursor} and lastSuccessTime {new.last_success}",
                revision,
            )
        if new.claim is not None:
            self.break_(Clause.COMMANDS, f"{command['name']} left the claim", revision)

    # --- What a write of the books says -------------------------------------------------------------------

    def _judge_settling(self, before: Body, old: _Books, new: _Books, revision: int) -> None:
        """The cursor never goes back, and passes only slots that succeeded, or were skipped and counted."""
        if new.cursor < old.cursor:
            self.break_(Clause.BOOKS, f"settledThrough went back to {new.cursor}", revision)
        if new.cursor <= old.cursor:
            return
        skipped = new.skipped - old.skipped
        spec = before["spec"]
        claimed = self._claim_grids.get(old.claimed or "")
        passed = (claimed or grid_of(spec)).between(old.cursor, new.cursor)
        if not spec.get("backfill"):
            self._judge_late_run(before, old, new, revision)
            return
        before_edit = self._slot_claimed_before_edit(old.claimed)
        if before_edit is not None:
            passed = [slot for slot in passed if slot >= before_edit]
        failed = [slot for slot in passed if not self._has_succeeded(slot, revision)]
        allowed = skipped if spec.keys() & {"backfillLimit", "startingDeadlineSeconds"} else 0
        if len(failed) != allowed or failed != passed[: len(failed)]:
            self.break_(
                Clause.SUCCEEDED, f"settled without a success ({allowed} skipped): {_texts(failed)}", revision
            )
        self.counts["slots"] += len(passed) - len(failed)
        self.counts["slots skipped"] += skipped
        if _is_progress(old, new):
            self.counts["slots recorded while their batch went on"] += len(passed)

    def _slot_claimed_before_edit(self, uid: str | None) -> datetime | None:
        """Return the slot of a run that goes on since before an edit of the status by hand: it settles those before."""
        job = self.jobs.get(uid or "")
        if job is None or job.claimed_at is None or self._edited_at < job.claimed_at:
            return None
        return job.slot

    def _judge_late_run(self, before: Body, old: _Books, new: _Books, revision: int) -> None:
        """Without backfill one run settles all slots up to its own; so does an edit of the schedule."""
        if self._has_succeeded(new.cursor, revision):
            self.counts["slots"] += 1
            return
        edited = new.observed != old.observed and old.observed not in (None, -1)
        given_up = new.skipped > old.skipped and (
            before["spec"].keys() & {"startingDeadlineSeconds", "retryLimit"}
        )
        if not edited and not given_up:
            self.break_(
                Clause.SUCCEEDED, f"settled without a success: {new.cursor:%Y-%m-%dT%H:%MZ}", revision
            )

    def _has_succeeded(self, slot: datetime, revision: int) -> bool:
        return any(
            job.slot <= slot <= job.through
            and self._counts_now(job)
            and any(
                run.outcome == "good" and _is_of(run, job, slot) and self._was_known(job, run, revision)
                for run in self._runs.get(job.uid, ())
            )
            for job in self.jobs.values()
        )

    def _was_known(self, job: _Job, run: CommandRun, revision: int) -> bool:
        """Tell whether a success could be known when a version was written: that of a batch while this goes on."""
        if job.is_batch:
            return run.ended is not None and run.ended <= self._written_until
        return job.result == "Complete" and (job.ended_at or revision) < revision

    def _counts_now(self, job: _Job) -> bool:
        """Tell whether the outcome of a Job counts in this epoch."""
        if not job.is_counted:
            return False
        if job.gated:
            return job.claimed_at is not None and (
                job.claimed_at >= self._epochs[-1] or self._edited_at == self._epochs[-1]
            )
        return job.uid not in self._disregarded

    def _judge_last_success(self, before: Body, old: _Books, new: _Books, revision: int) -> None:
        if new.last_success == old.last_success:
            return
        if new.last_success is None:
            self.break_(Clause.LAST_SUCCESS, "lastSuccessTime was forgotten", revision)
            return
        if old.last_success is not None and new.last_success < old.last_success:
            self.break_(Clause.LAST_SUCCESS, f"lastSuccessTime went back to {new.last_success}", revision)
        if not before["spec"].get("backfill"):
            right = any(
                self._counts_now(job) and job.result == "Complete" and _is_its_success(job, new.last_success)
                for job in self.jobs.values()
            )
        else:
            right = new.last_success <= new.cursor and self._has_succeeded(new.last_success, revision)
        if not right:
            self.break_(
                Clause.LAST_SUCCESS,
                f"lastSuccessTime became {new.last_success:%Y-%m-%dT%H:%M:%SZ}, and nothing succeeded then",
                revision,
            )

    def _judge_history(self, old: _Books, new: _Books, revision: int) -> None:
        """Each new entry is true, and the failures in a row are counted right."""
        fresh = _new_entries(old.history, new.history)
        if fresh is None:
            self.break_(Clause.BOOKS, "the history was rewritten", revision)
            return
        errors = 0 if _is_progress(old, new) else old.errors
        for entry in reversed(fresh):
            succeeded = entry["result"] == "Succeeded"
            errors = 0 if succeeded else errors + 1
            self.counts["entries of history"] += 1
            named = [job for job in self.jobs.values() if job.name == entry["job"]]
            if succeeded:
                true = any(job.result == "Complete" or self._has_good_slot(job) for job in named)
            elif entry["result"] == "Lost":
                true = any(job.is_lost for job in named)
            else:
                true = any(job.result == "Failed" or job.failed_pods for job in named)
            if not true:
                self.break_(
                    Clause.BOOKS,
                    f"the history says that Job {entry['job']} {entry['result']}; it did not",
                    revision,
                )
        if len(fresh) < len(new.history) and errors != new.errors:
            self.break_(Clause.BOOKS, f"errorCount is {new.errors} and not {errors}", revision)

    def _has_good_slot(self, job: _Job) -> bool:
        return job.is_batch and any(run.outcome == "good" for run in self._runs.get(job.uid, ()))

    def _judge_dropped(self, uid: str, revision: int) -> None:
        job = self.jobs.get(uid)
        if uid in self._vain_claims:
            self._vain_claims.discard(uid)
        elif job is not None and job.result is None and not job.is_lost:
            self.break_(
                Clause.BOOKS, f"the claim of {self.describe(uid)} was dropped while it exists", revision
            )

    def _judge_claim(self, before: Body, new: _Books, revision: int) -> None:
        claim = new.claim or {}
        job = self.jobs.get(str(claim["uid"]))
        if job is None:
            self.break_(Clause.FENCE, f"claimed a Job that is not there: {claim['job']}", revision)
            return
        if not job.gated:
            return
        if job.released_at is not None:
            # Who sees the books sooner than the Jobs can't know better.
            self._note_vain_claim(job)
        slot = parse_time(claim["slot"])
        if slot != job.slot:
            self.break_(Clause.FENCE, f"claimed {self.describe(job.uid)} for slot {claim['slot']}", revision)
        if slot <= new.cursor:
            self.break_(Clause.ONCE, f"claimed slot {claim['slot']}, which is settled", revision)
        if before["spec"].get("backfill"):
            passed = grid_of(before["spec"]).between(new.cursor, slot)[:-1]
            if passed:
                self.break_(Clause.ORDER, f"claimed slot {claim['slot']} before {_texts(passed)}", revision)

    def _note_vain_claim(self, job: _Job) -> None:
        """Note that it was not released for its claim, which must come to nothing."""
        self._vain_claims.add(job.uid)
        self.counts["claims in vain"] += 1

    # --- Its Jobs -----------------------------------------------------------------------------------------

    def cronjob_deleted(self, uid: str) -> None:
        """Take that a CronJob of it is gone."""
        for job in self.jobs.values():
            job.is_doomed |= uid in job.owners

    def job_changed(self, version: Version) -> None:
        """Take the next version of one of its Jobs."""
        body, revision = version.body, version.revision
        job = self.jobs.get(version.uid)
        if job is None:
            job = self.jobs[version.uid] = _read_job(self.name, version)
        if version.deleted:
            job.deleted_at = revision
            return
        status = body.get("status") or {}
        job.failed_pods = status.get("failed") or 0
        if status.get("startTime") and not body["spec"].get("suspend"):
            job.started = job.started or parse_time(status["startTime"])
        for one in status.get("conditions") or []:
            if one["type"] in ("Complete", "Failed") and one["status"] == "True" and job.result is None:
                job.result, job.ended_at = one["type"], revision
                job.finished = parse_time(one["lastTransitionTime"])
        was_suspended, job.suspended = job.suspended, bool(body["spec"].get("suspend"))
        if job.suspended:
            return
        if job.released_at is None:
            job.released_at = revision
            told = _template_annotations(body)
            self._annotated[job.uid] = told
            job.by_hand = job.gated and told.get(PREFIX + "run-time") == ""
            if job.by_hand and _Books.of(self._body).claimed == job.uid:
                self._note_vain_claim(job)
            self._judge_start(job, revision)
        elif was_suspended and job.result is None and not _is_resumed_by_hand(body):
            self.break_(
                Clause.HANDS_OFF, f"{self.describe(job.uid)} was suspended by hand and resumed", revision
            )

    def _judge_start(self, job: _Job, revision: int) -> None:
        if job.manual or job.by_hand:
            self.counts["started by hand"] += 1
            return
        self.counts["starts"] += 1
        for other in self.jobs.values():
            if other is not job and other.goes_on and other.is_counted:
                self.break_(
                    Clause.ALONE,
                    f"{self.describe(job.uid)} was started while {self.describe(other.uid)} goes on",
                    revision,
                )
        if not job.gated:
            return
        books, spec = _Books.of(self._body), self._body["spec"]
        edited = self._edited_at > (job.claimed_at or 0)
        if books.claimed != job.uid and not edited:
            self.break_(Clause.FENCE, f"{self.describe(job.uid)} was started without a claim", revision)
        if job.slot <= books.cursor and not edited:
            self.break_(
                Clause.ONCE, f"{self.describe(job.uid)} was started again after it was settled", revision
            )
        told = self._annotated[job.uid]
        wanted = {"run-time": _written(job.slot), "last-success": _written(books.last_success)}
        if edited:
            return
        for key, value in wanted.items():
            if told.get(PREFIX + key) != value and "timeFormat" not in spec:
                self.break_(
                    Clause.ARGUMENTS,
                    f"{self.describe(job.uid)} was told the {key} {told.get(PREFIX + key)!r} instead of {value!r}",
                    revision,
                )

    # --- The end ------------------------------------------------------------------------------------------

    def end(self, due_until: datetime) -> None:
        """Judge what can only be told when all is over."""
        for job in self.jobs.values():
            for run in self._runs.get(job.uid, ()):
                self._judge_arguments(job, run)
        self._judge_order()
        if self._deleted:
            return
        books = _Books.of(self._body)
        for one in books.commands:
            if one["result"] == "Pending":
                self.break_(Clause.COMMANDS, f"{one['name']} {one['id']} was never done")
        for name in COMMANDS:
            if PREFIX + name in _annotations(self._body):
                self.break_(Clause.COMMANDS, f"the annotation {name} was never taken")
        if self._body["spec"].get("suspend"):
            return
        newest = grid_of(self._body["spec"]).newest_until(due_until)
        created = parse_time(self._body["metadata"]["creationTimestamp"])
        if books.cursor < newest and (created < newest or self._body["spec"].get("backfill")):
            self.break_(
                Clause.SETTLED,
                f"slot {newest:%Y-%m-%dT%H:%MZ} and those since {books.cursor:%Y-%m-%dT%H:%M:%SZ} never succeeded",
            )

    def _judge_arguments(self, job: _Job, run: CommandRun) -> None:
        """What the process saw is what it was released with."""
        if not job.gated or not job.is_counted or job.released_at is None:
            return  # released after the last version that there is
        told = self._annotated.get(job.uid, {})
        run_time, last_success = told.get(PREFIX + "run-time"), told.get(PREFIX + "last-success")
        if job.is_batch and run.run_time != run_time:
            slots = self._slots_of(job)
            at = next((at for at, one in enumerate(slots) if _written(one) == run.run_time), 0)
            if at == 0:
                self.break_(
                    Clause.ARGUMENTS,
                    f"run {run.id} of {self.describe(job.uid)} was told the run time {run.run_time!r}, not one of it",
                    job.released_at,
                )
                return
            # A cursor that was put back by hand leaves the last success where it was.
            run_time, last_success = _written(slots[at]), max(_written(slots[at - 1]), last_success or "")
        seen = (
            (run.run_time, run_time),
            (run.last_success, last_success),
            (run.option("--run-time"), run_time),
            (run.option("--last-success"), last_success),
        )
        for was, wanted in seen:
            if was is not None and was != wanted:
                self.break_(
                    Clause.ARGUMENTS,
                    f"run {run.id} of {self.describe(job.uid)} saw {was!r} instead of {wanted!r}",
                    job.released_at or 0,
                )

    def _slots_of(self, job: _Job) -> list[datetime]:
        """List the slots of a batch, by the schedule that it was claimed by."""
        grid = self._claim_grids.get(job.uid) or grid_of(self._body["spec"])
        return grid.between(job.slot - timedelta(seconds=1), job.through)

    def _judge_order(self) -> None:
        """By what the processes say alone: none began for a later slot before an earlier one's was good."""
        counted = [
            (run, self.jobs[uid])
            for uid in self.jobs
            for run in self._runs.get(uid, ())
            if self.jobs[uid].gated and self.jobs[uid].is_counted and run.option("--run-time") is not None
        ]
        counted.sort(key=lambda pair: pair[0].started)
        good: dict[str, float] = {}
        for (earlier, former), (later, job) in itertools.pairwise(counted):
            if earlier.outcome == "good" and earlier.ended is not None:
                good.setdefault(str(earlier.option("--run-time")), earlier.ended)
            if self._epoch_of(former) != self._epoch_of(job):
                continue
            first, second = str(earlier.option("--run-time")), str(later.option("--run-time"))
            if parse_time(second) < parse_time(first):
                # A batch whose pod died begins anew with what it had not told, though that had succeeded in time.
                begins_anew = former.is_batch and (former is job or former.result != "Complete")
                if not (begins_anew and good.get(second, earlier.started) < earlier.started):
                    self.break_(Clause.ORDER, f"slot {second} ran after slot {first}", job.released_at or 0)
            elif (
                second != first
                and good.get(first, later.started + 1) > later.started
                and self._is_still_due(parse_time(first), job)
            ):
                self.break_(
                    Clause.ORDER, f"slot {second} ran before slot {first} had succeeded", job.released_at or 0
                )

    def _is_still_due(self, slot: datetime, job: _Job) -> bool:
        """Tell whether a slot was one by the schedule that a later Job was claimed by: a person may have edited it."""
        grid = self._claim_grids.get(job.uid)
        return grid is None or slot in grid.between(slot - timedelta(seconds=1), slot)

    def _epoch_of(self, job: _Job) -> int:
        return sum(start <= (job.claimed_at or job.released_at or 0) for start in self._epochs)


# --- Reading -----------------------------------------------------------------------------------------------


def _read_job(resource: str, version: Version) -> _Job:
    """Read a Job by its name, as documented: `<resource>-<unix minutes>[-<attempt>]`; others were asked for."""
    body = version.body
    found = re.fullmatch(rf"{re.escape(resource)}-(\d{{7,9}})(-\d+)?", version.name)
    annotations = _annotations(body)
    made_by_hand = "cronjob.kubernetes.io/instantiate" in annotations
    slot = parse_time(body["metadata"]["creationTimestamp"])
    if found is not None:
        slot = datetime.fromtimestamp(int(found[1]) * 60, tz=slot.tzinfo)
    through = annotations.get(PREFIX + "through")
    return _Job(
        name=version.name,
        uid=version.uid,
        manual=found is None or made_by_hand,
        gated=PREFIX + "run-time" in _template_annotations(body),
        slot=slot,
        through=parse_time(through) if through and found is not None and found[2] else slot,
        created_at=version.revision,
        owners=tuple(_owners(body)),
    )


def _is_progress(old: _Books, new: _Books) -> bool:
    """Tell whether slots of a batch that goes on were recorded; the history gets an entry when all of it has ended."""
    return old.claimed is not None and old.claimed == new.claimed and new.cursor > old.cursor


def _is_its_success(job: _Job, time: datetime) -> bool:
    """Tell whether a time is that of a plain run's success; of one whose Job is gone only the slot is known."""
    if job.started is None or job.finished is None:
        return False
    if job.deleted_at is not None and time == job.slot:
        return True
    return job.started - CLOCK_SLACK <= time <= job.finished + CLOCK_SLACK


def _is_of(run: CommandRun, job: _Job, slot: datetime) -> bool:
    """Tell whether a run of a Job was for this slot; of a batch only the argument tells."""
    if not job.is_batch:
        return True
    run_time = run.option("--run-time")
    return run_time is not None and parse_time(run_time) == slot


def _new_entries(
    old: tuple[Mapping[str, Any], ...], new: tuple[Mapping[str, Any], ...]
) -> tuple[Mapping[str, Any], ...] | None:
    """Return what was put in front of the history, newest first; None: something else was done to it."""
    for count in range(len(new) + 1):
        if new[count:] == old[: len(new) - count] and len(new) >= min(len(old), 10):
            return new[:count]
    return None


def _identity(command: Body) -> tuple[str, str]:
    """Several commands that are given at once may share one command-id."""
    return command["id"], command["name"]


def _owners(body: Body) -> Iterator[str]:
    for one in body["metadata"].get("ownerReferences") or []:
        yield str(one["uid"])


def _annotations(body: Body) -> Mapping[str, str]:
    return body["metadata"].get("annotations") or {}


def _template_annotations(body: Body) -> Mapping[str, str]:
    return (body["spec"]["template"].get("metadata") or {}).get("annotations") or {}


def _written_until(body: Body) -> float:
    """Return until when a version was written, by the record of who wrote it: whole seconds, cut off."""
    times = [one["time"] for one in body["metadata"].get("managedFields") or [] if "time" in one]
    return max((parse_time(one) + CLOCK_SLACK).timestamp() for one in times) if times else math.inf


def _manager(body: Body, part: str) -> Any:
    """What a person is on record to have written into the status or the spec."""
    return [
        one
        for one in body["metadata"].get("managedFields") or []
        if one.get("manager") == PERSON and f"f:{part}" in (one.get("fieldsV1") or {})
    ]


def _by_hand(before: Body, after: Body, part: str) -> bool:
    written = _manager(after, part)
    return bool(written) and written != _manager(before, part)


def _is_resumed_by_hand(body: Body) -> bool:
    return any("f:suspend" in one["fieldsV1"]["f:spec"] for one in _manager(body, "spec"))


def _written(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%dT%H:%M}"


def _texts(slots: list[datetime]) -> str:
    shown = ", ".join(f"{slot:%H:%MZ}" for slot in slots[:5])
    return shown + (f" and {len(slots) - 5} more" if len(slots) > 5 else "")


__all__ = ["Clause", "Verdict", "Violation", "judge"]
