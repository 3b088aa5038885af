"""The chart on a real API server: installed, tried, upgraded and removed, with the operator as a pod."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from devcluster import Cluster, ClusterError
from tests.integration.chart_release import (
    CHART,
    ROOT,
    HelmError,
    chart_cluster,
    free_ports,
    helm,
    refused,
    render,
    write_kubeconfig,
)
from tests.integration.testbed import PREFIX, Api, Body, Testbed, before
from tests.unit.test_chart import API, EVERYTHING

pytestmark = pytest.mark.timeout(900)  # helm may have to be built first

INSTALL = "ops"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster with a namespace to install into, which enforces restricted Pod Security."""
    with chart_cluster("chart", tmp_path_factory.mktemp("state")) as started:
        started.kubectl("create", "namespace", INSTALL)
        started.kubectl("label", "namespace", INSTALL, RESTRICTED)
        yield started


@pytest.fixture
def bed(cluster: Cluster, tmp_path: Path) -> Iterator[Testbed]:
    """Return a namespace of a team."""
    made = Testbed(Api(cluster.kubeconfig), f"team-{time.monotonic_ns():x}", tmp_path, list)
    yield made
    made.remove()


class Release:
    """The chart's release in the namespace `ops`."""

    def __init__(self, cluster: Cluster) -> None:
        """Choose ports for probes and metrics: pods share this machine's, so there can be one operator at a time."""
        self.cluster = cluster
        health, metrics = free_ports(2)
        self.fixed = f"--set=health.port={health},metrics.port={metrics},strategy.type=Recreate"

    def do(self, what: str, *arguments: str) -> str:
        """Install or upgrade, and wait until the operator is ready. Raises HelmError."""
        given = ("crontabber", str(CHART), "--namespace", INSTALL, self.fixed, "--wait", "--timeout=120s")
        return helm(what, *given, *arguments, kubeconfig=self.cluster.kubeconfig)

    def rollback(self, revision: int) -> str:
        """Go back to a revision, and wait until the operator is ready. Raises HelmError."""
        given = ("crontabber", str(revision), "--namespace", INSTALL, "--wait", "--timeout=120s")
        return helm("rollback", *given, kubeconfig=self.cluster.kubeconfig)

    def test(self) -> str:
        """Run `helm test`. Raises HelmError."""
        given = ("test", "crontabber", "--namespace", INSTALL, "--timeout=180s")
        return helm(*given, kubeconfig=self.cluster.kubeconfig)

    def uninstall(self) -> str:
        """Uninstall, and wait until everything is gone."""
        given = ("uninstall", "crontabber", "--namespace", INSTALL, "--ignore-not-found", "--wait")
        return helm(*given, kubeconfig=self.cluster.kubeconfig)

    def log(self) -> str:
        """Return what the operator's pod printed."""
        return self.cluster.kubectl("logs", "--namespace", INSTALL, "deployment/crontabber")


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Release]:
    """Return the release, not installed; what is left of it is removed, but the CRD."""
    made = Release(cluster)
    yield made
    made.uninstall()


def test_installed_tried_upgraded_and_removed_without_a_loss(release: Release, bed: Testbed) -> None:
    """The operator runs as a pod; through upgrade and removal no resource, slot or book is lost."""
    assert "serves the CrontabberJobs of all namespaces" in release.do("install")
    assert "Succeeded" in release.test()
    jobs = f"/apis/batch/v1/namespaces/{INSTALL}/jobs"
    bed.wait(lambda: not bed.api.request("GET", jobs)["items"], "nothing of the test is left")

    bed.job("chain", backfill=True, annotations={"mark-success": before(bed.missed_slots(3))})
    bed.wait(lambda: len(bed.good("chain")) == 3, f"the missed slots ran\n{release.log()}")

    # With a job that can't be missed in between: the upgrade is the moment at which slots are due.
    bed.annotate("chain", mark_success=before(bed.missed_slots(5)))
    release.do("upgrade", "--set=log.format=json", "--set=commandPolicy.enabled=true")
    bed.wait_good("chain", 8)
    bed.wait_status("chain", missed=0, state="Waiting")
    assert json.loads(release.log().splitlines()[0])["severity"]
    slots = [run.run_time for run in bed.runs("chain")]
    assert len(slots) == len(bed.good("chain")) == 8

    books = bed.wait_status("chain", state="Waiting")
    told = release.uninstall()
    assert "crontabberjobs.crontabber.dev" in told  # kept, says Helm
    assert bed.status("chain") == books
    assert bed.find("cronjobs", "chain")
    # Nothing of ours holds a resource back that is deleted after the operator is gone.
    bed.job("last")
    bed.delete("crontabberjobs", "last")
    bed.wait(lambda: bed.find("crontabberjobs", "last") is None, "it is gone")

    release.do("install")
    bed.annotate("chain", mark_success=before(bed.missed_slots(1)))
    bed.wait(lambda: len(bed.good("chain")) == 9, f"the books go on\n{release.log()}")


class EveryState:
    """A job in each state, and what must be true of it however the operator comes and goes."""

    def __init__(self, bed: Testbed) -> None:
        """Make them."""
        self.bed = bed
        slots = bed.missed_slots(4)
        for name in ("plain", "gated", "chain"):
            bed.control(name, hold=True)
        for name in ("retrying", "exhausted"):
            bed.control(name, failures=99)
        bed.job("waiting")
        bed.job("plain", annotations={"mark-success": before(slots[-1:])})
        self._miss("gated", 1)
        self._miss("chain", 4)
        self._miss("retrying", 2, retryDelaySeconds=3600, retryMaxDelaySeconds=3600)
        self._miss("exhausted", 2, retryLimit=0)
        self._miss("suspended", 2, suspend=True)
        bed.job("invalid", timeZone="Europe/Atlantis")

    def _miss(self, name: str, count: int, **spec: Any) -> None:
        slots = self.bed.missed_slots(count)
        self.bed.job(name, backfill=True, annotations={"mark-success": before(slots)}, **spec)

    STATES: ClassVar = {
        "waiting": "Waiting",
        "plain": "Running",
        "gated": "Running",
        "chain": "CatchingUp",
        "retrying": "Retrying",
        "exhausted": "RetriesExhausted",
        "suspended": "Suspended",
        "invalid": "Invalid",
    }

    def wait(self) -> dict[str, Body]:
        """Wait until each is in its state; return the statuses."""
        for name in ("plain", "gated", "chain"):
            self.bed.wait_running(name)
        return {name: self.bed.wait_status(name, state=state) for name, state in self.STATES.items()}

    def runs(self) -> dict[str, int]:
        """Return how often each command was started."""
        return {name: count for name in self.STATES if (count := len(self.bed.runs(name)))}


def test_jobs_in_every_state_survive_upgrade_rollback_and_removal(release: Release, bed: Testbed) -> None:
    """Nothing is lost, nothing runs twice; what is deleted without the operator is gone; the rest goes on with it."""
    release.do("install")
    jobs = EveryState(bed)
    states = jobs.wait()
    started = {"plain": 1, "gated": 1, "chain": 1, "retrying": 1, "exhausted": 1}
    assert jobs.runs() == started
    release.do("upgrade", "--set=log.format=json,podLabels.release=second")
    release.rollback(1)
    release.do("upgrade", "--set=log.format=json")
    bed.job("made-after")
    bed.wait_ready("made-after")  # the newest operator is at work
    assert jobs.wait() == states
    assert jobs.runs() == started

    for name in ("plain", "gated", "chain"):
        bed.control(name)
    bed.wait(lambda: len(bed.good("chain")) == 4 and bed.good("plain") and bed.good("gated"), "they end well")
    for name in ("plain", "gated", "chain"):
        bed.wait_status(name, state="Waiting", missed=0)
    done = started | {"chain": 4}
    assert jobs.runs() == done

    bed.control("gated", hold=True)
    bed.annotate("gated", mark_success=before(bed.missed_slots(1)))
    bed.wait_running("gated", 2)
    release.uninstall()
    for name in set(jobs.STATES) - {"chain", "exhausted"}:
        bed.delete("crontabberjobs", name)
        bed.wait(lambda name=name: bed.find("crontabberjobs", name) is None, f"{name} is gone")
    bed.wait(
        lambda: (
            {one["metadata"]["name"] for one in bed.objects("cronjobs")}
            == {"chain", "exhausted", "made-after"}
        ),
        "what was made for them is gone",
    )
    bed.control("gated")
    bed.control("exhausted")
    bed.annotate("chain", mark_success=before(bed.missed_slots(2)))
    bed.annotate("exhausted", mark_success=before(bed.missed_slots(1)))
    release.do("install")
    bed.wait(lambda: len(bed.good("chain")) == 6, f"it goes on\n{release.log()}")
    bed.wait_status("exhausted", state="Waiting", missed=0)
    assert jobs.runs() == done | {"gated": 2, "chain": 6, "exhausted": 2}
    assert not any(run.overlapped for name in jobs.STATES for run in bed.runs(name))


def test_jobs_of_values_come_with_an_upgrade_and_keep_their_books(release: Release, bed: Testbed) -> None:
    """The first install brings the kind, the next release jobs of it; further upgrades leave their status alone."""
    release.do("install", "--set=replicaCount=0")
    spec = {"command": "record", "schedule": bed.schedule, "template": bed.template("nightly")}
    jobs: Body = {"nightly": {"namespace": bed.namespace, "spec": {**spec, "backfill": True}}}
    release.do("upgrade", f"--set-json=jobs={json.dumps(jobs)}")
    bed.annotate("nightly", mark_success=before(bed.missed_slots(2)))
    bed.wait(lambda: len(bed.good("nightly")) == 2, f"the missed slots ran\n{release.log()}")
    books = bed.wait_status("nightly", missed=0, state="Waiting")
    jobs["nightly"]["spec"]["output"] = "None"
    release.do("upgrade", f"--set-json=jobs={json.dumps(jobs)}")
    after = bed.wait_status("nightly", observedGeneration=2)
    assert after["lastSuccessTime"] == books["lastSuccessTime"]
    assert len(bed.runs("nightly")) == 2


def test_crd_is_upgraded(release: Release, cluster: Cluster) -> None:
    """A CRD that an older release left behind is brought up to date."""
    release.do("install", "--set=replicaCount=0")
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabberjobs.crontabber.dev"
    api = Api(cluster.kubeconfig)
    newest = api.request("GET", path)["spec"]
    old = [{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/7"}]
    api.request("PATCH", path, old, "application/json-patch+json")
    assert api.request("GET", path)["spec"] != newest
    release.do("upgrade", "--set=replicaCount=0", "--set=crds.annotations.note=new")
    assert api.request("GET", path)["spec"] == newest


def test_what_cannot_work_is_told_at_the_install(release: Release) -> None:
    """A wrong value stops helm before anything was made."""
    with pytest.raises(HelmError, match="replica"):
        release.do("install", "--set=replicas=3")


@pytest.mark.parametrize("watched", [[], ["ops", "default"]], ids=["cluster-wide", "namespaced"])
def test_the_api_server_accepts_everything_under_restricted_pod_security(
    release: Release, cluster: Cluster, watched: list[str]
) -> None:
    """A server-side dry run of all that can be rendered, in a namespace that enforces `restricted`."""
    release.do("install", "--set=replicaCount=0")  # the CRD, so that jobs are checked too
    cluster.kubectl(
        "apply", "--server-side", "-f", "-", stdin="{apiVersion: v1, kind: Namespace, metadata: {name: site}}"
    )
    foreign = {"metrics.serviceMonitor.enabled": False, "metrics.prometheusRule.enabled": False}
    objects = render(
        API, values={**EVERYTHING, **foreign, "watchNamespaces": watched, "fullnameOverride": "dry"}
    )
    for one in objects:
        if one["kind"] == "ConfigMap":
            one["metadata"]["namespace"] = INSTALL
        if one["kind"] == "ServiceAccount":  # pods are refused, also in a dry run, where theirs is missing
            cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(one))
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    # The API server only warns about a Deployment's pods: the pod itself is what is refused.
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-pod", "namespace": INSTALL},
        "spec": template["spec"],
    }
    pod["spec"]["serviceAccountName"] = "default"
    text = "\n---\n".join(json.dumps(one) for one in [*objects, pod])
    told = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=text
    )
    assert told.count("serverside-applied (server dry run)") == len(objects) + 1
    privileged = {**pod, "spec": {**pod["spec"], "hostNetwork": True}}
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(privileged))


def test_kustomize_base_is_accepted(cluster: Cluster) -> None:
    """`kubectl apply -k` takes the base."""
    cluster.kubectl("create", "namespace", "crontabber")
    base = str(ROOT / "contrib" / "kustomize" / "base")
    arguments = ("--server-side", "--force-conflicts", "--dry-run=server", "-k", base)
    assert "deployment.apps/crontabber" in cluster.kubectl("apply", *arguments)


# --- People ----------------------------------------------------------------------------------------------


def as_person(cluster: Cluster, bed: Testbed, name: str, *roles: str) -> Api:
    """Return requests of somebody who has these ClusterRoles in the namespace."""
    bed.create("serviceaccounts", {"metadata": {"name": name}})
    for role in roles:
        given = (f"{name}-{role}", f"--clusterrole={role}", f"--serviceaccount={bed.namespace}:{name}")
        cluster.kubectl("create", "rolebinding", *given, "--namespace", bed.namespace)
    return Api(write_kubeconfig(cluster, bed.namespace, name, bed.folder / f"{name}.kubeconfig"))


def test_commands_take_verbs_of_their_own_where_the_policy_is_on(
    release: Release, cluster: Cluster, bed: Testbed
) -> None:
    """`edit` may run, `admin` may mark and reset too, and `view` may do nothing but look."""
    release.do("install", "--set=replicaCount=0,commandPolicy.enabled=true")
    bed.job("job")
    path = bed.path("crontabberjobs", "job")
    people = {name: as_person(cluster, bed, name, name) for name in ("view", "edit", "admin")}

    def annotate(who: str, value: str, *names: str) -> int:
        """Return the status of the answer, 200 where it was done; 0 where a role and not the policy refused it."""
        patch = {"metadata": {"annotations": {PREFIX + name: value for name in names}}}
        error = refused(
            lambda: people[who].request("PATCH", f"{path}?dryRun=All", patch, "application/merge-patch+json")
        )
        if error is None:
            return 200
        return error.status if who == "view" or "takes the verb" in str(error) else 0

    # The policy takes a moment to be in force, and so do aggregated roles.
    bed.wait(lambda: annotate("edit", "x", "mark-success") == 403, "the policy is in force")
    bed.wait(lambda: annotate("edit", "x", "run-now") == 200, "edit may run")
    bed.wait(lambda: annotate("admin", "x", "mark-success", "reset", "run-now") == 200, "admin may do all")
    for name in ("run-now", "mark-success", "reset"):
        assert annotate("view", "x", name) == 403
        assert annotate("edit", "x", name) == (200 if name == "run-now" else 403)
    assert annotate("edit", "x", "command-id") == 200
    assert people["view"].request("GET", path)["metadata"]["name"] == "job"

    # One that is set already is not given again by changing something else, and anybody may take it back.
    bed.annotate("job", reset="")
    change = {"spec": {"suspend": True}}
    people["edit"].request("PATCH", path, change, "application/merge-patch+json")
    people["edit"].request(
        "PATCH", path, {"metadata": {"annotations": {f"{PREFIX}reset": None}}}, "application/merge-patch+json"
    )
    # Neither may one come with a new resource.
    new = {**bed.resource("job"), "metadata": {"name": "new", "annotations": {f"{PREFIX}reset": ""}}}
    error = refused(lambda: people["edit"].request("POST", bed.path("crontabberjobs"), new))
    assert error is not None
    assert error.status == 403
