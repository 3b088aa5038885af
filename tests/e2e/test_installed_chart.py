"""The installed operator itself: its pod, its test, its death, and an outage. Each of these runs alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.installed import PODS, Chart
from tests.e2e.sites import Site
from tests.integration.testbed import Testbed, before, now, short, written

pytestmark = [pytest.mark.timeout(900)]

MINUTE = timedelta(minutes=1)


def test_helm_test_runs_a_job_to_its_end(chart: Chart) -> None:
    """`helm test` has the operator run a job, under restricted Pod Security."""
    told = chart.helm("test", "crontabber", "--namespace=crontabber", "--timeout=180s")
    assert "Succeeded" in told


def test_operator_runs_as_the_image_says(chart: Chart, place: Site) -> None:
    """Nobody's user, one folder that can be written to, no package installer, ready within its probes."""
    (pod,) = chart.pods()
    assert pod["status"]["containerStatuses"][0]["ready"]
    if not place.runs_containers:
        return  # the process node has no users and no images: the chart's fields are tested in tests/unit
    script = (
        "import json, os, shutil, zoneinfo\n"
        "try: open('/x', 'w'); written = True\n"
        "except OSError: written = False\n"
        "zone = str(zoneinfo.ZoneInfo('Europe/Paris'))\n"
        "state = os.access(os.environ['XDG_STATE_HOME'], os.W_OK)\n"
        "print(json.dumps([os.getuid(), os.getgid(), written, state, shutil.which('pip'), zoneinfo.TZPATH, zone]))"
    )
    told = json.loads(chart.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", script))
    assert told == [10101, 10101, False, True, None, [], "Europe/Paris"]


def test_operator_pod_that_is_killed_in_the_middle_loses_and_repeats_nothing(
    chart: Chart, team: Testbed
) -> None:
    """Killed twice while it catches up, without a chance to tidy: each slot runs once, in order."""
    slots = team.missed_slots(6)
    job = team.job("chain", backfill=True, annotations={"mark-success": before(slots)})
    for count in (1, 3):
        team.wait_good(job, count)
        chart.kubectl("delete", "pods", f"--selector={PODS}", "--grace-period=0", "--force")
    team.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert [run.run_time for run in team.runs(job)] == [short(slot) for slot in slots], team.report()
    assert not any(run.overlapped for run in team.runs(job))
    team.wait(lambda: len(chart.pods()) == 1, "one operator is there again")
    last = f"job=chain command=record namespace={team.namespace} slot={written(slots[-1])}"
    team.wait(lambda: f"crontabber.output: [{last}" in chart.log_tail(), "what the last slot printed is told")


def test_second_replica_stands_by_and_takes_over(chart: Chart, team: Testbed, place: Site) -> None:
    """Whichever pod goes, killed or asked to, the other one leads on; each slot runs once, in order."""
    if not place.runs_containers:
        pytest.skip("pods of the process node share this machine's ports: there is one operator at a time")
    slots = team.missed_slots(6)
    chart.kubectl("scale", "deployment/crontabber", "--replicas=2")
    try:
        chart.kubectl("rollout", "status", "deployment/crontabber", "--timeout=120s", timeout_seconds=150)
        job = team.job("chain", backfill=True, annotations={"mark-success": before(slots)})
        for count, how in ((1, ("--grace-period=0", "--force")), (3, ("--wait=false",))):
            team.wait_good(job, count)
            leader = holder(chart)
            chart.kubectl("delete", "pod", leader, *how)
            team.wait(lambda leader=leader: holder(chart) not in ("", leader), "another one leads")
            assert holder(chart) in {pod["metadata"]["name"] for pod in chart.pods()}
        team.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    finally:
        chart.kubectl("scale", "deployment/crontabber", "--replicas=1")
    assert [run.run_time for run in team.runs(job)] == [short(slot) for slot in slots], team.report()
    assert not any(run.overlapped for run in team.runs(job))
    team.wait(lambda: len(chart.pods()) == 1, "one operator is left")


def holder(chart: Chart) -> str:
    """Return the pod that holds the Lease."""
    lease = json.loads(chart.kubectl("get", "lease", "crontabber", "--output=json"))
    return str(lease["spec"].get("holderIdentity", ""))


def test_operator_ends_at_once_when_it_is_asked_to(chart: Chart) -> None:
    """As process 1 of its container it hears SIGTERM: it is gone long before it would be killed."""
    (pod,) = chart.pods()
    given = ("--grace-period=600", "--wait", "--timeout=120s")
    chart.kubectl("delete", "pod", pod["metadata"]["name"], *given, timeout_seconds=150)
    chart.kubectl("rollout", "status", "deployment/crontabber", "--timeout=120s", timeout_seconds=150)


def test_outage_of_operator_and_controller_manager_loses_no_slot(
    chart: Chart, team: Testbed, cluster: Any
) -> None:
    """Both are away while two slots of a once-a-minute job pass; with them back each slot ran, in order, once."""
    job = team.job("minutely", schedule="* * * * *", backfill=True, annotations={"mark-success": "now"})
    team.wait_ready(job)
    chart.kubectl("scale", "deployment/crontabber", "--replicas=0")
    team.wait(lambda: not chart.pods(), "the operator is gone")
    cluster.kill("kube-controller-manager")
    left = now().replace(second=0)
    missed = [left + MINUTE, left + 2 * MINUTE]
    team.wait(lambda: now() >= missed[-1] + timedelta(seconds=2), "two slots have passed")
    assert not [run for run in team.runs(job) if run.started > missed[0].timestamp()]
    cluster.start_component("kube-controller-manager")
    chart.kubectl("scale", "deployment/crontabber", "--replicas=1")
    team.wait(lambda: team.status(job).get("settledThrough", "") >= written(missed[-1]), "both slots ran")
    team.change(job, suspend=True)
    good = [datetime.strptime(str(each), "%Y-%m-%dT%H:%M").replace(tzinfo=UTC) for each in team.good(job)]
    assert set(missed) <= set(good), team.report()
    assert all(later - earlier == MINUTE for earlier, later in pairwise(good)), good
    assert not any(run.overlapped for run in team.runs(job))
