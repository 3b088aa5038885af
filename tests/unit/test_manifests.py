"""The CronJob and the Jobs of a spec, as the API gets them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from crontabber_operator.decision import NewRun, Release
from crontabber_operator.manifests import (
    ATTEMPT_MAX,
    HASH,
    NO_SETTINGS,
    TEMPLATE_HASH,
    Owner,
    Plan,
    TemplateError,
    cron_fields,
    cronjob_patch,
    native_name,
    one_off,
    one_off_name,
    plan,
    release_patch,
    run_now,
)
from crontabber_operator.models import Defaults, Spec
from crontabber_operator.observed import RunKind
from crontabber_operator.projection import read_cronjob, read_run
from tests.unit.backfill_scene import Scene, at

OWNER = Owner("space", "job", "owner-uid")
OWNER_LABELS = {"crontabber.dev/job": "job", "app.kubernetes.io/managed-by": "crontabber"}
WEBAPP: dict[str, Any] = {
    "metadata": {
        "labels": {"app": "web", "azure.workload.identity/use": "true"},
        "annotations": {"prometheus.io/scrape": "true", "vault.hashicorp.com/role": "web"},
    },
    "spec": {
        "serviceAccountName": "web",
        "terminationGracePeriodSeconds": 7,
        "restartPolicy": "Always",
        "readinessGates": [{"conditionType": "x"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "initContainers": [
            {"name": "migrate", "image": "app:1", "startupProbe": {}},
            {
                "name": "proxy",
                "image": "proxy:1",
                "restartPolicy": "Always",
                "ports": [{"containerPort": 5432}],
                "startupProbe": {"exec": {"command": ["true"]}},
                "livenessProbe": {},
                "lifecycle": {},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            },
        ],
        "containers": [
            {
                "name": "web",
                "image": "app:1",
                "command": ["gunicorn"],
                "args": ["wsgi"],
                "ports": [{"containerPort": 8000}],
                "livenessProbe": {},
                "readinessProbe": {},
                "lifecycle": {},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
                "workingDir": "/app",
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "x"},
                    {"name": "A", "value": "2"},
                ],
                "envFrom": [{"secretRef": {"name": "web"}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            },
            {"name": "nginx", "image": "nginx:1"},
        ],
    },
}
OWN: dict[str, Any] = {
    "spec": {
        "containers": [{"name": "a", "image": "a:1"}, {"name": "crontabber", "image": "b:1", "args": ["x"]}]
    }
}


def spec(**fields: Any) -> Spec:
    """Read a spec."""
    raw = {"command": "work", "frequency": "1h", **fields}
    return Spec.read({key: value for key, value in raw.items() if value is not None}, name="job")


def made(workload: Any = WEBAPP, settings: Defaults = NO_SETTINGS, **fields: Any) -> Plan:
    """Plan the CronJob of a spec."""
    return plan(OWNER, spec(**fields), fields.get("template") or workload, settings)


def pod_template(of: Plan) -> dict[str, Any]:
    """Return its pod template."""
    found: dict[str, Any] = of.manifest["spec"]["jobTemplate"]["spec"]["template"]
    return found


def container(of: Plan) -> dict[str, Any]:
    """Return the container that runs the command."""
    containers = pod_template(of)["spec"]["containers"]
    found: dict[str, Any] = next((one for one in containers if one["name"] == "crontabber"), containers[0])
    return found


# --- The CronJob ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"frequency": "1h"}, ("0 * * * *", "Etc/UTC")),
        ({"frequency": "1d", "time": "05:30"}, ("30 5 * * *", "Etc/UTC")),
        ({"frequency": "7d", "time": "05:00"}, ("0 5 * * 1", "Etc/UTC")),
        ({"frequency": "45m"}, ("@every 45m", "Etc/UTC")),
        ({"frequency": "3d"}, ("@every 72h", "Etc/UTC")),
        ({"frequency": None, "schedule": "*/7 * * * *"}, ("*/7 * * * *", "Etc/UTC")),
        (
            {"frequency": None, "schedule": "@daily", "timeZone": "Europe/Berlin"},
            ("@daily", "Europe/Berlin"),
        ),
    ],
)
def test_the_schedule_is_cron_text_where_there_is_one(
    fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Always with a time zone, so that the controller manager's own never counts."""
    told = cron_fields(spec(**fields))
    assert (told["schedule"], told["timeZone"]) == expected


def test_the_cronjob_forbids_and_belongs_to_the_resource() -> None:
    """Its history is kept longer than asked for: the operator prunes, after recording."""
    of = made(successfulJobsHistoryLimit=2, failedJobsHistoryLimit=0, suspend=True)
    body = of.manifest
    assert (body["spec"]["concurrencyPolicy"], body["spec"]["suspend"]) == ("Forbid", True)
    assert (body["spec"]["successfulJobsHistoryLimit"], body["spec"]["failedJobsHistoryLimit"]) == (12, 10)
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("CrontabberJob", "owner-uid", True)
    assert body["metadata"]["labels"] == OWNER_LABELS
    assert body["metadata"]["annotations"] == {HASH: of.hash, TEMPLATE_HASH: of.template_hash}


def test_a_plain_job_is_retried_by_kubernetes() -> None:
    """For ever or up to retryLimit; the deadline is each attempt's; a disruption is no failure."""
    job = made().manifest["spec"]["jobTemplate"]["spec"]
    assert (job["backoffLimit"], "suspend" in job, "activeDeadlineSeconds" in job) == (
        2**31 - 1,
        False,
        False,
    )
    assert job["template"]["spec"]["activeDeadlineSeconds"] == 7200
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert made(retryLimit=3).manifest["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 3
    assert made(retryLimit=0).manifest["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0


def test_a_gated_job_waits_for_its_release() -> None:
    """Suspended, one attempt a Job, with room in the annotations for what the command is told."""
    of = made(backfill=True, retryLimit=3, activeDeadlineSeconds=60)
    job = of.manifest["spec"]["jobTemplate"]["spec"]
    assert (job["suspend"], job["backoffLimit"], job["activeDeadlineSeconds"]) == (True, 0, 360)
    annotations = pod_template(of)["metadata"]["annotations"]
    names = ("slot", "attempt", "run-time", "last-success")
    assert {f"crontabber.dev/{name}": "" for name in names}.items() <= annotations.items()


@pytest.mark.parametrize(("fields", "told"), [({}, None), ({"backfill": True}, "")], ids=["plain", "gated"])
def test_a_template_that_was_copied_from_a_job_brings_no_slot_along(
    fields: dict[str, Any], told: str | None
) -> None:
    """A plain job's runs would seem to be gated ones that a person started."""
    copied = {"crontabber.dev/run-time": "2026-06-03T10:00", "crontabber.dev/slot": "", "own": "kept"}
    template = {
        "metadata": {"annotations": copied},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }
    annotations = pod_template(made(template=template, **fields))["metadata"]["annotations"]
    assert (annotations.get("crontabber.dev/run-time"), annotations["own"]) == (told, "kept")


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"startingDeadlineSeconds": 60, "schedule": "0 * * * *", "frequency": None}, 60),
        ({"startingDeadlineSeconds": 60, "schedule": "0 * * * *", "frequency": None, "backfill": True}, None),
        ({"startingDeadlineSeconds": 60}, None),
        ({}, None),
    ],
)
def test_the_starting_deadline_is_the_controllers_only_where_the_job_is_plain(
    fields: dict[str, Any], seconds: int | None
) -> None:
    """On a frequency it would leave the grid, and a gated job's Jobs are only made by it."""
    assert made(**fields).manifest["spec"].get("startingDeadlineSeconds") == seconds


@pytest.mark.parametrize(
    ("fields", "whole", "template"),
    [
        ({}, True, True),
        ({"frequency": "2h"}, False, True),
        ({"suspend": True}, False, True),
        ({"successfulJobsHistoryLimit": 7}, False, True),
        ({"args": ["--all"]}, False, False),
        ({"command": "other"}, False, False),
        ({"activeDeadlineSeconds": 5}, False, False),
        ({"reportErrors": "Never"}, True, True),
    ],
)
def test_hashes_change_with_what_they_are_of(fields: dict[str, Any], whole: bool, template: bool) -> None:
    """A schedule that is edited makes no run outdated."""
    before, after = made(), made(**fields)
    assert ((before.hash == after.hash), (before.template_hash == after.template_hash)) == (whole, template)


def test_the_same_spec_gives_the_same_manifest_and_changes_nothing() -> None:
    """A hash tells whether anything has to be written."""
    given = copy.deepcopy(WEBAPP)
    assert made(given, backfill=True) == made(given, backfill=True)
    assert given == WEBAPP


def test_the_patch_of_a_cronjob_replaces_its_spec_whole() -> None:
    """Guarded by its uid; labels and annotations of others stay."""
    of = made()
    patch = cronjob_patch(of, "uid", {"labels": {"team": "a"}, "annotations": None})
    assert patch[0] == {"op": "test", "path": "/metadata/uid", "value": "uid"}
    assert patch[1] == {"op": "replace", "path": "/spec", "value": of.manifest["spec"]}
    values = {step["path"]: step["value"] for step in patch[2:]}
    assert values["/metadata/labels"] == {"team": "a", **OWNER_LABELS}
    assert values["/metadata/annotations"] == of.manifest["metadata"]["annotations"]


# --- The pod --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "command", "args"),
    [
        ({}, ["python", "manage.py"], ["work"]),
        ({"args": ["--all", "x y"]}, ["python", "manage.py"], ["work", "--all", "x y"]),
        ({"managePy": ["uv", "run", "manage.py"]}, ["uv", "run", "manage.py"], ["work"]),
        ({"managePy": []}, None, ["work"]),
        ({"backfill": True}, ["python", "manage.py"], ["work", "--run-time=$(RUN_TIME)"]),
        ({"passLastSuccess": True}, ["python", "manage.py"], ["work", "--last-success=$(LAST_SUCCESS)"]),
        (
            {"backfill": True, "passLastSuccess": True, "runTimeArgument": "-r", "lastSuccessArgument": ""},
            ["python", "manage.py"],
            ["work", "-r=$(RUN_TIME)"],
        ),
        (
            {"backfill": True, "runTimeArgument": "", "args": ["$(RUN_TIME)"]},
            ["python", "manage.py"],
            ["work", "$(RUN_TIME)"],
        ),
    ],
)
def test_the_command_and_its_arguments(
    fields: dict[str, Any], command: list[str] | None, args: list[str]
) -> None:
    """Kubernetes expands them; no shell ever sees them."""
    found = container(made(**fields))
    assert (found.get("command"), found["args"]) == (command, args)


def test_a_job_is_configured_as_the_web_app() -> None:
    """Image, env, volumes, service account; nothing that serves its traffic."""
    of = made()
    pod, found = pod_template(of)["spec"], container(of)
    assert (found["image"], found["workingDir"], found["envFrom"]) == (
        "app:1",
        "/app",
        [{"secretRef": {"name": "web"}}],
    )
    assert not {"ports", "livenessProbe", "readinessProbe", "lifecycle", "resizePolicy"} & set(found)
    assert found["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert (pod["serviceAccountName"], pod["terminationGracePeriodSeconds"]) == ("web", 7)
    assert "readinessGates" not in pod
    assert len(pod["containers"]) == 1


def test_of_env_variables_with_one_name_the_last_is_kept() -> None:
    """As Kubernetes does it; in its place among the others."""
    env = container(made())["env"]
    assert env == [
        {"name": "PYTHONUNBUFFERED", "value": "1"},
        {"name": "B", "value": "x"},
        {"name": "A", "value": "2"},
    ]


def test_run_time_and_last_success_come_first() -> None:
    """So that the app's own variables can use them; and one's own PYTHONUNBUFFERED stays."""
    given = copy.deepcopy(WEBAPP)
    given["spec"]["containers"][0]["env"] = [
        {"name": "RUN_TIME", "value": "mine"},
        {"name": "PYTHONUNBUFFERED", "value": "0"},
    ]
    env = container(made(given, backfill=True))["env"]
    assert [one["name"] for one in env] == ["RUN_TIME", "LAST_SUCCESS", "PYTHONUNBUFFERED"]
    assert env[0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.annotations['crontabber.dev/run-time']"
    assert env[2]["value"] == "0"


def test_no_service_ever_selects_a_jobs_pod() -> None:
    """Only labels and annotations of an allow-list are copied."""
    metadata = pod_template(made())["metadata"]
    assert metadata["labels"] == {"azure.workload.identity/use": "true", **OWNER_LABELS}
    assert metadata["annotations"] == {"vault.hashicorp.com/role": "web"}


@pytest.mark.parametrize(
    ("policy", "kept"), [("Sidecars", ["proxy"]), ("Drop", []), ("All", ["migrate", "proxy"])]
)
def test_init_containers_are_kept_by_policy(policy: str, kept: list[str]) -> None:
    """Sidecars keep their start-up probe: the command waits for it."""
    of = made(webapp={"initContainerPolicy": policy})
    inits = pod_template(of)["spec"].get("initContainers", [])
    assert [one["name"] for one in inits] == kept
    for one in inits:
        assert not {"ports", "livenessProbe", "lifecycle", "resizePolicy"} & set(one)
        assert ("startupProbe" in one) is (one["name"] == "proxy")


def test_the_container_is_the_named_one_else_the_first() -> None:
    """A name that the workload doesn't have is refused with those that it has."""
    assert container(made(webapp={"container": "nginx"}))["image"] == "nginx:1"
    assert container(made(settings=Defaults(container="nginx")))["image"] == "nginx:1"
    with pytest.raises(TemplateError, match=r"spec.webapp.container .* no container x; it has web, nginx"):
        made(webapp={"container": "x"})


def test_the_settings_say_what_the_spec_does_not() -> None:
    """The container is of the settings' workload: a job that names another one gets that one's first."""
    settings = Defaults("site", "nginx", ("uv", "run", "manage.py"))
    assert container(made(settings=settings))["command"] == ["uv", "run", "manage.py"]
    assert container(made(settings=settings, webapp={"name": "site"}))["image"] == "nginx:1"
    assert container(made(settings=settings, webapp={"name": "other"}))["image"] == "app:1"
    assert container(made(settings=settings, webapp={"container": "web"}))["image"] == "app:1"
    assert "command" not in container(made(settings=settings, managePy=[]))
    own = {"spec": {"containers": [{"name": "own", "image": "own:1"}]}}
    assert container(made(settings=settings, template=own))["command"] == ["uv", "run", "manage.py"]


def test_a_template_of_ones_own_is_kept_as_it_is() -> None:
    """The command goes to the container called crontabber, else to the first."""
    of = made(template=OWN)
    pod = pod_template(of)["spec"]
    assert [one["image"] for one in pod["containers"]] == ["a:1", "b:1"]
    assert container(of)["args"] == ["work"]
    assert "args" not in pod["containers"][0]
    first = made(template={"spec": {"containers": [{"name": "x", "image": "x:1"}]}})
    assert container(first)["args"] == ["work"]


def test_a_template_without_containers_is_refused() -> None:
    """Also where the CRD let it through."""
    with pytest.raises(TemplateError, match=r"spec\.template: has no containers"):
        plan(OWNER, spec(template=OWN), {"spec": {}})


# --- Jobs -----------------------------------------------------------------------------------------------

NEW = NewRun(slot=at("10:00"), through=at("12:00"), attempt=2)


def test_a_one_off_is_the_cronjobs_template_under_a_name_of_its_own() -> None:
    """Its owner is the resource, without `controller`: the CronJob controller doesn't see it."""
    of = made(backfill=True)
    body = one_off(OWNER, of, NEW)
    assert body["metadata"]["name"] == "job-29674680-2"
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], "controller" in owner) == ("CrontabberJob", "owner-uid", False)
    assert body["spec"] == of.manifest["spec"]["jobTemplate"]["spec"]
    assert body["metadata"]["labels"] == OWNER_LABELS
    body["metadata"]["annotations"]["x"] = "y"
    assert one_off(OWNER, of, NEW) != body


def test_a_one_off_is_read_as_it_was_made() -> None:
    """Slot, through, attempt and template come back."""
    of = made(backfill=True)
    body = one_off(OWNER, of, NEW)
    body["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-06-03T13:00:00Z"}
    run = read_run(body)
    assert run is not None
    assert (run.kind, run.slot, run.through, run.attempt) == (RunKind.ONE_OFF, NEW.slot, NEW.through, 2)
    assert (run.template_hash, run.suspended, run.released) == (of.template_hash, True, False)


@pytest.mark.parametrize("attempt", [1, ATTEMPT_MAX, ATTEMPT_MAX + 1, 10**9])
def test_a_name_fits_into_a_jobs_however_often_a_slot_fails(attempt: int) -> None:
    """With the longest name of a resource."""
    owner = Owner("space", "n" * 48, "uid")
    slot = at("10:00").replace(year=2159)  # the minutes have a digit more from 2160 on
    assert len(one_off_name(owner, NewRun(slot, slot, attempt))) <= 63


def test_a_one_off_never_takes_a_name_of_the_controllers() -> None:
    """A foreign Job of the name that it wants would hold it up."""
    assert one_off_name(OWNER, NEW).startswith(native_name(OWNER.name, NEW.slot) + "-")


def test_a_run_now_is_one_attempt_at_once() -> None:
    """With further arguments, told now and the last success, outside of the books."""
    of = made(backfill=True)
    body = run_now(
        OWNER,
        of,
        "job-run-1",
        extra_args=("--all",),
        run_time="T",
        last_success="L",
        at="2026-06-03T10:00:00Z",
    )
    assert (body["spec"]["suspend"], body["spec"]["backoffLimit"]) == (False, 0)
    pod = body["spec"]["template"]
    assert pod["spec"]["containers"][0]["args"] == ["work", "--run-time=$(RUN_TIME)", "--all"]
    assert pod["metadata"]["annotations"]["crontabber.dev/run-time"] == "T"
    assert pod["metadata"]["annotations"]["crontabber.dev/last-success"] == "L"
    assert container(of)["args"] == ["work", "--run-time=$(RUN_TIME)"]
    body["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-06-03T13:00:00Z"}
    run = read_run(body)
    assert run is not None
    assert (run.kind, run.released) == (RunKind.MANUAL, True)


def test_a_run_now_of_a_plain_job_is_not_retried_either() -> None:
    """A person is looking."""
    body = run_now(OWNER, made(), "job-run-1", extra_args=(), run_time="", last_success="", at="")
    assert (body["spec"]["suspend"], body["spec"]["backoffLimit"]) == (False, 0)


def test_the_release_is_one_patch_that_tests_what_it_changes() -> None:
    """Another uid, a run that was started, or one that was told something already: refused whole."""
    run = Scene(frequency="1h", backfill=True).one_off("10:00", 2)
    patch = release_patch(
        Release(run, at("10:00"), attempt=2, run_time="T", last_success="", claimed=at("12:00:05"))
    )
    tests = [(step["path"], step["value"]) for step in patch if step["op"] == "test"]
    assert tests == [
        ("/metadata/uid", run.uid),
        ("/spec/suspend", True),
        ("/spec/template/metadata/annotations/crontabber.dev~1run-time", ""),
    ]
    values = {step["path"]: step["value"] for step in patch if step["op"] != "test"}
    assert values["/spec/suspend"] is False
    for where in ("/metadata/annotations/", "/spec/template/metadata/annotations/"):
        assert values[where + "crontabber.dev~1slot"] == "2026-06-03T10:00:00Z"
        assert values[where + "crontabber.dev~1attempt"] == "2"
        assert values[where + "crontabber.dev~1run-time"] == "T"
        assert values[where + "crontabber.dev~1last-success"] == ""
    assert values["/metadata/annotations/crontabber.dev~1claimed"] == "2026-06-03T12:00:05Z"


def test_a_cronjob_is_read_as_it_was_planned() -> None:
    """Nothing to write for the one that was just written."""
    of = made(backfill=True)
    body = copy.deepcopy(of.manifest)
    body["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-06-03T09:30:00Z"}
    seen = read_cronjob(body, OWNER)
    assert seen is not None
    assert (seen.hash, seen.template_hash, seen.ours) == (of.hash, of.template_hash, True)
    assert (seen.drifted, seen.suspended, seen.schedule) == (False, False, "0 * * * * Etc/UTC")
