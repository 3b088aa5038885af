"""Jobs run in the pod template of the web app's last completed rollout, and a failing one is mended by a rollout."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Body, Testbed, before, short, written

pytestmark = pytest.mark.side_by_side


def deploy(bed: Testbed, version: str, *, job: str = "job", name: str = "webapp", ready: bool = True) -> None:
    """Create the web app's Deployment, or roll out another version of it.

    Its environment is the job's too. Without `ready` its pods are not ready before `let_ready`.
    """
    variables = {"VERSION": version, "EVIDENCE": str(bed.evidence_file(job))}
    container = {
        "name": "web",
        "image": "app",
        "command": ["python", "manage.py", "serve"],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {
            "exec": {"command": ["true"] if ready else ["test", "-e", str(bed.folder / f"{version}.ready")]},
            "periodSeconds": 1,
        },
    }
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": bed.pod_spec(container),
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    if bed.find("deployments", name) is None:
        bed.create("deployments", {"metadata": {"name": name}, "spec": spec})
    else:
        bed.patch("deployments", name, {"spec": {"template": template}})
    if ready:
        wait_rolled_out(bed, version, job)


def let_ready(bed: Testbed, version: str) -> None:
    """Let the pods of a version become ready."""
    (bed.folder / f"{version}.ready").touch()


def wait_rolling(bed: Testbed, version: str) -> None:
    """Wait until a pod of the version runs without being ready."""

    def holds() -> bool:
        return any(
            version in variables(pod["spec"]).values() and pod["status"].get("phase") == "Running"
            for pod in bed.objects("pods")
        )

    bed.wait(holds, f"a pod of {version} runs")


def wait_rolled_out(bed: Testbed, version: str, job: str = "job") -> None:
    """Wait until the job's CronJob, where there is one, has the version."""

    def holds() -> bool:
        status = bed.get("deployments", "webapp").get("status") or {}
        complete = (
            status.get("availableReplicas") == status.get("updatedReplicas") == status.get("replicas") == 1
        )
        return complete and (bed.find("cronjobs", job) is None or cronjob_version(bed, job) == version)

    bed.wait(holds, f"{version} is rolled out and the CronJob follows")


def variables(pod_spec: Body) -> dict[str, Any]:
    """Return the plain environment variables of a pod's first container."""
    return {one["name"]: one.get("value") for one in pod_spec["containers"][0].get("env") or []}


def cronjob_version(bed: Testbed, job: str) -> str | None:
    """Return the version that the CronJob runs."""
    pod = bed.get("cronjobs", job)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return variables(pod).get("VERSION")


def webapp_job(bed: Testbed, **fields: Any) -> str:
    """Create a job that runs in the web app's pod template."""
    return bed.job("job", template=None, **fields)


def test_job_follows_a_completed_rollout_and_no_other(own: OwnOperators) -> None:
    """While a rollout goes on the last completed one counts, also for an operator that starts only then."""
    bed = own.bed
    slots = bed.missed_slots(1)
    first = own.start()
    deploy(bed, "v1")
    job = webapp_job(bed)
    bed.wait_ready(job)
    assert cronjob_version(bed, job) == "v1"
    pod = bed.get("cronjobs", job)["spec"]["jobTemplate"]["spec"]["template"]
    assert "app" not in pod["metadata"]["labels"]
    assert not {"ports", "readinessProbe"} & pod["spec"]["containers"][0].keys()
    deploy(bed, "v2", ready=False)
    wait_rolling(bed, "v2")
    bed.annotate(job, mark_success=before(slots))
    bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    first.kill()
    own.start()
    bed.annotate(job, mark_success=before(slots))
    bed.wait(lambda: len(bed.good(job)) == 2, "the slot ran again, with the new operator")
    assert [run.version for run in bed.runs(job)] == ["v1", "v1"]
    let_ready(bed, "v2")
    wait_rolled_out(bed, "v2")
    bed.wait_status(job, missed=0)
    bed.annotate(job, mark_success=before(slots))
    bed.wait(lambda: len(bed.good(job)) == 3, "the slot ran a third time")
    assert bed.runs(job)[-1].version == "v2"


def test_failing_plain_job_is_replaced_by_a_rollout(bed: Testbed) -> None:
    """Its Job, which Kubernetes would try again with the old image for ever, makes way for one of the new image."""
    slots = bed.missed_slots(1)
    bed.control("job", bad_versions=["v1"])
    deploy(bed, "v1")
    job = webapp_job(bed, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, errorCount=1)
    failing = status["ongoing"]["uid"]
    deploy(bed, "v2")
    status = bed.wait_status(job, missed=0, errorCount=0, settledThrough=written(slots[0]))
    assert [run.version for run in bed.runs(job) if run.outcome == "good"] == ["v2"]
    assert not any(run.overlapped for run in bed.runs(job))
    assert failing not in {one["metadata"]["uid"] for one in bed.objects("jobs", job)}
    assert {entry["result"] for entry in status["history"]} == {"Succeeded", "Failed"}


def test_failing_gated_job_is_retried_at_once_after_a_rollout(bed: Testbed) -> None:
    """However long its next attempt had to wait: with the mended image it starts at once, and the chain goes on."""
    slots = bed.missed_slots(2)
    bed.control("job", bad_versions=["v1"])
    deploy(bed, "v1")
    job = webapp_job(bed, backfill=True, retryDelaySeconds=3000, annotations={"mark-success": before(slots)})
    bed.wait_status(job, errorCount=1, state="Retrying")
    deploy(bed, "v2")
    bed.wait_status(job, missed=0, errorCount=0, settledThrough=written(slots[-1]))
    assert [(run.run_time, run.version) for run in bed.runs(job)] == [
        (short(slots[0]), "v1"),
        (short(slots[0]), "v2"),
        (short(slots[1]), "v2"),
    ]


def test_exhausted_retries_start_afresh_with_a_rollout(bed: Testbed) -> None:
    """The retry limit counts for what failed: another image gets its own attempts."""
    slots = bed.missed_slots(1)
    bed.control("job", bad_versions=["v1"])
    deploy(bed, "v1")
    job = webapp_job(bed, backfill=True, retryLimit=0, annotations={"mark-success": before(slots)})
    bed.wait_status(job, state="RetriesExhausted")
    deploy(bed, "v2")
    bed.wait_status(job, missed=0, errorCount=0, state="Waiting")
    assert [run.version for run in bed.runs(job)] == ["v1", "v2"]


def test_suspended_job_with_an_outdated_image_is_replaced(bed: Testbed) -> None:
    """The run that goes on is left to end; what was made ahead with the old image is made anew."""
    slots = bed.missed_slots(3)
    bed.control("job", hold=True)
    deploy(bed, "v1")
    job = webapp_job(bed, backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    ahead = bed.wait(lambda: next(iter(suspended(bed, job)), None), "the next run is made ahead")
    deploy(bed, "v2")
    bed.wait(
        lambda: (
            [variables(one["spec"]["template"]["spec"])["VERSION"] for one in suspended(bed, job)] == ["v2"]
        ),
        "the next run has the new image",
    )
    assert ahead["metadata"]["uid"] not in {one["metadata"]["uid"] for one in bed.objects("jobs", job)}
    bed.control("job")
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert [(run.run_time, run.version) for run in bed.runs(job)] == [
        (short(slots[0]), "v1"),
        (short(slots[1]), "v2"),
        (short(slots[2]), "v2"),
    ]


def suspended(bed: Testbed, job: str) -> list[Body]:
    """Return the Jobs that wait to be released."""
    return [one for one in bed.objects("jobs", job) if one["spec"].get("suspend")]


def test_missing_and_unfinished_web_app_is_told_and_heals(bed: Testbed) -> None:
    """Without a web app, or before its first rollout is complete, Ready says what is missing."""
    slots = bed.missed_slots(1)
    job = webapp_job(bed, backfill=True, annotations={"mark-success": before(slots)})
    bed.wait(lambda: bed.condition(job, "Ready").get("reason") == "WebAppNotFound", "the web app is missed")
    assert bed.condition(job, "Stalled")["status"] == "False"
    deploy(bed, "v1", ready=False)
    bed.wait(
        lambda: bed.condition(job, "Ready").get("reason") == "WebAppNotRolledOut",
        "it is told that the rollout is not complete",
    )
    assert bed.runs(job) == []
    let_ready(bed, "v1")
    bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    assert bed.condition(job, "Ready")["status"] == "True"
    assert [run.version for run in bed.runs(job)] == ["v1"]


def test_deleted_web_app_leaves_the_job_as_it_was(bed: Testbed) -> None:
    """When the web app is deleted it is told, and the CronJob that was made before goes on."""
    deploy(bed, "v1")
    job = webapp_job(bed)
    bed.wait_ready(job)
    bed.delete("deployments", "webapp")
    bed.wait(lambda: bed.condition(job, "Ready").get("reason") == "WebAppNotFound", "the web app is missed")
    assert cronjob_version(bed, job) == "v1"
    deploy(bed, "v2")
    bed.wait_ready(job)
    assert cronjob_version(bed, job) == "v2"
