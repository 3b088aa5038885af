"""The chart gives the operator the rights that it needs on a real API server, and no other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from tests.integration.chart_release import (
    Asked,
    Right,
    chart_cluster,
    may,
    render,
    rights,
    rules_of,
    start_operator,
    write_kubeconfig,
)
from tests.integration.operator_process import OperatorProcess
from tests.integration.testbed import Api, ApiError, Body, Testbed, before

pytestmark = pytest.mark.timeout(900)  # helm may have to be built first

INSTALL = "ops"
SENTRY = {"sentry.dsn": "https://key@sentry.example/1", "sentry.namespaceSecrets": True}
"""Values with which the operator has every right that the chart can give it."""
UNREACHABLE = {"SENTRY_DSN": "http://key@127.0.0.1:9/1"}
USER = f"system:serviceaccount:{INSTALL}:crontabber"
ROLE_PATH = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ops-crontabber"
LEASE_ROLE_PATH = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{INSTALL}/roles/crontabber-lease"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster in which everything of the chart is but the Deployment."""
    with chart_cluster("rbac", tmp_path_factory.mktemp("state")) as started:
        started.kubectl("create", "namespace", INSTALL)
        apply(started, render("--skip-tests", values=SENTRY))
        yield started


def apply(cluster: Cluster, objects: list[Body]) -> None:
    """Create or change objects, Deployments aside: the tests run the operator themselves."""
    wanted = [one for one in objects if one["kind"] != "Deployment"]
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "-f", "-"),
        stdin="\n---\n".join(_json(one) for one in wanted),
    )


def _json(value: Body) -> str:
    return json.dumps(value)


@dataclass
class Office:
    """A namespace, an operator under the chart's service account, and what that may do."""

    cluster: Cluster
    bed: Testbed
    kubeconfig: Path
    granted: set[Right]
    operators: list[OperatorProcess] = field(default_factory=list)

    def start(self, *arguments: str, sentry: bool = True) -> OperatorProcess:
        """Start a further operator, as the chart does; with Sentry, which nobody answers for, or without."""
        log = self.bed.folder / f"operator-{len(self.operators) + 1}.log"
        given = [f"--sentry-secrets={'on' if sentry else 'off'}", *arguments]
        environment = UNREACHABLE if sentry else {}
        self.operators.append(start_operator(self.kubeconfig, log, *given, environment=environment))
        return self.operators[-1]

    def allow(self, wanted: set[Right]) -> None:
        """Give the operator exactly these rights, and return when they are in force."""
        self.bed.api.request("PATCH", ROLE_PATH, {"rules": rules_of(wanted)}, "application/merge-patch+json")
        self.bed.wait(
            lambda: all(may(self.bed, USER, one) == (one in wanted) for one in self.granted),
            "the role is in force",
        )


@pytest.fixture
def office(cluster: Cluster, tmp_path: Path) -> Iterator[Office]:
    """Return a namespace and the means to run operators for the whole cluster."""
    operators: list[OperatorProcess] = []
    bed = Testbed(Api(cluster.kubeconfig), f"team-{time.monotonic_ns():x}", tmp_path, lambda: operators)
    role = bed.api.request("GET", ROLE_PATH)
    office = Office(
        cluster,
        bed,
        write_kubeconfig(cluster, INSTALL, "crontabber", tmp_path / "kubeconfig"),
        rights(role["rules"]),
        operators,
    )
    yield office
    for operator in operators:
        operator.kill()
    office.allow(office.granted)
    bed.remove()


# --- What makes the operator use a right ------------------------------------------------------------------


def make(bed: Testbed, name: str) -> None:
    """Create a job and see it scheduled."""
    bed.job(name, passLastSuccess=True)


def miss(bed: Testbed, name: str, count: int = 1, **spec: Any) -> None:
    """Create a job with missed slots."""
    bed.job(name, backfill=True, annotations={"mark-success": before(bed.missed_slots(count))}, **spec)


def batch(bed: Testbed, name: str) -> None:
    """Create a job whose missed slots share two Jobs: the second finds the runner there."""
    miss(bed, name, 4, backfillBatch=2)


def fail(bed: Testbed, name: str) -> None:
    """Create a job whose run fails."""
    bed.control(name, failures=99)
    miss(bed, name, retryDelaySeconds=600)


def starve(bed: Testbed, name: str) -> None:
    """Create a job whose image can't be pulled until its time is up: only the pod's Events say that."""
    template = bed.template(name)
    template["spec"]["containers"][0]["image"] = "no-such-image"
    miss(bed, name, template=template, activeDeadlineSeconds=1, retryLimit=0)


def fail_twice(bed: Testbed, name: str) -> None:
    """Un-mark a slot of a plain job: its CronJob is made to fire it, its Job fails, and again 10 s later."""
    bed.control(name, failures=99)
    unmark(bed, name)


def unmark(bed: Testbed, name: str) -> None:
    """Say that a plain job succeeded before its last slot: its CronJob is made to fire that again."""
    bed.job(name)
    bed.wait(lambda: bed.find("cronjobs", name), "the CronJob exists")
    bed.annotate(name, mark_success=before(bed.missed_slots(1)))


def edit(bed: Testbed, name: str) -> None:
    """Change the schedule of a job that is scheduled."""
    bed.job(name, passLastSuccess=True)
    bed.wait(lambda: bed.find("cronjobs", name), "the CronJob exists")
    bed.change(name, schedule="11 3 * * *")


def supplant(bed: Testbed, name: str) -> None:
    """Have a CronJob there that a former resource of the name left, and that can't be removed just yet."""
    pod = {"containers": [{"name": "other", "image": "app"}], "restartPolicy": "Never"}
    reference = {
        "apiVersion": "crontabber.dev/v1",
        "kind": "CrontabberJob",
        "name": name,
        "uid": str(uuid.uuid4()),
    }
    metadata = {
        "name": name,
        "ownerReferences": [{**reference, "controller": True}],
        "finalizers": ["crontabber.dev/test"],
    }
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    bed.create("cronjobs", {"metadata": metadata, "spec": spec})
    bed.job(name)
    bed.wait(lambda: bed.condition(name, "Ready").get("reason") == "NameConflict", "it is told")
    bed.patch("cronjobs", name, {"metadata": {"finalizers": None}})


def occupy(bed: Testbed, name: str) -> None:
    """Have a Job of somebody else in the place of a one-off."""
    slot = bed.missed_slots(1)[0]
    template = bed.template(name)
    template["spec"]["restartPolicy"] = "Never"
    bed.create(
        "jobs",
        {
            "metadata": {"name": f"{name}-{int(slot.timestamp()) // 60}-1"},
            "spec": {"suspend": True, "template": template},
        },
    )
    miss(bed, name)


def roll_out(bed: Testbed, name: str) -> None:
    """Let a job run in the template of a Deployment that never becomes ready."""
    labels = {"app": name}
    container = {"name": "app", "image": "no-such-image"}
    bed.create(
        "deployments",
        {
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )
    bed.job(name, template=None, webapp={"name": name})


def say_nonsense(bed: Testbed, name: str) -> None:
    """Give the same command that can't be done twice."""
    bed.job(name)
    for answers in (1, 2):
        bed.annotate(name, reset="nonsense")
        # The same command again, before the first is answered, is the first.
        bed.wait(partial(_refused_so_often, bed, name, answers), "the command was answered")


def _refused_so_often(bed: Testbed, name: str, answers: int) -> bool:
    records = bed.status(name).get("lastCommands") or []
    return [one["result"].startswith("Refused") for one in records] == [True] * answers


PROVOKED: dict[Right, Callable[[Testbed, str], None]] = {
    # First, because what a namespace's Secret says is asked once a minute at most.
    Right("", "secrets", "get", "crontabber-sentry"): fail,
    Right("crontabber.dev", "crontabberjobs", "get"): supplant,
    Right("crontabber.dev", "crontabberjobs", "patch"): miss,
    Right("crontabber.dev", "crontabberjobs/status", "patch"): make,
    Right("batch", "cronjobs", "get"): edit,
    Right("batch", "cronjobs", "create"): make,
    Right("batch", "cronjobs", "patch"): edit,
    Right("batch", "cronjobs", "delete"): supplant,
    Right("batch", "cronjobs/status", "patch"): unmark,
    Right("batch", "jobs", "get"): occupy,
    Right("batch", "jobs", "create"): miss,
    Right("batch", "jobs", "patch"): miss,
    Right("batch", "jobs", "delete"): lambda bed, name: miss(bed, name, 3, successfulJobsHistoryLimit=0),
    Right("", "configmaps", "create"): batch,
    Right("", "configmaps", "get"): batch,
    Right("", "pods", "list"): fail,
    Right("", "pods", "delete"): fail_twice,
    Right("", "pods/log", "get"): fail,
    Right("apps", "deployments", "get"): roll_out,
    Right("apps", "replicasets", "list"): roll_out,
    Right("", "events", "list"): starve,
    Right("", "events", "create"): miss,
    Right("", "events", "patch"): say_nonsense,
}
AT_START = [
    Right(group, resource, verb)
    for group, resource in (
        ("crontabber.dev", "crontabberjobs"),
        ("batch", "cronjobs"),
        ("batch", "jobs"),
        ("apps", "deployments"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
    )
    for verb in ("list", "watch")
]


def namespaced(bed: Testbed) -> list[Body]:
    """Return what the chart makes in namespaced mode, less what the whole cluster has."""
    given = "--set=crds.enabled=false,rbac.userRoles=false"
    return render("--skip-tests", given, values={**SENTRY, "watchNamespaces": [bed.namespace]})


# --- The promises ----------------------------------------------------------------------------------------


def test_the_operator_uses_each_right_that_it_has_and_asks_for_no_other(office: Office) -> None:
    """A plain and a backfill job run under the chart's role; nothing is refused, and no right is unused."""
    bed = office.bed
    role = bed.api.request("GET", LEASE_ROLE_PATH)
    granted = office.granted | {replace(one, name="") for one in rights(role["rules"])}
    asked = Asked(office.cluster.audit_log, USER)
    office.start("--leader-election", f"--lease={INSTALL}/crontabber")
    miss(bed, "chain", 3)
    bed.job("plain")
    for number, provoke in enumerate(dict.fromkeys(PROVOKED.values())):
        provoke(bed, f"used-{number}")
    bed.wait_status("chain", missed=0, state="Waiting")
    bed.annotate("plain", run_now="--once")
    bed.wait(lambda: len(bed.good("chain")) == 3 and bed.good("plain"), "both jobs ran")

    def unused() -> set[Right]:
        asked.read()
        return granted - asked.granted

    try:
        bed.wait(lambda: not unused() or None, "each right is used", 45)
    except AssertionError:
        # Some are a matter of the moment: whether a watch or an answer is first.
        for number, right in enumerate(sorted(unused() & PROVOKED.keys(), key=str)):
            PROVOKED[right](bed, f"again-{number}")
        bed.wait(
            lambda: not unused() or None, f"each right is used; unused: {sorted(map(str, unused()))}", 90
        )
    assert asked.granted == granted
    assert not asked.refused, (
        "the operator asks for more than the chart gives: see helm/templates/_rights.tpl"
    )


def test_without_sentry_the_operator_needs_no_right_for_it(office: Office) -> None:
    """With the chart's own values it may neither read Secrets nor list Events, and doesn't try to."""
    bed = office.bed
    few = rights(
        next(
            one["rules"]
            for one in render("--skip-tests")
            if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "ops-crontabber"
        )
    )
    assert office.granted - few == {
        Right("", "secrets", "get", "crontabber-sentry"),
        Right("", "events", "list"),
    }
    office.allow(few)
    asked = Asked(office.cluster.audit_log, USER)
    office.start(sentry=False)
    fail(bed, "failing")
    starve(bed, "starving")
    bed.wait_status("starving", state="RetriesExhausted")
    bed.wait_status("failing", errorCount=1)
    asked.read()
    assert not asked.refused
    assert asked.granted <= few


def test_each_right_is_accounted_for(office: Office) -> None:
    """A right that is added to the chart must be added to what these tests provoke."""
    assert office.granted == {*PROVOKED, *AT_START}


def test_a_missing_right_is_told_and_its_return_heals(office: Office) -> None:
    """Each verb that is taken away in turn is missed by the operator, which says so in its log."""
    bed = office.bed
    operator = office.start()
    make(bed, "ready")
    bed.wait_ready("ready")
    for number, (right, provoke) in enumerate(PROVOKED.items()):
        name = f"missed-{number}"
        asked = Asked(office.cluster.audit_log, USER)
        office.allow(office.granted - {right})
        provoke(bed, name)

        def told(right: Right = right, asked: Asked = asked) -> bool:
            asked.read()
            sentence = f'cannot {right.verb} resource "{right.resource}"'
            return right in asked.refused and sentence in operator.log()

        bed.wait(told, f"the operator misses: {right}")
        office.allow(office.granted)
        bed.delete("crontabberjobs", name)
    miss(bed, "afterwards", 2)
    bed.wait(lambda: len(bed.good("afterwards")) == 2, "all is well again")


@pytest.mark.parametrize("right", AT_START, ids=str)
def test_what_is_watched_is_missed_at_the_start(office: Office, right: Right) -> None:
    """Without the right to list or watch a kind, the operator's log says so at its start."""
    office.allow(office.granted - {right})
    operator = office.start()
    sentence = f'cannot {right.verb} resource "{right.resource}"'
    office.bed.wait(lambda: sentence in operator.log(), f"the operator misses: {right}")


def test_in_namespaced_mode_roles_of_these_namespaces_are_enough(office: Office) -> None:
    """With watchNamespaces the operator has no right anywhere else, and does its work there."""
    bed = office.bed
    apply(office.cluster, namespaced(bed))
    office.allow(set())
    asked = Asked(office.cluster.audit_log, USER)
    role = bed.api.request(
        "GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{bed.namespace}/roles/ops-crontabber"
    )
    office.start(f"--namespace={bed.namespace}")
    miss(bed, "chain", 2)
    bed.wait(lambda: len(bed.good("chain")) == 2, "the missed slots ran")
    asked.read()
    assert asked.granted <= rights(role["rules"])
    assert not asked.refused


def test_no_right_reaches_into_other_namespaces(office: Office) -> None:
    """A namespaced operator's role opens no other namespace."""
    bed = office.bed
    apply(office.cluster, namespaced(bed))
    office.allow(set())
    account = Api(office.kubeconfig)
    assert account.request("GET", f"/api/v1/namespaces/{bed.namespace}/pods")["kind"] == "PodList"
    with pytest.raises(ApiError, match="cannot list"):
        account.request("GET", "/api/v1/namespaces/default/pods")
