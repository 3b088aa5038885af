"""Order between jobs: what a slot waits for, and what no waiting mends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator.dependencies import CYCLE, MISSING, WAITING, Dependents, hold, problem, waits_for
from crontabber_operator.models import LastError, Spec, Status
from crontabber_operator.observed import Hold, Job

MADE = datetime(2026, 11, 20, tzinfo=UTC)


def job(
    name: str, *needs: str, settled: datetime | None = None, frequency: str = "1h", made: datetime = MADE
) -> Job:
    """A job that depends on others and has settled its slots so far."""
    raw = {"command": "x", "frequency": frequency, "dependsOn": [{"name": need} for need in needs]}
    return Job(
        namespace="default",
        name=name,
        uid=name,
        resource_version="1",
        generation=1,
        created=made,
        spec=Spec.read(raw),
        status=Status(settled_through=settled),
    )


def at(text: str) -> datetime:
    """A time of 24 November."""
    return datetime.fromisoformat(f"2026-11-24T{text}:00+00:00")


@pytest.mark.parametrize(
    ("settled", "slot", "expected"),
    [
        (at("08:00"), at("08:00"), None),
        (at("09:00"), at("08:00"), None),
        (at("08:00"), at("08:59"), None),
        (at("07:00"), at("08:00"), "it waits for slot 2026-11-24T08:00Z of a."),
        (at("07:00"), at("08:59"), "it waits for slot 2026-11-24T08:00Z of a."),
        (None, at("08:00"), "it waits for slot 2026-11-24T08:00Z of a."),
    ],
)
def test_a_slot_waits_for_the_newest_slot_before_it(
    settled: datetime | None, slot: datetime, expected: str | None
) -> None:
    """The dependency's own newest slot at or before it has to be settled; later ones don't matter."""
    told = waits_for(job("b", "a"), slot, {"a": job("a", settled=settled)})
    assert told == (Hold(WAITING, expected) if expected is not None else None)


def test_slots_from_before_a_dependency_was_made_do_not_count() -> None:
    """A dependency made at noon never has to run the slots of the morning."""
    late = job("a", made=at("12:00"))
    assert waits_for(job("b", "a"), at("09:00"), {"a": late}) is None
    assert waits_for(job("b", "a"), at("13:00"), {"a": late}) is not None


def test_all_that_it_waits_for_is_told() -> None:
    """A person on call should not have to ask twice."""
    others = {"a": job("a", settled=at("07:00")), "d": job("d", settled=at("09:00"))}
    told = waits_for(job("c", "a", "d", "x"), at("08:00"), others)
    assert told is not None
    assert told.message == (
        "it waits for slot 2026-11-24T08:00Z of a and for x, which does not exist or can't run."
    )


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({"error_count": 1, "last_error": LastError(type="X", slot=at("08:00"))}, True),
        ({"error_count": 1, "last_error": LastError(type="X", slot=at("07:00"))}, False),
        (
            {
                "error_count": 1,
                "last_error": LastError(type="X", slot=at("09:00")),
                "last_success_time": at("08:00"),
            },
            False,
        ),
        ({"error_count": 0, "last_error": LastError(type="X", slot=at("08:00"))}, False),
        ({"error_count": 1}, False),
    ],
    ids=["given up", "an older one", "it succeeded, the next one fails", "healed", "hand-written"],
)
def test_a_slot_that_was_given_up_does_not_count(changes: dict[str, Any], waits: bool) -> None:
    """A plain job with a retryLimit gives its slot up: what depends on it waits for the next success."""
    dependency = job("a", settled=at("08:00"))
    dependency = replace(dependency, status=replace(dependency.status, **changes))
    assert (waits_for(job("b", "a"), at("08:30"), {"a": dependency}) is not None) is waits


def test_nothing_starts_in_a_circle() -> None:
    """Not even a slot from before the others were made, which they never have to run."""
    jobs = {"a": job("a", "b"), "b": job("b", "a", made=at("12:00"))}
    slot = at("09:00")
    assert waits_for(jobs["a"], slot, jobs) is None
    told = hold(jobs["a"], slot, jobs, problem(jobs["a"], jobs))
    assert told is not None
    assert told.reason == CYCLE


def test_a_missing_dependency_is_a_problem() -> None:
    """Its name is told."""
    found = problem(job("b", "a"), {})
    assert found is not None
    assert (found.reason, found.stalled) == (MISSING, False)
    assert "CrontabberJob a " in found.message


@pytest.mark.parametrize(
    ("needs", "of", "path"),
    [
        ({"a": ["b"], "b": ["a"]}, "a", "a → b → a"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "b", "b → c → a → b"),
        ({"a": ["b", "c"], "b": [], "c": ["d"], "d": ["a"]}, "a", "a → c → d → a"),
    ],
)
def test_a_circle_is_told_with_its_way(needs: dict[str, list[str]], of: str, path: str) -> None:
    """Which link to cut, a person decides."""
    jobs = {name: job(name, *others) for name, others in needs.items()}
    found = problem(jobs[of], jobs)
    assert found is not None
    assert (found.reason, found.stalled) == (CYCLE, True)
    assert path in found.message


def test_a_circle_that_a_job_only_leads_to_is_not_its_own_problem() -> None:
    """It waits; those in the circle are told."""
    jobs = {"x": job("x", "a"), "a": job("a", "b"), "b": job("b", "a")}
    assert problem(jobs["x"], jobs) is None
    assert problem(jobs["a"], jobs) is not None


def test_many_ways_to_one_job_are_no_circle() -> None:
    """A diamond is looked through once."""
    jobs = {"a": job("a", "b", "c"), "b": job("b", "d"), "c": job("c", "d"), "d": job("d")}
    assert problem(jobs["a"], jobs) is None


# --- Whom it concerns -------------------------------------------------------------------------------------


def test_who_depends_on_a_job_is_known_by_name() -> None:
    """Whether the job exists or not; who doesn't depend on it any more is not told."""
    dependents = Dependents[str]()
    dependents.put("b", ["a", "x"])
    dependents.put("c", ["b"])
    assert dependents.of("a") == {"b"}
    assert dependents.of("x") == {"b"}
    assert dependents.behind("a") == {"b", "c"}
    dependents.put("b", ["a"])
    assert dependents.of("x") == frozenset()
    dependents.put("b", ())
    assert dependents.behind("a") == frozenset()


def test_in_a_circle_all_others_are_behind() -> None:
    """Cutting one link heals all of them."""
    dependents = Dependents[str]()
    for name, need in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "d")):
        dependents.put(name, [need])
    assert dependents.behind("a") == {"b", "c"}
    assert dependents.behind("d") == frozenset()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.frozensets(st.sampled_from("abcd"))), max_size=12))
def test_both_directions_say_the_same(edits: list[tuple[str, frozenset[str]]]) -> None:
    """However specs are edited."""
    dependents = Dependents[str]()
    needs: dict[str, frozenset[str]] = {}
    for name, wanted in edits:
        dependents.put(name, wanted)
        needs[name] = wanted
    for name in "abcd":
        assert dependents.of(name) == {one for one, wanted in needs.items() if name in wanted}
