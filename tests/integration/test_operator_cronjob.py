"""The CronJob is kept as the spec asks for it; what can't be carried out is told, and heals when it is mended."""

from __future__ import annotations

from typing import Any

import pytest

from devcluster import Cluster
from tests.integration.testbed import JSON_PATCH, ApiError, Body, Requests, Testbed, before, short, written

pytestmark = pytest.mark.side_by_side


def assert_invalid(bed: Testbed, job: str, *said: str) -> None:
    """Wait until a resource is told to be invalid, in conditions, state and an Event, each with these words."""
    bed.wait_status(job, state="Invalid")
    ready, stalled = bed.condition(job, "Ready"), bed.condition(job, "Stalled")
    assert (ready["status"], stalled["status"]) == ("False", "True")
    assert ready["reason"] == stalled["reason"]
    assert all(words in ready["message"] for words in said), ready["message"]
    event = bed.wait_event(job, ready["reason"])
    assert event["type"] == "Warning"
    assert all(words in event["message"] for words in said)


# --- Invalid specs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ({"schedule": "30-10 * * * *"}, {}, ["spec.schedule", "30-10"]),
        (
            {"timeZone": "Europe/Atlantis"},
            {"timeZone": "Europe/Berlin"},
            ["spec.timeZone", "Europe/Atlantis"],
        ),
    ],
    ids=["cron text", "time zone"],
)
def test_invalid_spec_is_told_and_heals(bed: Testbed, wrong: Body, right: Body, said: list[str]) -> None:
    """What the CRD can't check becomes Ready=False, Stalled=True, Invalid and an Event; mended, it works."""
    job = bed.job("job", **wrong)
    assert_invalid(bed, job, *said)
    assert bed.find("cronjobs", job) is None
    bed.change(job, **{"schedule": bed.schedule, **right})
    status = bed.wait_ready(job)
    assert status["state"] == "Waiting"
    assert bed.condition(job, "Stalled")["status"] == "False"
    bed.wait_event(job, "Accepted")


def test_pod_template_that_the_api_server_refuses_is_told_and_heals(bed: Testbed) -> None:
    """The API server's own words are told; what ran before goes on, and the mended template is taken."""
    good = bed.template("job")
    bad = bed.template("job")
    bad["spec"]["containers"][0]["volumeMounts"] = [{"name": "no-such-volume", "mountPath": "/data"}]
    job = bed.job("job", template=bad)
    assert_invalid(bed, job, "no-such-volume")
    bed.change(job, template=good)
    bed.wait_ready(job)
    slots = bed.missed_slots(1)
    bed.annotate(job, mark_success=before(slots))
    bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    bed.change(job, template=bad)
    assert_invalid(bed, job, "no-such-volume")
    found = bed.get("cronjobs", job)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert "volumeMounts" not in found


def test_bookkeeping_survives_an_invalid_spec(bed: Testbed) -> None:
    """What was known of a job is kept while its spec is wrong, and goes on from there."""
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    good = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    bed.change(job, schedule="30-10 * * * *")
    bad = bed.wait_status(job, state="Invalid")
    kept = ("history", "lastSuccessTime", "settledThrough", "firstRunTime", "lastCommands")
    assert {key: bad[key] for key in kept} == {key: good[key] for key in kept}
    bed.change(job, schedule=bed.schedule)
    again = bed.wait_status(job, state="Waiting")
    assert {key: again[key] for key in kept} == {key: good[key] for key in kept}
    assert len(bed.runs(job)) == 2


# --- Conflicts and drift ---------------------------------------------------------------------------------


def foreign_cronjob(name: str) -> Body:
    """Return a CronJob of somebody else."""
    pod = {"containers": [{"name": "other", "image": "app"}], "restartPolicy": "Never"}
    template = {"spec": {"template": {"spec": pod}}}
    return {"metadata": {"name": name}, "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template}}


def test_foreign_cronjob_of_the_name_is_left_alone_and_told(bed: Testbed) -> None:
    """Nothing runs and nothing is changed while somebody else has the CronJob's name; afterwards all goes on."""
    slots = bed.missed_slots(2)
    foreign = bed.create("cronjobs", foreign_cronjob("job"))
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    assert_conflict(bed, job)
    assert bed.get("cronjobs", job)["metadata"]["resourceVersion"] == foreign["metadata"]["resourceVersion"]
    assert bed.objects("jobs", job) == []
    bed.delete("cronjobs", job)
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]), state="Waiting")
    assert bed.good(job) == [short(slot) for slot in slots]
    assert bed.get("cronjobs", job)["metadata"]["uid"] != foreign["metadata"]["uid"]


def assert_conflict(bed: Testbed, job: str) -> None:
    """Wait until the conflict is told."""
    bed.wait(lambda: bed.condition(job, "Ready").get("reason") == "NameConflict", "the conflict is told")
    assert bed.condition(job, "Stalled")["status"] == "True"
    assert bed.condition(job, "Ready")["status"] == "False"
    bed.wait_event(job, "NameConflict")


@pytest.mark.parametrize(
    "edit",
    [
        [{"op": "replace", "path": "/spec/schedule", "value": "7 7 7 7 *"}],
        [{"op": "add", "path": "/spec/startingDeadlineSeconds", "value": 77}],
        [{"op": "replace", "path": "/spec/suspend", "value": True}],
        [
            {
                "op": "add",
                "path": "/spec/jobTemplate/spec/template/spec/containers/0/env/-",
                "value": {"name": "ADDED", "value": "by hand"},
            }
        ],
        [{"op": "remove", "path": "/metadata/labels/crontabber.dev~1job"}],
        [{"op": "remove", "path": "/metadata/annotations/crontabber.dev~1hash"}],
        None,
    ],
    ids=[
        "field edited",
        "field added",
        "suspended",
        "list entry added",
        "label removed",
        "hash removed",
        "deleted",
    ],
)
def test_drift_of_the_cronjob_is_repaired(bed: Testbed, edit: list[Body] | None) -> None:
    """Whatever somebody does to the CronJob, within seconds it is again what the resource asks for."""
    job = bed.job("job")
    bed.wait_ready(job)
    made = bed.get("cronjobs", job)
    if edit is None:
        bed.delete("cronjobs", job)
    else:
        bed.patch("cronjobs", job, edit, kind=JSON_PATCH)

    def is_repaired() -> bool:
        found = bed.find("cronjobs", job)
        return found is not None and _asked_for(found) == _asked_for(made)

    bed.wait(is_repaired, "the CronJob is as it was")
    assert bed.objects("jobs", job) == []


def _asked_for(cronjob: Body) -> list[Any]:
    metadata = cronjob["metadata"]
    return [cronjob["spec"], metadata["labels"], metadata["annotations"], metadata["ownerReferences"]]


def test_labels_of_others_on_the_cronjob_are_kept(bed: Testbed) -> None:
    """Labels and annotations that others put on the CronJob stay through an update of its spec."""
    job = bed.job("job")
    bed.wait_ready(job)
    theirs = {"metadata": {"labels": {"team": "stability"}, "annotations": {"note": "hands off"}}}
    bed.patch("cronjobs", job, theirs)
    bed.change(job, schedule="3 3 3 3 *")
    bed.wait(lambda: bed.get("cronjobs", job)["spec"]["schedule"] == "3 3 3 3 *", "the CronJob is updated")
    metadata = bed.get("cronjobs", job)["metadata"]
    assert metadata["labels"]["team"] == "stability"
    assert metadata["annotations"]["note"] == "hands off"


# --- Refusals that heal by themselves --------------------------------------------------------------------


def test_exceeded_quota_is_told_and_heals(bed: Testbed, cluster: Cluster) -> None:
    """Where a quota allows no more Jobs, Ready says so; when it is raised, the slots run without being told."""
    requests = Requests(cluster.audit_log, bed.namespace)
    slots = bed.missed_slots(2)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    bed.create("resourcequotas", quota)
    bed.wait(lambda: bed.get("resourcequotas", "few").get("status", {}).get("hard"), "the quota is in force")
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait(lambda: "exceeded quota" in bed.condition(job, "Ready").get("message", ""), "the quota is told")
    assert bed.condition(job, "Ready")["status"] == "False"
    assert bed.condition(job, "Stalled")["status"] == "False"
    assert bed.status(job)["missed"] == 2
    # Tried again and again, it is told once.
    transition = bed.condition(job, "Ready")["lastTransitionTime"]
    bed.wait(
        lambda: [one.code for one in requests.writes() if one.resource == "jobs"].count(403) >= 3,
        "the Job was refused three times",
    )
    assert bed.condition(job, "Ready")["lastTransitionTime"] == transition
    assert bed.reasons(job).count("Accepted") == 0
    bed.patch("resourcequotas", "few", {"spec": {"hard": {"count/jobs.batch": "10"}}})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    bed.wait(lambda: bed.condition(job, "Ready")["status"] == "True", "it is ready")


def test_crd_refuses_what_it_can_check(bed: Testbed) -> None:
    """A wrong field never reaches the operator."""
    with pytest.raises(ApiError) as refused:
        bed.job("job", frequency="7h", schedule="* * * * *")
    assert refused.value.status == 422
