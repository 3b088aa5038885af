"""Of operators that share a Lease one at most may write at a time, whatever happens to them; and one soon does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crontabber_operator import elector as elector_module
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.election import DECIDES_SECONDS, LASTS_SECONDS, Lease, Watch, given_back, taken
from crontabber_operator.elector import Elector, own_identity, place_of
from crontabber_operator.settings import SettingError, Settings
from tests.unit.backfill_scene import at

T = TypeVar("T")

SOON_SECONDS = 15.0
"""A leader that is gone is replaced in this time."""


class Leases:
    """One Lease as the API server keeps it, with faults on demand; answers take time."""

    def __init__(self) -> None:
        self.spec: dict[str, Any] | None = None
        self.clock = 0.0
        self.fault = ""
        self.delay = 0.0
        self._versions = itertools.count(1)
        self._version = ""

    async def find_lease(self, _namespace: str, _name: str) -> Mapping[str, Any] | None:
        """Answer a GET."""
        self._arrives()
        return self._answer()

    async def create_lease(self, _namespace: str, _name: str, spec: dict[str, Any]) -> Mapping[str, Any]:
        """Answer a POST."""
        self._arrives()
        if self.spec is not None:
            raise ApiError(409, "AlreadyExists", "exists")
        return self._changed(spec)

    async def change_lease(
        self, _namespace: str, _name: str, version: str, change: dict[str, Any]
    ) -> Mapping[str, Any]:
        """Answer a PATCH."""
        self._arrives()
        if self.spec is None:
            raise ApiError(404, "NotFound", "no such Lease")
        if version != self._version:
            raise ApiError(409, "Conflict", "changed since")
        return self._changed({**self.spec, **change})

    def touch(self) -> None:
        """Somebody labels it."""
        if self.spec is not None:
            self._version = str(next(self._versions))

    def _arrives(self) -> None:
        self.clock += self.delay
        if self.fault == "away":
            raise ApiError(0, "ClientConnectorError", "away")
        if self.fault == "forbidden":
            raise ApiError(403, "Forbidden", "no right")

    def _changed(self, spec: dict[str, Any]) -> Mapping[str, Any]:
        self.spec = {key: value for key, value in spec.items() if value is not None}
        self.touch()
        answer = self._answer()
        assert answer is not None
        return answer

    def _answer(self) -> Mapping[str, Any] | None:
        self.clock += self.delay
        if self.fault == "unanswered":
            raise TimeoutError
        if self.spec is None:
            return None
        return {"metadata": {"resourceVersion": self._version}, "spec": self.spec}


LOOP = asyncio.new_event_loop()


def now_done(work: Coroutine[Any, Any, T]) -> T:
    """Do what never really waits."""
    return LOOP.run_until_complete(work)


class Operator:
    """One that stands for election; counts how often it was told to lead and to follow."""

    def __init__(self, leases: Leases, identity: str) -> None:
        self.told: list[str] = []
        self.next = 0.0
        self.alive = True
        self.hangs = False
        self.identity = identity
        self._leases = leases
        self.elector = Elector(
            cast("Cluster", leases),
            ("ops", "crontabber"),
            lambda: self.told.append("lead"),
            self._follow,
            identity=identity,
            clock=lambda: leases.clock,
            is_alive=lambda: not self.hangs,
        )

    async def _follow(self) -> None:
        self.told.append("follow")

    def step(self) -> None:
        """Do what is due."""
        self.next = now_done(self.elector.step()) + self._leases.clock

    def end(self) -> None:
        """End cleanly."""
        self.alive = False
        now_done(self.elector.give_back())

    @property
    def writes(self) -> bool:
        """Whether a write of it would be sent now."""
        return self.alive and self.elector.may_write()


def pass_time(leases: Leases, operators: list[Operator], seconds: float) -> None:
    """Let all that run do what they do until the time is over."""
    end = leases.clock + seconds
    while True:
        living = [one for one in operators if one.alive]
        first = min(living, key=lambda one: one.next, default=None)
        if first is None or first.next > end:
            leases.clock = max(leases.clock, end)
            return
        leases.clock = max(leases.clock, first.next)
        first.step()
        assert sum(one.writes for one in operators) <= 1


class Elections(RuleBasedStateMachine):
    """Operators that are killed, frozen, ended and cut off while they stand for election."""

    @initialize(count=st.integers(2, 3))
    def start(self, count: int) -> None:
        """Start them all."""
        self.leases = Leases()
        self.names = itertools.count(1)
        self.operators = [Operator(self.leases, f"pod-{next(self.names)}") for _ in range(count)]

    @rule(seconds=st.floats(0.0, 13.0))
    def time_passes(self, seconds: float) -> None:
        """All work as they should."""
        pass_time(self.leases, self.operators, seconds)

    @rule(
        who=st.integers(0, 2),
        fault=st.sampled_from(["away", "unanswered", "forbidden"]),
        delay=st.sampled_from([0.0, 0.5, 2.9]),
    )
    def one_is_cut_off(self, who: int, fault: str, delay: float) -> None:
        """A request is lost, or its answer."""
        self.leases.fault, self.leases.delay = fault, delay
        self._one(who).step()
        self.leases.fault, self.leases.delay = "", 0.0

    @rule(seconds=st.floats(0.0, 30.0), who=st.integers(0, 2), delay=st.sampled_from([0.0, 1.4]))
    def all_but_one_are_frozen(self, seconds: float, who: int, delay: float) -> None:
        """Then they all wake up at once."""
        self.leases.delay = delay
        pass_time(self.leases, [self._one(who)], seconds)
        self.leases.delay = 0.0

    @rule(who=st.integers(0, 2))
    def one_is_killed_and_started_anew(self, who: int) -> None:
        """As another pod."""
        self.operators[who % len(self.operators)] = Operator(self.leases, f"pod-{next(self.names)}")

    @rule(who=st.integers(0, 2))
    def one_container_is_restarted(self, who: int) -> None:
        """It has the pod's name."""
        index = who % len(self.operators)
        self.operators[index] = Operator(self.leases, self.operators[index].identity)

    @rule(who=st.integers(0, 2))
    def one_ends_and_another_is_started(self, who: int) -> None:
        """As a rolling update does."""
        self._one(who).end()
        self.one_is_killed_and_started_anew(who)

    @rule()
    def somebody_touches_it(self) -> None:
        """A label is no renewal."""
        self.leases.touch()

    @rule()
    def somebody_deletes_it(self) -> None:
        """Those who know it wait; its holder makes it again. Who never saw it takes it: the fence forgives that."""
        for _ in range(2):  # also of what one of them made in the first round
            for one in self.operators:
                one.step()
        self.leases.spec = None
        pass_time(self.leases, self.operators, 3.0)

    @invariant()
    def one_writes(self) -> None:
        """The promise."""
        assert sum(one.writes for one in self.operators) <= 1
        for one in self.operators:
            assert one.elector.leads == (one.told[-1:] == ["lead"])
            assert all(first != then for first, then in itertools.pairwise(one.told))

    def teardown(self) -> None:
        """However it went, one soon leads when all is well again, and the others know."""
        pass_time(self.leases, self.operators, SOON_SECONDS)
        assert [one.writes for one in self.operators].count(True) == 1
        assert [one.elector.leads for one in self.operators] == [one.writes for one in self.operators]

    def _one(self, who: int) -> Operator:
        return self.operators[who % len(self.operators)]


TestElections = Elections.TestCase
TestElections.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def two(leases: Leases) -> tuple[Operator, Operator]:
    """Return a leader and a standby."""
    first, second = Operator(leases, "first"), Operator(leases, "second")
    first.step()
    second.step()
    assert (first.elector.standing, second.elector.standing) == ("leader", "standby; first leads")
    return first, second


def test_a_killed_leader_is_replaced_within_15_seconds() -> None:
    """By the one that stood by, and not before the Lease is over."""
    leases = Leases()
    first, second = two(leases)
    first.alive = False
    pass_time(leases, [second], LASTS_SECONDS - 1)
    assert not second.elector.leads
    pass_time(leases, [second], SOON_SECONDS - LASTS_SECONDS + 1)
    assert second.writes


def test_a_leader_that_ends_hands_over_within_two_seconds() -> None:
    """Nobody holds the Lease any more; it isn't deleted, so that the transitions go on being counted."""
    leases = Leases()
    first, second = two(leases)
    first.end()
    assert leases.spec is not None
    assert "holderIdentity" not in leases.spec
    pass_time(leases, [second], 2.0)
    assert second.writes
    assert leases.spec["leaseTransitions"] == 1


def test_a_standby_that_ends_takes_nothing_from_the_leader() -> None:
    """Only its own Lease is given back."""
    leases = Leases()
    first, second = two(leases)
    before = leases.spec
    second.end()
    assert leases.spec == before
    assert first.writes


def test_a_leader_stops_before_its_lease_may_be_taken() -> None:
    """While the API server can't be reached it first stops writing, then deciding; it goes on when it can."""
    leases = Leases()
    first, _ = two(leases)
    leases.fault = "away"
    pass_time(leases, [first], DECIDES_SECONDS + 1)
    assert not first.writes
    assert first.told == ["lead", "follow"]
    assert "can't be used: away" in first.elector.trouble
    leases.fault = ""
    pass_time(leases, [first], 1.0)
    assert first.told == ["lead", "follow", "lead"]
    assert first.elector.trouble == ""


def test_a_leader_that_was_frozen_may_not_write_when_it_wakes_up() -> None:
    """Before it has so much as looked at the Lease."""
    leases = Leases()
    first, second = two(leases)
    pass_time(leases, [second], 20)
    assert first.elector.leads
    assert not first.writes
    pass_time(leases, [first, second], 3)
    assert first.told == ["lead", "follow"]
    assert first.elector.standing == "standby; second leads"


def test_an_operator_that_hangs_is_replaced() -> None:
    """Its thread goes on, and neither renews nor takes the Lease for it."""
    leases = Leases()
    first, second = two(leases)
    first.hangs = True
    pass_time(leases, [first, second], SOON_SECONDS)
    assert second.writes
    second.end()
    pass_time(leases, [first], SOON_SECONDS)
    assert not first.writes
    first.hangs = False
    pass_time(leases, [first], 1.0)
    assert first.told == ["lead", "follow", "lead"]


def test_a_leader_that_was_late_goes_on_where_nobody_wanted_the_lease() -> None:
    """It is not made to begin anew."""
    leases = Leases()
    first = Operator(leases, "first")
    first.step()
    leases.clock += 60
    assert not first.writes
    first.step()
    assert first.writes
    assert first.told == ["lead"]


def test_a_container_that_is_restarted_in_its_pod_leads_at_once() -> None:
    """It has the pod's name, and its forerunner is certainly gone."""
    leases = Leases()
    two(leases)
    again = Operator(leases, "first")
    again.step()
    assert again.writes
    assert leases.spec is not None
    assert leases.spec["leaseTransitions"] == 0


def test_the_time_in_the_lease_is_believed_within_reason() -> None:
    """A version that holds it longer is waited for; a day that somebody wrote by hand is not."""
    lease = Lease("x", 30, "", 0, "1")
    assert not Watch().saw(lease, 0.0).may_take("y", 29.9)
    assert Watch().saw(lease, 0.0).may_take("y", 30.0)
    body = {
        "metadata": {"resourceVersion": "1"},
        "spec": {"holderIdentity": "x", "leaseDurationSeconds": 86400},
    }
    assert Watch().saw(Lease.read(body), 0.0).may_take("y", 60.0)


def test_a_lease_that_was_deleted_is_not_taken_from_its_holder() -> None:
    """The holder makes it again; only where it doesn't, another one does."""
    watch = Watch().saw(Lease("x", LASTS_SECONDS, "", 0, "1"), 5.0).saw(None, 6.0)
    assert not watch.saw(None, 15.0).may_take("y", 15.9)
    assert watch.saw(None, 15.0).may_take("y", 16.0)
    assert Watch().saw(None, 6.0).may_take("y", 6.0)


def test_a_lease_that_somebody_made_by_hand_is_taken() -> None:
    """With nothing in it."""
    lease = Lease.read({"metadata": {"resourceVersion": "1"}})
    assert Watch().saw(lease, 0.0).may_take("y", 0.0)


def test_times_are_written_as_the_api_server_wants_them() -> None:
    """With microseconds, also where there are none."""
    assert taken("me", None, at("10:00"))["renewTime"].endswith("10:00:00.000000Z")
    assert given_back(at("10:00"))["leaseDurationSeconds"] == 1  # 0 is refused


def test_the_identity_is_the_pods_name() -> None:
    """Elsewhere it is the machine's with something that no other process has."""
    assert own_identity({"POD_NAME": "crontabber-1"}) == "crontabber-1"
    assert own_identity({}) != own_identity({})


def test_the_lease_is_looked_for_where_the_operator_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the pod's namespace, else in the kubeconfig's, else in `default`; a name with a slash says it."""
    assert place_of("ops/lock") == ("ops", "lock")
    file = tmp_path / "namespace"
    monkeypatch.setattr(elector_module, "_SERVICE_ACCOUNT_NAMESPACE", file)
    config = tmp_path / "config"
    monkeypatch.setattr(elector_module.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    assert place_of("lock") == ("default", "lock")
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: a,"
        " users: [{name: a, user: {}}], clusters: [{name: a, cluster: {}}],"
        " contexts: [{name: a, context: {cluster: a, user: a, namespace: team}}]}",
        encoding="utf-8",
    )
    assert place_of("lock") == ("team", "lock")
    file.write_text("ops\n", encoding="utf-8")
    assert place_of("lock") == ("ops", "lock")


def test_settings_name_the_lease() -> None:
    """Off where nothing is said; a name that no object can have is refused."""
    assert (Settings.read({}, {}).leader_election, Settings.read({}, {}).lease) == (False, "crontabber")
    given = Settings.read({"leader-election": "on"}, {"CRONTABBER_LEASE": "ops/crontabber"})
    assert (given.leader_election, given.lease) == (True, "ops/crontabber")
    for wrong in ("", "Upper", "a/b/c", "/a", "a/"):
        with pytest.raises(SettingError, match="--lease takes NAME or NAMESPACE/NAME"):
            Settings.read({"lease": wrong}, {})
