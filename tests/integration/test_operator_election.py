"""Of operators that share a Lease one decides; killed, ended, frozen or cut off, it is replaced: no slot runs twice."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.integration.line import Line
from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import OwnOperators
from tests.integration.test_operator_crashes import assert_each_ran_once, wait_stopped
from tests.integration.testbed import Requests, Testbed, before

pytestmark = pytest.mark.side_by_side

LEASE = "crontabber"


def candidate(own: OwnOperators, name: str, fault: str = "", line: str = "", **more: str) -> OperatorProcess:
    """Start an operator that stands for election under this name."""
    environment = {
        "CRONTABBER_LEADER_ELECTION": "on",
        "CRONTABBER_LEASE": f"{own.bed.namespace}/{LEASE}",
        "POD_NAME": name,
        **({"KUBECONFIG": line} if line else {}),
        **more,
    }
    return own.start(fault, environment)


def holder(bed: Testbed) -> str:
    """Return who holds the Lease."""
    lease = bed.find("leases", LEASE)
    return str(lease["spec"].get("holderIdentity", "")) if lease is not None else ""


def leader_and_standby(
    own: OwnOperators, fault: str = "", line: str = ""
) -> tuple[OperatorProcess, OperatorProcess]:
    """Start two operators; return the leader and the one that stands by."""
    first = candidate(own, "first", fault, line)
    own.bed.wait(lambda: holder(own.bed) == "first", "the first leads")
    second = candidate(own, "second")
    own.bed.wait(lambda: "Standing by: first leads" in second.log(), "the second stands by")
    return first, second


def miss(bed: Testbed, name: str, slots: list[datetime]) -> str:
    """Create a job with missed slots."""
    return bed.job(name, backfill=True, annotations={"mark-success": before(slots)})


def test_killed_leader_is_replaced_by_the_standby(own: OwnOperators) -> None:
    """The standby has watched and told nothing; then it goes on where the leader was killed."""
    bed = own.bed
    first, second = leader_and_standby(own)
    slots = bed.missed_slots(3)
    bed.control("job", hold=True)
    job = miss(bed, "job", slots)
    bed.wait_running(job)
    first.kill()
    assert f"{bed.namespace}/{job}" not in second.log()
    bed.wait(lambda: holder(bed) == "second", "the second leads")
    bed.control(job)
    assert_each_ran_once(bed, job, slots)
    lease = bed.get("leases", LEASE)["spec"]
    assert lease["leaseTransitions"] == 1
    bed.wait(lambda: f"{bed.namespace}/{job}" in second.log(), "the second tells of the job")


def test_leader_that_ends_gives_the_lease_back(own: OwnOperators) -> None:
    """Nobody has to wait for the Lease's end; a job made meanwhile is found by the one that takes over."""
    bed = own.bed
    first, second = leader_and_standby(own)
    slots = bed.missed_slots(2)
    assert first.terminate() == 0
    assert "is given back" in first.log()
    job = miss(bed, "job", slots)
    assert_each_ran_once(bed, job, slots)
    assert holder(bed) == "second"
    assert second.terminate() == 0
    assert holder(bed) == ""
    assert "Traceback" not in first.log() + second.log()


def test_standby_that_ends_changes_nothing(own: OwnOperators) -> None:
    """The leader keeps the Lease."""
    bed = own.bed
    _, second = leader_and_standby(own)
    assert second.terminate() == 0
    assert "Traceback" not in second.log()
    assert holder(bed) == "first"
    assert_each_ran_once(bed, miss(bed, "job", bed.missed_slots(1)), bed.missed_slots(1))


@pytest.mark.parametrize("point", ["create", "claim", "release", "record"])
def test_frozen_leader_that_wakes_up_writes_nothing(own: OwnOperators, point: str) -> None:
    """Stopped right before a write, it is replaced; when it goes on it does not send that write, nor any other."""
    bed = own.bed
    slots = bed.missed_slots(3)
    first, second = leader_and_standby(own, f"{point}:before:2:stop")
    job = miss(bed, "job", slots)
    wait_stopped(bed, first)
    status = assert_each_ran_once(bed, job, slots)
    requests = Requests(own.cluster.audit_log, bed.namespace)
    first.go_on()
    bed.wait(lambda: "Standing by: second leads" in first.log(), "it has noticed")
    bed.wait(lambda: "not sent, as another operator may lead" in first.log(), "it has not sent its write")
    assert [one for one in requests.writes() if one.resource != "leases"] == []
    assert bed.status(job) == status
    second.kill()
    bed.annotate(job, mark_success=before(slots[-1:]))
    bed.wait_good(job, 4)
    assert holder(bed) == "first"


def test_leader_that_is_cut_off_stops_deciding(own: OwnOperators) -> None:
    """The standby takes over; the former leader stands by when it is back, and may lead again."""
    bed = own.bed
    slots = bed.missed_slots(3)
    copy = bed.folder / "line.kubeconfig"
    with Line.to(own.cluster.kubeconfig, copy) as line:
        first, second = leader_and_standby(own, line=str(copy))
        line.cut()
        bed.wait(lambda: "it could not be renewed; standing by" in first.log(), "the first stops")
        assert_each_ran_once(bed, miss(bed, "meanwhile", slots), slots)
        assert holder(bed) == "second"
        line.mend()
        bed.wait(lambda: "Standing by: second leads" in first.log(), "the first stands by")
        second.kill()
        assert_each_ran_once(bed, miss(bed, "afterwards", slots), slots)
        assert holder(bed) == "first"


def test_two_that_both_believe_they_lead_run_no_slot_twice(own: OwnOperators) -> None:
    """The fence sees to that, not the Lease: the second takes it, and the first goes on all the same."""
    bed = own.bed
    first, second = (candidate(own, name, "none", OPERATOR_USURPS="on") for name in ("first", "second"))
    for name, operator in (("first", first), ("second", second)):
        bed.wait(lambda: f"{name} leads now" in operator.log(), f"the {name} leads")  # noqa: B023 - waits at once
    slots = bed.missed_slots(5)
    jobs = [miss(bed, f"job-{number}", slots) for number in range(2)]
    for job in jobs:
        assert_each_ran_once(bed, job, slots)
    assert not [operator for operator in (first, second) if "is lost" in operator.log()]
