"""What a real API server does with CrontabberJobs: refuses wrong ones in words, keeps and shows good ones."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes import client, config

from crontabber_operator import crd
from crontabber_operator.models import (
    CommandRecord,
    Condition,
    Disregarded,
    HistoryEntry,
    InvalidSpec,
    LastError,
    Ongoing,
    Result,
    Retry,
    SkippedBy,
    Spec,
    State,
    Status,
)
from crontabber_operator.times import parse_time
from devcluster import Cluster, ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds"
REFUSED: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("refused_resources.yaml").read_text(encoding="utf-8")
)
UNPROCESSABLE = 422
CONTAINER = {"name": "web", "image": "web:1"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster of this module's own, with the CRD applied from the client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with Cluster.start(f"crd-{os.getpid()}", node="none") as started:
            started.kubectl("apply", "-f", str(CRD))
            _wait_served(started)
            yield started


def _wait_served(cluster: Cluster) -> None:
    # Not `kubectl wait`: it fails where the CRD has no status yet.
    deadline = time.monotonic() + 30
    while True:
        try:
            cluster.kubectl("get", "ctj")
        except ClusterError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def resource(spec: dict[str, Any], name: str = "job") -> dict[str, Any]:
    """Return a resource that is right, changed by `spec`; None removes a field."""
    given_spec = {"command": "cleanup", "frequency": "1h", **spec}
    return {
        "apiVersion": "crontabber.dev/v1",
        "kind": "CrontabberJob",
        "metadata": {"name": name},
        "spec": {key: value for key, value in given_spec.items() if value is not None},
    }


def said_about(cluster: Cluster, document: dict[str, Any]) -> list[str]:
    """Apply a resource that is wrong and return what kubectl says, line by line without its frame."""
    with pytest.raises(ClusterError) as caught:
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    text = str(caught.value).partition(" failed: ")[2]
    lines = [
        re.sub(r'^(The CrontabberJob "[^"]*" is invalid: ?|\* )', "", line).strip()
        for line in text.splitlines()
    ]
    return sorted(line for line in lines if line and "some validation rules were not checked" not in line)


def stored(cluster: Cluster, document: dict[str, Any], *flags: str) -> dict[str, Any]:
    """Apply a resource for show and return it as the API server would store it."""
    text = cluster.kubectl(
        "apply", "--dry-run=server", "-o", "json", *flags, "-f", "-", stdin=json.dumps(document)
    )
    found: dict[str, Any] = json.loads(text)
    return found


# --- The CRD itself -----------------------------------------------------------------------------------------


def test_the_crd_can_be_applied_from_the_client_and_the_server(cluster: Cluster) -> None:
    """Both ways of `kubectl apply` work on one another, and the API server finds the schema structural."""
    assert "serverside-applied" in cluster.kubectl("apply", "--server-side", "-f", str(CRD))
    cluster.kubectl("apply", "-f", str(CRD))
    assert "unchanged" in cluster.kubectl("apply", "-f", str(CRD))
    text = cluster.kubectl("get", "crd", "crontabberjobs.crontabber.dev", "-o", "json")
    conditions = {item["type"]: item["status"] for item in json.loads(text)["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_the_pod_template_is_that_of_this_kubernetes(cluster: Cluster) -> None:
    """pod_template.json is what the API server's own OpenAPI gives."""
    openapi = json.loads(cluster.kubectl("get", "--raw", "/openapi/v3/api/v1"))
    assert json.loads(crd.POD_TEMPLATE_PATH.read_text(encoding="utf-8")) == crd.pod_template(openapi)


def test_kubectl_explains_our_fields(cluster: Cluster) -> None:
    """Each field's description and choices are at hand."""
    said = " ".join(cluster.kubectl("explain", "ctj.spec.schedule").split())
    assert "FIELD: schedule <string>" in said
    assert "a cron expression of five fields" in said
    choices = " ".join(cluster.kubectl("explain", "crontabberjobs.spec.reportErrors").split())
    assert "ENUM: Auto Always Never" in choices
    assert "settledThrough\t<string>" in cluster.kubectl("explain", "ctj.status")


# --- Wrong resources ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFUSED, ids=[case["what"] for case in REFUSED])
def test_a_wrong_resource_is_refused_in_these_words(cluster: Cluster, case: dict[str, Any]) -> None:
    """One mistake, one line, which names the field and, where the rule is ours, the mend."""
    assert said_about(cluster, resource(case["spec"])) == sorted(case["said"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"args": ["x"] * 513}, "spec.args: Too many: 513: must have at most 512 items"),
        (
            {"dependsOn": [{"name": f"a{n}"} for n in range(33)]},
            "spec.dependsOn: Too many: 33: must have at most 32 items",
        ),
        (
            {"frequency": None, "schedule": "0" * 505 + " * * * *"},
            "spec.schedule: Too long: may not be more than 512 bytes",
        ),
    ],
    ids=["args", "dependsOn", "schedule"],
)
def test_what_is_too_much_is_refused(cluster: Cluster, spec: dict[str, Any], said: str) -> None:
    """Sizes are bounded, as the cost of rules must be."""
    assert said_about(cluster, resource(spec)) == [said]


def test_several_mistakes_are_told_at_once(cluster: Cluster) -> None:
    """Nobody has to apply again and again to find the next mistake."""
    said = said_about(cluster, resource({"schedule": "0 5 * * 7", "time": "5:00", "backfillLimit": 3}))
    assert [line.split(": ")[0] for line in said] == [
        "spec.backfillLimit",
        "spec.frequency",
        "spec.schedule",
        "spec.time",
        "spec.time",
    ]


def test_names_leave_room_for_jobs(cluster: Cluster) -> None:
    """48 characters are accepted, 49 are not; a dot is legal, as in a CronJob's name."""
    job = {"template": {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}}
    cronjob = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "spec": {"schedule": "@hourly", "jobTemplate": {"spec": job}},
    }
    for name in ("a" * 48, "a.b"):
        assert stored(cluster, resource({}, name=name))["metadata"]["name"] == name
        assert stored(cluster, {**cronjob, "metadata": {"name": name}})["metadata"]["name"] == name
    (said,) = said_about(cluster, resource({}, name="a" * 49))
    mend = "must be at most 48 characters, so that the names of its Jobs fit: shorten it"
    assert said == f'metadata.name: Invalid value: "object": {mend}'


def test_a_resource_without_a_spec_is_refused(cluster: Cluster) -> None:
    """An empty resource is not a job that never runs."""
    document = resource({})
    del document["spec"]
    assert said_about(cluster, document) == ["spec: Required value"]


# --- Good resources -----------------------------------------------------------------------------------------

ALL_FIELDS = {
    "args": ["--verbosity", "2", "", "$(RUN_TIME)"],
    "backfill": True,
    "passLastSuccess": True,
    "runTimeArgument": "--at",
    "lastSuccessArgument": "",
    "timeFormat": "%d.%m.%Y %H:%M %% %-d",
    "backfillSince": "2026-11-24T08:00:00.5+01:00",
    "backfillLimit": 24,
    "backfillBatch": 12,
    "startingDeadlineSeconds": 60,
    "dependsOn": [{"name": "crontest"}, {"name": "a.b"}],
    "concurrencyGroup": "database",
    "retryDelaySeconds": 30,
    "retryMaxDelaySeconds": 30,
    "retryLimit": 0,
    "activeDeadlineSeconds": 600,
    "suspend": True,
    "reportErrors": "Never",
    "output": "Failures",
    "successfulJobsHistoryLimit": 0,
    "failedJobsHistoryLimit": 10,
    "webapp": {
        "kind": "Deployment",
        "name": "web.app",
        "container": "django",
        "initContainerPolicy": "All",
    },
    "managePy": [],
}
CRON = {"frequency": None}
GOOD: dict[str, dict[str, Any]] = {
    "nothing more than needed": {},
    "all fields": ALL_FIELDS,
    "cron": {**CRON, "schedule": "30 5 * * MON-FRI", "timeZone": "Europe/Berlin"},
    "cron in an odd zone": {**CRON, "schedule": "@daily", "timeZone": "America/Argentina/Buenos_Aires"},
    "cron in a zone of hours": {**CRON, "schedule": "@daily", "timeZone": "Etc/GMT+12"},
    "cron as robfig reads it": {**CRON, "schedule": "\t+5 */07,,1-3/2 ? jan,FEB *-9/2 \n"},
    "cron with every value": {**CRON, "schedule": ",".join(str(n) for n in range(60)) + " * * * *"},
    "45 minutes": {"frequency": "45m"},
    "a year": {"frequency": "366d", "time": "23:59"},
    "a year in minutes": {"frequency": "527040m"},
    "a command with dashes": {"command": "_clear-Sessions2"},
    "short options": {"runTimeArgument": "-r", "lastSuccessArgument": "--last_success"},
    "batch of one without backfill": {"backfillBatch": 1},
    "explicitly off": {"backfill": False, "passLastSuccess": False, "suspend": False, "dependsOn": []},
    "only the longest wait": {"retryMaxDelaySeconds": 5},
    "only the first wait": {"retryDelaySeconds": 604800},
    "retries without end": {"retryLimit": 2147483647, "activeDeadlineSeconds": 2147483647},
    "webapp by the operator's settings": {"webapp": {}},
    "another manage.py": {"managePy": ["python", "webapp/manage.py"]},
    "template": {
        "template": {
            "metadata": {"labels": {"team": "data"}, "annotations": {"a/b": "c"}},
            "spec": {
                "serviceAccountName": "jobs",
                "containers": [
                    {
                        **CONTAINER,
                        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                        "ports": [{"containerPort": 80}, {"containerPort": 80}],
                        "envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}],
                        "resources": {"limits": {"cpu": 0.5, "memory": "1.5Gi"}, "requests": {"cpu": 0.25}},
                        "livenessProbe": {"httpGet": {"port": "http"}},
                        "readinessProbe": {"httpGet": {"port": 80}},
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    },
                ],
                "initContainers": [{"name": "proxy", "image": "p", "restartPolicy": "Always"}],
                "imagePullSecrets": [{"name": "p"}, {"name": "p"}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
                "tolerations": [{"operator": "Exists"}],
            },
        }
    },
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("flags", [(), ("--server-side",)], ids=["client", "server"])
def test_a_good_resource_is_stored_as_it_is(
    cluster: Cluster, spec: dict[str, Any], flags: tuple[str, ...]
) -> None:
    """Nothing is refused, dropped or added, whichever way it is applied, and the operator reads it."""
    document = resource(spec)
    found = stored(cluster, document, *flags)
    assert found["spec"] == document["spec"]
    assert Spec.read(found["spec"], name="job").slots


def test_the_jobs_of_this_repository_are_good(cluster: Cluster) -> None:
    """`kubectl apply -f jobs/` and the example of Socorro are accepted."""
    for folder in ("jobs", "examples/socorro"):
        text = cluster.kubectl("apply", "--dry-run=server", "-f", str(ROOT / folder))
        assert "crontabberjob.crontabber.dev/" in text


def test_a_template_may_be_copied_from_a_deployment(cluster: Cluster) -> None:
    """What `kubectl get deployment -o json` shows under `template`, defaults and nulls included, is kept."""
    pod = GOOD["template"]["template"]["spec"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "webapp"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"creationTimestamp": None, "labels": {"app": "web"}},
                "spec": {key: pod[key] for key in pod if key != "initContainers"},
            },
        },
    }
    text = cluster.kubectl(
        *("create", "--dry-run=server", "-o", "json", "-f", "-"), stdin=json.dumps(deployment)
    )
    template = json.loads(text)["spec"]["template"]
    assert template["spec"]["containers"][0]["terminationMessagePath"]
    template["metadata"].pop("creationTimestamp", None)
    with_null = {**template, "metadata": {**template["metadata"], "creationTimestamp": None}}
    document = resource({"template": with_null})
    assert stored(cluster, document)["spec"]["template"] == template


def test_nulls_mean_absent(cluster: Cluster) -> None:
    """A chart that leaves a value empty gives null, which is not refused."""
    document = resource({})
    document["spec"] |= {"schedule": None, "webapp": None, "retryLimit": None}
    assert stored(cluster, document)["spec"] == {"command": "cleanup", "frequency": "1h"}


def test_yaml_as_people_write_it_is_read(cluster: Cluster) -> None:
    """Times and days without quotes stay texts."""
    text = """
apiVersion: crontabber.dev/v1
kind: CrontabberJob
metadata: {name: job}
spec: {command: cleanup, frequency: 1d, time: 05:00, backfill: true, backfillSince: 2026-11-24T08:00:00Z}
"""
    found = json.loads(cluster.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=text))
    assert found["spec"]["time"] == "05:00"
    assert found["spec"]["backfillSince"] == "2026-11-24T08:00:00Z"


def test_applying_may_change_from_the_client_to_the_server(cluster: Cluster) -> None:
    """A resource with equal names in env is applied from the client, then from the server, then again."""
    document = json.dumps(resource(GOOD["template"], name="both-ways"))
    assert "created" in cluster.kubectl("apply", "-f", "-", stdin=document)
    assert "serverside-applied" in cluster.kubectl("apply", "--server-side", "-f", "-", stdin=document)
    changed = json.dumps(resource(GOOD["template"] | {"frequency": "2h"}, name="both-ways"))
    assert "configured" in cluster.kubectl("apply", "-f", "-", stdin=changed)
    cluster.kubectl("delete", "ctj", "both-ways")


# --- Status and columns -------------------------------------------------------------------------------------

AT = parse_time("2026-11-24T08:00:00Z")
FAR = parse_time("2199-01-01T05:00:00Z")
FULL = Status(
    observed_generation=1,
    schedule="every 1d @ 05:00 UTC",
    state=State.RETRYING,
    first_run_time=AT,
    last_run_time=AT,
    last_success_time=AT,
    settled_through=AT,
    next_run_time=FAR,
    missed=3,
    skipped=2,
    skipped_by=SkippedBy(backfill_limit=2),
    error_count=1,
    last_error=LastError(
        type="OperationalError", value="no database", traceback="…", slot=AT, time=AT, job="a-1"
    ),
    ongoing=Ongoing(slot=AT, through=AT, job="a-1", uid="u", attempt=2, since=AT),
    retry=Retry(of="1/abc", failures=1, not_before=AT),
    disregarded=Disregarded(jobs=("u1",), successful_time=AT),
    history=(
        HistoryEntry(
            slot=AT,
            job="a-1",
            started=AT,
            finished=AT,
            seconds=1.25,
            result=Result.FAILED,
            message="no",
        ),
    ),
    last_commands=(CommandRecord(id="1", name="reset", value="", time=AT, result="done"),),
    conditions=(
        Condition(
            type="Ready",
            status="True",
            reason="Scheduled",
            message="ok",
            last_transition_time=AT,
            observed_generation=1,
        ),
    ),
)


@pytest.fixture
def shown(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with one resource, `shown`, whose status is full."""
    document = resource({"frequency": "1d", "time": "05:00"}, name="shown")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    write_status(cluster, FULL.write())
    yield cluster
    cluster.kubectl("delete", "ctj", "shown")


def write_status(cluster: Cluster, status: dict[str, Any]) -> None:
    """Write a status as the operator does, through the subresource."""
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "ctj", "shown", "--subresource=status", "--type=merge", "-p", patch)


def read_status(cluster: Cluster) -> dict[str, Any]:
    """Return the status that is stored."""
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "ctj", "shown", "-o", "json"))["status"]
    return found


def columns(text: str) -> dict[str, str]:
    """Return the columns of a table of one row."""
    header, row = text.rstrip("\n").splitlines()
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S(?:\S| \S)*", header)]
    ends = [*starts[1:], None]
    return {
        header[start:end].strip(): row[start:end].strip() for start, end in zip(starts, ends, strict=True)
    }


def test_every_field_of_the_status_is_kept(shown: Cluster) -> None:
    """Nothing that the operator writes is dropped by the schema."""
    assert read_status(shown) == FULL.write()
    assert Status.read(read_status(shown)) == FULL


def test_words_of_a_newer_operator_are_kept(shown: Cluster) -> None:
    """A state that this CRD doesn't know can be written; this operator reads on without it."""
    write_status(shown, {"state": "Dreaming"})
    assert read_status(shown)["state"] == "Dreaming"
    assert Status.read(read_status(shown)).state is None


def test_a_status_does_not_get_into_the_spec_nor_the_other_way(shown: Cluster) -> None:
    """Users' applies leave the bookkeeping alone."""
    document = resource({"frequency": "1d", "time": "06:00"}, name="shown")
    shown.kubectl("apply", "-f", "-", stdin=json.dumps({**document, "status": {"missed": 99}}))
    assert read_status(shown)["missed"] == 3


def test_get_shows_the_columns_of_the_design(shown: Cluster) -> None:
    """In this order; a next run in the future is shown as the time that it is."""
    found = columns(shown.kubectl("get", "ctj", "shown"))
    assert list(found) == [
        "NAME",
        "SCHEDULE",
        "STATE",
        "LAST SUCCESS",
        "NEXT RUN",
        "MISSED",
        "ERRORS",
        "AGE",
    ]
    assert re.fullmatch(r"\d+[smhdy]\S*|<invalid>", found.pop("LAST SUCCESS"))
    assert re.fullmatch(r"\d+s", found.pop("AGE"))
    assert found == {
        "NAME": "shown",
        "SCHEDULE": "every 1d @ 05:00 UTC",
        "STATE": "Retrying",
        "NEXT RUN": "2199-01-01T05:00:00Z",
        "MISSED": "3",
        "ERRORS": "1",
    }


def test_get_wide_shows_command_and_last_error_too(shown: Cluster) -> None:
    """The further columns of `-o wide`."""
    found = columns(shown.kubectl("get", "crontabberjobs", "shown", "-o", "wide"))
    assert list(found)[8:] == ["COMMAND", "LAST RUN", "LAST ERROR"]
    assert found["COMMAND"] == "cleanup"
    assert found["LAST ERROR"] == "OperationalError: no database"


def test_the_category_lists_the_resources(shown: Cluster) -> None:
    """`kubectl get crontabber` is the category."""
    assert "crontabberjob.crontabber.dev/shown" in shown.kubectl("get", "crontabber", "-o", "name")


# --- Both validators agree ----------------------------------------------------------------------------------

_VALUES: dict[str, list[Any]] = {
    "command": ["cleanup", "a b", "", "ü", "x" * 254],
    "args": [[], ["--all"], ["$(RUN_TIME)"]],
    "schedule": ["0 5 * * *", "@daily", "5-1 * * * *", "* * * * 7", "@every 1h", "* * * *"],
    "frequency": ["1h", "7d", "45m", "366d", "367d", "8785h", "1w", "0m", "01h", "999999m", "9999999m"],
    "timeZone": ["UTC", "Europe/Berlin", "Mars/Olympus", "Local", "+01:00", "", "Europe//Berlin", "a" * 65],
    "time": ["05:00", "23:59", "24:00", "5:00", "05:00\n"],
    "backfill": [True, False],
    "passLastSuccess": [True, False],
    "runTimeArgument": ["", "-r", "--at", "at", "--", "--a=b", "---", "-é", "--x\n"],
    "timeFormat": ["%Y", "%s", "%", "%%", "é%-d", "a\tb", "a\nb", "", "%" * 129],
    "backfillSince": [
        "2026-11-24T08:00:00Z",
        "2026-02-30T08:00:00Z",
        "2024-02-29T23:59:59.123456789+23:59",
        "1970-01-01T00:00:00+05:00",
        "2199-12-31T23:59:59-12:00",
        "2200-01-01T00:00:00Z",
        "2026-11-24t08:00:00z",
        "2026-11-24",
    ],
    "backfillLimit": [0, 1, 2**31 - 1, 2**31],
    "backfillBatch": [0, 1, 2, 1000, 1001],
    "startingDeadlineSeconds": [0, 1, 2**31],
    "dependsOn": [[], [{"name": "a"}], [{"name": "job"}], [{"name": "a"}, {"name": "a"}], [{"name": "A"}]],
    "concurrencyGroup": ["a", "", "a b", "-a", "x" * 63, "x" * 64],
    "retryDelaySeconds": [0, 1, 600, 604800, 604801],
    "retryMaxDelaySeconds": [0, 1, 600, 604801],
    "retryLimit": [-1, 0, 2**31 - 1, 2**31],
    "activeDeadlineSeconds": [0, 1, 2**31],
    "reportErrors": ["Auto", "auto"],
    "output": ["None", "none"],
    "successfulJobsHistoryLimit": [-1, 0, 1000, 1001],
    "webapp": [
        {},
        {"kind": "Deployment"},
        {"kind": "Job"},
        {"name": ""},
        {"container": "a.b"},
        {"name": "a.b"},
    ],
    "template": [{"spec": {"containers": [CONTAINER]}}, {"spec": {"containers": []}}, {}],
    "managePy": [[], ["x"], [""], ["x"] * 33],
}
_ONLY_OPERATOR = ("spec.schedule", "spec.timeZone", "spec.template")


@st.composite
def _specs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"command": "cleanup"}
    if draw(st.booleans()):
        spec["backfill"] = True
    spec |= draw(st.sampled_from([{"frequency": "1h"}, {"frequency": "1d"}, {"schedule": "0 5 * * *"}, {}]))
    for field in draw(st.lists(st.sampled_from(sorted(_VALUES)), max_size=4, unique=True)):
        spec[field] = draw(st.sampled_from(_VALUES[field]))
    return spec


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_specs())
def test_the_api_server_and_the_operator_refuse_the_same(cluster: Cluster, spec: dict[str, Any]) -> None:
    """What passes the one passes the other; only cron text, time zone and template may fail later."""
    said: tuple[str, ...] = ()
    try:
        Spec.read(spec, name="job")
    except InvalidSpec as error:
        said = error.sentences
    refusal = _refusal(cluster, spec)
    if refusal is None:
        assert all(sentence.startswith(_ONLY_OPERATOR) for sentence in said)
    else:
        assert said, refusal


def _refusal(cluster: Cluster, spec: dict[str, Any]) -> str | None:
    api = client.CustomObjectsApi(_api_client(str(cluster.kubeconfig)))
    document = {**resource({}), "spec": spec}
    try:
        api.create_namespaced_custom_object(
            *("crontabber.dev", "v1", "default", "crontabberjobs", document),
            dry_run="All",
            field_validation="Strict",
        )
    except client.ApiException as error:
        if error.status == UNPROCESSABLE:
            return str(json.loads(error.body or "{}")["message"])
        raise
    return None


_clients: dict[str, Any] = {}


def _api_client(kubeconfig: str) -> Any:
    if kubeconfig not in _clients:
        _clients[kubeconfig] = config.new_client_from_config(config_file=kubeconfig)  # type: ignore[no-untyped-call]
    return _clients[kubeconfig]
