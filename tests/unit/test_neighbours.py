"""What a job has to do with the others of its namespace: whom it waits for, and whom to wake when it changes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from crontabber_operator.decision import Decision
from crontabber_operator.neighbours import JobsOfNamespace, Neighbours
from crontabber_operator.observed import Hold
from crontabber_operator.store import Key, Store

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
SPACE = "space"


def at(text: str) -> datetime:
    """A time of 24 November."""
    return datetime.fromisoformat(f"2026-11-24T{text}:00+00:00")


class Space:
    """A namespace, and what one operator knows of it."""

    def __init__(self, limit: int | None = None) -> None:
        self.store = Store()
        self.neighbours = Neighbours(self.store, limit, lambda: NOW)
        self._limit = limit
        self._versions = itertools.count(1)
        self._generations: dict[str, tuple[Mapping[str, Any], int]] = {}

    def put(
        self,
        name: str,
        *,
        settled: str = "12:00",
        claimed: bool = False,
        deleting: bool = False,
        created: str = "2026-11-20T00:00:00Z",
        uid: str | None = None,
        status: Mapping[str, Any] | None = None,
        annotations: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Key:
        """The API server shows a CrontabberJob, hourly and with backfill."""
        fields = {"command": "work", "frequency": "1h", "backfill": True, **spec}
        before, generation = self._generations.get(name, (fields, 1))
        generation += before != fields
        self._generations[name] = fields, generation
        shown: dict[str, Any] = {"settledThrough": f"2026-11-24T{settled}:00Z", **(status or {})}
        if claimed:
            slot = {"slot": "2026-11-24T12:00:00Z", "through": "2026-11-24T12:00:00Z"}
            shown["ongoing"] = {**slot, "job": f"{name}-1", "uid": f"{name}-run"}
        metadata = {
            "name": name,
            "namespace": SPACE,
            "uid": uid or f"uid of {name}",
            "resourceVersion": str(next(self._versions)),
            "generation": generation,
            "creationTimestamp": created,
            "annotations": {f"crontabber.dev/{key}": value for key, value in (annotations or {}).items()},
        }
        if deleting:
            metadata["deletionTimestamp"] = created
        return self.store.put_resource({"metadata": metadata, "spec": fields, "status": shown})

    def drop(self, name: str) -> Key:
        """A CrontabberJob is deleted."""
        key = Key(SPACE, name)
        self.store.drop_resource(key, f"uid of {name}")
        return key

    def hold(self, name: str, slot: str) -> Hold | None:
        """Say why a slot may not start."""
        resource = self.store.resource(Key(SPACE, name))
        assert resource is not None
        job = resource.job()
        return self.neighbours.hold(job, self.neighbours.problem(job))(at(slot))

    def look(self, name: str, slot: str | None = None, **after: Any) -> set[str]:
        """Have a pass of a job, in which it wants to start a slot; `after` is what it writes. Return who is woken."""
        key = Key(SPACE, name)
        self.neighbours.begins(key)
        resource = self.store.resource(key)
        if resource is not None and not resource.deleting:
            hold = self.hold(name, slot) if slot is not None else None
            asks = slot is not None and (hold is None or hold.is_turn)
            self.neighbours.decided(resource.job(), Decision(turn=at(slot) if slot and asks else None))
        if after:
            self.put(name, **after)
        return {woken.name for woken in self.neighbours.rests(key)}

    def restarted(self) -> Space:
        """Return the namespace as another operator sees it that starts now."""
        after = Space(self._limit)
        after.store = self.store
        after.neighbours = Neighbours(self.store, self._limit, lambda: NOW)
        after._versions, after._generations = self._versions, self._generations
        return after


# --- dependsOn --------------------------------------------------------------------------------------------

NEEDS_A = {"dependsOn": [{"name": "a"}]}


@pytest.fixture
def chain() -> Space:
    """Return a job c that depends on b, and b on a; each was looked at."""
    space = Space()
    space.put("a", settled="11:00")
    space.put("b", settled="11:00", **NEEDS_A)
    space.put("c", settled="11:00", dependsOn=[{"name": "b"}])
    for name in "abc":
        space.look(name)
    return space


def test_a_dependency_that_moves_on_wakes_those_that_wait_for_it(chain: Space) -> None:
    """And nobody else; once."""
    hold = chain.hold("b", "12:00")
    assert hold is not None
    assert hold.reason == "WaitingForDependency"
    assert chain.look("a", settled="12:00") == {"b"}
    assert chain.hold("b", "12:00") is None
    assert chain.look("a") == set()


@pytest.mark.parametrize(
    "change",
    [
        {"settled": "10:00"},
        {"status": {"settledThrough": None}},
        {"status": {"errorCount": 1, "lastError": {"type": "X", "slot": "2026-11-24T12:00:00Z"}}},
        {"frequency": "2h"},
        {"suspend": True},
    ],
    ids=["marked", "reset", "failed", "edited", "suspended"],
)
def test_whatever_happens_to_a_dependency_is_told(chain: Space, change: dict[str, Any]) -> None:
    """What it means, the one that waits finds out itself."""
    assert chain.look("a", **{"settled": "11:00", **change}) == {"b"}


@pytest.mark.parametrize(
    "change",
    [{"status": {"missed": 7}}, {"claimed": True}, {"status": {"nextRunTime": "2026-11-24T13:00:00Z"}}],
    ids=["counted", "claimed", "planned"],
)
def test_what_concerns_nobody_wakes_nobody(chain: Space, change: dict[str, Any]) -> None:
    """Ten thousand jobs are written to each hour."""
    assert chain.look("a", **{"settled": "11:00", **change}) == set()


@pytest.mark.parametrize("command", ["mark-success", "reset"])
def test_a_command_to_a_dependency_is_waited_for(chain: Space, command: str) -> None:
    """Jobs that are applied together, each with a mark: without it, nothing of the dependency would be due yet."""
    chain.look("a", settled="12:00")
    assert chain.hold("b", "12:00") is None
    assert chain.look("a", settled="12:00", annotations={command: "no such time"}) == {"b"}
    hold = chain.hold("b", "12:00")
    assert hold == Hold(
        "WaitingForDependency", "it waits for a, whose mark-success or reset is still to be done."
    )
    written = {"name": command, "value": "no such time", "id": "1"}
    pending = {"lastCommands": [{**written, "result": "Pending"}]}
    assert chain.look("a", settled="12:00", status=pending) == set()
    assert chain.hold("b", "12:00") == hold
    refused = {"lastCommands": [{**written, "result": "Refused"}]}
    assert chain.look("a", settled="12:00", status=refused) == {"b"}
    assert chain.hold("b", "12:00") is None


def test_a_run_by_hand_holds_nobody_back(chain: Space) -> None:
    """It is outside of the bookkeeping."""
    assert chain.look("a", settled="12:00", annotations={"run-now": ""}) == {"b"}
    assert chain.hold("b", "12:00") is None


def test_a_dependency_that_goes_or_comes_wakes_all_behind_it(chain: Space) -> None:
    """It may open or close a circle."""
    chain.drop("a")
    assert chain.look("a") == {"b", "c"}
    resource = chain.store.resource(Key(SPACE, "b"))
    assert resource is not None
    problem = chain.neighbours.problem(resource.job())
    assert problem is not None
    assert problem.reason == "DependencyMissing"
    chain.put("a", settled="12:00", uid="another")
    assert chain.look("a") == {"b", "c"}
    assert chain.neighbours.problem(resource.job()) is None


def test_a_dependency_that_is_gone_before_it_was_ever_looked_at_is_told() -> None:
    """Its deletion was the first that this operator heard of it."""
    space = Space()
    space.put("a")
    space.put("b", **NEEDS_A)
    space.look("b")
    space.drop("a")
    assert space.look("a") == {"b"}


def test_a_circle_is_seen_and_healed_by_all_in_it(chain: Space) -> None:
    """Cutting any link wakes the others."""
    chain.put("a", settled="11:00", dependsOn=[{"name": "c"}])
    assert chain.look("a") == {"b", "c"}
    for name in "abc":
        hold = chain.hold(name, "12:00")
        assert hold is not None
        assert hold.reason == "DependencyCycle"
    chain.put("b", settled="11:00")
    assert chain.look("b") == {"a", "c"}
    assert chain.hold("b", "12:00") is None


def test_a_job_that_does_not_depend_any_more_is_left_alone(chain: Space) -> None:
    """The other direction follows the spec."""
    chain.put("b", settled="11:00")
    chain.look("b")
    assert chain.look("a", settled="12:00") == set()


def test_what_is_being_deleted_or_invalid_can_not_be_depended_on() -> None:
    """It would be waited for in vain."""
    space = Space()
    space.put("a", deleting=True)
    space.put("b", frequency="7x")
    space.put("c")
    assert dict(JobsOfNamespace(space.store, SPACE)).keys() == {"c"}
    assert dict(JobsOfNamespace(space.store, "elsewhere")) == {}


# --- Turns ------------------------------------------------------------------------------------------------

IN_GROUP = {"concurrencyGroup": "g"}
DUE = {"settled": "11:00", **IN_GROUP}


def test_one_of_a_group_runs_and_the_next_is_woken_when_it_ends() -> None:
    """The oldest slot first."""
    space = Space()
    space.put("a", **DUE)
    space.put("b", **DUE)
    space.put("c", **{**DUE, "settled": "10:00"})
    # The line was filled at the start: c is expected with an older slot.
    assert space.look("a", "12:00") == {"c"}
    assert space.hold("a", "12:00") is not None
    assert space.look("c", "11:00", claimed=True, **{**DUE, "settled": "10:00"}) == set()
    assert space.look("b", "12:00") == set()
    assert space.look("c", **{**DUE, "settled": "12:00"}) == {"a"}
    assert space.look("a", "12:00", claimed=True, **DUE) == set()
    assert space.look("a", **{**DUE, "settled": "12:00"}) == {"b"}


def test_between_decision_and_claim_nobody_else_is_let_in() -> None:
    """Two passes go on at once."""
    space = Space()
    a, b = space.put("a", **DUE), space.put("b", **DUE)
    for key in (a, b):
        space.neighbours.begins(key)
    job = space.store.resource(a)
    assert job is not None
    assert space.hold("a", "12:00") is None
    space.neighbours.decided(job.job(), Decision(turn=at("12:00")))
    assert space.hold("b", "12:00") is not None
    assert space.hold("a", "12:00") is None
    assert space.neighbours.rests(a, failed=True) == {b}
    assert space.hold("b", "12:00") is None


@pytest.mark.parametrize(
    "change",
    [{"suspend": True}, {"concurrencyGroup": "h"}, {"concurrencyGroup": None}],
    ids=["suspended", "another group", "no group"],
)
def test_one_that_waits_and_is_edited_lets_the_next_one_in(change: dict[str, Any]) -> None:
    """So does one that is deleted or can't be read any more."""
    space = Space()
    space.put("x", claimed=True, **IN_GROUP)
    space.put("a", **{**DUE, "settled": "10:00"})
    space.put("b", **DUE)
    for name, slot in (("x", None), ("a", "11:00"), ("b", "12:00")):
        space.look(name, slot)
    space.put("x", **IN_GROUP)
    assert space.look("x") == {"a"}
    fields = {**DUE, "settled": "10:00", **change}
    space.put("a", **{key: value for key, value in fields.items() if value is not None})
    assert space.look("a") == {"b"}


@pytest.mark.parametrize("how", ["deleted", "deleting", "invalid"])
def test_one_that_waits_and_goes_lets_the_next_one_in(how: str) -> None:
    """Its place in the line is free."""
    space = Space()
    space.put("x", claimed=True, **IN_GROUP)
    space.put("a", **{**DUE, "settled": "10:00"})
    space.put("b", **DUE)
    for name, slot in (("x", None), ("a", "11:00"), ("b", "12:00")):
        space.look(name, slot)
    space.put("x", **IN_GROUP)
    assert space.look("x") == {"a"}
    if how == "deleted":
        space.drop("a")
        assert space.look("a") == {"b"}
        return
    changes: dict[str, Any] = {"deleting": True} if how == "deleting" else {"frequency": "7x"}
    space.put("a", **DUE, **changes)
    assert {one.name for one in space.neighbours.rests(Key(SPACE, "a"))} == {"b"}


def test_one_that_runs_and_goes_makes_its_place_free() -> None:
    """Deleted, or edited out of the group."""
    for change in ("delete", "edit"):
        space = Space()
        space.put("x", claimed=True, **IN_GROUP)
        space.put("a", **DUE)
        for name, slot in (("x", None), ("a", "12:00")):
            space.look(name, slot)
        if change == "delete":
            space.drop("x")
        else:
            space.put("x", claimed=True)
        assert space.look("x") == {"a"}
        assert space.hold("a", "12:00") is None


def test_claims_that_exist_count_after_a_restart() -> None:
    """Nothing of it is remembered; the claims are in the status."""
    space = Space(limit=2)
    space.put("x", claimed=True)
    space.put("y", claimed=True)
    space.put("a", settled="11:00")
    after = space.restarted()
    hold = after.hold("a", "12:00")
    assert hold is not None
    assert hold.reason == "WaitingForNamespaceLimit"
    assert after.look("a", "12:00") == set()
    assert after.look("x", settled="12:00") == {"a"}


def test_after_a_restart_the_first_to_ask_does_not_go_first() -> None:
    """Whoever seems to be due is waited for, until it has been looked at."""
    space = Space()
    space.put("young", **DUE)
    space.put("old", **{**DUE, "settled": "09:00"})
    after = space.restarted()
    assert after.look("young", "12:00") == {"old"}
    assert after.hold("young", "12:00") is not None
    # The old one can't start after all (its retries are used up, say).
    assert after.look("old") == {"young"}
    assert after.hold("young", "12:00") is None


def test_a_run_of_a_plain_job_counts_but_is_not_held_back() -> None:
    """Kubernetes starts it."""
    space = Space(limit=1)
    key = space.put("plain", backfill=False)
    space.put("a", settled="11:00")
    space.store.put_job(
        {
            "metadata": {
                "name": "plain-1",
                "namespace": SPACE,
                "uid": "run",
                "resourceVersion": "1000",
                "creationTimestamp": "2026-11-24T12:00:00Z",
                "labels": {"crontabber.dev/job": "plain"},
                "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-11-24T12:00:00Z"},
                "ownerReferences": [{"kind": "CronJob", "uid": "uid of plain", "controller": True}],
            },
            "spec": {"suspend": False, "template": {}},
            "status": {"active": 1, "startTime": "2026-11-24T12:00:00Z"},
        }
    )
    assert list(space.store.occupied(SPACE)) == [key]
    assert space.hold("plain", "12:00") is None
    assert space.look("a", "12:00") == set()
    space.store.drop_job(key, "run")
    assert space.look("plain") == {"a"}
    assert space.hold("a", "12:00") is None
