"""The checker of the chaos finds each breach of the promise in made-up evidence, and none where there is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.checker import PERSON, Clause, judge
from tests.chaos.evidence import CommandRun, Evidence, Version, read_runs, read_versions, write_version
from tests.chaos.grid import MONDAY, Grid, UnknownScheduleError, grid_of

Body = dict[str, Any]

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
CREATED = "2026-11-30T11:00:30Z"


def text(time: datetime) -> str:
    """Write a time as the API does."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def slot(minutes: int) -> datetime:
    """Return a slot after noon."""
    return NOON + timedelta(minutes=minutes)


class World:
    """Makes evidence, one version after the other, as a right operator would; tests bend it."""

    def __init__(self, **spec: Any) -> None:
        self.versions: list[Version] = []
        self.runs: list[CommandRun] = []
        self.spec: Body = {"schedule": "* * * * *", "backfill": True, **spec}
        self.status: Body = {
            "settledThrough": text(slot(0)),
            "lastSuccessTime": text(slot(0)),
            "errorCount": 0,
        }
        self.annotations: dict[str, str] = {}
        self.fields: list[Body] = []
        self.jobs: dict[str, Body] = {}
        self.at = 1000.0
        self.put()

    def put(self, *, deleted: bool = False) -> None:
        """Write the resource."""
        written = text(datetime.fromtimestamp(self.at + 1, tz=UTC))
        by_operator = {"manager": "operator", "time": written, "fieldsV1": {"f:status": {}}}
        metadata = {
            "name": "job",
            "uid": "the-uid",
            "creationTimestamp": CREATED,
            "annotations": self.annotations,
            "managedFields": [*self.fields, by_operator],
        }
        self._add(
            "crontabberjobs",
            {"metadata": metadata, "spec": self.spec, "status": self.status},
            deleted=deleted,
        )

    def write(self, **status: Any) -> None:
        """Change the status, as the operator does; None removes a field."""
        self.status = {key: value for key, value in {**self.status, **status}.items() if value is not None}
        self.put()

    def _add(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        self.versions.append(Version(len(self.versions) + 1, kind, copy.deepcopy(body), deleted))

    def create(
        self,
        minutes: int,
        attempt: int = 1,
        *,
        suspend: bool = True,
        name: str = "",
        native: bool = False,
        through: int | None = None,
        owner: str = "the-uid",
    ) -> str:
        """Make a Job, with `through` one for several slots; return its uid."""
        number = int(slot(minutes).timestamp()) // 60
        uid = name or f"{number}-{attempt}"
        template = {
            "metadata": {"annotations": {"crontabber.dev/run-time": "", "crontabber.dev/last-success": ""}}
        }
        self.jobs[uid] = {
            "metadata": {
                "name": name or (f"job-{number}" if native else f"job-{number}-{attempt}"),
                "uid": uid,
                "creationTimestamp": text(slot(minutes)),
                "annotations": {} if through is None else {"crontabber.dev/through": text(slot(through))},
                "ownerReferences": [{"uid": owner}],
            },
            "spec": {"suspend": suspend, "template": {"metadata": {}} if native else template},
            "status": {},
        }
        self._add("jobs", self.jobs[uid])
        return uid

    def claim(self, uid: str, minutes: int, **status: Any) -> None:
        """Claim a Job."""
        name = self.jobs[uid]["metadata"]["name"]
        self.write(ongoing={"uid": uid, "job": name, "slot": text(slot(minutes))}, **status)

    def release(
        self, uid: str, minutes: int, *, run_time: str | None = None, last_success: str | None = None
    ) -> None:
        """Start a Job."""
        last = self.status.get("lastSuccessTime")
        told = {
            "crontabber.dev/run-time": f"{slot(minutes):%Y-%m-%dT%H:%M}" if run_time is None else run_time,
            "crontabber.dev/last-success": (last or "")[:16] if last_success is None else last_success,
        }
        job = self.jobs[uid]
        job["spec"]["template"]["metadata"]["annotations"] = told
        job["spec"]["suspend"] = False
        job["status"]["startTime"] = text(slot(minutes))
        self._add("jobs", job)

    def run(
        self,
        uid: str,
        *,
        outcome: str | None = "good",
        argv: tuple[str, ...] | None = None,
        beside: tuple[str, ...] = (),
        told: tuple[str, str] | None = None,
    ) -> str:
        """Have its command run, told a run time and a last success or those of its Job; return the run's id."""
        annotations = self.jobs[uid]["spec"]["template"]["metadata"].get("annotations") or {}
        run_time, last_success = told or (
            annotations.get("crontabber.dev/run-time"),
            annotations.get("crontabber.dev/last-success"),
        )
        given = (
            ("record",)
            if run_time is None
            else ("record", f"--run-time={run_time}", f"--last-success={last_success}")
        )
        self.at += 2
        run = CommandRun(
            id=f"run-{len(self.runs) + 1}",
            job="job",
            job_uid=uid,
            argv=given if argv is None else argv,
            started=self.at,
            run_time=run_time,
            last_success=last_success,
            beside=beside,
            ended=self.at + 1,
            outcome=outcome,
        )
        self.runs.append(run)
        return run.id

    def end(self, uid: str, condition: str = "Complete") -> None:
        """Have the Job controller say how a Job ended."""
        one = {"type": condition, "status": "True", "lastTransitionTime": text(slot(59))}
        self.jobs[uid]["status"]["conditions"] = [one]
        self._add("jobs", self.jobs[uid])

    def delete(self, uid: str) -> None:
        """Delete a Job."""
        self._add("jobs", self.jobs[uid], deleted=True)

    def entry(self, uid: str, result: str = "Succeeded") -> Body:
        """Return the entry of the history for a Job."""
        return {"job": self.jobs[uid]["metadata"]["name"], "result": result}

    def record(self, uid: str, minutes: int, **status: Any) -> None:
        """Record a success."""
        history = [self.entry(uid), *self.status.get("history", [])]
        told = {
            "settledThrough": text(slot(minutes)),
            "lastSuccessTime": text(slot(minutes)),
            "errorCount": 0,
        }
        self.write(**{**told, "ongoing": None, "history": history, **status})

    def slot(self, minutes: int, attempt: int = 1) -> str:
        """Have a slot run as it should, from beginning to end."""
        uid = self.create(minutes, attempt)
        self.claim(uid, minutes)
        self.release(uid, minutes)
        self.run(uid)
        self.end(uid)
        self.record(uid, minutes)
        return uid

    def batch(self, first: int, last: int, attempt: int = 1) -> str:
        """Start one Job for several slots."""
        uid = self.create(first, attempt, through=last)
        self.claim(uid, first)
        self.release(uid, first)
        return uid

    def run_in_batch(self, uid: str, minutes: int, last_success: int, outcome: str = "good") -> None:
        """Have one slot of a batch run."""
        told = f"{slot(minutes):%Y-%m-%dT%H:%M}", f"{slot(last_success):%Y-%m-%dT%H:%M}"
        self.run(uid, outcome=outcome, told=told)

    def record_progress(self, uid: str, minutes: int) -> None:
        """Record how far a batch has come, while it goes on."""
        told = {"settledThrough": text(slot(minutes)), "lastSuccessTime": text(slot(minutes))}
        self.claim(uid, minutes + 1, **told, errorCount=0)

    def failed_attempt(self, minutes: int, attempt: int = 1) -> str:
        """Have an attempt fail and be recorded."""
        uid = self.create(minutes, attempt)
        self.claim(uid, minutes)
        self.release(uid, minutes)
        self.run(uid, outcome="failed")
        self.end(uid, "Failed")
        history = [self.entry(uid, "Failed"), *self.status.get("history", [])]
        self.write(ongoing=None, history=history, errorCount=self.status["errorCount"] + 1)
        return uid

    def by_hand(self, **status: Any) -> None:
        """Edit the status by hand."""
        self.fields = [{"manager": PERSON, "fieldsV1": {"f:status": {"f:schedule": len(self.versions)}}}]
        self.write(**status)

    def mark(self, time: datetime, **status: Any) -> None:
        """Mark success by annotation, as it is done when all is right."""
        self.annotations = {"crontabber.dev/mark-success": text(time)}
        self.put()
        record = {
            "id": f"{len(self.versions)}-mark",
            "name": "mark-success",
            "value": text(time),
            "time": text(NOON),
        }
        former = self.status.get("lastCommands", [])
        self.write(lastCommands=[{**record, "result": "Pending"}, *former])
        self.annotations = {}
        self.put()
        done = [{**record, "result": "Done"}, *former]
        told = {"settledThrough": text(time), "lastSuccessTime": text(time), "errorCount": 0, "ongoing": None}
        self.write(**{**told, "lastCommands": done, **status})

    def clauses(self, until: int = 0) -> set[Clause]:
        """Judge."""
        evidence = Evidence(tuple(self.versions), tuple(self.runs), slot(until))
        return judge(evidence).clauses


def test_what_is_right_is_found_right() -> None:
    """A chain of slots with a failed attempt, a mark into the past, and a run-now."""
    world = World()
    world.slot(1)
    world.failed_attempt(2)
    world.slot(2, 2)
    world.mark(slot(1))
    world.slot(2, 3)
    by_hand = world.create(3, suspend=False, name="job-run-1234abcd")
    world.run(by_hand)
    evidence = Evidence(tuple(world.versions), tuple(world.runs), slot(2))
    verdict = judge(evidence)
    assert verdict.violations == ()
    assert verdict.counts["slots"] == 3
    assert verdict.counts["starts"] == 4
    assert verdict.counts["mark-success done"] == 1


def test_commands_that_share_an_id_are_two() -> None:
    """A reset and a mark given at once with one command-id."""
    world = World()
    given = {"id": "mine", "time": text(slot(1))}
    reset, mark = (
        {**given, "name": name, "value": value}
        for name, value in (("reset", ""), ("mark-success", text(slot(0))))
    )
    after_reset = {"settledThrough": text(slot(1)), "lastSuccessTime": None}
    after_mark = {"settledThrough": text(slot(0)), "lastSuccessTime": text(slot(0))}
    for of_mark, of_reset, told in (
        ("Pending", "Pending", {}),
        ("Pending", "Done", after_reset),
        ("Done", "Done", after_mark),
    ):
        world.write(lastCommands=[{**mark, "result": of_mark}, {**reset, "result": of_reset}], **told)
    assert world.clauses() == set()


def test_a_slot_that_an_edit_of_the_schedule_took_away_is_not_waited_for() -> None:
    """Its run failed; by the new schedule the next one is due."""
    world = World()
    world.failed_attempt(1)
    world.spec = {**world.spec, "schedule": "*/2 * * * *"}
    world.put()
    world.slot(2)
    assert world.clauses() == set()


def test_a_run_of_a_job_that_was_released_after_the_last_version_is_not_judged() -> None:
    """The processes go on writing while the versions are read."""
    world = World()
    uid = world.create(1)
    world.claim(uid, 1)
    world.run(uid)
    assert world.clauses() == set()


def test_a_claim_that_came_too_late_must_come_to_nothing() -> None:
    """The Job ran before a mark; it is claimed once more after it, by who did not see yet that it had run."""
    worlds = World(), World()
    for world in worlds:
        uid = world.slot(1)
        world.mark(slot(0))
        world.claim(uid, 1)
    right, wrong = worlds
    right.write(ongoing=None)
    assert right.clauses() == set()
    wrong.record(uid, 1)
    assert Clause.SUCCEEDED in wrong.clauses()


def test_a_right_batch_is_found_right() -> None:
    """Three slots in one Job, the first recorded while it goes on; one in which the second fails, and the rest."""
    world = World()
    world.failed_attempt(1)
    uid = world.batch(1, 3, attempt=2)
    world.run_in_batch(uid, 1, 0)
    world.record_progress(uid, 1)
    world.run_in_batch(uid, 2, 1)
    world.run_in_batch(uid, 3, 2)
    world.end(uid)
    world.record(uid, 3)
    failing = world.batch(4, 6)
    world.run_in_batch(failing, 4, 3)
    world.run_in_batch(failing, 5, 4, "failed")
    world.end(failing, "Failed")
    history = [world.entry(failing, "Failed"), world.entry(failing), *world.status["history"]]
    world.write(
        ongoing=None,
        history=history,
        settledThrough=text(slot(4)),
        lastSuccessTime=text(slot(4)),
        errorCount=1,
    )
    evidence = Evidence(tuple(world.versions), tuple(world.runs), slot(4))
    verdict = judge(evidence)
    assert verdict.violations == ()
    assert verdict.counts["slots"] == 4
    assert verdict.counts["slots recorded while their batch went on"] == 1


def settles_in_a_batch_what_failed(world: World) -> None:
    """The second slot failed, and the Job goes on as far as the books know."""
    uid = world.batch(1, 3)
    world.run_in_batch(uid, 1, 0)
    world.run_in_batch(uid, 2, 1, "failed")
    world.record_progress(uid, 2)


def settles_in_a_batch_what_is_to_come(world: World) -> None:
    """The second slot is in the books long before it succeeds."""
    uid = world.batch(1, 3)
    world.run_in_batch(uid, 1, 0)
    world.record_progress(uid, 2)
    world.at += 60
    world.run_in_batch(uid, 2, 1)


def tells_the_wrong_last_success_in_a_batch(world: World) -> None:
    """The third slot is told what the second was told."""
    uid = world.batch(1, 3)
    world.run_in_batch(uid, 1, 0)
    world.run_in_batch(uid, 2, 1)
    world.run_in_batch(uid, 3, 1)


def runs_in_a_batch_what_is_not_of_it(world: World) -> None:
    """Its plan goes too far."""
    uid = world.batch(1, 2)
    world.run_in_batch(uid, 1, 0)
    world.run_in_batch(uid, 2, 1)
    world.run_in_batch(uid, 3, 2)


def leaves_out_a_slot_of_a_batch(world: World) -> None:
    """The first and the third of three ran."""
    uid = world.batch(1, 3)
    world.run_in_batch(uid, 1, 0)
    world.run_in_batch(uid, 3, 2)
    world.end(uid)
    world.record(uid, 3)


def skips_a_slot(world: World) -> None:
    """The second slot runs; the first is settled with it."""
    world.slot(2)


def settles_a_failure(world: World) -> None:
    """The original crontabber's mistake."""
    world.failed_attempt(1)
    world.write(settledThrough=text(slot(1)))


def records_before_the_end(world: World) -> None:
    """The success is in the books before the Job has ended."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.write(settledThrough=text(slot(1)), ongoing=uid and world.status["ongoing"])


def records_a_success_of_no_command(world: World) -> None:
    """The Job says Complete; no command ever ran."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.end(uid)
    world.record(uid, 1)


def moves_last_success_over_a_failure(world: World) -> None:
    """What the next command would be told is a slot that failed."""
    world.failed_attempt(1)
    world.write(lastSuccessTime=text(slot(1)))


def moves_last_success_back(world: World) -> None:
    """It forgets."""
    world.slot(1)
    world.write(lastSuccessTime=text(slot(0)))


def moves_the_cursor_back(world: World) -> None:
    """Slots would run again that nobody asked for."""
    world.slot(1)
    world.write(settledThrough=text(slot(0)))


def claims_out_of_order(world: World) -> None:
    """The newest first."""
    world.claim(world.create(3), 3)


def runs_out_of_order(world: World) -> None:
    """What the processes saw tells it, whatever the books say."""
    world.slot(1)
    world.slot(2)
    world.runs[0], world.runs[1] = world.runs[1], world.runs[0]
    first, second = world.runs
    world.runs = [
        CommandRun(**{**_fields(first), "started": 1.0, "ended": 2.0}),
        CommandRun(**{**_fields(second), "started": 3.0, "ended": 4.0}),
    ]


def runs_before_the_former_was_good(world: World) -> None:
    """The second slot's process began before the first's had ended."""
    world.slot(1)
    world.slot(2)
    world.runs[0] = CommandRun(**{**_fields(world.runs[0]), "ended": world.runs[1].started + 1})


def starts_without_a_claim(world: World) -> None:
    """Nobody would know of it after a crash."""
    world.release(world.create(1), 1)


def starts_again_what_is_recorded(world: World) -> None:
    """A stale operator's release arrives late."""
    world.slot(1)
    world.release(world.create(1, 2), 1)


def claims_again_what_is_recorded(world: World) -> None:
    """A stale operator's claim."""
    world.slot(1)
    world.claim(world.create(1, 2), 1)


def starts_two(world: World) -> None:
    """Two Jobs go on at once."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.mark(slot(0), ongoing=None)
    other = world.create(1, 2)
    world.claim(other, 1)
    world.release(other, 1)


def lets_processes_overlap(world: World) -> None:
    """By the Jobs all is well; the processes lived at the same time."""
    first = world.create(1)
    world.claim(first, 1)
    world.release(first, 1)
    run = world.run(first)
    world.end(first)
    world.record(first, 1)
    second = world.create(2)
    world.claim(second, 2)
    world.release(second, 2)
    world.run(second, beside=(run,))
    world.end(second)
    world.record(second, 2)


def tells_the_wrong_run_time(world: World) -> None:
    """The release carries another slot."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1, run_time="2026-11-30T11:59")


def tells_the_wrong_last_success(world: World) -> None:
    """The release carries what was true before."""
    world.slot(1)
    uid = world.create(2)
    world.claim(uid, 2)
    world.release(uid, 2, last_success="2026-11-30T12:00")


def gives_the_command_something_else(world: World) -> None:
    """The process saw another argument than the Job has."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.run(uid, argv=("record", "--run-time=2026-11-30T11:59"))


def drops_a_claim(world: World) -> None:
    """The run goes on, and its outcome will be nobody's."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.write(ongoing=None)


def counts_errors_wrongly(world: World) -> None:
    """Two failures, told as one."""
    world.failed_attempt(1)
    world.failed_attempt(1, 2)
    world.write(errorCount=1, history=[{"job": "x", "result": "Lost"}, *world.status["history"]])


def tells_a_success_that_was_none(world: World) -> None:
    """The history lies."""
    uid = world.failed_attempt(1)
    world.write(history=[world.entry(uid), *world.status["history"]], errorCount=0)


def tells_a_loss_that_was_none(world: World) -> None:
    """The Job is there."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.write(history=[world.entry(uid, "Lost")], errorCount=1, ongoing=None)


def forgets_the_history(world: World) -> None:
    """An entry is changed afterwards."""
    world.slot(1)
    world.write(history=[{"job": "another", "result": "Succeeded"}])


def loses_a_command(world: World) -> None:
    """An annotation is taken away and written down nowhere."""
    world.annotations = {"crontabber.dev/reset": ""}
    world.put()
    world.annotations = {}
    world.put()


def loses_a_command_with_an_id(world: World) -> None:
    """Another one with the same value was done before."""
    world.mark(slot(0))
    world.annotations = {"crontabber.dev/mark-success": text(slot(0)), "crontabber.dev/command-id": "mine"}
    world.put()
    world.annotations = {}
    world.put()


def does_a_command_twice(world: World) -> None:
    """A late write does it again."""
    world.mark(slot(0))
    record = world.status["lastCommands"][0]
    world.write(lastCommands=[{**record, "result": "Pending"}])
    world.write(lastCommands=[record], settledThrough=text(slot(-5)), lastSuccessTime=text(slot(-5)))


def does_a_mark_wrongly(world: World) -> None:
    """The cursor is elsewhere."""
    world.mark(slot(0), settledThrough=text(slot(-1)))


def leaves_a_command_pending(world: World) -> None:
    """It is written down and never done."""
    world.write(
        lastCommands=[{"id": "1", "name": "reset", "value": "", "time": text(NOON), "result": "Pending"}]
    )


def starts_what_was_suspended_by_hand(world: World) -> None:
    """A person suspended a run that goes on; the operator resumes it."""
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1)
    world.jobs[uid]["spec"]["suspend"] = True
    world._add("jobs", world.jobs[uid])  # noqa: SLF001 - of this module
    world.release(uid, 1)


def _fields(run: CommandRun) -> Body:
    return {name: getattr(run, name) for name in CommandRun.__slots__}


BREACHES: dict[Callable[[World], None], Clause] = {
    skips_a_slot: Clause.SUCCEEDED,
    settles_a_failure: Clause.SUCCEEDED,
    records_before_the_end: Clause.SUCCEEDED,
    records_a_success_of_no_command: Clause.SUCCEEDED,
    moves_last_success_over_a_failure: Clause.LAST_SUCCESS,
    moves_last_success_back: Clause.LAST_SUCCESS,
    moves_the_cursor_back: Clause.BOOKS,
    claims_out_of_order: Clause.ORDER,
    runs_out_of_order: Clause.ORDER,
    runs_before_the_former_was_good: Clause.ORDER,
    starts_without_a_claim: Clause.FENCE,
    starts_again_what_is_recorded: Clause.ONCE,
    claims_again_what_is_recorded: Clause.ONCE,
    starts_two: Clause.ALONE,
    lets_processes_overlap: Clause.ALONE,
    settles_in_a_batch_what_failed: Clause.SUCCEEDED,
    settles_in_a_batch_what_is_to_come: Clause.SUCCEEDED,
    leaves_out_a_slot_of_a_batch: Clause.SUCCEEDED,
    tells_the_wrong_last_success_in_a_batch: Clause.ARGUMENTS,
    runs_in_a_batch_what_is_not_of_it: Clause.ARGUMENTS,
    tells_the_wrong_run_time: Clause.ARGUMENTS,
    tells_the_wrong_last_success: Clause.ARGUMENTS,
    gives_the_command_something_else: Clause.ARGUMENTS,
    drops_a_claim: Clause.BOOKS,
    counts_errors_wrongly: Clause.BOOKS,
    tells_a_success_that_was_none: Clause.BOOKS,
    tells_a_loss_that_was_none: Clause.BOOKS,
    forgets_the_history: Clause.BOOKS,
    loses_a_command: Clause.COMMANDS,
    loses_a_command_with_an_id: Clause.COMMANDS,
    does_a_command_twice: Clause.COMMANDS,
    does_a_mark_wrongly: Clause.COMMANDS,
    leaves_a_command_pending: Clause.COMMANDS,
    starts_what_was_suspended_by_hand: Clause.HANDS_OFF,
}


@pytest.mark.parametrize(
    ("breach", "clause"), BREACHES.items(), ids=lambda value: getattr(value, "__name__", None)
)
def test_breach_is_found(breach: Callable[[World], None], clause: Clause) -> None:
    """An operator that does this is found out, by the clause that it breaks."""
    world = World()
    breach(world)
    assert clause in world.clauses()


def test_every_clause_has_a_breach() -> None:
    """No clause that nothing was shown to break."""
    assert {*BREACHES.values(), Clause.SETTLED} == set(Clause)


def test_slot_that_never_ran_is_found_at_the_end() -> None:
    """An operator that stands still breaks no rule but this one."""
    world = World()
    world.slot(1)
    assert world.clauses(until=1) == set()
    assert world.clauses(until=2) == {Clause.SETTLED}


def test_suspended_or_deleted_resource_owes_nothing() -> None:
    """Its slots need not run."""
    suspended = World(suspend=True)
    assert suspended.clauses(until=5) == set()
    deleted = World()
    deleted.put(deleted=True)
    assert deleted.clauses(until=5) == set()


def test_status_edited_by_hand_begins_anew() -> None:
    """What a person wrote is taken as it is: slots from there on run, again if need be."""
    world = World()
    world.slot(1)
    world.by_hand(settledThrough=text(slot(0)))
    world.slot(1, 2)
    assert world.clauses(until=1) == set()


def test_cursor_put_back_by_hand_before_a_run_that_goes_on() -> None:
    """That run settles what it finds, as after an edit of the schedule; the next one does not."""
    world = World()
    uid = world.create(3)
    world.by_hand(settledThrough=text(slot(2)))
    world.claim(uid, 3)
    world.release(uid, 3)
    world.by_hand(settledThrough=text(slot(0)))
    world.run(uid)
    world.end(uid)
    world.record(uid, 3)
    assert world.clauses() == set()
    world.slot(5)
    assert world.clauses() == {Clause.SUCCEEDED, Clause.ORDER}


def test_success_of_a_plain_run_whose_job_is_gone_is_known_by_its_slot() -> None:
    """The CronJob tells that it succeeded, and not when it had started."""
    world = World(backfill=None)
    uid = world.create(1, suspend=False, native=True)
    world.jobs[uid]["status"]["startTime"] = text(slot(30))
    world.run(uid)
    world.end(uid)
    world.delete(uid)
    world.record(uid, 1)
    assert world.clauses() == set()
    world.write(lastSuccessTime=text(slot(2)))
    assert world.clauses() == {Clause.LAST_SUCCESS}


def test_skipped_slots_must_be_counted_and_the_oldest() -> None:
    """backfillLimit settles the oldest, and `skipped` says how many."""
    world = World(backfillLimit=1)
    world.write(settledThrough=text(slot(2)), skipped=2)
    world.slot(3)
    assert world.clauses(until=3) == set()
    uncounted = World(backfillLimit=1)
    uncounted.write(settledThrough=text(slot(2)), skipped=1)
    assert Clause.SUCCEEDED in uncounted.clauses()
    without = World()
    without.write(settledThrough=text(slot(2)), skipped=2)
    assert Clause.SUCCEEDED in without.clauses()


def test_plain_job_is_judged_by_the_jobs_of_its_cronjob() -> None:
    """One late run settles all slots up to its own; two at once are a breach of Forbid."""
    world = World(backfill=False)
    uid = world.create(3, suspend=False, native=True)
    world.jobs[uid]["status"] = {"startTime": text(slot(3))}
    world._add("jobs", world.jobs[uid])  # noqa: SLF001 - of this module
    world.run(uid)
    one = {"type": "Complete", "status": "True", "lastTransitionTime": text(slot(3))}
    world.jobs[uid]["status"]["conditions"] = [one]
    world._add("jobs", world.jobs[uid])  # noqa: SLF001 - of this module
    world.write(settledThrough=text(slot(3)), lastSuccessTime=text(slot(3)), history=[world.entry(uid)])
    assert world.clauses(until=3) == set()
    world.create(4, suspend=False, native=True)
    world.create(5, suspend=False, native=True)
    assert world.clauses(until=3) == {Clause.ALONE}


def test_run_started_by_hand_may_overlap() -> None:
    """Who starts a Job by hand has asked for it."""
    world = World()
    first = world.create(1)
    world.claim(first, 1)
    world.release(first, 1)
    run = world.run(first)
    by_hand = world.create(2, suspend=False, name="job-run-0123")
    world.run(by_hand, beside=(run,))
    assert world.clauses() == set()


@pytest.mark.parametrize("is_recorded", [True, False])
def test_claimed_run_that_a_person_started_settles_nothing(is_recorded: bool) -> None:
    """It was told nothing; its claim is dropped, and its slot runs again."""
    world = World()
    uid = world.create(1)
    world.claim(uid, 1)
    world.release(uid, 1, run_time="", last_success="")
    world.run(uid, told=("", ""))
    world.end(uid)
    if is_recorded:
        world.record(uid, 1)
        assert Clause.SUCCEEDED in world.clauses()
    else:
        world.write(ongoing=None)
        world.slot(1, 2)
        assert world.clauses(until=1) == set()


def test_batch_that_a_person_suspends_and_resumes_begins_anew() -> None:
    """Kubernetes gives its Job a new pod, which knows nothing of the former."""
    world = World()
    uid = world.batch(1, 3)
    world.run_in_batch(uid, 1, 0)
    world.run_in_batch(uid, 2, 1)
    for suspend in (True, False):
        world.jobs[uid]["spec"]["suspend"] = suspend
        world.jobs[uid]["metadata"]["managedFields"] = [
            {"manager": PERSON, "fieldsV1": {"f:spec": {"f:suspend": {}}}}
        ]
        world._add("jobs", world.jobs[uid])  # noqa: SLF001 - of this module
    assert world.clauses() == set()
    world.run_in_batch(uid, 1, 0)
    assert world.clauses() == set()
    other = World()
    uid = other.batch(1, 3)
    other.run_in_batch(uid, 2, 1)
    other.run_in_batch(uid, 1, 0)
    assert other.clauses() == {Clause.ORDER}


def test_run_whose_cronjob_is_gone_is_as_good_as_lost() -> None:
    """The garbage collector deletes it in a moment."""
    world = World(backfill=None)
    owner = {"metadata": {"name": "job", "uid": "c", "ownerReferences": [{"uid": "the-uid"}]}, "spec": {}}
    world._add("cronjobs", owner)  # noqa: SLF001 - of this module
    uid = world.create(1, suspend=False, native=True, owner="c")
    world.claim(uid, 1)
    lost = {"ongoing": None, "history": [world.entry(uid, "Lost")], "errorCount": 1}
    world._add("cronjobs", owner, deleted=True)  # noqa: SLF001 - of this module
    world.write(**lost)
    assert world.clauses() == set()


def test_evidence_is_read_as_it_was_written() -> None:
    """Also where the last line was cut off by a kill."""
    version = Version(7, "jobs", {"metadata": {"name": "x", "uid": "u"}}, deleted=True)
    assert list(read_versions([write_version(version)])) == [version]
    start = {
        "event": "start",
        "id": "a",
        "job": "job",
        "job_uid": "u",
        "argv": ["record", "--run-time=2026-11-30T12:01"],
        "run_time": "2026-11-30T12:01",
        "last_success": None,
        "at": 1.0,
    }
    beside = {"event": "beside", "id": "a", "ids": ["b"], "at": 1.1}
    end = {"event": "end", "id": "a", "outcome": "good", "at": 2.0}
    lines = [json.dumps(one) for one in (start, beside, end)]
    run = next(read_runs([*lines, '{"event": "sta']))
    assert (run.outcome, run.ended, run.beside) == ("good", 2.0, ("b",))
    assert run.option("--run-time") == "2026-11-30T12:01"
    assert next(read_runs(lines[:1])).outcome is None


@pytest.mark.parametrize(
    ("spec", "grid"),
    [
        ({"schedule": "* * * * *"}, Grid(timedelta(minutes=1))),
        ({"schedule": "*/5 * * * *"}, Grid(timedelta(minutes=5))),
        ({"schedule": "1-59/2 * * * *"}, Grid(timedelta(minutes=2), timedelta(minutes=1))),
        ({"schedule": "17 * * * *"}, Grid(timedelta(hours=1), timedelta(minutes=17))),
        ({"frequency": "7m"}, Grid(timedelta(minutes=7))),
        ({"frequency": "3h"}, Grid(timedelta(hours=3))),
    ],
)
def test_schedules_that_the_judge_knows(spec: Body, grid: Grid) -> None:
    """Its slots lie where they should."""
    assert grid_of(spec) == grid
    slots = grid.between(NOON, NOON + 3 * grid.period)
    assert len(slots) == 3
    assert all((one - MONDAY - grid.offset) % grid.period == timedelta(0) for one in slots)
    assert grid.newest_until(slots[0]) == slots[0]


@pytest.mark.parametrize(
    "spec", [{"schedule": "0 5 * * 1"}, {"schedule": "*/7 * * * *"}, {"frequency": "1d"}]
)
def test_schedule_that_the_judge_does_not_know_is_refused(spec: Body) -> None:
    """It guesses nothing."""
    with pytest.raises(UnknownScheduleError):
        grid_of(spec)
