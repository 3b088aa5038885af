"""Outages of what is around the operator, its end and its start.

These tests stop components that all others need, or look at the clock: each runs alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import Cluster
from tests.integration.side_by_side import OwnOperators, apply_crd, delete_crd
from tests.integration.testbed import Api, Body, Requests, Testbed, before, short, written

SLOTS = 4
MANY = 200


def assert_caught_up(bed: Testbed, job: str, count: int) -> None:
    """Wait until all slots ran; each once, in order, one at a time."""
    slots = bed.missed_slots(count)
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots], bed.report()
    assert not any(run.overlapped for run in bed.runs(job))


def test_api_server_is_restarted_in_the_middle_of_catching_up(bed: Testbed, cluster: Cluster) -> None:
    """The operator waits for it, and goes on where it was: nothing is lost, nothing runs twice."""
    slots = bed.missed_slots(SLOTS)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    cluster.kill("kube-apiserver")
    # The run ends while nobody can be told.
    bed.control("job")
    cluster.start_component("kube-apiserver")
    assert_caught_up(bed, job, SLOTS)


def test_api_server_hangs_in_the_middle_of_catching_up(bed: Testbed, cluster: Cluster) -> None:
    """Requests that are not answered are not taken for done or failed."""
    slots = bed.missed_slots(SLOTS)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait(lambda: bed.runs(job), "the first slot runs")
    cluster.pause("kube-apiserver")
    bed.control("job")
    cluster.resume("kube-apiserver")
    assert_caught_up(bed, job, SLOTS)


def test_controller_manager_is_restarted_in_the_middle_of_catching_up(bed: Testbed, cluster: Cluster) -> None:
    """While it is away no Job ends and no pod is made; with it back all goes on."""
    slots = bed.missed_slots(SLOTS)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait(lambda: bed.runs(job), "the first slot runs")
    cluster.kill("kube-controller-manager")
    bed.wait(lambda: bed.runs(job)[0].outcome == "good", "the command has ended")
    cluster.start_component("kube-controller-manager")
    assert_caught_up(bed, job, SLOTS)


def test_deletion_that_no_watch_reported_is_noticed(own: OwnOperators, cluster: Cluster) -> None:
    """What was deleted while the watches were interrupted for too long is found when they list anew."""
    bed = own.bed
    operator = own.start()
    slots = bed.missed_slots(2)
    bed.control("running", hold=True)
    idle = bed.job("idle")
    running = bed.job("running", backfill=True, annotations={"mark-success": before(slots)})
    gone = bed.job("gone")
    for job in (idle, gone):
        bed.wait_ready(job)
    bed.wait_running(running)
    operator.stop()
    # Its watches end now: what is deleted from here on can't lie unread in a connection of theirs.
    cluster.restart("kube-apiserver")
    bed.delete("cronjobs", idle)
    bed.delete("crontabberjobs", gone)
    bed.delete("jobs", bed.status(running)["ongoing"]["job"])
    bed.wait(lambda: not bed.objects("pods", running), "the pod is gone")
    bed.wait(lambda: bed.find("cronjobs", gone) is None, "the garbage collector removes what is left behind")
    # Its memory of changes starts anew: a watch from before must list.
    cluster.restart("kube-apiserver")
    operator.go_on()
    bed.control("running")
    bed.wait(lambda: bed.find("cronjobs", idle), "the CronJob is made again")
    status = bed.wait_status(running, missed=0, settledThrough=written(slots[-1]))
    assert status["history"][-1]["result"] == "Lost"
    bed.wait(lambda: f"{gone}: a deletion that was not reported" in operator.log(), "its deletion is noticed")


def test_cronjob_that_nobody_collects_is_removed(bed: Testbed, cluster: Cluster) -> None:
    """A resource is deleted and made anew; the garbage collector is away, or has missed it in an outage."""
    job = bed.job("job")
    bed.wait_ready(job)
    former = bed.get("cronjobs", job)["metadata"]["uid"]
    cluster.kill("kube-controller-manager")
    bed.delete("crontabberjobs", job)
    assert bed.get("cronjobs", job)["metadata"]["uid"] == former
    bed.job("job")
    bed.wait_ready(job)
    assert bed.get("cronjobs", job)["metadata"]["uid"] != former
    assert "NameConflict" not in bed.reasons(job)
    cluster.start_component("kube-controller-manager")


def test_restart_with_many_resources_writes_nothing(own: OwnOperators, cluster: Cluster) -> None:
    """A new operator takes over without a write, with hardly a request; it ends at once at SIGTERM."""
    bed = own.bed
    first = own.start()
    jobs = [bed.job(f"job-{number}", backfill=bool(number % 2)) for number in range(MANY)]
    bed.wait(
        lambda: sum(is_ready(one) for one in bed.objects("crontabberjobs")) == MANY,
        "all are ready",
    )
    bed.wait(lambda: len(bed.objects("cronjobs")) == MANY, "all have a CronJob")
    assert first.terminate() == 0
    assert "Traceback" not in first.own_log()
    requests = Requests(cluster.audit_log, bed.namespace)
    second = own.start()
    slots = bed.missed_slots(1)
    bed.annotate(jobs[0], mark_success=before(slots))
    bed.wait_status(jobs[0], missed=0, settledThrough=written(slots[0]))
    others = [one for one in requests.all() if not one.name.startswith(jobs[0]) and one.resource != "events"]
    assert [one for one in others if one.is_write and one.name] == []
    assert len(others) < 20, others
    assert second.terminate() == 0
    assert "Traceback" not in second.own_log()


def is_ready(resource: Body) -> bool:
    """Tell whether a resource is accepted and scheduled."""
    conditions = (resource.get("status") or {}).get("conditions") or []
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_operator_ends_quickly_in_the_middle_of_work(own: OwnOperators, number: signal.Signals) -> None:
    """Whatever it is doing, it ends at once, without a traceback, and the next one goes on."""
    bed = own.bed
    first = own.start()
    slots = bed.missed_slots(3)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait(lambda: bed.runs(job), "it has begun")
    assert first.terminate(number) == 0
    assert "Traceback" not in first.own_log(), first.log_tail()
    assert "Task was destroyed" not in first.log()
    own.start()
    assert_caught_up(bed, job, 3)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[OwnOperators]:
    """Return a namespace of a cluster of its own that has no CRD yet (and no node)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        with Cluster.start(f"bare-{os.getpid()}", node="none") as cluster:
            api = Api(cluster.kubeconfig)
            made = OwnOperators(cluster, lambda operators: Testbed(api, "bare", tmp_path, operators))
            yield made
            made.close()


def test_crd_may_come_after_the_operator_and_come_again(bare: OwnOperators) -> None:
    """The operator waits for the CRD; when it was deleted and is back, jobs are served, if need be by a new process."""
    bed, cluster = bare.bed, bare.cluster
    operator = bare.start()
    bed.wait(lambda: "is not installed; waiting for it" in operator.log(), "the missing CRD is told")
    apply_crd(cluster)
    bed.wait_ready(bed.job("first"))
    delete_crd(cluster)
    bed.wait(
        lambda: "Unresolved resources" in operator.log() or not operator.runs, "the operator has noticed"
    )
    apply_crd(cluster)
    bed.job("second")
    bed.wait(
        lambda: bed.find("cronjobs", "second") or not operator.runs, "it is served, or the operator ended"
    )
    if not operator.runs:
        # kopf ends where its watch is answered with 404 before it has seen that the CRD is gone.
        assert operator.exit_code in (0, 1)
        bare.start()
    bed.wait_ready("second")
