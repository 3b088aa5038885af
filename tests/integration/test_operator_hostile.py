"""Hostile and huge input: each ends in a condition that says so, heals, and the other jobs don't notice."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.admission import patched, policy, webhook
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import JSON_PATCH, PREFIX, ApiError, Body, Testbed, before, now, short, written

pytestmark = pytest.mark.side_by_side

STATUS_MAX_BYTES = 64 * 1024
NASTY = (
    "",
    " ",
    "a b",
    "'",
    '"',
    "`id`",
    "$(id)",
    "$HOME",
    "${HOME}",
    "; touch /tmp/owned",
    "&& true || false | cat > x < y &",
    "*",
    "~",
    "\\",
    "\n",
    "\t",
    "\x7f\x1b[31m",
    "!!",
    "#",
    "--",
    "-",
    "%s%n",
    "<script>",
    "{{ 7 * 7 }}",
    "ünïcödé 日本語 👩‍👩‍👧 \u202e",
    "x" * 10_000,
)
SECRET = "hunter2-not-for-anybody"


@contextmanager
def undisturbed(bed: Testbed) -> Iterator[None]:
    """Have a second job of the namespace run two slots, with whatever happens meanwhile."""
    slots = bed.missed_slots(2)
    bed.job("well", backfill=True, annotations={"mark-success": before(slots)})
    yield
    status = bed.wait_status("well", missed=0, settledThrough=written(slots[-1]))
    assert bed.good("well") == [short(slot) for slot in slots]
    assert status["errorCount"] == 0


def wait_told(bed: Testbed, job: str, words: str, reason: str, *, kind: str = "Ready") -> Body:
    """Wait until a condition is False for this reason, in these words; and for the Event."""

    def holds() -> Body | None:
        found = bed.condition(job, kind)
        says = words in found.get("message", "") and (found["status"], found["reason"]) == ("False", reason)
        return found if says else None

    told = bed.wait(holds, f"{kind} of {job} says {words!r}")
    event = bed.wait_event(job, reason)
    assert (event["type"], words in event["message"]) == ("Warning", True), event
    return told


# --- What commands get -----------------------------------------------------------------------------------


def test_arguments_reach_the_command_byte_for_byte(bed: Testbed) -> None:
    """Nothing ever goes through a shell; Kubernetes expands its own references, and no others."""
    slots = bed.missed_slots(1)
    args = [*NASTY, "$(RUN_TIME)", "$$(RUN_TIME)", "$$$(LAST_SUCCESS)", "$(NO_SUCH_VARIABLE)"]
    with undisturbed(bed):
        job = bed.job("job", backfill=True, args=args, annotations={"mark-success": before(slots)})
        bed.wait_good(job, 1)
    run_time, last = short(slots[0]), short(slots[0] - timedelta(minutes=1))
    expanded = [run_time, "$(RUN_TIME)", f"${last}", "$(NO_SUCH_VARIABLE)"]
    assert bed.runs(job)[0].argv == ("record", *NASTY, *expanded, f"--run-time={run_time}")


def test_arguments_of_run_now_reach_the_command_byte_for_byte(bed: Testbed) -> None:
    """In shell quoting, which no shell ever sees; and the annotation goes, whatever stands in it."""
    extra = [one for one in NASTY if len(one) < 100]
    with undisturbed(bed):
        job = bed.job("job")
        bed.wait_ready(job)
        bed.annotate(job, run_now=shlex.join(extra))
        bed.wait(lambda: [run for run in bed.runs(job) if run.outcome], "it ran")
        bed.wait(lambda: not bed.resource(job)["metadata"].get("annotations"), "the annotation is removed")
    assert bed.runs(job)[0].argv == ("record", *extra)
    bed.wait(lambda: bed.status(job)["lastCommands"][0]["result"] == "Done", "the command is done")


@pytest.mark.parametrize(
    "text", ["<b> & 'c'", "日本語", "e\u0301", "\x7f\x1b[31m\n", "👩‍👩‍👧", "x" * 100_000]
)
def test_any_value_of_an_annotation_is_answered(bed: Testbed, text: str) -> None:
    """With what is accepted; and the next command is done."""
    job = bed.job("job")
    bed.wait_ready(job)
    bed.annotate(job, mark_success=text)
    event = bed.wait_event(job, "CommandRefused")
    assert "takes 'now' or an RFC 3339 time" in event["message"]
    bed.wait(lambda: not bed.resource(job)["metadata"].get("annotations"), "the annotation is removed")
    bed.annotate(job, mark_success="now")
    bed.wait_event(job, "CommandDone")


def test_a_name_of_the_greatest_length(bed: Testbed) -> None:
    """Its CronJob, its Jobs and their pods have names that fit."""
    slots = bed.missed_slots(2)
    job = bed.job("a" + "-x" * 23 + "z", backfill=True, annotations={"mark-success": before(slots)})
    assert len(job) == 48
    bed.wait_good(job, 2)
    with pytest.raises(ApiError) as refused:
        bed.job(f"{job}z")
    assert "must be at most 48 characters" in str(refused.value)


# --- What is too much ------------------------------------------------------------------------------------


def test_a_status_stays_small_whatever_commands_print(bed: Testbed) -> None:
    """Ten failures with a megabyte each, of characters that take four bytes."""
    slots = bed.missed_slots(1)
    bed.control("job", failures=99, say="👾" * 250_000)
    with undisturbed(bed):
        job = bed.job(
            "job",
            backfill=True,
            retryDelaySeconds=1,
            retryMaxDelaySeconds=1,
            annotations={"mark-success": before(slots), "command-id": "i" * 50_000},
        )
        bed.wait_history(job, 10, 300)
    status = bed.status(job)
    assert len(json.dumps(status, ensure_ascii=False).encode()) < STATUS_MAX_BYTES
    assert status["lastError"]["value"] == "the database is on fire"


def test_a_resource_that_has_no_room_for_its_status_is_told(bed: Testbed) -> None:
    """The API server takes it, and then no status: only an Event can tell, and nothing runs unseen."""
    slots = bed.missed_slots(1)
    with undisturbed(bed):
        job = largest(bed, backfill=True, annotations={"mark-success": before(slots)})
        assert "shorten spec.args" in bed.wait_event(job, "TooLarge")["message"]
        assert not bed.runs(job)
        bed.change(job, args=[])
        bed.wait_good(job, 1)


def largest(bed: Testbed, **wanted: Any) -> str:
    """Make a resource to which hardly a character could be added."""
    for length in range(14_000, 2_000, -200):
        try:
            return bed.job("job", args=[*["x" * 60_000] * 26, "x" * length], **wanted)
        except ApiError as error:
            if "request is too large" not in str(error):
                raise
    raise AssertionError("all are too large")


# --- What is refused -------------------------------------------------------------------------------------


def test_a_policy_that_refuses_cronjobs_is_told_and_heals(bed: Testbed) -> None:
    """In its own words."""
    with policy(bed, ["cronjobs"], "false", "Cron is for Tuesdays."):
        job = bed.job("job")
        assert "Cron is for Tuesdays." in wait_told(bed, job, "Cron is for Tuesdays.", "Refused")["message"]
        assert bed.condition(job, "Stalled")["status"] == "False"
    bed.wait_ready(job)
    bed.wait(lambda: "Accepted" in bed.reasons(job), "that it is accepted is told")


def test_a_policy_that_refuses_jobs_is_told_and_heals(bed: Testbed) -> None:
    """The slots then run, oldest first, without anybody's doing."""
    slots = bed.missed_slots(2)
    with policy(bed, ["jobs"], "false", "No work today."):
        job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
        wait_told(bed, job, "No work today.", "Refused")
        assert not bed.runs(job)
    bed.wait_good(job, 2)
    assert bed.good(job) == [short(slot) for slot in slots]
    bed.wait(lambda: bed.condition(job, "Ready")["status"] == "True", "it is ready")


def test_a_webhook_that_adds_to_pods_is_not_fought(bed: Testbed) -> None:
    """A label, an annotation, an env of its own: once there, nothing is written again."""
    slots = bed.missed_slots(2)

    def answer(request: Body) -> Body:
        spec = request["object"]["spec"]
        spec = spec["jobTemplate"]["spec"] if request["kind"]["kind"] == "CronJob" else spec
        path = "/spec/jobTemplate/spec" if request["kind"]["kind"] == "CronJob" else "/spec"
        container = spec["template"]["spec"]["containers"][0]
        if any(one["name"] == "ADDED" for one in container["env"]):
            return {"allowed": True}
        return patched(
            {"op": "add", "path": f"{path}/template/metadata/labels/added", "value": "x"},
            {
                "op": "add",
                "path": f"{path}/template/spec/containers/0/env/-",
                "value": {"name": "ADDED", "value": "1"},
            },
        )

    with webhook(bed, bed.folder, ["cronjobs", "jobs"], answer), undisturbed(bed):
        job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
        bed.wait_good(job, 2)
        bed.wait_status(job, missed=0)
        generation = bed.get("cronjobs", job)["metadata"]["generation"]
    assert generation == 1
    assert "added" in bed.objects("jobs", job)[0]["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("part", ["annotations", "ownerReferences"])
def test_a_webhook_that_takes_away_what_a_job_needs_is_told(bed: Testbed, part: str) -> None:
    """One Job after the other would be made for nothing."""
    slots = bed.missed_slots(1)
    asked: list[str] = []

    def answer(request: Body) -> Body:
        if request["operation"] != "CREATE" or request["name"] == "well":
            return {"allowed": True}
        asked.append(request["object"]["metadata"]["name"])
        return patched({"op": "remove", "path": f"/metadata/{part}"})

    with webhook(bed, bed.folder, ["jobs"], answer):
        job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
        wait_told(bed, job, f"without metadata.{part}", "Refused")
        bed.wait(lambda: len(asked) > 2, "it is tried again")
        assert len(set(asked)) == 1, "under the same name, so that no others are left behind"
        assert not bed.runs(job)
    bed.wait_good(job, 1)
    assert len(bed.runs(job)) == 1


def test_a_webhook_that_takes_away_what_a_cronjob_needs_is_told(bed: Testbed) -> None:
    """It would be written again and again."""
    generations: list[int] = []

    def answer(request: Body) -> Body:
        generations.append(request["object"]["metadata"].get("generation", 0))
        return patched({"op": "remove", "path": "/metadata/annotations"})

    with webhook(bed, bed.folder, ["cronjobs"], answer):
        job = bed.job("job")
        wait_told(bed, job, "without metadata.annotations", "Refused")
        bed.wait(lambda: len(generations) >= 3, "it is tried again")
    bed.wait_ready(job)
    bed.wait(lambda: bed.get("cronjobs", job)["metadata"].get("annotations"), "it is whole")


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ("quota", "exceeded quota"),
        ("limit", "maximum cpu usage per Pod"),
        ("security", "violates PodSecurity"),
    ],
)
def test_pods_that_are_refused_are_told_and_heal(bed: Testbed, guard: str, words: str) -> None:
    """The Job is there and no pod of it: only the Job's Events tell."""
    slots = bed.missed_slots(1)
    pods_of(bed, guard, allowed=False)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    wait_told(bed, job, words, "CannotStart", kind="CaughtUp")
    assert 'pods "' not in bed.condition(job, "CaughtUp")["message"]
    pods_of(bed, guard, allowed=True)
    # The Job controller tries again with delays of its own, and this Job is as good as another.
    bed.wait_status(job, 300, missed=0)
    assert bed.good(job) == [short(slots[0])]


def pods_of(bed: Testbed, guard: str, *, allowed: bool) -> None:
    """Allow the pods of the namespace, or refuse them."""
    if guard == "security":
        level = "privileged" if allowed else "restricted"
        labels = {"pod-security.kubernetes.io/enforce": level}
        path = f"/api/v1/namespaces/{bed.namespace}"
        bed.api.request("PATCH", path, {"metadata": {"labels": labels}}, "application/merge-patch+json")
        return
    plural = "resourcequotas" if guard == "quota" else "limitranges"
    if allowed:
        bed.delete(plural, "guard")
    elif guard == "quota":
        bed.create(plural, {"metadata": {"name": "guard"}, "spec": {"hard": {"pods": "0"}}})
        bed.wait(lambda: bed.get(plural, "guard").get("status", {}).get("hard"), "the quota is in force")
    else:
        limit = {"type": "Pod", "max": {"cpu": "1"}}
        bed.create(plural, {"metadata": {"name": "guard"}, "spec": {"limits": [limit]}})


def test_a_plain_job_that_kubernetes_can_not_start_is_told(bed: Testbed) -> None:
    """The operator makes no Jobs for it, so no refusal comes to it."""
    with policy(bed, ["jobs"], "false", "No work today."):
        job = bed.job("job", schedule="* * * * *")
        words = "the CronJob controller has not made its Job"
        told = wait_told(bed, job, words, "CannotStart", kind="CaughtUp")
        assert f"kubectl describe cronjob {job}" in told["message"]


def test_a_namespace_that_is_being_deleted_is_left_in_peace(own: OwnOperators) -> None:
    """What can't be made there any more is refused, which is nobody's error."""
    bed = own.bed
    slots = bed.missed_slots(1)
    operator = own.start()
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_good(job, 1)
    held = {"metadata": {"name": "held", "finalizers": [f"{PREFIX}tests"]}}
    bed.create("configmaps", held)
    bed.patch("crontabberjobs", job, {"metadata": {"finalizers": [f"{PREFIX}tests"]}})
    bed.remove()
    bed.wait(lambda: bed.resource(job)["metadata"].get("deletionTimestamp"), "the resource is being deleted")
    bed.wait(lambda: not bed.objects("jobs"), "its Jobs are gone")
    assert operator.runs
    for plural, name in (("crontabberjobs", job), ("configmaps", "held")):
        bed.patch(plural, name, [{"op": "remove", "path": "/metadata/finalizers"}], kind=JSON_PATCH)
    assert not [line for line in operator.log().splitlines() if "Traceback" in line or "unexpected" in line]


# --- What must not be told -------------------------------------------------------------------------------


def test_secrets_of_a_template_are_told_to_nobody(own: OwnOperators) -> None:
    """Not in the log, not in a status, not in an Event: however the job fails, or is refused."""
    bed = own.bed
    operator = own.start()
    slots = bed.missed_slots(1)
    bed.control("job", failures=1)
    secret = {"SECRET_KEY": SECRET, "DATABASE_URL": f"postgres://u:{SECRET}@db/x"}
    job = bed.job(
        "job", env=secret, backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)}
    )
    bed.wait_good(job, 1)
    broken = bed.template("broken", secret)
    broken["spec"]["containers"][0]["ports"] = [{"containerPort": 99999}]
    bed.job("broken", template=broken)
    wait_told(bed, "broken", "invalid", "InvalidTemplate")
    # A Job that can't be changed any more: the API server quotes its whole template.
    bed.job("halted", env=secret, suspend=True, backfill=True)
    told = operator.log() + json.dumps(
        [bed.status(name) for name in ("job", "broken", "halted")] + bed.objects("events")
    )
    assert SECRET not in told


# --- What people write by hand ---------------------------------------------------------------------------


def test_garbage_in_annotations_of_jobs_disturbs_nobody(bed: Testbed) -> None:
    """What can't be read is left out, and the slots run on."""
    slots = bed.missed_slots(2)
    garbage = {PREFIX + key: "\n{{garbage" for key in ("slot", "attempt", "run-time", "told", "through")}
    garbage["batch.kubernetes.io/cronjob-scheduled-timestamp"] = "yesterday"
    with undisturbed(bed):
        job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
        bed.wait_good(job, 2)
        bed.wait_status(job, missed=0)
        for one in bed.objects("jobs", job):
            bed.patch("jobs", one["metadata"]["name"], {"metadata": {"annotations": garbage}})
        bed.annotate(job, mark_success=before(slots[1:]))
        bed.wait_good(job, 3)
    bed.wait_status(job, missed=0)


def test_a_status_full_of_garbage_is_mended(bed: Testbed) -> None:
    """What the schema lets through and no operator would write."""
    slots = bed.missed_slots(2)
    garbage = {
        "settledThrough": "0001-01-01T00:00:00Z",
        "lastSuccessTime": "9999-12-31T23:59:59Z",
        "errorCount": 2**63 - 1,
        "missed": 2**63 - 1,
        "state": "Drunk",
        "ongoing": {
            "slot": "0001-01-01T00:00:00Z",
            "through": "9999-12-31T23:59:59Z",
            "job": "../x",
            "uid": "%s",
        },
        "history": [{"slot": written(now()), "result": "Splendid"}] * 20,
        "lastCommands": [{"id": "x", "name": "reset", "result": "Pending", "value": "\x7f"}],
        "retry": {"of": "x", "failures": 2**63 - 1, "notBefore": "9999-12-31T23:59:59Z"},
    }
    with undisturbed(bed):
        job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
        bed.wait_good(job, 2)
        bed.wait_status(job, missed=0)
        bed.patch("crontabberjobs", job, {"status": garbage}, subresource="status")
        bed.annotate(job, reset="")
        bed.wait_status(job, missed=0, errorCount=0, state="Waiting")
        bed.annotate(job, mark_success=before(slots[1:]))
        bed.wait_good(job, 3)


def test_a_cronjob_that_somebody_keeps_changing_is_mended_with_growing_delays(bed: Testbed) -> None:
    """Two parties that undo each other's work must not do it as fast as they can."""
    with undisturbed(bed):
        job = bed.job("job")
        bed.wait_ready(job)
        for number in range(1, 30):
            bed.patch("cronjobs", job, {"spec": {"schedule": f"{number} * * * *"}})
        bed.wait(
            lambda: bed.get("cronjobs", job)["spec"]["schedule"] == bed.schedule,
            "the CronJob is as asked for",
        )
