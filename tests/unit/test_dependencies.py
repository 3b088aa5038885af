"""Order between jobs: what a slot waits for, and what no waiting mends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crontabber_operator.dependencies import problem, waits_for
from crontabber_operator.models import Spec, Status
from crontabber_operator.observed import Job

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
    assert waits_for(job("b", "a"), slot, {"a": job("a", settled=settled)}) == expected


def test_slots_from_before_a_dependency_was_made_do_not_count() -> None:
    """A dependency made at noon never has to run the slots of the morning."""
    late = job("a", made=at("12:00"))
    assert waits_for(job("b", "a"), at("09:00"), {"a": late}) is None
    assert waits_for(job("b", "a"), at("13:00"), {"a": late}) is not None


def test_all_that_it_waits_for_is_told() -> None:
    """A person on call should not have to ask twice."""
    others = {"a": job("a", settled=at("07:00")), "d": job("d", settled=at("09:00"))}
    told = waits_for(job("c", "a", "d", "x"), at("08:00"), others)
    assert told == "it waits for slot 2026-11-24T08:00Z of a and for x, which does not exist."


def test_a_missing_dependency_is_a_problem() -> None:
    """Its name is told."""
    found = problem(job("b", "a"), {})
    assert found is not None
    assert found[0] == "DependencyMissing"
    assert "CrontabberJob a " in found[1]


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
    assert found[0] == "DependencyCycle"
    assert path in found[1]


def test_a_circle_that_a_job_only_leads_to_is_not_its_own_problem() -> None:
    """It waits; those in the circle are told."""
    jobs = {"x": job("x", "a"), "a": job("a", "b"), "b": job("b", "a")}
    assert problem(jobs["x"], jobs) is None
    assert problem(jobs["a"], jobs) is not None


def test_many_ways_to_one_job_are_no_circle() -> None:
    """A diamond is looked through once."""
    jobs = {"a": job("a", "b", "c"), "b": job("b", "d"), "c": job("c", "d"), "d": job("d")}
    assert problem(jobs["a"], jobs) is None
