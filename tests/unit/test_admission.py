"""Who may start next where only so many runs may go on at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crontabber_operator.admission import (
    WAITING_FOR_GROUP,
    WAITING_FOR_LIMIT,
    Admission,
    Waiting,
    keeps_waiting,
    may_start,
    occupies,
)
from crontabber_operator.models import Ongoing, Spec, Status
from crontabber_operator.observed import Run, RunKind

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(minutes: int) -> datetime:
    """A slot so many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def waiting(text: str) -> list[Waiting[str]]:
    """Read `a9 b1:x`: who waits with which slot, in which group."""
    line = []
    for word in text.split():
        who, _, group = word.partition(":")
        line.append(Waiting(at(int(who[1:])), who[0], group or None))
    return sorted(line)


def running(text: str) -> dict[str, str | None]:
    """Read `a b:x`: who runs, in which group."""
    return {word[0]: word[2:] or None for word in text.split()}


# --- The rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "runs", "limit", "free"),
    [
        ("a9 b1 c5", "", None, "bca"),
        ("a9 b1 c5", "", 2, "bc"),
        ("a9 b1 c5", "x", 2, "b"),
        ("a9 b1 c5", "x y", 2, ""),
        ("a9 b1 c5", "x y z", 2, ""),
        ("a9:g b1:g c5:h", "", None, "bc"),
        ("a9:g b1:g c5:h", "x:g", None, "c"),
        ("a9:g b1:g c5", "x:h y", 3, "b"),
        ("b1:g c5", "x:g", 2, "c"),
        ("a1 b1", "", 1, "a"),
        ("", "x", 1, ""),
    ],
)
def test_the_oldest_slots_go_first_and_a_taken_group_holds_up_nobody_else(
    line: str, runs: str, limit: int | None, free: str
) -> None:
    """One of a group at a time, and not more than the limit in all; equal slots go by name."""
    assert "".join(may_start(waiting(line), running(runs), limit)) == free


@pytest.mark.parametrize(
    ("one", "line", "runs", "limit", "reason"),
    [
        ("a5:g", "", "", None, None),
        ("a5:g", "a5:g", "a:g", None, None),
        ("a5:g", "", "x:h", None, None),
        ("a5:g", "", "x:g", None, WAITING_FOR_GROUP),
        ("a5:g", "b9:g", "", None, None),
        ("a5:g", "b1:g", "", None, WAITING_FOR_GROUP),
        ("a5", "", "x", 1, WAITING_FOR_LIMIT),
        ("a5", "b1", "", 1, WAITING_FOR_LIMIT),
        ("a5", "b1", "", 2, None),
        ("a5", "b1:g", "x:g", 2, None),
        ("a5:g", "b1:g", "x:g y z", 3, WAITING_FOR_GROUP),
    ],
)
def test_why_a_job_keeps_waiting_is_told(
    one: str, line: str, runs: str, limit: int | None, reason: str | None
) -> None:
    """For its group, or for the limit."""
    hold = keeps_waiting(waiting(one)[0], waiting(line), running(runs), limit)
    assert (hold.reason if hold is not None else None) == reason
    assert hold is None or hold.is_turn


def test_what_is_told_stays_true_whoever_is_in_the_way() -> None:
    """Otherwise each run that ends would be a write into the status of each job that waits."""
    one = waiting("a5:g")[0]
    told = {
        keeps_waiting(one, waiting(line), running(runs), None)
        for line, runs in [("", "x:g"), ("", "y:g"), ("b1:g", ""), ("b1:g c2:g", "x:g")]
    }
    (hold,) = told
    assert hold is not None
    assert hold.message == (
        "it waits for its turn: of concurrencyGroup g one run goes on at a time, the oldest slot first."
    )


def run(**changes: Any) -> Run:
    """Build a Job that was released."""
    fields: dict[str, Any] = {
        "name": "job-1",
        "uid": "1",
        "resource_version": "1",
        "kind": RunKind.ONE_OFF,
        "slot": NOON,
        "through": NOON,
        "attempt": 1,
        "template_hash": "t",
        "created": NOON,
        "suspended": False,
        "released": True,
        **changes,
    }
    return Run(**fields)


GATED = Spec.read({"command": "x", "frequency": "1h", "backfill": True})
PLAIN = Spec.read({"command": "x", "frequency": "1h"})
CLAIM = Status(ongoing=Ongoing(slot=NOON, through=NOON, job="job-1", uid="1"))
NATIVE = {"kind": RunKind.NATIVE, "attempt": 0}


@pytest.mark.parametrize(
    ("spec", "status", "runs", "expected"),
    [
        (GATED, Status(), (), False),
        (GATED, CLAIM, (), True),
        (GATED, CLAIM, (run(suspended=True, released=False),), True),
        (GATED, Status(), (run(suspended=True, released=False),), False),
        (GATED, Status(), (run(),), True),
        (GATED, Status(), (run(suspended=True),), True),
        (GATED, Status(), (run(finished=NOON),), False),
        (GATED, Status(), (run(kind=RunKind.MANUAL),), False),
        (PLAIN, Status(), (run(**NATIVE, active=True),), True),
        (PLAIN, CLAIM, (run(**NATIVE, active=True, failed_pods=1),), True),
        (PLAIN, CLAIM, (run(**NATIVE, failed_pods=1),), False),
        (PLAIN, CLAIM, (), False),
    ],
    ids=[
        "nothing",
        "claimed, not seen",
        "claimed, not released",
        "not claimed, not released",
        "runs, marked meanwhile",
        "suspended by hand",
        "ended",
        "run-now",
        "plain",
        "plain, a further attempt",
        "plain, between attempts",
        "plain, gone",
    ],
)
def test_a_run_has_its_place_from_its_claim_to_its_end(
    spec: Spec, status: Status, runs: tuple[Run, ...], expected: bool
) -> None:
    """Read from what exists, so it is right after a restart; one that only waits for Kubernetes has none."""
    assert occupies(spec, status, runs) is expected


# --- The line ---------------------------------------------------------------------------------------------


def test_who_was_let_in_has_its_place_before_its_claim_is_seen() -> None:
    """Between the decision and its write others decide."""
    line = Admission[str](None)
    a, b = waiting("a1:g b2:g")
    line.asks(a, {})
    assert line.keeps_waiting(a, {}) is None
    line.asks(b, {})
    assert line.keeps_waiting(b, {}) is not None
    line.has_started("a")
    assert line.invite({}) == {"b"}, "no claim came of it"


def test_who_was_let_in_has_no_place_in_another_group() -> None:
    """Its spec was edited in that moment."""
    line = Admission[str](None)
    line.asks(waiting("a1:g")[0], {})
    assert line.keeps_waiting(waiting("a1:h")[0], running("x:h")) is not None


def test_each_who_may_start_is_woken_once() -> None:
    """Until it has asked: otherwise two that both may would wake each other for ever."""
    line = Admission[str](2)
    for one in waiting("a1 b2 c3"):
        line.asks(one, running("x y"))
    assert line.invite(running("x y")) == set()
    assert line.invite({}) == {"a", "b"}
    assert line.invite({}) == set()
    assert line.invite(running("x")) == set()


def test_who_was_woken_and_refused_is_woken_again() -> None:
    """Another one with an older slot came first."""
    line = Admission[str](1)
    young, old = waiting("a9")[0], waiting("b1")[0]
    line.asks(young, running("x"))
    assert line.invite({}) == {"a"}
    line.asks(old, {})
    line.asks(young, {})
    assert line.waits("a") == young
    line.has_started("b")
    assert line.invite(running("b")) == set()
    assert line.invite({}) == {"a"}


def test_one_who_gives_up_waiting_lets_the_next_one_in() -> None:
    """A suspended or deleted job must not hold its place in the line."""
    line = Admission[str](None)
    old, young = waiting("a1:g b9:g")
    line.asks(old, running("x:g"))
    line.asks(young, running("x:g"))
    line.leaves("a")
    assert line.invite({}) == {"b"}
    line.asks(young, {})
    assert line.waits("b") is None


def test_one_who_is_expected_to_ask_is_not_passed_by() -> None:
    """After a restart nobody has asked yet."""
    line = Admission[str](None)
    old, young = waiting("a1:g b9:g")
    line.expects(old)
    line.asks(young, {})
    assert line.waits("b") == young
    line.asks(old, {})
    assert line.waits("a") is None


def test_asking_with_another_slot_changes_the_place_in_the_line() -> None:
    """A mark or a skip moves the slot that is due."""
    line = Admission[str](1)
    for one in waiting("a1 b5"):
        line.asks(one, running("x"))
    line.asks(waiting("a9")[0], running("x"))
    assert line.invite({}) == {"b"}


def test_who_joins_a_group_while_it_waits_goes_on_waiting_for_its_turn() -> None:
    """Its place in the line is from before the edit; that is in nobody's way."""
    line: Admission[str] = Admission(1)
    running = {"other": None}
    line.asks(Waiting(at(0), "job", None), running)
    joined = Waiting(at(0), "job", "g")
    assert line.keeps_waiting(joined, running) is not None
    assert line.keeps_waiting(joined, {}) is None


class Lines(RuleBasedStateMachine):
    """Jobs ask, are let in, claim, end, fail and leave in any order, with restarts between."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Admission[str](2)
        self.running: dict[str, str | None] = {}
        self.starting: dict[str, str | None] = {}
        self.waits: dict[str, Waiting[str]] = {}
        self.woken: set[str] = set()

    def tell(self) -> None:
        """Wake those who may start."""
        self.woken |= self.line.invite(dict(self.running))

    @rule(name=st.sampled_from("abcdef"), group=st.sampled_from([None, "g", "h"]), minutes=st.integers(0, 9))
    def ask(self, name: str, group: str | None, minutes: int) -> None:
        """A job that doesn't run wants to start a slot."""
        if name not in self.running and name not in self.starting:
            self.let_ask(Waiting(at(minutes), name, group))

    @precondition(lambda self: self.woken)
    @rule(data=st.data())
    def ask_when_woken(self, data: st.DataObject) -> None:
        """A job that was woken has its pass."""
        name = data.draw(st.sampled_from(sorted(self.woken)))
        self.woken.discard(name)
        if name in self.waits:
            self.let_ask(self.waits[name])

    def let_ask(self, one: Waiting[str]) -> None:
        """Ask, and note the answer."""
        hold = self.line.keeps_waiting(one, self.running)
        self.line.asks(one, self.running)
        self.waits.pop(one.key, None)
        if hold is None:
            self.starting[one.key] = one.group
        else:
            self.waits[one.key] = one
        self.tell()

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), claims=st.booleans())
    def end_pass(self, data: st.DataObject, claims: bool) -> None:
        """The claim is written, or was refused."""
        name = data.draw(st.sampled_from(sorted(self.starting)))
        group = self.starting.pop(name)
        if claims:
            self.running[name] = group
        self.line.has_started(name)
        self.tell()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end_run(self, data: st.DataObject) -> None:
        """A run ends."""
        del self.running[data.draw(st.sampled_from(sorted(self.running)))]
        self.tell()

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A job that waits is suspended or deleted."""
        name = data.draw(st.sampled_from(sorted(self.waits)))
        del self.waits[name]
        self.line.leaves(name)
        self.tell()

    @rule()
    def restart(self) -> None:
        """Another operator takes over: it knows the claims, and looks at every job."""
        self.line = Admission[str](2)
        self.starting.clear()
        self.woken = set(self.waits)
        for one in self.waits.values():
            self.line.expects(one)

    @invariant()
    def never_more_than_allowed(self) -> None:
        """Neither of a group nor of all."""
        inside = {**self.running, **self.starting}
        assert len(inside) <= 2
        for group in ("g", "h"):
            assert sum(one == group for one in inside.values()) <= 1

    @invariant()
    def who_may_start_is_woken(self) -> None:
        """Nobody waits for a place that is free."""
        free = set(may_start(sorted(self.waits.values()), {**self.running, **self.starting}, 2))
        assert free <= self.woken


TestLines = Lines.TestCase
TestLines.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
