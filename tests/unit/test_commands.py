"""Commands by annotation: each done once, wherever the operator is killed; bad values change nothing. Tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crontabber_operator.commands import (
    COMMAND_ID,
    DONE,
    PENDING,
    BadValueError,
    Step,
    next_step,
    parse_mark,
    parse_reset,
    parse_run_now,
    run_now_name,
)
from crontabber_operator.models import CommandRecord, LastError, Status
from tests.unit.backfill_scene import NAME, Scene, at, clock

MARK = "crontabber.dev/mark-success"
RESET, RUN_NOW = "crontabber.dev/reset", "crontabber.dev/run-now"


def gated() -> Scene:
    """A backfill job that last succeeded at 10:00."""
    scene = Scene(frequency="1h", backfill=True, fired="10:00")
    scene.status = Status(settled_through=at("10:00"), last_success_time=at("10:00"))
    return scene


class Kubectl:
    """Give commands, and do each step as the operator does."""

    def __init__(self, scene: Scene, **annotations: str) -> None:
        self.scene = scene
        self.annotations = {
            f"crontabber.dev/{key.replace('_', '-')}": value for key, value in annotations.items()
        }
        self.version = 1
        self.done: list[str] = []
        self.made: list[Any] = []

    def step(self, now: str) -> Step | None:
        """Ask for the next step."""
        job = replace(self.scene.job, resource_version=str(self.version))
        return next_step(job, self.annotations, self.scene.seen, at(now))

    def do(self, step: Step) -> None:
        """Carry out a step."""
        if step.discard is not None:
            self.scene.remove(step.discard, by_operator=True)
            return
        for name in step.remove:
            del self.annotations[name]
        if step.run_now is not None:
            self.made.append(step.run_now)
        if step.status is not None:
            self.scene.status = Status.read(step.status.write())
        if step.done is not None:
            self.done.append(step.done.name)
        self.version += 1

    def finish(self, now: str) -> int:
        """Do all steps; return how many."""
        for number in range(20):
            step = self.step(now)
            if step is None:
                return number
            self.do(step)
        raise AssertionError("commands that find no end")


# --- Values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("", "12:30"),
        ("now", "12:30"),
        (" now ", "12:30"),
        ("2026-06-03T08:00:00Z", "08:00"),
        ("2026-06-03T08:00Z", "08:00"),
        ("2026-06-03 08:00Z", "08:00"),
        ("2026-06-03T10:00:00+02:00", "08:00"),
        ("2026-06-03t10:00+02:00", "08:00"),
        ("2026-06-03T08:00:00.999Z", "08:00"),
        ("2026-06-03T12:30:02Z", "12:30:02"),
    ],
)
def test_mark_success_takes_now_or_a_time_in_the_past(value: str, time: str) -> None:
    """RFC 3339, seconds may be missing; two seconds ahead is a clock's tolerance."""
    assert clock(parse_mark(value, at("12:30:00.7"))) == time


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "NOW",
        "2026-06-03",
        "2026-06-03T08:00:00",
        "2026-02-30T08:00:00Z",
        "08:00",
        "1780000000",
        "x" * 5000,
    ],
)
def test_mark_success_says_what_it_takes(value: str) -> None:
    """With an example, and the value that was given, cut."""
    with pytest.raises(
        BadValueError, match=r"takes 'now' or an RFC 3339 time such as 2026-11-24T08:00:00Z"
    ) as error:
        parse_mark(value, at("12:30"))
    assert len(str(error.value)) < 250


def test_mark_success_refuses_the_future() -> None:
    """A slot that was not due can't have succeeded."""
    with pytest.raises(BadValueError, match="in the future"):
        parse_mark("2026-06-03T12:30:03Z", at("12:30"))


@pytest.mark.parametrize(
    ("value", "args"),
    [
        ("", ()),
        ("--dry-run --day='24 Nov'", ("--dry-run", "--day=24 Nov")),
        ("$(rm -rf /) `x` $HOME ; | &", ("$(rm", "-rf", "/)", "`x`", "$HOME", ";", "|", "&")),
        ("''", ("",)),
    ],
)
def test_run_now_takes_arguments_in_shell_quoting(value: str, args: tuple[str, ...]) -> None:
    """No shell ever sees them."""
    assert parse_run_now(value) == args


@pytest.mark.parametrize("value", ["'", '"open', "a\0b", "x" * 1025])
def test_run_now_says_what_it_takes(value: str) -> None:
    """Quotes that are not closed, NUL, and what is too long."""
    with pytest.raises(BadValueError, match="run-now takes"):
        parse_run_now(value)


def test_reset_takes_no_value() -> None:
    """So that `reset=now` isn't mistaken for a mark."""
    parse_reset(" ")
    with pytest.raises(BadValueError, match="takes no value"):
        parse_reset("now")


# --- Done once ------------------------------------------------------------------------------------------


def test_a_command_is_recorded_then_its_annotation_removed_then_it_is_done() -> None:
    """In this order, each a write of its own."""
    kubectl = Kubectl(gated(), mark_success="2026-06-03T08:00Z")
    first = kubectl.step("12:30")
    assert first is not None
    assert first.status is not None
    assert [record.result for record in first.status.last_commands] == [PENDING]
    assert clock(first.status.settled_through) == "10:00"
    kubectl.do(first)
    second = kubectl.step("12:30")
    assert second is not None
    assert (second.remove, second.status) == ((MARK,), None)
    kubectl.do(second)
    third = kubectl.step("12:30")
    assert third is not None
    kubectl.do(third)
    assert clock(kubectl.scene.status.settled_through) == "08:00"
    assert clock(kubectl.scene.status.last_success_time) == "08:00"
    (record,) = kubectl.scene.status.last_commands
    assert (record.name, record.value, record.result, record.time) == (
        "mark-success",
        "2026-06-03T08:00Z",
        DONE,
        at("12:30"),
    )
    assert kubectl.step("12:31") is None


@pytest.mark.parametrize("killed_after", [0, 1, 2, 3])
@pytest.mark.parametrize("command", ["mark_success", "reset", "run_now"])
def test_a_command_is_done_once_wherever_the_operator_is_killed(command: str, killed_after: int) -> None:
    """All that is known is what was written; the one that follows begins anew."""
    kubectl = Kubectl(gated(), **{command: ""})
    for _ in range(killed_after):
        step = kubectl.step("12:30")
        if step is not None:
            kubectl.do(step)
    kubectl.finish("12:40")
    kubectl.finish("12:50")
    assert kubectl.done == [command.replace("_", "-")]
    assert len(kubectl.scene.status.last_commands) == 1
    assert kubectl.annotations == {}


def test_a_command_counts_as_of_when_it_was_given() -> None:
    """However long the operator was down between taking and doing it."""
    kubectl = Kubectl(gated(), mark_success="now")
    step = kubectl.step("12:30")
    assert step is not None
    kubectl.do(step)
    kubectl.finish("15:30")
    assert clock(kubectl.scene.status.settled_through) == "12:30"


def test_a_run_now_whose_job_was_made_before_a_crash_is_the_same_again() -> None:
    """Its name and its run time are those of the command."""
    kubectl = Kubectl(gated(), run_now="--all")
    for _ in range(2):
        step = kubectl.step("12:30")
        assert step is not None
        kubectl.do(step)
    first, again = kubectl.step("12:30"), kubectl.step("12:45")
    assert first is not None
    assert again is not None
    assert first.run_now == again.run_now
    assert first.run_now is not None
    assert (first.run_now.extra_args, first.run_now.run_time) == (("--all",), at("12:30"))


def test_the_same_command_works_again() -> None:
    """Its annotation was removed."""
    kubectl = Kubectl(gated(), mark_success="now")
    kubectl.finish("12:30")
    kubectl.annotations[MARK] = "now"
    kubectl.finish("13:30")
    assert kubectl.done == ["mark-success", "mark-success"]
    assert clock(kubectl.scene.status.settled_through) == "13:30"
    assert [clock(record.time) for record in kubectl.scene.status.last_commands] == ["13:30", "12:30"]


def test_a_command_whose_annotation_is_left_after_a_crash_is_taken_once() -> None:
    """It is pending already: only the annotation is to be removed; a very long value is known again, too."""
    kubectl = Kubectl(gated(), mark_success="x" * 9000)
    step = kubectl.step("12:30")
    assert step is not None
    kubectl.do(step)
    step = kubectl.step("12:31")
    assert step is not None
    assert (step.status, step.remove) == (None, (MARK,))


def test_another_value_given_meanwhile_is_another_command() -> None:
    """Both are done, the newer after the older."""
    kubectl = Kubectl(gated(), mark_success="2026-06-03T08:00Z")
    step = kubectl.step("12:30")
    assert step is not None
    kubectl.do(step)
    kubectl.annotations[MARK] = "2026-06-03T09:00Z"
    kubectl.finish("12:31")
    assert kubectl.done == ["mark-success", "mark-success"]
    assert clock(kubectl.scene.status.settled_through) == "09:00"


@pytest.mark.parametrize("name", ["mark-success", "reset", "run-now"])
def test_a_command_with_an_id_that_was_done_is_not_done_again(name: str) -> None:
    """Also by another value; the same id is another command's where the name is another."""
    kubectl = Kubectl(gated(), **{name: "", "command_id": "deploy-7"})
    kubectl.finish("12:30")
    kubectl.annotations = {f"crontabber.dev/{name}": "", COMMAND_ID: "deploy-7"}
    kubectl.finish("12:40")
    assert kubectl.done == [name]
    assert kubectl.annotations == {}
    other = "reset" if name != "reset" else "mark-success"
    kubectl.annotations = {f"crontabber.dev/{other}": "", COMMAND_ID: "deploy-7"}
    kubectl.finish("12:50")
    assert kubectl.done == [name, other]


def test_a_command_with_a_very_long_id_is_not_done_again() -> None:
    """The status has room for its beginning only; an id that ends otherwise is another one all the same."""
    command_id = "deploy-" + 5000 * "7"
    kubectl = Kubectl(gated(), reset="", command_id=command_id)
    kubectl.finish("12:30")
    for given in (command_id, command_id, command_id[:-1] + "8"):
        kubectl.annotations = {RESET: "", COMMAND_ID: given}
        kubectl.finish("12:40")
    assert kubectl.done == ["reset", "reset"]
    assert all(len(record.id) <= 256 for record in kubectl.scene.status.last_commands)


def test_a_value_given_while_the_command_without_one_is_pending_is_another_command() -> None:
    """It is not taken for what is left of the first."""
    kubectl = Kubectl(gated(), run_now="")
    step = kubectl.step("12:30")
    assert step is not None
    kubectl.do(step)
    kubectl.annotations[RUN_NOW] = "--all"
    kubectl.finish("12:31")
    assert kubectl.done == ["run-now", "run-now"]
    values = [record.value for record in kubectl.scene.status.last_commands]
    assert values == ["--all", ""]


def test_an_id_alone_is_no_command() -> None:
    """It waits for one."""
    kubectl = Kubectl(gated(), command_id="deploy-7")
    assert kubectl.step("12:30") is None


def test_several_commands_are_done_in_their_order() -> None:
    """Reset, mark-success, run-now, however they were given."""
    kubectl = Kubectl(gated(), run_now="", mark_success="2026-06-03T08:00Z", reset="")
    kubectl.finish("12:30")
    assert kubectl.done == ["reset", "mark-success", "run-now"]
    assert clock(kubectl.scene.status.settled_through) == "08:00"


def test_a_command_that_was_given_first_is_done_first() -> None:
    """A reset forgets a mark that was given before it, also where the operator had no time for the mark until then."""
    kubectl = Kubectl(gated(), mark_success="2026-06-03T08:00Z")
    for _ in range(2):
        step = kubectl.step("12:30")
        assert step is not None
        kubectl.do(step)
    assert kubectl.annotations == {}
    kubectl.annotations[RESET] = ""
    kubectl.finish("12:31")
    assert kubectl.done == ["mark-success", "reset"]
    assert kubectl.scene.status.last_success_time is None
    assert clock(kubectl.scene.status.settled_through) == "12:31"


def test_the_newest_ten_commands_are_kept() -> None:
    """Newest first."""
    kubectl = Kubectl(gated())
    for number in range(12):
        kubectl.annotations[MARK] = f"2026-06-03T08:{number:02}:00Z"
        kubectl.finish("12:30")
    values = [record.value[14:16] for record in kubectl.scene.status.last_commands]
    assert values == [f"{number:02}" for number in range(11, 1, -1)]


# --- Effects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value"),
    [("mark_success", "soon"), ("mark_success", "2099-01-01T00:00:00Z"), ("reset", "now"), ("run_now", "'")],
)
def test_a_bad_value_changes_nothing_but_is_told(annotation: str, value: str) -> None:
    """What is accepted is the record's result."""
    kubectl = Kubectl(gated(), **{annotation: value})
    before = kubectl.scene.status
    kubectl.finish("12:30")
    (record,) = kubectl.scene.status.last_commands
    assert record.result.startswith("Refused: ")
    assert "takes" in record.result
    assert replace(kubectl.scene.status, last_commands=()) == before
    assert kubectl.made == []


def test_a_mark_clears_the_error_and_drops_the_claim_of_a_running_run() -> None:
    """The run is left to end and does not count."""
    scene = gated()
    scene.claimed(scene.one_off("11:00"), released="11:01")
    scene.status = replace(scene.status, error_count=3, last_error=LastError(type="E"))
    kubectl = Kubectl(scene, mark_success="now")
    kubectl.finish("12:30")
    assert (scene.status.ongoing, scene.status.error_count, scene.status.last_error) == (None, 0, None)
    assert len(scene.runs) == 1


def test_a_reset_forgets_all() -> None:
    """As if never run; earlier slots are not run."""
    scene = gated()
    kubectl = Kubectl(scene, reset="")
    kubectl.finish("12:30")
    assert (scene.status.last_success_time, scene.status.settled_through) == (None, at("12:30"))
    assert not scene.decide("12:30:30").create


@pytest.mark.parametrize("command", ["mark_success", "reset"])
@pytest.mark.parametrize("plain", [False, True], ids=["gated", "became plain"])
def test_a_claimed_run_that_was_not_released_goes_before_its_claim(command: str, plain: bool) -> None:
    """So that nobody who still believes in the claim can release it."""
    scene = gated()
    run = scene.claimed(scene.one_off("11:00"))
    if plain:
        scene.edit(backfill=None)
    kubectl = Kubectl(scene, **{command: ""})
    for _ in range(2):
        step = kubectl.step("12:30")
        assert step is not None
        kubectl.do(step)
    step = kubectl.step("12:30")
    assert step is not None
    assert (step.discard, step.status) == (run, None)
    kubectl.do(step)
    kubectl.finish("12:30")
    assert scene.status.ongoing is None
    assert kubectl.done == [command.replace("_", "-")]


def test_a_claimed_run_that_is_not_seen_is_looked_up_first() -> None:
    """It may wait for its release: decide() asks for it; known gone, the mark is done."""
    scene = gated()
    run = scene.claimed(scene.one_off("11:00"))
    del scene.runs[run.uid]
    kubectl = Kubectl(scene, mark_success="now")
    assert kubectl.finish("12:30") == 2
    assert scene.decide("12:30").confirm_gone == run.uid
    scene.gone.add(run.uid)
    kubectl.finish("12:30")
    assert kubectl.done == ["mark-success"]


def test_a_mark_beside_a_foreign_cronjob_is_done_all_the_same() -> None:
    """Nobody looks up a claimed run then."""
    scene = gated()
    run = scene.claimed(scene.one_off("11:00"))
    del scene.runs[run.uid]
    scene.change_cronjob(ours=False)
    kubectl = Kubectl(scene, mark_success="now")
    kubectl.finish("12:30")
    assert kubectl.done == ["mark-success"]


def test_a_mark_now_is_not_before_what_the_api_server_shows() -> None:
    """The operator's clock is behind: slots that were due at the mark must not be missed afterwards."""
    scene = gated()
    scene.manual("12:30", released=True, finished="12:30", succeeded=True)
    kubectl = Kubectl(scene, mark_success="now")
    kubectl.finish("12:20")
    assert clock(scene.status.settled_through) == "12:30"


def test_commands_work_on_a_suspended_job() -> None:
    """And on one whose retries are used up."""
    scene = Scene(frequency="1h", backfill=True, suspend=True)
    kubectl = Kubectl(scene, run_now="", mark_success="now")
    kubectl.finish("12:30")
    assert kubectl.done == ["mark-success", "run-now"]


# --- Names ----------------------------------------------------------------------------------------------


def test_the_name_of_a_run_now_is_the_commands() -> None:
    """It fits into a Job's name, with the longest name of a job."""
    assert run_now_name(NAME, "7-run-now") == run_now_name(NAME, "7-run-now")
    assert run_now_name(NAME, "7-run-now") != run_now_name(NAME, "8-run-now")
    assert len(run_now_name("n" * 48, "x" * 2048)) <= 63


def test_a_record_without_a_time_counts_as_of_now() -> None:
    """Somebody edited the status."""
    scene = gated()
    scene.status = replace(
        scene.status, last_commands=(CommandRecord(id="1", name="mark-success", value="now", result=PENDING),)
    )
    kubectl = Kubectl(scene)
    kubectl.finish("12:30")
    assert scene.status.settled_through == at("12:30")
