"""The fence of gated jobs: a Job first, its claim second, its release third. Tables of what exists and what is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from crontabber_operator import batches
from crontabber_operator.backfill import decide
from crontabber_operator.decision import Decision, RemoveFormer
from crontabber_operator.manifests import native_name
from crontabber_operator.models import ConditionType, HistoryEntry, Result, State, Status
from crontabber_operator.observed import Evidence, Hold, RunKind, Unavailable
from tests.unit.backfill_scene import NAME, Scene, at, clock, failure, slots

GATED: dict[str, Any] = {"frequency": "1h", "passLastSuccess": True}
BACKFILL: dict[str, Any] = {"frequency": "1h", "backfill": True}
both_kinds = pytest.mark.parametrize("fields", [GATED, BACKFILL], ids=["collapsing", "backfill"])


def chain(cursor: str = "09:00", **fields: Any) -> Scene:
    """A backfill job that last succeeded at a slot; its natives were all fired."""
    scene = Scene(**{**BACKFILL, **fields}, fired="23:00")
    scene.status = Status(settled_through=at(cursor), last_success_time=at(cursor))
    return scene


# --- Job first ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "creates", "wake"),
    [
        ("10:00", False, "10:01"),
        ("10:00:59.9", False, "10:01"),
        ("10:01", True, "11:00"),
    ],
)
@both_kinds
def test_the_newest_slots_native_run_is_waited_for(
    fields: dict[str, Any], now: str, creates: bool, wake: str
) -> None:
    """Up to a minute; then a one-off is made."""
    scene = Scene(**fields)
    scene.rest("10:00:30" if now != "10:00" else "09:59")
    decision = scene.rest(now)
    assert bool(decision.create) is creates
    if now != "10:00":
        assert clock(decision.wake_at) == wake
        caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
        assert caught_up is not None
        assert ("controller" in caught_up.message) is not creates


def test_no_one_off_is_made_for_a_slot_whose_native_run_is_there() -> None:
    """It is claimed."""
    scene = Scene(**BACKFILL)
    run = scene.native("10:00")
    decision = scene.take("10:00:01")
    assert not decision.create
    assert scene.status.ongoing is not None
    assert (scene.status.ongoing.uid, scene.status.ongoing.attempt) == (run.uid, 1)


@pytest.mark.parametrize("is_ahead", [False, True], ids=["to be claimed", "ahead"])
def test_before_a_one_off_for_the_newest_slot_its_native_run_is_looked_for(is_ahead: bool) -> None:
    """In a storm the watch of Jobs is behind that of CronJobs; what is found there is claimed."""
    scene = chain()
    if is_ahead:
        scene.claimed(scene.one_off("10:00"), released="11:01")
    else:
        scene.status = Status(settled_through=at("10:00"))
    scene.change_cronjob(last_schedule=at("11:00"))
    decision = scene.decide("11:20")
    name = native_name(NAME, at("11:00"))
    assert (decision.look_for_job, decision.create) == (name, ())
    assert decision.turn == (None if is_ahead else at("11:00")), "it keeps its place"
    scene.absent = name
    decision = scene.decide("11:20")
    assert (decision.look_for_job, slots(decision.create)) == (None, ["11:00"])
    scene.absent = None
    run = scene.native("11:00")
    decision = scene.take("11:20")
    assert (decision.look_for_job, decision.create) == (None, ())
    if not is_ahead:
        assert scene.status.ongoing is not None
        assert scene.status.ongoing.uid == run.uid


def looked_for_older_slot(scene: Scene) -> str:
    """The controller fires the newest only."""
    return "11:30"


def looked_for_suspended(scene: Scene) -> str:
    """A CronJob that is suspended makes none."""
    scene.change_cronjob(suspended=True)
    return "10:30"


def looked_for_missing(scene: Scene) -> str:
    """Nor does one that is not there."""
    scene.cronjob = None
    return "10:30"


def looked_for_created_later(scene: Scene) -> str:
    """Nor one that was made after the slot."""
    scene.change_cronjob(created=at("10:00:02"))
    return "10:30"


def looked_for_seen(scene: Scene) -> str:
    """It was there, and failed."""
    scene.failed(scene.claimed(scene.native("10:00"), released="10:00:01"), "10:00:02")
    return "10:30"


def looked_for_name_taken(scene: Scene) -> str:
    """A person made a Job of that very name: there is no other, so asking would never end."""
    scene.manual("10:05", name=native_name(NAME, at("10:00")))
    return "10:30"


def looked_for_recorded(scene: Scene) -> str:
    """It is in the books, and its Job is gone."""
    run = scene.failed(scene.claimed(scene.native("10:00"), released="10:00:01"), "10:00:02")
    scene.rest("10:00:03")
    del scene.runs[run.uid]
    return "10:30"


@pytest.mark.parametrize(
    "case",
    [
        looked_for_older_slot,
        looked_for_suspended,
        looked_for_missing,
        looked_for_created_later,
        looked_for_seen,
        looked_for_name_taken,
        looked_for_recorded,
    ],
)
def test_a_native_run_that_can_not_be_there_unseen_is_not_looked_for(case: Callable[[Scene], str]) -> None:
    """Catching up costs no questions."""
    scene = chain()
    scene.change_cronjob(last_schedule=at("10:00"))
    now = case(scene)
    for _ in range(5):
        decision = scene.take(now)
        assert decision.look_for_job is None
        if decision.create:
            return
    raise AssertionError("no one-off was made")


def no_native_older_slot(scene: Scene) -> str:
    """A newer slot is due as well: the controller fires the newest only."""
    return "11:00:01"


def no_native_forbid(scene: Scene) -> str:
    """A native run that is unfinished holds the controller back by Forbid."""
    scene.native("09:00")
    return "10:00:10"


def no_native_forbid_manual(scene: Scene) -> str:
    """A Job made by hand from the CronJob holds it back as well."""
    scene.manual("09:59", released=True, suspended=False)
    return "10:00:10"


def no_native_created_later(scene: Scene) -> str:
    """The CronJob was made after the slot."""
    scene.change_cronjob(created=at("10:00:02"))
    return "10:00:10"


def no_native_missing(scene: Scene) -> str:
    """There is no CronJob."""
    scene.cronjob = None
    return "10:00:10"


def no_native_suspended(scene: Scene) -> str:
    """Somebody suspended the CronJob."""
    scene.change_cronjob(suspended=True)
    return "10:00:10"


def no_native_other_schedule(scene: Scene) -> str:
    """The CronJob has another schedule still."""
    scene.change_cronjob(schedule="another")
    return "10:00:10"


def no_native_outdated(scene: Scene) -> str:
    """What the controller makes would be outdated."""
    scene.rollout()
    return "10:00:10"


def no_native_ended(scene: Scene) -> str:
    """The slot's native run was there and failed."""
    scene.failed(scene.claimed(scene.native("10:00"), released="10:00:01"), "10:00:02")
    return "10:00:12"


def no_native_fired(scene: Scene) -> str:
    """The controller fired the slot, and nothing is to be seen of it after 5 s: it was deleted."""
    scene.change_cronjob(last_schedule=at("10:00"))
    return "10:00:05"


@pytest.mark.parametrize(
    "situation",
    [
        no_native_older_slot,
        no_native_forbid,
        no_native_forbid_manual,
        no_native_created_later,
        no_native_missing,
        no_native_suspended,
        no_native_other_schedule,
        no_native_outdated,
        no_native_ended,
        no_native_fired,
    ],
)
def test_where_no_native_run_can_come_a_one_off_is_made_at_once(situation: Any) -> None:
    """The minute is not waited for in vain."""
    scene = Scene(**BACKFILL)
    now = situation(scene)
    decision = scene.rest(now)
    assert slots(decision.create) == ["10:00"]


def test_a_native_run_that_was_fired_is_waited_for_a_moment() -> None:
    """Its CronJob may be seen before it."""
    scene = Scene(**BACKFILL, fired="10:00")
    decision = scene.rest("10:00:04.9")
    assert not decision.create
    assert clock(decision.wake_at) == "10:00:05"


@pytest.mark.parametrize(
    ("exists", "attempt"),
    [
        ([], 1),
        (["native"], 1),
        (["one-off 1"], 2),
        (["one-off 7", "one-off 2"], 8),
        (["history 4"], 5),
        (["taken 6"], 7),
        (["taken x"], 1),
    ],
)
def test_attempts_count_on_past_all_that_is_known(exists: list[str], attempt: int) -> None:
    """So no name is used twice: not that of a Job, of a former run, or of somebody else's Job."""
    scene = chain()
    for one in exists:
        kind, _, number = one.partition(" ")
        if kind == "native":
            scene.change(scene.native("10:00"), deleting=True)
        elif kind == "one-off":
            scene.change(scene.one_off("10:00", int(number)), deleting=True)
        elif kind == "history":
            entry = HistoryEntry(slot=at("10:00"), attempt=int(number), result=Result.FAILED)
            scene.status = replace(scene.status, history=(entry,))
        else:
            scene.taken_names.add(f"{NAME}-29675160-{number}")
    assert [new.attempt for new in scene.rest("11:30").create] == [attempt]


# --- Claim second ---------------------------------------------------------------------------------------


def test_a_run_is_claimed_before_it_is_released() -> None:
    """The claim is written alone; only the next decision releases."""
    scene = chain()
    run = scene.one_off("10:00")
    decision = scene.take("10:30")
    assert not decision.release
    claim = scene.status.ongoing
    assert claim is not None
    assert (claim.uid, claim.job, clock(claim.slot), claim.attempt) == (run.uid, run.name, "10:00", 1)
    assert scene.status.last_run_time == at("10:30")
    assert scene.status.first_run_time == at("10:30")
    decision = scene.decide("10:30")
    assert [one.run.uid for one in decision.release] == [run.uid]


@pytest.mark.parametrize("ended", [False, True], ids=["goes on", "has ended"])
@pytest.mark.parametrize(
    "change", [{"claimed": "09:58"}, {"claimed": None, "by_hand": True}], ids=["former claim", "by hand"]
)
def test_a_run_that_was_not_released_for_its_claim_does_not_count(change: Any, ended: bool) -> None:
    """It seemed to wait when it was claimed again after a mark, for the Jobs were seen later than the resource.

    Or a person started it, and its command was not told for which slot. The slot runs once it has ended.
    """
    scene = chain()
    run = scene.claimed(scene.one_off("10:00"), released="11:30")
    run = scene.change(run, **change, active=not ended)
    if ended:
        scene.succeeded(run, "11:30:10")
    decision = scene.take("11:30:30")
    assert (clock(scene.status.settled_through), scene.status.ongoing) == ("09:00", None)
    assert (scene.status.error_count, scene.status.history) == (0, ())
    assert [(clock(new.slot), new.attempt) for new in decision.create] == ([("10:00", 2)] if ended else [])
    assert decision.discard == decision.release == ()


def test_a_claim_of_no_uid_is_asked_about_as_well() -> None:
    """Only a hand can have written it."""
    assert Decision(confirm_gone="").asks
    assert not Decision().asks


def test_a_run_whose_release_does_not_say_for_which_claim_counts() -> None:
    """An operator of before released it."""
    scene = chain()
    run = scene.change(scene.claimed(scene.one_off("10:00"), released="11:30"), claimed=None)
    scene.succeeded(run, "11:31")
    assert clock(scene.told("11:31:10").settled_through) == "10:00"


def test_outcome_and_next_claim_are_one_write() -> None:
    """A crash between them can't happen."""
    scene = chain()
    first = scene.claimed(scene.one_off("10:00"), released="11:30")
    second = scene.one_off("11:00")
    scene.succeeded(first, "11:31")
    status = scene.decide("11:31").status
    assert status is not None
    assert status.ongoing is not None
    assert (clock(status.settled_through), status.ongoing.uid) == ("10:00", second.uid)


@pytest.mark.parametrize(
    ("blocker", "reason"),
    [
        (lambda scene: scene.one_off("10:00", 1, released=True, suspended=False), "Waiting"),
        (lambda scene: scene.native("10:00", released=True, suspended=False), "Waiting"),
        (lambda scene: scene.one_off("10:00", 1, released=True, suspended=True), "SuspendedByHand"),
        (lambda scene: scene.one_off("10:00", 1, released=True, suspended=False, deleting=True), "Waiting"),
    ],
    ids=["one-off", "native", "suspended by hand", "ending"],
)
def test_nothing_is_claimed_while_a_released_run_is_unfinished(blocker: Any, reason: str) -> None:
    """Also one that nobody claims any more, after a mark or reset: two never overlap."""
    scene = chain("10:00")
    blocker(scene)
    scene.one_off("11:00")
    scene.rest("11:30")
    assert scene.status.ongoing is None
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.reason == reason


@pytest.mark.parametrize(
    ("queue", "reason", "words"),
    [("", "Waiting", "was started by hand"), ("batch", "ManagedByKueue", "Kueue's queue batch")],
)
def test_what_somebody_else_started_is_told(queue: str, reason: str, words: str) -> None:
    """Its slot runs again after it, which would seem odd."""
    scene = chain("10:00")
    scene.one_off("11:00", released=True, suspended=False, by_hand=True, queue=queue, active=True)
    caught_up = scene.told("11:30").condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.reason == reason
    assert words in caught_up.message


def test_what_kueue_would_start_is_neither_claimed_nor_released() -> None:
    """Kueue would stop it and start it anew without its run time; it is told, and no other Job is made for its slot."""
    scene = chain("10:00")
    scene.one_off("11:00", queue="batch")
    decision = scene.rest("11:30")
    assert (scene.status.ongoing, decision.release, decision.create) == (None, (), ())
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.reason == "ManagedByKueue"
    assert "Kueue's queue batch" in caught_up.message


def test_a_claimed_run_that_came_into_a_queue_is_released_when_it_is_out_of_it() -> None:
    """The claim stays meanwhile."""
    scene = chain("10:00")
    run = scene.claimed(scene.one_off("11:00", queue="batch"))
    assert scene.rest("11:30").release == ()
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.reason == "ManagedByKueue"
    scene.change(run, queue="")
    assert slots(scene.rest("11:31").release) == ["11:00"]


def test_a_manual_run_in_a_queue_is_kueues() -> None:
    """It is started when Kueue admits it."""
    scene = chain("10:00")
    scene.manual("10:10", queue="batch")
    assert scene.rest("10:30").release == ()


def test_a_manual_run_holds_nothing_back() -> None:
    """It is outside of the books."""
    scene = chain()
    scene.manual("10:10", released=True, suspended=False)
    scene.one_off("10:00")
    scene.take("10:30")
    assert scene.status.ongoing is not None


def test_a_run_that_may_not_start_yet_is_told() -> None:
    """A dependency or a group holds it; nothing is made or claimed meanwhile."""
    scene = chain()
    scene.one_off("10:00")
    asked = []

    def hold(slot: Any) -> Hold:
        asked.append(slot)
        return Hold("WaitingForDependency", "it waits for slot 10:00 of another.")

    scene.hold = hold
    decision = scene.rest("10:30")
    assert (decision.create, decision.release, scene.status.ongoing) == ((), (), None)
    assert set(asked) == {at("10:00")}
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.reason == "WaitingForDependency"
    assert caught_up.message == "1 slot is due; it waits for slot 10:00 of another."
    assert decision.turn is None, "it asks for no place"


@pytest.mark.parametrize("with_run", [True, False], ids=["has a Job", "has none"])
def test_a_run_that_waits_for_its_turn_says_with_which_slot(with_run: bool) -> None:
    """So that those with older slots go first; nothing is made or claimed meanwhile."""
    scene = chain()
    if with_run:
        scene.one_off("10:00")
    else:
        scene.change_cronjob(last_schedule=at("10:00"))
    scene.hold = lambda _slot: Hold("WaitingForConcurrencyGroup", "it waits for its turn.", is_turn=True)
    decision = scene.rest("10:30")
    assert (decision.create, decision.release, scene.status.ongoing) == ((), (), None)
    assert decision.turn == at("10:00")
    scene.hold = lambda _slot: None
    assert scene.decide("10:30").turn == at("10:00")


@pytest.mark.parametrize(
    "hindrance",
    [
        lambda scene: scene.edit(suspend=True),
        lambda scene: setattr(scene, "desired", Unavailable("WebAppNotFound", "no")),
        lambda scene: scene.one_off("10:00", 1, released=True, suspended=False),
    ],
    ids=["suspended", "no template", "another run goes on"],
)
def test_who_can_not_start_anyway_asks_for_no_place(hindrance: Any) -> None:
    """It would keep others from theirs."""
    scene = chain()
    hindrance(scene)
    asked = []
    scene.hold = asked.append
    assert scene.rest("10:30").turn is None
    assert asked == []


@pytest.mark.parametrize(("reason", "stalled"), [("DependencyMissing", False), ("DependencyCycle", True)])
def test_what_is_wrong_with_dependencies_is_told_in_ready(reason: str, stalled: bool) -> None:
    """The CronJob is made all the same, and the job's own slots go on being counted."""
    scene = chain()
    scene.problem = Unavailable(reason, "mend it", stalled=stalled)
    scene.hold = lambda _slot: Hold(reason, "see Ready.")
    scene.rest("10:30")
    ready, stalled_told = (
        scene.status.condition(kind) for kind in (ConditionType.READY, ConditionType.STALLED)
    )
    assert ready is not None
    assert stalled_told is not None
    assert (ready.status, ready.reason, ready.message) == ("False", reason, "mend it")
    assert stalled_told.status == str(stalled)
    assert scene.status.missed == 1
    scene.problem = None
    scene.rest("10:30")
    ready = scene.status.condition(ConditionType.READY)
    assert ready is not None
    assert ready.status == "True"


def test_a_failed_slot_whose_turn_it_is_not_tells_that_and_not_its_retry() -> None:
    """The wait between the attempts is over."""
    scene = chain()
    first = scene.one_off("10:00")
    scene.take("10:01")
    scene.failed(first, "10:02")
    scene.hold = lambda _slot: Hold("WaitingForConcurrencyGroup", "it waits for its turn.", is_turn=True)
    scene.rest("10:30")
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.reason == "WaitingForConcurrencyGroup"


def test_a_run_of_a_suspended_job_is_not_claimed() -> None:
    """It is kept for the time when the job is resumed."""
    scene = chain(suspend=True)
    scene.one_off("10:00")
    decision = scene.rest("10:30")
    assert (decision.discard, scene.status.ongoing, scene.status.state) == ((), None, State.SUSPENDED)


def test_the_controllers_own_run_is_taken_before_a_one_off() -> None:
    """The one-off, which has a name of its own, is discarded."""
    scene = chain()
    one_off, native = scene.one_off("10:00"), scene.native("10:00")
    decision = scene.take("10:30")
    assert scene.status.ongoing is not None
    assert scene.status.ongoing.uid == native.uid
    assert decision.discard == (one_off,)


def test_a_native_run_made_again_is_the_next_attempt() -> None:
    """The controller can make it anew after it was deleted; the first attempt is not counted twice."""
    scene = chain()
    failed = scene.claimed(scene.one_off("10:00", 1), 1, released="10:01")
    scene.failed(failed, "10:02")
    scene.native("10:00")
    scene.take("10:03")
    assert scene.status.ongoing is not None
    assert scene.status.ongoing.attempt == 2


# --- Release third --------------------------------------------------------------------------------------


def test_the_command_is_told_its_slot_and_the_last_success() -> None:
    """In the spec's own format, in UTC."""
    scene = chain("09:00", passLastSuccess=True, timeFormat="%d/%H:%M")
    scene.claimed(scene.one_off("10:00"))
    (release,) = scene.decide("12:30").release
    assert (release.run_time, release.last_success, release.attempt) == ("03/10:00", "03/09:00", 1)


def test_a_last_success_that_there_is_not_is_empty() -> None:
    """The command can tell it from any time."""
    scene = Scene(**BACKFILL, fired="23:00")
    scene.claimed(scene.one_off("10:00"))
    assert [release.last_success for release in scene.decide("10:30").release] == [""]


def test_within_a_chain_the_last_success_is_the_slot_before() -> None:
    """As in the original crontabber."""
    scene = chain("10:00")
    scene.claimed(scene.one_off("11:00"))
    assert [release.last_success for release in scene.decide("18:30").release] == ["2026-06-03T10:00"]


def test_a_released_run_is_not_released_again() -> None:
    """Also where someone suspended it: that is told, its end is waited for."""
    scene = chain()
    run = scene.claimed(scene.one_off("10:00"), released="10:30")
    assert not scene.rest("10:31").release
    scene.change(run, suspended=True)
    decision = scene.rest("10:32")
    assert (decision.release, decision.discard) == ((), ())
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert "suspended by hand" in caught_up.message
    assert run.name in caught_up.message


def test_a_claimed_run_is_not_released_while_another_one_runs() -> None:
    """Somebody started a run by hand between claim and release."""
    scene = chain("10:00")
    scene.claimed(scene.one_off("11:00"))
    other = scene.native("12:00", suspended=False, released=True)
    assert not scene.rest("12:30").release
    scene.succeeded(other, "12:31")
    assert slots(scene.rest("12:31").release) == ["11:00"]


def test_a_claimed_run_that_is_being_deleted_is_not_released() -> None:
    """It would start and be killed."""
    scene = chain("10:00")
    scene.claimed(scene.one_off("11:00", deleting=True))
    decision = scene.rest("11:30")
    assert (decision.release, decision.discard) == ((), ())


def suspended_meanwhile(scene: Scene) -> None:
    """The job was suspended after the claim."""
    scene.edit(suspend=True)


def outdated_meanwhile(scene: Scene) -> None:
    """Its template changed after the claim."""
    scene.rollout()


@pytest.mark.parametrize("meanwhile", [suspended_meanwhile, outdated_meanwhile])
def test_a_void_claim_goes_after_its_run(meanwhile: Any) -> None:
    """First the run is deleted, so that nobody who believes in the claim can release it; the claim stays till then."""
    scene = chain()
    scene.change_cronjob(last_schedule=at("10:00"))
    run = scene.claimed(scene.one_off("10:00"))
    meanwhile(scene)
    decision = scene.take("10:30")
    assert (decision.discard, decision.release) == ((run,), ())
    assert scene.status.ongoing is not None
    scene.remove(run, by_operator=True)
    decision = scene.take("10:30")
    assert scene.status.ongoing is None
    assert (scene.status.error_count, scene.status.history) == (0, ())
    assert slots(scene.rest("10:30").create) == ([] if scene.spec.suspend else ["10:00"])


# --- What else waits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "discarded"),
    [
        ("settled", True),
        ("duplicate", True),
        ("off the grid", True),
        ("outdated", True),
        ("for a later slot", False),
        ("released", False),
        ("finished", False),
        ("made by hand", False),
        ("deleting", False),
    ],
)
def test_runs_that_will_never_be_released_are_discarded(what: str, discarded: bool) -> None:
    """Never one that was ever released."""
    scene = chain("10:00")
    scene.claimed(scene.one_off("11:00"))
    run = {
        "settled": lambda: scene.native("10:00"),
        "duplicate": lambda: scene.one_off("11:00", 2),
        "off the grid": lambda: scene.native("12:30"),
        "outdated": lambda: scene.one_off("12:00", template_hash="old"),
        "for a later slot": lambda: scene.one_off("12:00"),
        "released": lambda: scene.one_off("10:00", suspended=True, released=True),
        "finished": lambda: scene.one_off("10:00", finished="11:00", succeeded=True),
        "made by hand": lambda: scene.manual("10:30", released=True),
        "deleting": lambda: scene.native("10:00", deleting=True),
    }[what]()
    assert scene.decide("13:00").discard == ((run,) if discarded else ())


def test_an_outdated_run_is_not_claimed_but_replaced() -> None:
    """It would run what was there before the rollout."""
    scene = chain("10:00")
    run = scene.one_off("11:00", template_hash="old")
    decision = scene.take("12:30")
    assert (scene.status.ongoing, decision.discard) == (None, (run,))
    assert [(clock(new.slot), new.attempt) for new in decision.create] == [("11:00", 2)]


def test_without_backfill_older_waiting_runs_are_discarded() -> None:
    """A native run that waited while the operator was down holds back the controller by Forbid."""
    scene = Scene(**GATED)
    old = scene.native("10:00")
    decision = scene.rest("12:30")
    assert (slots(decision.create), decision.discard) == (["12:00"], ())
    scene.one_off("12:00")
    assert scene.take("12:30").discard == (old,)


def test_a_run_that_proves_what_is_due_stays_until_there_is_another_one() -> None:
    """The operator's clock is behind: without that run an older slot would be due again, and so on for ever."""
    scene = Scene(**GATED, fired="23:00")
    older = scene.one_off("10:00", created="11:00:01")
    decision = scene.take("10:59:55")
    assert (slots(decision.create), decision.discard) == ([], ())
    assert clock(decision.wake_at) == "11:00:05"
    scene.one_off("11:00", created="11:00:06")
    assert scene.take("11:00:00").discard == (older,)


def test_with_backfill_later_waiting_runs_are_kept() -> None:
    """Their turn comes."""
    scene = chain("09:00")
    scene.native("12:00")
    assert scene.take("12:30").discard == ()


def test_what_exists_goes_on_while_the_template_is_unavailable() -> None:
    """Nothing is made or discarded for it; what waits is released, what runs is recorded."""
    scene = chain("09:00")
    scene.desired = Unavailable("WebAppNotFound", "Deployment webapp does not exist.", stalled=False)
    run = scene.one_off("10:00", template_hash="who knows")
    scene.take("12:30")
    decision = scene.decide("12:30")
    assert slots(decision.release) == ["10:00"]
    scene.succeeded(scene.claimed(run, released="12:31"), "12:32")
    decision = scene.take("12:32")
    assert clock(scene.status.settled_through) == "10:00"
    assert (decision.create, decision.cronjob) == ((), None)
    ready = scene.status.condition(ConditionType.READY)
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "WebAppNotFound")


# --- Made by hand ---------------------------------------------------------------------------------------


@both_kinds
def test_a_job_made_by_hand_is_released_at_once(fields: dict[str, Any]) -> None:
    """`kubectl create job --from`: outside of the books, also while the job is suspended or runs."""
    scene = Scene(**fields, suspend=True)
    scene.status = Status(last_success_time=at("08:00"))
    run = scene.manual("09:45:10")
    (release,) = scene.rest("09:45:11").release
    assert release.run == run
    assert (release.run_time, release.last_success) == ("2026-06-03T09:45", "2026-06-03T08:00")
    assert scene.status.ongoing is None
    scene.succeeded(scene.change(run, released=True, suspended=False), "09:46")
    scene.rest("09:47")
    assert (scene.status.history, scene.status.last_success_time) == ((), at("08:00"))


# --- Ahead ----------------------------------------------------------------------------------------------


def test_the_next_one_off_is_made_while_a_run_goes_on() -> None:
    """So it only needs to be released; one ahead is enough."""
    scene = chain()
    scene.claimed(scene.one_off("10:00"), released="12:30")
    assert slots(scene.rest("12:31").create) == ["11:00"]
    scene.one_off("11:00")
    assert slots(scene.rest("12:31").create) == []


@pytest.mark.parametrize(
    "why",
    [
        lambda scene: scene.edit(suspend=True),
        lambda scene: setattr(scene, "desired", Unavailable("No", "no")),
        lambda scene: scene.native("11:00"),
    ],
    ids=["suspended", "unavailable", "there is one"],
)
def test_nothing_is_made_ahead_in_vain(why: Any) -> None:
    """Not for a suspended job, without a template, or where a run waits."""
    scene = chain()
    scene.claimed(scene.one_off("10:00"), released="11:30")
    why(scene)
    assert scene.rest("11:31").create == ()


def test_the_newest_slots_native_run_is_waited_for_also_ahead() -> None:
    """The controller is about to make it."""
    scene = Scene(**BACKFILL, fired="10:00")
    scene.status = Status(settled_through=at("10:00"))
    scene.claimed(scene.one_off("11:00"), released="11:30")
    assert not scene.rest("12:00:30").create
    assert slots(scene.rest("12:01").create) == ["12:00"]


def test_nothing_is_made_ahead_for_what_an_edit_has_settled() -> None:
    """The schedule was edited while a run went on, then backfill switched on: the cursor is beyond the run."""
    scene = chain("11:30")
    scene.claimed(scene.one_off("10:00"), released="10:30")
    decision = scene.rest("11:45")
    assert (decision.create, clock(scene.status.next_run_time)) == ((), "12:00")


def test_without_backfill_nothing_is_made_ahead() -> None:
    """Missed slots collapse: which one comes next isn't known before."""
    scene = Scene(**GATED, fired="23:00")
    scene.claimed(scene.one_off("10:00"), released="11:30")
    assert not scene.rest("12:30").create


# --- Batches --------------------------------------------------------------------------------------------


def test_before_a_release_it_is_asked_for_pods_that_are_left() -> None:
    """Nobody has looked since the operator's start, or since a run vanished in the middle."""
    scene = chain()
    run = scene.claimed(scene.one_off("10:00"))
    scene.left_behind = None
    decision = scene.decide("13:30")
    assert (decision.look_for_pods, decision.release) == (True, ())
    scene.left_behind = ()
    assert [release.run for release in scene.decide("13:30").release] == [run]


def test_nothing_starts_while_a_pod_of_a_vanished_run_lives() -> None:
    """Its Job is gone; its command has not ended. What it waits for is told."""
    scene = chain()
    scene.claimed(scene.one_off("10:00"))
    scene.left_behind = ("work-1-1-abcde",)
    decision = scene.rest("13:30")
    assert decision.release == ()
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert "pod work-1-1-abcde of a Job that is gone has not ended" in caught_up.message


def test_nothing_is_claimed_while_a_pod_of_a_vanished_run_lives() -> None:
    """The next run waits unclaimed."""
    scene = chain()
    scene.one_off("10:00")
    scene.left_behind = ("work-1-1-abcde",)
    scene.rest("13:30")
    assert scene.status.ongoing is None
    scene.left_behind = ()
    scene.rest("13:30")
    assert scene.status.ongoing is not None


@pytest.mark.parametrize(
    ("batch", "can_batch", "now", "through"),
    [
        (1, True, "15:30", "10:00"),
        (3, True, "15:30", "12:00"),
        (3, False, "15:30", "10:00"),
        (3, True, "11:30", "11:00"),
        (3, True, "10:30", "10:00"),
        (1000, True, "15:30", "15:00"),
    ],
)
def test_a_batch_covers_consecutive_due_slots(batch: int, can_batch: bool, now: str, through: str) -> None:
    """As many as it may, none that isn't due; without the runner just one."""
    scene = chain(backfillBatch=batch)
    scene.can_batch = can_batch
    (new,) = scene.rest(now).create
    assert (clock(new.slot), clock(new.through)) == ("10:00", through)


def test_a_batch_settles_all_its_slots() -> None:
    """The last success is the last of them."""
    scene = chain(backfillBatch=3)
    run = scene.one_off("10:00", through="12:00")
    scene.succeeded(scene.claimed(run, released="13:30"), "13:31")
    scene.take("13:31")
    assert clock(scene.status.settled_through) == "12:00"
    assert clock(scene.status.last_success_time) == "12:00"


@pytest.mark.parametrize(
    ("good", "settled", "failed", "missed"),
    [
        (None, "09:00", "10:00", 4),
        ("09:00", "09:00", "10:00", 4),
        ("10:00", "10:00", "11:00", 3),
        ("11:00", "11:00", "12:00", 2),
    ],
)
def test_a_batch_that_stopped_settles_what_was_good(
    good: str | None, settled: str, failed: str, missed: int
) -> None:
    """The slot that failed is first from then on, and its retries count from one."""
    scene = chain(backfillBatch=3, retryLimit=1)
    scene.status = replace(scene.status, error_count=2)
    run = scene.one_off("10:00", through="12:00")
    scene.failed(scene.claimed(run, released="13:30"), "13:31")
    scene.evidence[run.uid] = Evidence(
        failures=(failure("13:31"),), last_good_slot=at(good) if good else None
    )
    scene.rest("13:31")
    assert clock(scene.status.settled_through) == settled
    assert scene.status.last_error is not None
    assert clock(scene.status.last_error.slot) == failed
    assert scene.status.history[0].slot == at(failed)
    assert scene.status.missed == missed
    assert scene.status.retry is not None
    assert scene.status.retry.failures == 1
    assert scene.status.error_count == (1 if good and good >= "10:00" else 3)


def test_a_batch_whose_slots_all_were_good_is_a_success() -> None:
    """Whatever its process did at the very end."""
    scene = chain(backfillBatch=3)
    run = scene.one_off("10:00", through="12:00")
    scene.failed(scene.claimed(run, released="13:30"), "13:31")
    scene.evidence[run.uid] = Evidence(failures=(failure("13:31"),), last_good_slot=at("12:00"))
    scene.take("13:31")
    assert clock(scene.status.settled_through) == "12:00"
    assert scene.status.error_count == 0


def test_the_last_success_never_moves_back_by_a_batch() -> None:
    """It may be later than the slots, from a time when the job had no backfill."""
    scene = chain(backfillBatch=3)
    scene.status = replace(scene.status, last_success_time=at("10:30"))
    run = scene.one_off("10:00", through="12:00")
    scene.failed(scene.claimed(run, released="13:30"), "13:31")
    scene.evidence[run.uid] = Evidence(failures=(failure("13:31"),), last_good_slot=at("10:00"))
    scene.take("13:31")
    assert clock(scene.status.last_success_time) == "10:30"


def going_on(progress: str | None = None, **fields: Any) -> Scene:
    """A batch of 10:00 to 12:00 that was released at 13:30 and has come so far."""
    scene = chain(backfillBatch=3, **fields)
    scene.can_batch = True
    run = scene.claimed(scene.one_off("10:00", through="12:00"), released="13:30")
    if progress is not None:
        scene.progress[run.uid] = at(progress)
    return scene


@pytest.mark.parametrize(
    ("progress", "settled", "claimed", "missed"),
    [
        (None, "09:00", "10:00", 4),
        ("09:00", "09:00", "10:00", 4),
        ("10:00", "10:00", "11:00", 3),
        ("11:00", "11:00", "12:00", 2),
        ("12:00", "09:00", "10:00", 4),
        ("13:00", "09:00", "10:00", 4),
    ],
)
def test_the_books_follow_a_batch_while_it_runs(
    progress: str | None, settled: str, claimed: str, missed: int
) -> None:
    """Slot by slot; but its last one is done when its Job is, and what is none of its own is not believed."""
    scene = going_on(progress)
    scene.rest("13:31")
    assert clock(scene.status.settled_through) == clock(scene.status.last_success_time) == settled
    assert scene.status.ongoing is not None
    assert (clock(scene.status.ongoing.slot), clock(scene.status.ongoing.through)) == (claimed, "12:00")
    assert scene.status.missed == missed
    assert scene.status.history == ()


def test_progress_never_moves_back() -> None:
    """An older reading of the output changes nothing."""
    scene = going_on("11:00")
    scene.rest("13:31")
    before = scene.status
    scene.progress = dict.fromkeys(scene.progress, at("10:00"))
    scene.rest("13:31:30")
    assert scene.status == before


def test_progress_clears_the_errors_of_the_slot_that_failed() -> None:
    """It has succeeded."""
    scene = going_on("10:00")
    scene.status = replace(scene.status, error_count=2)
    scene.rest("13:31")
    assert scene.status.error_count == 0


def test_a_batch_that_went_on_is_recorded_once_it_ends() -> None:
    """All in one entry, whatever was settled before."""
    scene = going_on("11:00")
    scene.rest("13:31")
    (run,) = scene.runs.values()
    scene.succeeded(run, "13:32")
    scene.take("13:32")
    assert clock(scene.status.settled_through) == "12:00"
    (entry,) = scene.status.history
    assert (clock(entry.slot), entry.result) == ("10:00", Result.SUCCEEDED)
    assert entry.message == "3 slots, the last 2026-06-03T12:00Z."


@pytest.mark.parametrize("told", [None, "10:00", "11:00"])
def test_a_batch_that_stops_without_a_report_keeps_what_it_had_told(told: str | None) -> None:
    """A killed pod loses at most what it had not told; nothing that is in the books runs again."""
    scene = going_on("10:00")
    scene.rest("13:31")
    (run,) = scene.runs.values()
    scene.failed(run, "13:32")
    good = told or "10:00"
    scene.evidence[run.uid] = Evidence(
        failures=(failure("13:32"),), last_good_slot=at(told) if told else None
    )
    scene.rest("13:32")
    assert clock(scene.status.settled_through) == good
    bad, fine = scene.status.history
    assert (clock(bad.slot), bad.result) == ("12:00" if told == "11:00" else "11:00", Result.FAILED)
    assert (clock(fine.slot), fine.result) == ("10:00", Result.SUCCEEDED)
    assert scene.status.error_count == 1


def test_an_eviction_does_not_use_up_the_retries() -> None:
    """A batch that is evicted begins again behind what it had done, in another Job."""
    scene = going_on("10:00", retryLimit=0)
    (run,) = scene.runs.values()
    scene.failed(run, "13:32")
    evicted = failure("13:32", "Evicted", Result.EVICTED)
    scene.evidence[run.uid] = Evidence(failures=(evicted,), last_good_slot=at("11:00"))
    scene.rest("13:32")
    assert scene.status.state is State.RETRYING
    (new,) = scene.rest("13:33").create
    assert (clock(new.slot), clock(new.through)) == ("12:00", "13:00")


def test_a_batch_is_told_all_its_slots() -> None:
    """Each with the last success as it is once those before it have succeeded."""
    scene = chain(backfillBatch=3, passLastSuccess=True, timeFormat="%H:%M")
    scene.can_batch = True
    run = scene.claimed(scene.one_off("10:00", through="12:00"))
    (release,) = scene.take("13:30").release
    assert (release.run_time, release.last_success) == ("10:00", "09:00")
    plan = json.loads(release.plan)
    assert plan == {
        "nonce": batches.nonce(run.uid),
        "slots": [
            ["2026-06-03T10:00:00Z", "10:00", "09:00"],
            ["2026-06-03T11:00:00Z", "11:00", "10:00"],
            ["2026-06-03T12:00:00Z", "12:00", "11:00"],
        ],
    }
    single = chain()
    single.claimed(single.one_off("10:00"))
    assert not single.take("13:30").release[0].plan


def test_a_batch_is_not_told_a_last_success_that_moves_back() -> None:
    """It was later than the slots already."""
    scene = chain(backfillBatch=3, passLastSuccess=True, timeFormat="%H:%M")
    scene.can_batch = True
    scene.status = replace(scene.status, last_success_time=at("10:30"))
    scene.claimed(scene.one_off("10:00", through="12:00"))
    (release,) = scene.take("13:30").release
    assert [last for _, _, last in json.loads(release.plan)["slots"]] == ["10:30", "10:30", "11:00"]


@pytest.mark.parametrize(
    ("held_from", "through"),
    [("15:00", "14:00"), ("13:00", "12:00"), ("11:00", "10:00"), ("23:00", "15:00")],
)
def test_a_batch_ends_before_a_slot_that_has_to_wait_for_others(held_from: str, through: str) -> None:
    """A dependency, or its turn among others: each slot of it must be free to start."""
    scene = chain(backfillBatch=100)
    scene.can_batch = True
    scene.hold = lambda slot: Hold("WaitingForDependency", "…") if slot >= at(held_from) else None
    (new,) = scene.rest("15:30").create
    assert (clock(new.slot), clock(new.through)) == ("10:00", through)


@pytest.mark.parametrize("change", ["batch", "runner", "hold"])
def test_a_batch_that_does_not_fit_any_more_is_made_anew(change: str) -> None:
    """It was never released: the spec allows fewer, its runner can't be had, or a slot of it has to wait."""
    scene = chain(backfillBatch=3)
    scene.can_batch = True
    run = scene.one_off("10:00", through="12:00")
    if change == "batch":
        scene.edit(backfillBatch=2)
    elif change == "runner":
        scene.can_batch = False
    else:
        scene.hold = lambda slot: Hold("WaitingForDependency", "…") if slot >= at("12:00") else None
    decision = scene.decide("15:30")
    assert decision.discard == (run,)
    (new,) = decision.create
    assert (clock(new.slot), new.attempt) == ("10:00", 2)
    assert clock(new.through) == ("10:00" if change == "runner" else "11:00")


def test_a_plan_always_finds_room() -> None:
    """However long its times are written, what a pod may carry is not exceeded."""
    scene = chain(frequency="1m", backfillBatch=1000, timeFormat="%A %B " * 20)
    scene.can_batch = True
    (new,) = scene.rest("23:59").create
    run = scene.one_off("09:01", through=clock(new.through))
    scene.claimed(run)
    (release,) = scene.take("23:59").release
    assert 50_000 < len(release.plan) < batches.PLAN_MAX_BYTES


# --- Lost, conflicts ------------------------------------------------------------------------------------


def test_a_vanished_run_is_asked_about_before_it_counts_as_lost() -> None:
    """The watch may only be late."""
    scene = chain()
    run = scene.claimed(scene.one_off("10:00"), released="10:30")
    del scene.runs[run.uid]
    decision = scene.decide("10:31")
    assert (decision.confirm_gone, decision.status) == (run.uid, None)


def test_a_lost_run_is_recorded_and_its_slot_runs_again() -> None:
    """At least once; it doesn't use up the retries."""
    scene = chain(retryLimit=0)
    scene.remove(scene.claimed(scene.one_off("10:00"), released="10:30"))
    decision = scene.rest("10:31")
    assert scene.status.history[0].result is Result.LOST
    assert (scene.status.error_count, scene.status.state) == (1, State.RETRYING)
    assert clock(decision.wake_at) == "10:31:10"
    assert [(clock(new.slot), new.attempt) for new in scene.rest("10:31:10").create] == [("10:00", 2)]


def test_a_foreign_cronjob_is_left_alone_and_told() -> None:
    """Nothing is made or started beside it."""
    scene = chain()
    scene.change_cronjob(ours=False)
    scene.one_off("10:00")
    decision = scene.rest("10:30")
    assert (decision.create, decision.release, decision.discard, decision.cronjob) == ((), (), (), None)
    assert scene.status.state is State.INVALID
    for kind in (ConditionType.READY, ConditionType.STALLED):
        condition = scene.status.condition(kind)
        assert condition is not None
        assert condition.reason == "NameConflict"
        assert "metadata.name" in condition.message


def test_a_cronjob_of_a_former_resource_is_removed() -> None:
    """And until it is gone it is what any CronJob of somebody else is: nothing is made or started beside it."""
    scene = chain()
    scene.change_cronjob(ours=False, former=True)
    scene.one_off("10:00")
    decision = decide(scene.job, scene.seen, at("10:30"))
    assert decision.cronjob == RemoveFormer()
    assert (decision.create, decision.release, decision.discard) == ((), (), ())


def test_a_conflict_that_ended_goes_on_where_it_was() -> None:
    """The books are kept meanwhile."""
    scene = chain()
    scene.change_cronjob(ours=False)
    scene.rest("10:30")
    scene.change_cronjob(ours=True)
    assert slots(scene.rest("12:30").create) == ["10:00"]
    assert scene.status.state is not State.INVALID


# --- Modes that change ----------------------------------------------------------------------------------


def test_a_plain_run_that_goes_on_is_counted_by_a_job_that_became_gated() -> None:
    """It was claimed; it ends, and the chain goes on from its slot."""
    scene = Scene(frequency="1h")
    run = scene.native("10:00")
    scene.rest("10:00:05")
    scene.edit(backfill=True)
    scene.rollout()
    decision = scene.rest("11:30")
    assert decision.discard == ()
    scene.succeeded(run, "11:31")
    scene.rest("11:31")
    assert clock(scene.status.settled_through) == "10:00"


def test_a_plain_run_that_fails_for_ever_does_not_hold_a_job_that_became_gated() -> None:
    """Between two of its attempts it is removed, and its slot runs gated."""
    scene = Scene(frequency="1h")
    run = scene.native("10:00", failed_pods=1, active=True)
    scene.evidence[run.uid] = Evidence(failures=(failure("10:01"),))
    scene.rest("10:01:05")
    scene.edit(backfill=True)
    scene.rollout()
    scene.applied()
    assert scene.rest("10:02").discard == ()
    run = scene.change(run, active=False)
    assert scene.rest("10:03").discard == (run,)
    scene.remove(run, by_operator=True)
    assert slots(scene.rest("10:03").create) == ["10:00"]


def test_a_gated_run_that_goes_on_is_counted_by_a_job_that_became_plain() -> None:
    """A one-off too, which Kubernetes knows nothing of."""
    scene = chain()
    run = scene.claimed(scene.one_off("10:00"), released="10:30")
    scene.edit(backfill=None)
    scene.rollout()
    assert scene.rest("10:31").discard == ()
    scene.succeeded(run, "10:32")
    scene.rest("10:32")
    assert clock(scene.status.settled_through) == "10:00"
    assert scene.status.ongoing is None


def test_a_gated_run_that_failed_is_counted_once_by_a_job_that_became_plain() -> None:
    """At its own number."""
    scene = chain()
    run = scene.claimed(scene.one_off("10:00", 3), 3, released="10:30")
    scene.edit(backfill=None)
    scene.rollout()
    scene.failed(run, "10:32")
    scene.rest("10:32")
    assert [(entry.attempt, entry.result) for entry in scene.status.history] == [(3, Result.FAILED)]
    assert scene.status.ongoing is None


def test_a_native_run_that_failed_gated_is_not_counted_again_by_a_plain_job() -> None:
    """Nor given up: Kubernetes fires its slot again."""
    scene = chain()
    run = scene.claimed(scene.native("10:00"), released="10:30")
    scene.edit(backfill=None)
    scene.rollout()
    scene.failed(run, "10:32")
    scene.rest("10:32")
    assert (scene.status.error_count, len(scene.status.history), scene.status.skipped) == (1, 1, 0)


def test_nothing_is_released_beside_a_cronjob_that_starts_runs_by_itself() -> None:
    """The job became gated; its CronJob can't be written yet, so near to a slot, and may fire it."""
    scene = chain()
    scene.one_off("10:00")
    scene.change_cronjob(starts_runs=True)
    scene.rest("11:00:01")
    assert scene.status.ongoing is None
    scene.change_cronjob(starts_runs=False)
    scene.rest("11:00:06")
    assert scene.status.ongoing is not None


def test_runs_that_wait_go_when_the_job_becomes_plain() -> None:
    """Kubernetes runs it from now on."""
    scene = chain()
    run = scene.claimed(scene.one_off("10:00"))
    scene.edit(backfill=None)
    scene.rollout()
    assert scene.take("10:30").discard == (run,)
    scene.remove(run, by_operator=True)
    scene.take("10:30")
    assert scene.status.ongoing is None


def test_deciding_changes_nothing() -> None:
    """It is a function: the same again and again."""
    scene = chain()
    scene.one_off("10:00")
    scene.native("12:00")
    first = decide(scene.job, scene.seen, at("12:30"))
    assert decide(scene.job, scene.seen, at("12:30")) == first
    assert {run.kind for run in scene.runs.values()} == {RunKind.NATIVE, RunKind.ONE_OFF}
