"""Who may start next where only so many runs may go on at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crontabber_operator.admission import Admission, Gate

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
GROUP = Gate("default", "reports", 1)
PAIR = Gate("default", None, 2)


def at(minutes: int) -> datetime:
    """A slot so many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def test_the_first_who_asks_may_start() -> None:
    """Nobody is inside and nobody waits."""
    assert Admission[str]().ask("a", (GROUP,), at(0)) is None


def test_a_taken_gate_is_told_with_the_name_of_who_is_inside() -> None:
    """The reason is for a person on call."""
    admission = Admission[tuple[str, str]]()
    admission.ask(("default", "a"), (GROUP,), at(0))
    assert admission.ask(("default", "b"), (GROUP,), at(0)) == "concurrencyGroup reports is taken by a."


def test_the_oldest_slot_goes_first_whoever_asks_first() -> None:
    """Fairness is by slot, not by luck; who leaves learns whom to wake."""
    admission = Admission[str]()
    admission.ask("running", (GROUP,), at(0))
    assert admission.ask("young", (GROUP,), at(9)) is not None
    assert admission.ask("old", (GROUP,), at(1)) is not None
    assert admission.left("running") == {"old"}
    assert (
        admission.ask("young", (GROUP,), at(9))
        == "concurrencyGroup reports is for an older slot first, of old."
    )
    assert admission.ask("old", (GROUP,), at(1)) is None


def test_one_who_gives_up_waiting_lets_the_next_one_in() -> None:
    """A suspended or deleted job must not hold its place."""
    admission = Admission[str]()
    admission.ask("running", (GROUP,), at(0))
    admission.ask("old", (GROUP,), at(1))
    admission.ask("young", (GROUP,), at(9))
    admission.left("old")
    assert admission.left("running") == {"young"}
    assert admission.ask("young", (GROUP,), at(9)) is None


def test_all_gates_must_be_open() -> None:
    """A group's turn does not help while the namespace is full."""
    admission = Admission[str]()
    admission.entered("x", (PAIR,))
    admission.entered("y", (PAIR,))
    assert admission.ask("a", (GROUP, PAIR), at(0)) == "the namespace's limit of runs is taken by x, y."
    assert admission.ask("b", (GROUP,), at(5)) is not None, "a is older and waits in the group too"
    admission.left("a")
    assert admission.ask("b", (GROUP,), at(5)) is None


def test_a_claim_found_after_a_restart_counts() -> None:
    """What runs is read from the claims."""
    admission = Admission[str]()
    admission.entered("a", (GROUP,))
    assert admission.ask("b", (GROUP,), at(0)) is not None


@pytest.mark.parametrize("times", [1, 3])
def test_asking_again_changes_nothing(times: int) -> None:
    """Each pass of a resource asks anew."""
    admission = Admission[str]()
    for _ in range(times):
        assert admission.ask("a", (GROUP,), at(0)) is None
    assert admission.ask("b", (GROUP,), at(0)) is not None


class Gates(RuleBasedStateMachine):
    """Jobs ask, run and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission[str]()
        self.inside: dict[str, tuple[Gate, ...]] = {}
        self.waiting: dict[str, tuple[tuple[Gate, ...], datetime]] = {}

    @rule(
        name=st.sampled_from("abcdef"),
        gates=st.sampled_from([(GROUP,), (PAIR,), (GROUP, PAIR)]),
        minutes=st.integers(0, 9),
    )
    def ask(self, name: str, gates: tuple[Gate, ...], minutes: int) -> None:
        """A job that doesn't run asks to start a slot."""
        if name in self.inside:
            return
        if self.admission.ask(name, gates, at(minutes)) is None:
            self.inside[name] = gates
            self.waiting.pop(name, None)
        else:
            self.waiting[name] = gates, at(minutes)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A run ends."""
        name = data.draw(st.sampled_from(sorted(self.inside)))
        del self.inside[name]
        self.admission.left(name)

    @precondition(lambda self: self.waiting)
    @rule()
    def nobody_starves(self) -> None:
        """When everybody inside has left, the one with the oldest slot of all gets in."""
        for name in list(self.inside):
            del self.inside[name]
            self.admission.left(name)
        oldest = min(self.waiting, key=lambda name: (self.waiting[name][1], name))
        gates, slot = self.waiting.pop(oldest)
        assert self.admission.ask(oldest, gates, slot) is None
        self.inside[oldest] = gates

    @invariant()
    def never_more_inside_than_allowed(self) -> None:
        """The limit of each gate holds."""
        for gate in (GROUP, PAIR):
            assert sum(gate in gates for gates in self.inside.values()) <= gate.limit


TestGates = Gates.TestCase
TestGates.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
