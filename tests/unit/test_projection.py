"""The API's objects as the core reads them; whatever people did to them by hand. Tables."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from crontabber_operator.manifests import Owner
from crontabber_operator.observed import RunKind
from crontabber_operator.projection import (
    belongs_to,
    owner_name,
    read_cronjob,
    read_run,
    resource_version,
    schedule_key,
)
from tests.unit.backfill_scene import at

OWNER = Owner("space", "job", "owner-uid")
RUN_TIME = "crontabber.dev/run-time"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


def job(*, cronjob: bool = True, gated: bool = True, **changes: Any) -> dict[str, Any]:
    """Build a Job: the controller's own of slot 10:00, suspended, unless changes say something else."""
    reference = (
        {"kind": "CronJob", "name": "job", "uid": "cronjob-uid", "controller": True}
        if cronjob
        else {"kind": "CrontabberJob", "name": "job", "uid": "owner-uid"}
    )
    annotations = {"crontabber.dev/template-hash": "t"}
    annotations |= {SCHEDULED: "2026-06-03T10:00:00Z"} if cronjob else {}
    body: dict[str, Any] = {
        "metadata": {
            "name": "job-1",
            "namespace": "space",
            "uid": "uid-1",
            "resourceVersion": "7",
            "creationTimestamp": "2026-06-03T10:00:01Z",
            "labels": {"crontabber.dev/job": "job"},
            "annotations": annotations,
            "ownerReferences": [reference],
        },
        "spec": {
            "suspend": gated,
            "template": {"metadata": {"annotations": {RUN_TIME: ""} if gated else {}}},
        },
        "status": {},
    }
    for path, value in changes.items():
        holder = body
        *way, last = path.split("__")
        for part in way:
            holder = holder[part]
        holder[last] = value
    return body


def annotated(cronjob: bool, **annotations: str) -> dict[str, Any]:
    """Build a Job with further annotations of ours."""
    body = job(cronjob=cronjob)
    body["metadata"]["annotations"] |= {
        f"crontabber.dev/{name.replace('_', '-')}": value for name, value in annotations.items()
    }
    return body


def read(body: dict[str, Any]) -> Any:
    """Read a Job that is one of ours."""
    run = read_run(body)
    assert run is not None
    return run


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (job(), RunKind.NATIVE),
        (job(metadata__annotations={}), RunKind.MANUAL),
        (
            job(
                metadata__annotations={
                    SCHEDULED: "2026-06-03T10:00:00Z",
                    "cronjob.kubernetes.io/instantiate": "manual",
                }
            ),
            RunKind.MANUAL,
        ),
        (annotated(cronjob=False, slot="2026-06-03T10:00:00Z"), RunKind.ONE_OFF),
        (annotated(cronjob=False, slot="2026-06-03T10:00:00Z", run_now="true"), RunKind.MANUAL),
        (job(cronjob=False), RunKind.MANUAL),
        (job(metadata__ownerReferences=[]), None),
        (job(metadata__ownerReferences=None), None),
        (job(metadata__ownerReferences=[{"kind": "CronJob", "name": "job", "uid": "u"}]), None),
        (job(metadata__ownerReferences=[{"kind": "Workflow", "controller": True}]), None),
        (job(metadata__creationTimestamp=None), None),
    ],
)
def test_who_made_a_job(body: dict[str, Any], kind: RunKind | None) -> None:
    """Known from its owner and annotations; what isn't ours isn't read."""
    run = read_run(body)
    assert (run.kind if run is not None else None) == kind


@pytest.mark.parametrize(
    ("body", "told", "ready"),
    [
        (job(), 0, False),
        (annotated(cronjob=False, told="2"), 2, False),
        (annotated(cronjob=False, told="x"), 0, False),
        (job(status__ready=1), 0, True),
        (job(status__ready=0), 0, False),
    ],
)
def test_what_was_told_of_a_job_and_whether_it_runs(body: dict[str, Any], told: int, ready: bool) -> None:
    """From our own annotation, and from the Job controller's count."""
    assert (read(body).told, read(body).ready) == (told, ready)


@pytest.mark.parametrize(
    ("body", "slot", "through", "attempt"),
    [
        (job(), "10:00", "10:00", 0),
        (annotated(cronjob=True, attempt="3"), "10:00", "10:00", 3),
        (
            annotated(
                cronjob=False, slot="2026-06-03T09:00:00Z", through="2026-06-03T11:00:00Z", attempt="2"
            ),
            "09:00",
            "11:00",
            2,
        ),
        (
            annotated(cronjob=False, slot="2026-06-03T09:00:00Z", through="2026-06-03T08:00:00Z"),
            "09:00",
            "09:00",
            0,
        ),
        (annotated(cronjob=False, slot="nonsense", through="x", attempt="many"), "10:00:01", "10:00:01", 0),
        (annotated(cronjob=False, slot="2026-06-03T09:00:00Z", attempt="٣"), "09:00", "09:00", 0),
        (annotated(cronjob=False, slot="2026-06-03T09:00:00Z", attempt="9" * 30), "09:00", "09:00", 0),
        (annotated(cronjob=False, slot="2026-06-03T11:00:00+02:00", attempt="-1"), "09:00", "09:00", 0),
        (job(metadata__annotations={SCHEDULED: "2026-06-03T10:00:00Z"}), "10:00", "10:00", 0),
    ],
)
def test_which_slot_a_job_is_for(body: dict[str, Any], slot: str, through: str, attempt: int) -> None:
    """What can't be read is as if it weren't there."""
    run = read(body)
    assert (run.slot, run.through, run.attempt) == (at(slot), at(through), attempt)


def test_a_job_may_be_in_a_queue_of_kueue() -> None:
    """By its own label, not its pods'."""
    assert read(job()).queue == ""
    assert read(job(metadata__labels={"kueue.x-k8s.io/queue-name": "batch"})).queue == "batch"


@pytest.mark.parametrize(
    ("body", "suspended", "released"),
    [
        (job(), True, False),
        (job(spec__suspend=False), False, True),
        (job(gated=False), False, True),
        (job(gated=False, spec__suspend=True), True, True),  # a plain run that somebody suspended
        (job(spec__template={"metadata": {"annotations": {RUN_TIME: "2026-06-03T10:00"}}}), True, True),
        (job(status={"startTime": "2026-06-03T10:00:02Z"}), True, True),
        (job(status={"failed": 1}), True, True),
        (job(spec={}), False, True),
        # Kueue stops a Job and puts its pod template back.
        (annotated(cronjob=True, run_time="2026-06-03T10:00"), True, True),
    ],
)
def test_whether_a_job_was_ever_released(body: dict[str, Any], suspended: bool, released: bool) -> None:
    """A suspended one was, if it was told a run time, had a pod, or was never gated."""
    run = read(body)
    assert (run.suspended, run.released) == (suspended, released)


@pytest.mark.parametrize(
    ("body", "by_hand"),
    [
        (job(), False),
        (job(spec__suspend=False), True),
        (job(status={"startTime": "2026-06-03T10:00:02Z"}), True),  # and suspended again
        (job(gated=False), False),
        (job(spec__suspend=False, spec__template={"metadata": {"annotations": {RUN_TIME: "T"}}}), False),
        (annotated(cronjob=True, run_time="2026-06-03T10:00"), False),
    ],
)
def test_whether_a_person_released_a_job(body: dict[str, Any], by_hand: bool) -> None:
    """Then nothing filled in its run time."""
    assert read(body).by_hand is by_hand


@pytest.mark.parametrize(
    ("status", "finished", "succeeded", "reason"),
    [
        ({}, None, False, ""),
        ({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}, None, False, ""),
        ({"conditions": [{"type": "FailureTarget", "status": "True"}]}, None, False, ""),
        ({"conditions": [{"type": "Complete", "status": "False"}]}, None, False, ""),
        (
            {
                "conditions": [{"type": "Complete", "status": "True"}],
                "completionTime": "2026-06-03T10:05:00Z",
            },
            "10:05",
            True,
            "",
        ),
        (
            {
                "conditions": [
                    {"type": "Complete", "status": "True", "lastTransitionTime": "2026-06-03T10:06:00Z"}
                ]
            },
            "10:06",
            True,
            "",
        ),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "10:00:01", True, ""),
        (
            {
                "conditions": [
                    {
                        "type": "Failed",
                        "status": "True",
                        "reason": "DeadlineExceeded",
                        "lastTransitionTime": "2026-06-03T10:07:00Z",
                    }
                ]
            },
            "10:07",
            False,
            "DeadlineExceeded",
        ),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "10:00:01", False, ""),
        ({"conditions": None}, None, False, ""),
    ],
)
def test_how_a_job_ended(status: dict[str, Any], finished: str | None, succeeded: bool, reason: str) -> None:
    """Only by its final conditions: those that lead to them are no end yet."""
    run = read(job(status=status))
    assert (run.finished, run.succeeded, run.reason) == (
        at(finished) if finished else None,
        succeeded,
        reason,
    )


def test_what_a_job_counts_of_its_pods() -> None:
    """Failed ones, and whether one goes on."""
    run = read(job(status={"failed": 3, "active": 1}))
    assert (run.failed_pods, run.active) == (3, True)
    run = read(job(status={"failed": None, "active": 0}))
    assert (run.failed_pods, run.active) == (0, False)


def test_a_job_that_is_being_deleted_says_so() -> None:
    """By a finalizer, or with its pods first."""
    assert read(job(metadata__deletionTimestamp="2026-06-03T10:05:00Z")).deleting
    assert not read(job()).deleting


def test_a_job_is_told_from_one_of_a_former_resource_of_its_name() -> None:
    """By the uids of its owners."""
    assert belongs_to(job(), "other", "cronjob-uid")
    assert belongs_to(job(cronjob=False), "owner-uid", None)
    assert not belongs_to(job(), "owner-uid", None)
    assert not belongs_to(job(), "owner-uid", "another-cronjob")
    assert not belongs_to(job(metadata__ownerReferences=None), "owner-uid", "cronjob-uid")


@pytest.mark.parametrize(
    ("labels", "name"),
    [({"crontabber.dev/job": "job"}, "job"), ({"crontabber.dev/job": ""}, None), ({}, None), (None, None)],
)
def test_whose_an_object_is_is_its_label(labels: dict[str, str] | None, name: str | None) -> None:
    """The watch selects by it."""
    assert owner_name(job(metadata__labels=labels)) == name


@pytest.mark.parametrize(("version", "number"), [("7", 7), ("", 0), ("x", 0)])
def test_versions_are_numbers(version: str, number: int) -> None:
    """Of an API server as we know it; of any other none is newer."""
    assert resource_version({"metadata": {"resourceVersion": version}}) == number
    assert resource_version({"metadata": {}}) == 0


# --- CronJobs -------------------------------------------------------------------------------------------

CRONJOB: dict[str, Any] = {
    "metadata": {
        "name": "job",
        "namespace": "space",
        "uid": "cronjob-uid",
        "resourceVersion": "9",
        "creationTimestamp": "2026-06-03T09:30:00Z",
        "annotations": {"crontabber.dev/hash": "h", "crontabber.dev/template-hash": "old"},
        "ownerReferences": [{"kind": "CrontabberJob", "name": "job", "uid": "owner-uid", "controller": True}],
        "managedFields": [
            {"manager": "crontabber-operator", "operation": "Update", "fieldsV1": {"f:spec": {}}},
            {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:status": {}}},
        ],
    },
    "spec": {
        "schedule": "*/7 * * * *",
        "timeZone": "Etc/UTC",
        "suspend": False,
        "jobTemplate": {"metadata": {"annotations": {"crontabber.dev/template-hash": "t"}}},
    },
    "status": {"lastScheduleTime": "2026-06-03T10:00:00Z", "lastSuccessfulTime": "2026-06-03T10:01:00Z"},
}


def cronjob(**changes: Any) -> Any:
    """Read a CronJob of ours with changes."""
    body = copy.deepcopy(CRONJOB)
    for path, value in changes.items():
        holder = body
        *way, last = path.split("__")
        for part in way:
            holder = holder[part]
        holder[last] = value
    return read_cronjob(body, OWNER)


def test_a_cronjob_is_read_whole() -> None:
    """The template's hash is that which its Jobs get."""
    seen = cronjob()
    assert (seen.uid, seen.resource_version, seen.hash, seen.template_hash) == ("cronjob-uid", "9", "h", "t")
    assert (seen.ours, seen.drifted, seen.suspended) == (True, False, False)
    assert (seen.created, seen.last_schedule, seen.last_successful) == (at("09:30"), at("10:00"), at("10:01"))
    assert seen.schedule == "*/7 * * * * Etc/UTC"
    assert seen.slots.next_after(at("10:00")) == at("10:07")


def test_when_the_operator_last_wrote_a_cronjob() -> None:
    """Its spec, or what it fired last; what others wrote later is theirs."""
    fields = [
        {"manager": "crontabber-operator", "time": "2026-06-03T09:30:00Z"},
        {"manager": "crontabber-operator", "subresource": "status", "time": "2026-06-03T09:40:00Z"},
        {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-06-03T09:50:00Z"},
    ]
    assert cronjob(metadata__managedFields=fields).written == at("09:40")
    assert cronjob(metadata__managedFields=[]).written is None


@pytest.mark.parametrize(
    ("change", "former"),
    [
        ({"uid": "another-uid"}, True),
        ({}, False),
        ({"uid": "another-uid", "name": "another"}, False),
        ({"uid": "another-uid", "kind": "Deployment"}, False),
        ({"uid": "another-uid", "controller": False}, False),
    ],
)
def test_a_cronjob_of_a_former_resource_is_known(change: dict[str, Any], former: bool) -> None:
    """It was made for one of the same name; a reference that isn't the controller's somebody may have added."""
    reference = CRONJOB["metadata"]["ownerReferences"][0]
    seen = cronjob(metadata__ownerReferences=[{**reference, **change}])
    assert (seen.former, seen.ours) == (former, not change)


@pytest.mark.parametrize(("active", "told"), [([{"name": "job-1"}], True), ([], False), (None, False)])
def test_a_cronjob_tells_whether_a_job_of_it_goes_on(active: Any, told: bool) -> None:
    """As its controller saw it last."""
    assert cronjob(status__active=active).active is told


@pytest.mark.parametrize(
    ("template", "starts"),
    [
        ({"spec": {"suspend": True}}, False),
        ({"spec": {"suspend": False}}, True),
        ({"spec": {}}, True),
        ({}, True),
    ],
)
def test_a_cronjob_tells_whether_its_jobs_start_by_themselves(template: dict[str, Any], starts: bool) -> None:
    """Those of a plain job do."""
    assert cronjob(spec__jobTemplate=template).starts_runs is starts


@pytest.mark.parametrize(
    "references",
    [
        None,
        [],
        [{"kind": "CrontabberJob", "name": "job", "uid": "former"}],
        [{"kind": "App", "uid": "owner-uid"}],
    ],
)
def test_a_cronjob_that_was_not_made_for_this_resource_is_not_ours(references: Any) -> None:
    """By kind and uid: a former resource's isn't, either."""
    assert cronjob(metadata__ownerReferences=references).ours is False


@pytest.mark.parametrize(
    ("entry", "drifted"),
    [
        ({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:suspend": {}}}}, True),
        ({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:metadata": {}}}, False),
        ({"manager": "kubectl-edit", "subresource": "status", "fieldsV1": {"f:spec": {}}}, False),
        ({"manager": "x"}, False),
    ],
)
def test_drift_is_somebody_else_in_the_spec(entry: dict[str, Any], drifted: bool) -> None:
    """As the API server keeps it; labels and status are anybody's."""
    assert cronjob(metadata__managedFields=[entry]).drifted is drifted


@pytest.mark.parametrize(
    ("schedule", "zone", "following"),
    [
        ("@every 45m", "Etc/UTC", "10:30"),
        ("@every 2h", "Etc/UTC", "12:00"),
        ("@every 2h0m0s", "Etc/UTC", "12:00"),
        ("30 * * * *", None, "10:30"),
        ("0 12 * * *", "Europe/Berlin", "4T10:00"),
        ("@every 90s", "Etc/UTC", None),
        ("nonsense", "Etc/UTC", None),
        ("0 * * * *", "Nowhere/Land", None),
        ("", None, None),
    ],
)
def test_the_slots_of_a_cronjob_are_read_where_they_can_be(
    schedule: str, zone: str | None, following: str | None
) -> None:
    """Somebody may have written anything into it."""
    slots = cronjob(spec__schedule=schedule, spec__timeZone=zone).slots
    assert (slots.next_after(at("10:00")) if slots is not None else None) == (
        at(following) if following else None
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {}},
        {"status": None},
        {"spec": {}},
        {"spec": None},
        {"metadata__annotations": None},
        {"metadata__managedFields": None},
        {"status__lastScheduleTime": "never"},
    ],
)
def test_a_cronjob_lacking_something_is_read_all_the_same(changes: dict[str, Any]) -> None:
    """What isn't there is empty."""
    seen = cronjob(**changes)
    assert seen is not None
    if "status" in "".join(changes):
        assert seen.last_schedule is None


def test_schedule_and_zone_are_compared_as_one() -> None:
    """A time zone that is edited is another schedule."""
    assert schedule_key({"schedule": "0 * * * *", "timeZone": "UTC"}) != schedule_key(
        {"schedule": "0 * * * *"}
    )
