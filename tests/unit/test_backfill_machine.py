"""A machine that does anything that can happen to a job, in any order, and checks what must never happen.

The world of backfill_world.py checks each write; here are the events: time, the controllers, people, operators
with stale views that crash between any two writes. At the end all is left alone, and must come to rest caught
up. `CRONTABBER_MACHINE_EXAMPLES` sets how many runs are tried (a run has up to 50 steps).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from crontabber_operator.models import ConditionType
from tests.unit.backfill_world import Broken, Operator, World

EXAMPLES = int(os.environ.get("CRONTABBER_MACHINE_EXAMPLES", "200"))
START = datetime(2026, 6, 3, 9, 30, tzinfo=UTC)

SPECS: tuple[dict[str, Any], ...] = (
    {"command": "work", "frequency": "1h", "backfill": True},
    {"command": "work", "frequency": "45m", "backfill": True, "passLastSuccess": True, "retryLimit": 1},
    {"command": "work", "schedule": "*/20 9-17 * * *", "backfill": True, "backfillLimit": 4},
    {"command": "work", "frequency": "30m", "backfill": True, "backfillBatch": 3},
    {"command": "work", "frequency": "1h", "backfill": True, "startingDeadlineSeconds": 5400},
    {"command": "work", "frequency": "1h", "passLastSuccess": True},
    {"command": "work", "frequency": "45m", "retryDelaySeconds": 30, "retryLimit": 2},
    {"command": "work", "schedule": "15 * * * *", "timeZone": "Asia/Kolkata", "args": ["$(RUN_TIME)"]},
    {"command": "work", "frequency": "1h"},
    {"command": "work", "frequency": "1h", "retryLimit": 1, "failedJobsHistoryLimit": 0},
    {"command": "work", "frequency": "45m", "successfulJobsHistoryLimit": 0},
    {"command": "work", "schedule": "*/20 * * * *", "startingDeadlineSeconds": 600},
)
BACKFILL, COLLAPSING, PLAIN = range(5), range(5, 8), range(8, 12)
any_one = st.integers(min_value=0, max_value=7)


class Machine(RuleBasedStateMachine):
    """Anything that can happen to one job."""

    world: World

    @initialize(
        kind=st.sampled_from(range(len(SPECS))),
        skews=st.sampled_from([(0,), (0, 0), (-7,), (-90,), (2,)]),
    )
    def begin(self, kind: int, skews: tuple[int, ...]) -> None:
        """A job is made, and one or two operators are there."""
        self.kind = kind
        self.world = World(SPECS[kind], START)
        self.world.operators = [Operator(self.world, skew) for skew in skews]
        self._operator(0).work()

    def _operator(self, number: int) -> Operator:
        return self.world.operators[number % len(self.world.operators)]

    def _job(self, number: int, names: list[str]) -> str | None:
        return names[number % len(names)] if names else None

    def _active(self) -> list[str]:
        return [name for name, job in self.world.jobs.items() if job["status"].get("active")]

    def _waiting_for_retry(self) -> list[str]:
        return [
            name
            for name, job in self.world.jobs.items()
            if job["status"].get("failed")
            and not job["status"].get("active")
            and not job["status"].get("conditions")
            and not job["spec"].get("suspend")
        ]

    # --- Time, operators, controllers ----------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.2, 1, 3, 10, 30, 61, 600, 1800, 3600, 4 * 3600, 26 * 3600]))
    def time_passes(self, seconds: float) -> None:
        """A moment or days."""
        self.world.now += timedelta(seconds=seconds)

    @rule()
    def slot_falls_due(self) -> None:
        """A moment ago."""
        upcoming = self.world.spec.slots.next_after(self.world.now)
        assert upcoming is not None
        self.world.now = upcoming + timedelta(seconds=0.1)

    @rule(number=any_one, seen=st.sets(st.sampled_from(["resources", "jobs", "cronjobs"])))
    def watch_shows(self, number: int, seen: set[str]) -> None:
        """An operator sees what happened, of some kinds; its others lag."""
        for kind in sorted(seen):
            self._operator(number).receive(kind)

    @rule(number=any_one, up_to_date=st.booleans())
    def operator_works(self, number: int, up_to_date: bool) -> None:
        """It decides and writes until it rests."""
        operator = self._operator(number)
        if up_to_date:
            operator.receive()
        operator.work()

    @rule(number=any_one, writes=st.integers(min_value=0, max_value=4), up_to_date=st.booleans())
    def operator_crashes(self, number: int, writes: int, up_to_date: bool) -> None:
        """It is killed after so many writes and started again."""
        operator = self._operator(number)
        if up_to_date:
            operator.receive()
        operator.work(crash_in=writes)

    @rule(status_lost=st.booleans())
    def controller_works(self, status_lost: bool) -> None:
        """The CronJob controller looks; its status write may meet a conflict."""
        self.world.cronjob_controller(status_lost=status_lost and self.world.spec.is_gated)

    @rule(number=any_one, good=st.booleans(), good_slots=st.integers(min_value=0, max_value=2))
    def attempt_ends(self, number: int, good: bool, good_slots: int) -> None:
        """A pod ends, well or not."""
        name = self._job(number, self._active())
        if name is not None:
            self.world.end_attempt(name, good=good, good_slots=good_slots)

    @rule(number=any_one, good_slots=st.integers(min_value=0, max_value=2))
    def batch_goes_on(self, number: int, good_slots: int) -> None:
        """Some slots of a batch are done."""
        name = self._job(number, self._active())
        if name is not None:
            self.world.go_on(name, good_slots)

    @rule(number=any_one)
    def kubernetes_retries(self, number: int) -> None:
        """The Job controller makes the next pod."""
        name = self._job(number, self._waiting_for_retry())
        if name is not None:
            self.world.retry(name)

    # --- People --------------------------------------------------------------------------------------------

    @rule(
        ago=st.sampled_from([0, 60, 3600, 3 * 3600, 6 * 3600]), command_id=st.sampled_from([None, "a", "b"])
    )
    def mark(self, ago: int, command_id: str | None) -> None:
        """`mark-success=now` or some time ago."""
        time = self.world.now - timedelta(seconds=ago)
        given = {"mark_success": time.isoformat() if ago else "now"}
        if command_id is not None:
            given["command_id"] = command_id
        self.world.annotate(**given)

    @rule()
    def reset(self) -> None:
        """`reset=`."""
        self.world.annotate(reset="")

    @rule(value=st.sampled_from(["", "--all", "'"]))
    def run_now(self, value: str) -> None:
        """`run-now=`; the last is no shell text."""
        self.world.annotate(run_now=value)

    @rule(value=st.sampled_from(["yesterday", "2099-01-01T00:00:00Z"]))
    def mark_wrongly(self, value: str) -> None:
        """A value that can't be used."""
        self.world.annotate(mark_success=value)

    @rule()
    def create_from_the_cronjob(self) -> None:
        """`kubectl create job --from`."""
        self.world.create_from()

    @rule(suspend=st.booleans())
    def suspend_or_resume(self, suspend: bool) -> None:
        """`spec.suspend`."""
        spec = {key: value for key, value in self.world.resource["spec"].items() if key != "suspend"}
        self.world.edit({**spec, "suspend": True} if suspend else spec)

    @rule(number=any_one)
    def edit_within_its_kind(self, number: int) -> None:
        """Another schedule, other limits; it may resume the job, too."""
        kinds = next(kinds for kinds in (BACKFILL, COLLAPSING, PLAIN) if self.kind in kinds)
        self.kind = kinds[number % len(kinds)]
        self.world.edit(SPECS[self.kind])

    @rule(kind=st.sampled_from(range(len(SPECS))))
    def edit_to_anything(self, kind: int) -> None:
        """A plain job becomes gated, a gated one plain."""
        self.kind = kind
        self.world.edit(SPECS[kind])

    @rule()
    def roll_out(self) -> None:
        """The web app has a new image."""
        self.world.template += 1

    @rule(available=st.booleans())
    def web_app_comes_or_goes(self, available: bool) -> None:
        """Its Deployment is deleted, or made again."""
        self.world.available = available

    @rule(number=any_one)
    def delete_a_job(self, number: int) -> None:
        """`kubectl delete job`."""
        name = self._job(number, list(self.world.jobs))
        if name is not None:
            self.world.delete_by_hand(name)

    @rule(number=any_one)
    def suspend_a_job(self, number: int) -> None:
        """`kubectl patch job` with `suspend: true`."""
        name = self._job(number, self._active())
        if name is not None:
            self.world.suspend_by_hand(name, suspend=True)

    @precondition(lambda self: self.world.cronjob is not None)
    @rule()
    def suspend_the_cronjob(self) -> None:
        """`kubectl patch cronjob` with `suspend: true`: drift."""
        self.world.patch_cronjob([{"op": "replace", "path": "/spec/suspend", "value": True}])

    # --- The end -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Left alone, everything comes to rest: caught up, tidy, as the spec asks for it."""
        if not hasattr(self, "world"):
            return
        self.suspend_or_resume(suspend=False)
        self.world.available = True
        self.world.template += 1  # releases a job whose retries were used up
        self._come_to_rest()
        upcoming = self.world.spec.slots.next_after(self.world.now)
        assert upcoming is not None
        self.world.now = upcoming + timedelta(seconds=2)
        self._come_to_rest()
        if upcoming not in self.world.ledger.succeeded:
            raise Broken(f"the next slot {upcoming} did not run")

    def _come_to_rest(self) -> None:
        world = self.world
        for _ in range(800):
            before = world.changes
            for operator in world.operators:
                operator.receive()
                operator.work()
            world.cronjob_controller()
            for name in self._suspended_by_hand():
                world.suspend_by_hand(name, suspend=False)
            for name in self._waiting_for_retry():
                world.retry(name)
            for name in self._active():
                world.end_attempt(name, good=True)
            if world.changes != before:
                continue
            assert world.cronjob is not None
            as_asked = world.cronjob["spec"] == world.plan(world.spec).manifest["spec"]
            nothing_due = not world.spec.slots.count(world.cursor, world.now) and world.status.ongoing is None
            if as_asked and nothing_due:
                break
            wake = min((operator.wake_at for operator in world.operators if operator.wake_at), default=None)
            if wake is None:
                raise Broken("there is something to do and nobody wakes for it")
            world.now = max(world.now, wake) + timedelta(seconds=1)
        else:
            raise Broken("the world never comes to rest")
        self._check_rest()

    def _suspended_by_hand(self) -> list[str]:
        return [
            name
            for name, job in self.world.jobs.items()
            if job["spec"].get("suspend")
            and job["status"].get("startTime")
            and not job["status"].get("conditions")
        ]

    def _check_rest(self) -> None:
        world, status = self.world, self.world.status
        unfinished = [name for name, job in world.jobs.items() if not job["status"].get("conditions")]
        assert not unfinished
        assert (status.missed, status.ongoing) == (0, None)
        for kind in (ConditionType.READY, ConditionType.CAUGHT_UP):
            condition = status.condition(kind)
            assert condition is not None
            assert condition.status == "True", condition
        assert all(not key.startswith("crontabber.dev/") for key in world.resource["metadata"]["annotations"])
        assert all(record.result != "Pending" for record in status.last_commands)
        spec = world.spec
        good = [job for job in world.jobs.values() if job["status"].get("completionTime")]
        assert len(good) <= spec.successful_jobs_history_limit


Machine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
TestWhateverHappens = Machine.TestCase
