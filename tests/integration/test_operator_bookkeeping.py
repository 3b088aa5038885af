"""The status, its conditions and the Events, as people and tools on a real cluster see them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from devcluster import Cluster, ClusterError
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Body, Testbed, before, now, short, written

pytestmark = pytest.mark.side_by_side


def parsed(text: str) -> datetime:
    """Read a time of a status."""
    return datetime.fromisoformat(text)


# --- The status -------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_and_one_that_ended_are_in_the_status(bed: Testbed) -> None:
    """Every field of it, while the second of two slots runs, and afterwards."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    status = bed.wait_status(job, state="CatchingUp")
    (run,) = bed.objects("jobs", job)[:1]
    assert status["ongoing"] == {
        "slot": written(slots[0]),
        "through": written(slots[0]),
        "job": run["metadata"]["name"],
        "uid": run["metadata"]["uid"],
        "attempt": 1,
        "since": status["lastRunTime"],
    }
    assert status["observedGeneration"] == bed.resource(job)["metadata"]["generation"]
    assert (status["missed"], status["skipped"], status["errorCount"]) == (2, 0, 0)
    assert status["firstRunTime"] == status["lastRunTime"]
    assert status["nextRunTime"] == written(slots[1])
    assert status["schedule"] == bed.schedule
    assert bed.condition(job, "CaughtUp")["reason"] == "Running"
    bed.control("job")
    status = bed.wait_status(job, missed=0, state="Waiting")
    assert "ongoing" not in status
    assert status["lastSuccessTime"] == status["settledThrough"] == written(slots[1])
    assert parsed(status["nextRunTime"]) == slots[1] + timedelta(hours=1)
    assert parsed(status["firstRunTime"]) <= parsed(status["lastRunTime"])
    entry = status["history"][1]
    assert entry.pop("seconds") >= 0
    assert parsed(entry.pop("started")) <= parsed(entry.pop("finished"))
    assert entry == {
        "slot": written(slots[0]),
        "job": run["metadata"]["name"],
        "attempt": 1,
        "result": "Succeeded",
        "message": "",
    }
    for condition in status["conditions"]:
        assert condition["observedGeneration"] == status["observedGeneration"]
        assert condition["reason"]
        assert condition["message"].endswith((".", "…")), condition
    told = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert told == {
        "Ready": ("True", "Scheduled"),
        "LastRunSucceeded": ("True", "Succeeded"),
        "CaughtUp": ("True", "NothingMissed"),
        "Stalled": ("False", "Accepted"),
    }


def test_a_failure_is_in_the_status_with_the_end_of_its_traceback(bed: Testbed) -> None:
    """What failed, how, where and when; the waits between attempts double up to retryMaxDelaySeconds."""
    slots = bed.missed_slots(1)
    bed.control("job", failures=99)
    job = bed.job(
        "job",
        backfill=True,
        retryDelaySeconds=1,
        retryMaxDelaySeconds=2,
        failedJobsHistoryLimit=99,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_failed(job, 3)
    error, retry = status["lastError"], status["retry"]
    assert error["slot"] == written(slots[0])
    assert error["job"] in [one["metadata"]["name"] for one in bed.objects("jobs", job)]
    assert error["type"] == "RuntimeError"
    assert error["traceback"].startswith("Traceback (most recent call last)")
    assert parsed(retry["notBefore"]) - parsed(error["time"]) == timedelta(seconds=2)
    assert (status["state"], status["missed"]) == ("Retrying", 1)
    (last_run,) = [one for one in status["conditions"] if one["type"] == "LastRunSucceeded"]
    assert last_run["status"] == "False"
    said = f"{status['errorCount']} failed in a row; the last one: RuntimeError: "
    assert last_run["message"].startswith(said)
    event = bed.wait_event(job, "RunFailed")
    assert event["type"] == "Warning"
    assert "RuntimeError: " in event["message"]
    assert "Next attempt at " in event["message"]


def test_the_next_run_of_a_job_that_failed_is_its_next_attempt(bed: Testbed) -> None:
    """The column NEXT RUN shows when it is tried again, not the next slot."""
    slots = bed.missed_slots(1)
    bed.control("job", failures=99)
    job = bed.job("job", backfill=True, retryDelaySeconds=600, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, errorCount=1)
    assert status["nextRunTime"] == status["retry"]["notBefore"]
    assert parsed(status["nextRunTime"]) - parsed(status["lastError"]["time"]) == timedelta(seconds=600)


def test_all_that_is_made_is_labelled_and_tells_its_slot(bed: Testbed) -> None:
    """The CronJob, one-offs and their pods; a plain job's CronJob is left to Kubernetes."""
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    labels = {"crontabber.dev/job": job, "app.kubernetes.io/managed-by": "crontabber"}
    cronjob = bed.get("cronjobs", job)
    for made in (cronjob, *bed.objects("jobs", job), *bed.objects("pods", job)):
        assert labels.items() <= made["metadata"]["labels"].items()
    for plural in ("jobs", "pods"):
        found = {
            one["metadata"]["annotations"]["crontabber.dev/slot"]: one["metadata"]["annotations"]
            for one in bed.objects(plural, job)
        }
        assert sorted(found) == [written(slot) for slot in slots]
        told = found[written(slots[1])]
        assert told["crontabber.dev/attempt"] == "1"
    pod = next(
        one["metadata"]["annotations"]
        for one in bed.objects("pods", job)
        if one["metadata"]["annotations"]["crontabber.dev/slot"] == written(slots[1])
    )
    assert pod["crontabber.dev/run-time"] == short(slots[1])
    assert pod["crontabber.dev/last-success"] == short(slots[0])
    assert cronjob["spec"]["jobTemplate"]["spec"]["suspend"] is True


def test_a_plain_job_is_a_cronjob_that_works_without_the_operator(bed: Testbed) -> None:
    """Kubernetes runs it, retries it, ends what hangs, and keeps the next slot waiting meanwhile."""
    in_three_days = f"30 5 * * {(now() + timedelta(days=3)).isoweekday() % 7}"
    job = bed.job(
        "job",
        schedule=in_three_days,
        timeZone="Europe/Berlin",
        startingDeadlineSeconds=600,
        activeDeadlineSeconds=300,
        retryLimit=4,
        args=["--all"],
        managePy=["python", "-u", "manage.py"],
    )
    bed.wait_ready(job)
    spec = bed.get("cronjobs", job)["spec"]
    assert (spec["schedule"], spec["timeZone"]) == (in_three_days, "Europe/Berlin")
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"]) == ("Forbid", 600)
    run = spec["jobTemplate"]["spec"]
    assert not run.get("suspend")
    assert run["backoffLimit"] == 4
    assert run["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    pod = run["template"]["spec"]
    assert (pod["restartPolicy"], pod["activeDeadlineSeconds"]) == ("Never", 300)
    container = pod["containers"][0]
    words = [*container.get("command", []), *container["args"]]
    assert words == ["python", "-u", "manage.py", "record", "--all"]
    bed.change(job, retryLimit=None, timeZone=None)
    bed.wait(
        lambda: bed.get("cronjobs", job)["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 2147483647,
        "it retries for ever",
    )
    assert bed.get("cronjobs", job)["spec"]["timeZone"] in ("UTC", "Etc/UTC")
    bed.annotate(job, run_now="")
    bed.wait(lambda: [run.argv for run in bed.runs(job)] == [("record", "--all")], "it ran")


@pytest.mark.parametrize(
    ("policy", "kept"), [(None, ["proxy"]), ("Drop", []), ("All", ["migrate", "proxy"])], ids=str
)
def test_it_runs_in_the_chosen_container_of_the_web_app(
    bed: Testbed, policy: str | None, kept: list[str]
) -> None:
    """Of its init containers those stay that the policy keeps; other containers, probes and ports don't."""
    containers: list[Body] = [
        {"name": "nginx", "image": "app"},
        {
            "name": "django",
            "image": "app",
            "env": [{"name": "COLOUR", "value": "green"}],
            "ports": [{"containerPort": 8000}],
            "livenessProbe": {"exec": {"command": ["true"]}},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        },
    ]
    inits: list[Body] = [
        {"name": "migrate", "image": "app"},
        {"name": "proxy", "image": "app", "restartPolicy": "Always"},
    ]
    labels = {"app": "site"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "initContainers": inits}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    bed.create("deployments", {"metadata": {"name": "site"}, "spec": spec})
    webapp = {"kind": "Deployment", "name": "site", "container": "django"}
    webapp |= {"initContainerPolicy": policy} if policy else {}
    job = bed.job("job", template=None, webapp=webapp)
    bed.wait_ready(job)
    pod = bed.get("cronjobs", job)["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["name"] == "django"
    assert {"name": "COLOUR", "value": "green"} in container["env"]
    assert not {"ports", "livenessProbe", "lifecycle"} & container.keys()
    assert [one["name"] for one in pod["spec"].get("initContainers", [])] == kept
    assert "app" not in pod["metadata"]["labels"]


# --- Those who wait for a condition -----------------------------------------------------------------------


def test_kubectl_waits_until_a_job_has_caught_up_and_succeeded(bed: Testbed, cluster: Cluster) -> None:
    """`kubectl wait` ends when the condition holds, and not before."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)

    def wait(condition: str, seconds: int) -> str:
        return cluster.kubectl(
            "-n", bed.namespace, "wait", f"--for=condition={condition}", f"--timeout={seconds}s", f"ctj/{job}"
        )

    assert "condition met" in wait("Ready", 60)
    bed.wait(lambda: bed.condition(job, "CaughtUp").get("status") == "False", "it is told to be behind")
    with pytest.raises(ClusterError, match="timed out"):
        wait("CaughtUp", 1)
    bed.control("job")
    assert "condition met" in wait("CaughtUp", 60)
    assert "condition met" in wait("LastRunSucceeded", 60)
    assert bed.good(job) == [short(slot) for slot in slots]


def kstatus(resource: Body) -> str:
    """Judge a resource as kstatus does (`kubectl apply --prune`, Flux, Config Sync): its generic rules."""
    status = resource.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed != resource["metadata"]["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready") in ("False", "Unknown"):
        return "InProgress"
    return "Current"


def test_tools_that_wait_see_what_a_person_would_say(own: OwnOperators) -> None:
    """In progress until the operator has accepted it; failed where only an edit helps; a run's result is no part."""
    bed = own.bed
    slots = bed.missed_slots(1)
    bed.control("bad", failures=99)
    job = bed.job("job")
    failing = bed.job(
        "bad", backfill=True, retryLimit=0, retryDelaySeconds=1, annotations={"mark-success": before(slots)}
    )
    later = bed.job("later", template=None, webapp={"kind": "Deployment", "name": "not-yet"})
    assert {kstatus(bed.resource(name)) for name in (job, failing, later)} == {"InProgress"}
    operator = own.start()

    def wait(name: str, expected: str) -> None:
        bed.wait(lambda: kstatus(bed.resource(name)) == expected, f"{name} is {expected}")

    wait(job, "Current")
    bed.wait_status(failing, state="RetriesExhausted")
    assert kstatus(bed.resource(failing)) == "Current"
    bed.wait(lambda: bed.condition(later, "Ready").get("status") == "False", "the web app is missing")
    assert kstatus(bed.resource(later)) == "InProgress"
    bed.change(job, schedule="30-5 * * * *")
    wait(job, "Failed")
    bed.change(job, schedule=bed.schedule, suspend=True)
    wait(job, "Current")
    operator.kill()
    bed.change(job, suspend=False)
    assert kstatus(bed.resource(job)) == "InProgress"


# --- Events -----------------------------------------------------------------------------------------------


def told(bed: Testbed, name: str) -> dict[str, list[str]]:
    """Return the messages of the Events on a resource, by reason."""
    found: dict[str, list[str]] = {}
    for event in bed.events(name):
        found.setdefault(event["reason"], []).append(event["message"])
    return found


def test_commands_and_recoveries_are_told_in_events(bed: Testbed) -> None:
    """Marked, reset, run by hand; and that a job that failed works again."""
    slots = bed.missed_slots(2)
    bed.control("job", failures={short(slots[0]): 1}, how="exit")
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.wait_event(job, "Recovered")["message"].endswith("succeeded at attempt 2.")
    bed.annotate(job, run_now="--dry-run")
    bed.wait(lambda: len(told(bed, job)["CommandDone"]) == 2, "the run-now is told")
    bed.annotate(job, reset="")
    bed.wait(lambda: len(told(bed, job)["CommandDone"]) == 3, "the reset is told")
    # Within a second their order can't be told.
    assert sorted(told(bed, job)["CommandDone"]) == [
        f"mark-success={before(slots)}: last success is {before(slots)}.",
        "reset: all bookkeeping is forgotten.",
        "run-now=--dry-run: a Job was made.",
    ]
    assert "Exit3" in told(bed, job)["RunFailed"][0]
    assert {event["type"] for event in bed.events(job)} == {"Normal", "Warning"}


def test_skipped_slots_are_told_with_their_reason(bed: Testbed) -> None:
    """In the status and in an Event each."""
    slots = bed.missed_slots(4)
    job = bed.job(
        "job",
        backfill=True,
        backfillLimit=3,
        startingDeadlineSeconds=int((now() - slots[2]).total_seconds()) + 1800,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert status["skipped"] == 2
    assert status["skippedBy"] == {"backfillLimit": 0, "startingDeadline": 2, "retryLimit": 0}
    event = bed.wait_event(job, "SlotsSkipped")
    assert event["message"] == (
        "2 slots were skipped: it was too late to start, by spec.startingDeadlineSeconds."
    )
    bed.change(job, startingDeadlineSeconds=None, backfillLimit=1)
    bed.annotate(job, mark_success=before(slots))
    status = bed.wait_status(job, skipped=5, missed=0)
    assert status["skippedBy"]["backfillLimit"] == 3
    bed.wait(lambda: len(told(bed, job)["SlotsSkipped"]) == 2, "that is told as well")
    assert bed.good(job) == [short(slot) for slot in (*slots[2:], slots[-1])]


def test_very_many_missed_slots_without_a_limit_are_a_warning(bed: Testbed) -> None:
    """Before they have all run; with a limit it is what somebody asked for."""
    since = written(now() - timedelta(days=2))
    for name in ("job", "limited"):
        bed.control(name, hold=True)
    job = bed.job("job", frequency="1m", backfill=True, backfillSince=since)
    limited = bed.job("limited", frequency="1m", backfill=True, backfillSince=since, backfillLimit=2000)
    event = bed.wait_event(job, "ManySlotsMissed")
    assert event["type"] == "Warning"
    assert "spec.backfillLimit would limit them" in event["message"]
    bed.wait_event(limited, "CatchingUp")
    assert "ManySlotsMissed" not in bed.reasons(limited)


def _refused(bed: Testbed, job: str) -> list[Body]:
    commands: list[Body] = bed.status(job).get("lastCommands") or []
    return [one for one in commands if one["result"].startswith("Refused")]


def test_the_same_thing_again_is_told_by_counting(bed: Testbed) -> None:
    """Not by one Event after the other."""
    slots = bed.missed_slots(1)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    for number in range(3):
        bed.annotate(job, mark_success="never")
        # Given again while it is pending, it would be the same command.
        bed.wait(lambda: len(_refused(bed, job)) > number, "it is refused")  # noqa: B023 - called at once

    def refused() -> list[Body] | None:
        found = [one for one in bed.events(job) if one["reason"] == "CommandRefused"]
        return found if sum(one["count"] for one in found) == 3 else None

    (event,) = bed.wait(refused, "it is told three times")
    assert event["firstTimestamp"] <= event["lastTimestamp"]


def test_kubectl_describe_ends_with_the_events(bed: Testbed, cluster: Cluster) -> None:
    """What a person on call types first shows state, conditions, the error and what happened."""
    slots = bed.missed_slots(1)
    bed.control("job", failures=99)
    job = bed.job("job", backfill=True, retryLimit=0, annotations={"mark-success": before(slots)})
    bed.wait_status(job, state="RetriesExhausted")
    bed.wait_event(job, "RetriesExhausted")
    text = cluster.kubectl("-n", bed.namespace, "describe", "ctj", job)
    for words in (
        "RetriesExhausted",
        "RuntimeError",
        "crontabber.dev/mark-success=now",
        "Events:",
        "RunFailed",
    ):
        assert words in text
    row: Any = json.loads(cluster.kubectl("-n", bed.namespace, "get", "ctj", job, "-o", "json"))
    assert row["status"]["state"] == "RetriesExhausted"
