"""The Helm chart, by what it renders: nothing here asks a cluster."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from crontabber_operator import serve
from crontabber_operator.crd import spec_schema
from crontabber_operator.models import GROUP, KIND, VERSION
from crontabber_operator.settings import Settings
from crontabber_operator.variables import expand
from tests.integration.chart_release import (
    CHART,
    KUBE_VERSION,
    ROOT,
    HelmError,
    Right,
    helm,
    render,
    rights,
)

Body = dict[str, Any]
pytestmark = pytest.mark.timeout(900)  # helm may have to be built first

API = f"--api-versions={GROUP}/{VERSION}/{KIND}"
EVERYTHING: Body = {
    "commonLabels": {"team": "web"},
    "crds.annotations": {"note": "x"},
    "image.digest": f"sha256:{'a' * 64}",
    "image.pullSecrets": [{"name": "registry"}],
    "commandPolicy.enabled": True,
    "podDisruptionBudget.enabled": True,
    "networkPolicy.enabled": True,
    "networkPolicy.apiServerCIDRs": ["10.0.0.1/32"],
    "networkPolicy.extraEgress": [{"ports": [{"port": 3128}]}],
    "networkPolicy.extraIngress": [{"ports": [{"port": 8080}]}],
    "metrics.enabled": True,
    "metrics.service.annotations": {"note": "x"},
    "metrics.service.labels": {"x": "y"},
    "metrics.serviceMonitor.enabled": True,
    "metrics.serviceMonitor.metricRelabelings": [{"action": "labeldrop", "regex": "x"}],
    "metrics.prometheusRule.enabled": True,
    "metrics.prometheusRule.alertLabels": {"team": "web"},
    "metrics.dashboard.enabled": True,
    "page.enabled": True,
    "page.service.annotations": {"note": "x"},
    "page.service.labels": {"x": "y"},
    "page.allowFrom": [{"podSelector": {"matchLabels": {"app": "login"}}}],
    "serviceAccount.annotations": {"note": "x"},
    "deploymentAnnotations": {"note": "x"},
    "podAnnotations": {"note": "x"},
    "podLabels": {"tier": "ops"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "ops", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
    ],
    "sentry.dsn": "https://key@sentry.example/1",
    "sentry.namespaceSecrets": True,
    "sentry.crons": True,
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "tmp", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    "jobDefaults": {"webapp": {"name": "site"}, "frequency": "1d"},
    "jobs": {
        "clearsessions": {"spec": {"command": "clearsessions"}},
        "hourly": {
            "namespace": "site",
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"team": "data"},
            "spec": {"command": "work", "frequency": "1h"},
        },
    },
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n",
    ],
}
"""Values that turn on everything."""


def kinds(objects: list[Body]) -> list[str]:
    """Return the kinds, hooks aside."""
    return sorted(one["kind"] for one in objects if not is_hook(one))


def is_hook(one: Body) -> bool:
    """Tell whether an object is `helm test`'s."""
    return "helm.sh/hook" in (one["metadata"].get("annotations") or {})


def find(objects: list[Body], kind: str, name: str = "") -> Body:
    """Return the one object of this kind, hooks aside."""
    found = [
        one
        for one in objects
        if one["kind"] == kind and not is_hook(one) and (not name or one["metadata"]["name"] == name)
    ]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def container(objects: list[Body]) -> Body:
    """Return the operator's container."""
    found: Body = find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


# --- What is in it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_lint_is_content(values: Body) -> None:
    """`helm lint --strict` has no complaint."""
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items() if key != "jobs"]
    assert "0 chart(s) failed" in helm(
        "lint", "--strict", str(CHART), f"--kube-version={KUBE_VERSION}", *given
    )


def test_by_default_there_is_what_it_takes_and_no_more() -> None:
    """One operator for the whole cluster, its rights, the CRD, and the roles for people."""
    assert kinds(render()) == [
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ]


def test_everything_can_be_turned_on_at_once() -> None:
    """All options together give well-formed objects, each named once."""
    objects = render(API, values=EVERYTHING)
    names = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"], is_hook(one))
        for one in objects
    ]
    assert len(names) == len(set(names))
    wanted = {
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ValidatingAdmissionPolicy",
        "CrontabberJob",
        "ConfigMap",
    }
    assert wanted <= set(kinds(objects))
    for one in objects:
        if one["kind"] != "ConfigMap":
            labels = one["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "crontabber"
            assert labels["team"] in ("web", "data")


def test_everything_can_be_turned_off() -> None:
    """Without CRD, roles and service account only the Deployment is left."""
    off = ["crds.enabled", "rbac.create", "rbac.userRoles", "serviceAccount.create", "metrics.enabled"]
    objects = render(values=dict.fromkeys(off, False))
    assert kinds(objects) == ["Deployment"]
    assert find(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_versions_are_those_of_the_project() -> None:
    """Chart, appVersion and VERSION move together."""
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == version
    assert chart["version"] == version
    assert f":{version}\n" in chart["annotations"]["artifacthub.io/images"]


def test_package_holds_what_templates_read() -> None:
    """The files that templates read are in the package; the generator is not."""
    shown = helm("show", "all", str(CHART))
    assert "values.schema.json" not in shown
    ignored = (CHART / ".helmignore").read_text(encoding="utf-8").splitlines()
    assert "generate.py" in ignored
    assert not any(line.startswith("files") for line in ignored)


# --- The CRD ---------------------------------------------------------------------------------------------


def test_crd_is_that_of_the_source() -> None:
    """Through Helm's templates the CRD comes out as it went in."""
    source = yaml.safe_load((ROOT / "crds" / "crontabberjobs.yaml").read_text(encoding="utf-8"))
    crd = find(render(), "CustomResourceDefinition")
    assert crd["spec"] == source["spec"]
    assert crd["metadata"]["name"] == source["metadata"]["name"]


def test_crd_outlives_the_release_unless_told_otherwise() -> None:
    """Uninstalling must not delete every job of the cluster."""
    keep = "helm.sh/resource-policy"
    assert find(render(), "CustomResourceDefinition")["metadata"]["annotations"][keep] == "keep"
    values = {"crds.keep": False, "crds.annotations": {"a": "b"}}
    assert find(render(values=values), "CustomResourceDefinition")["metadata"]["annotations"] == {"a": "b"}


# --- The operator ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"watchNamespaces": ["a", "b"]}, {"namespace": "a,b"}),
        ({"webapp.name": "site", "log.format": "json"}, {"webapp": "deployment/site", "log-format": "json"}),
        ({"webapp.container": "django"}, {"webapp-container": "django"}),
        ({"webapp.managePy": []}, {"manage-py": ""}),
        (
            {"webapp.managePy": ["uv", "run", "it's; $HOME/manage.py"]},
            {"manage-py": 'uv run "it\'s; $HOME/manage.py"'},
        ),
        (
            {"sentry.crons": True, "sentry.namespaceSecrets": True},
            {"sentry-crons": "on", "sentry-secrets": "on"},
        ),
        ({"maxConcurrentRunsPerNamespace": 5}, {"max-concurrent-runs-per-namespace": "5"}),
        ({"output": "None", "log.format": "mozlog"}, {"output": "None", "log-format": "mozlog"}),
        ({"leaderElection.enabled": False}, {"leader-election": "off", "lease": "crontabber"}),
    ],
    ids=[
        *("default", "namespaces", "webapp", "container", "entrypoint", "words", "sentry", "limit"),
        *("output", "alone"),
    ],
)
def test_arguments_are_those_of_the_operator(values: Body, expected: dict[str, str]) -> None:
    """The operator takes the arguments that the chart gives, and understands what was meant."""
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    args = [expand(arg, {}) for arg in container(render(values=values))["args"]]  # as the kubelet does
    given = vars(parser.parse_args(args))
    flags = {name: given[name.replace("-", "_")] for name in serve.FLAGS}
    if flags["namespace"] is not None:
        flags["namespace"] = ",".join(flags["namespace"])
    always = {"sentry-secrets": "off", "leader-election": "on", "lease": "ops/crontabber"}
    assert Settings.read(flags, {}) == Settings.read({**always, **expected}, {})


@pytest.mark.parametrize(
    ("values", "env"),
    [
        ({}, None),
        ({"sentry.dsn": "https://k@s.example/1"}, [{"name": "SENTRY_DSN", "value": "https://k@s.example/1"}]),
        (
            {"sentry.existingSecret.name": "sentry", "sentry.dsn": "https://k@s.example/1"},
            [
                {
                    "name": "SENTRY_DSN",
                    "valueFrom": {"secretKeyRef": {"name": "sentry", "key": "SENTRY_DSN"}},
                }
            ],
        ),
        (
            {
                "sentry.environment": "1",
                "sentry.release": "2",
                "extraEnv": [{"name": "SENTRY_RELEASE", "value": "3"}],
            },
            [
                {"name": "SENTRY_ENVIRONMENT", "value": "1"},
                {"name": "SENTRY_RELEASE", "value": "2"},
                {"name": "SENTRY_RELEASE", "value": "3"},
            ],
        ),
    ],
    ids=["default", "dsn", "secret", "more"],
)
def test_sentry_is_set_up_by_its_own_variables(values: Body, env: list[Body] | None) -> None:
    """A Secret wins over a DSN in the values, and what is given by hand over all."""
    without = {"output": "None", "leaderElection.enabled": False}
    given = container(render(values={**without, **values})).get("env")
    assert given == env


def test_how_far_output_was_told_is_kept_where_a_crash_leaves_it() -> None:
    """In a volume of the pod, the only thing that can be written; where no output is told there is none."""
    objects = render()
    assert {"name": "XDG_STATE_HOME", "value": "/state"} in container(objects)["env"]
    assert container(objects)["volumeMounts"] == [{"name": "state", "mountPath": "/state"}]
    pod = find(objects, "Deployment")["spec"]["template"]["spec"]
    assert [one["emptyDir"] for one in pod["volumes"]] == [{"sizeLimit": "64Mi"}]
    without = {"output": "None", "leaderElection.enabled": False}
    silent = find(render(values=without), "Deployment")["spec"]["template"]["spec"]
    assert not {"volumes"} & silent.keys()
    assert not {"volumeMounts", "env"} & silent["containers"][0].keys()


@pytest.mark.parametrize(
    ("values", "reads"),
    [
        ({}, True),
        ({"output": "Failures"}, True),
        ({"output": "None"}, False),
        ({"output": "None", "sentry.dsn": "https://k@s.example/1"}, True),
        ({"output": "None", "sentry.namespaceSecrets": True}, True),
    ],
)
def test_logs_may_be_read_only_where_somebody_wants_them(values: Body, reads: bool) -> None:
    """The operator's log or Sentry; and the operator knows it."""
    objects = render(values=values)
    granted = rights(find(objects, "ClusterRole", "ops-crontabber")["rules"])
    assert (Right("", "pods/log", "get") in granted) is reads
    flags = dict(arg.removeprefix("--").split("=", 1) for arg in container(objects)["args"][1:])
    env = {one["name"]: one.get("value") or "" for one in container(objects).get("env") or []}
    assert Settings.read(flags, env).reads_logs is reads


def test_probes_ask_the_port_that_is_served() -> None:
    """Changing the health port changes probe, port and argument together."""
    operator = container(render(values={"health.port": 9999}))
    assert "--health=:9999" in operator["args"]
    assert {"name": "health", "containerPort": 9999, "protocol": "TCP"} in operator["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = "/readyz" if probe == "readinessProbe" else "/healthz"
        assert operator[probe]["httpGet"] == {"path": path, "port": "health"}


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "crontabber-operator:0.1.0"),
        ({"image.tag": "1.2"}, "crontabber-operator:1.2"),
        (
            {"image.tag": "1.2", "image.digest": f"sha256:{'b' * 64}"},
            f"crontabber-operator@sha256:{'b' * 64}",
        ),
    ],
    ids=["version", "tag", "digest"],
)
def test_digest_decides_over_tag_and_tag_over_version(values: Body, image: str) -> None:
    """The same image is used by the operator and by the test's pods."""
    objects = render(values=values)
    assert container(objects)["image"] == image
    test_pod = next(one for one in objects if one["kind"] == "Pod")
    test_job = next(one for one in objects if one["kind"] == KIND)
    assert test_pod["spec"]["containers"][0]["image"] == image
    assert test_job["spec"]["template"]["spec"]["containers"][0]["image"] == image


def pod_specs(objects: list[Body]) -> Iterator[Body]:
    """Yield the pod of each object that makes some."""
    for one in objects:
        if one["kind"] == "Pod":
            yield one["spec"]
        elif "template" in one["spec"] if "spec" in one else False:
            yield one["spec"]["template"]["spec"]


def test_pods_are_restricted_and_tokens_are_given_where_needed() -> None:
    """Each pod of the chart is as restricted as Kubernetes' standards ask for."""
    specs = list(pod_specs(render()))
    assert len(specs) == 3
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 10_000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert one["resources"]["limits"]["memory"]
    assert [spec["automountServiceAccountToken"] for spec in specs].count(True) == 2
    assert find(render(), "ServiceAccount")["automountServiceAccountToken"] is False


def test_test_pod_is_not_taken_for_the_operator() -> None:
    """The Deployment, the PodDisruptionBudget and the NetworkPolicy select the operator's pod alone."""
    objects = render(API, values=EVERYTHING)
    selectors = [
        find(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        find(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    operator = find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    test_pod = next(one for one in objects if one["kind"] == "Pod")["metadata"]["labels"]
    for selector in selectors:
        assert selector.items() <= operator.items()
        assert not selector.items() <= test_pod.items()


class OnceLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, as post-renderers do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Build a mapping."""
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), sorted(keys)
        return super().construct_mapping(node, deep)


def test_labels_that_are_given_twice_are_there_once() -> None:
    """The nearer one counts; those that selectors go by are never replaced."""
    name = "app.kubernetes.io/name"
    values: Body = {
        "commonLabels": {name: "x", "team": "web", "release": "a"},
        "podLabels": {name: "y", "team": "ops"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "other"},
        "metrics.serviceMonitor.enabled": True,
        "metrics.serviceMonitor.labels": {"release": "prometheus"},
        "metrics.prometheusRule.enabled": True,
        "metrics.prometheusRule.alertLabels": {"severity": "page"},
    }
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    text = helm("template", "c", str(CHART), f"--kube-version={KUBE_VERSION}", *given)
    objects = [one for one in yaml.load_all(text, Loader=OnceLoader) if one]
    template = find(objects, "Deployment")["spec"]["template"]["metadata"]
    assert template["labels"] == {
        name: "crontabber",
        "app.kubernetes.io/instance": "c",
        "team": "ops",
        "release": "a",
    }
    assert template["annotations"] == values["podAnnotations"]
    assert find(objects, "ServiceMonitor")["metadata"]["labels"]["release"] == "prometheus"
    (group,) = find(objects, "PrometheusRule")["spec"]["groups"]
    assert {one["labels"]["severity"] for one in group["rules"]} == {"page"}


def test_long_names_are_cut_where_kubernetes_wants_short_ones() -> None:
    """A Service's name has at most 63 characters, as a Deployment's pods have."""
    long = {"fullnameOverride": "x" * 80, "metrics.prometheusRule.enabled": True, "page.enabled": True}
    objects = render(values=long)
    services = {one["metadata"]["name"] for one in objects if one["kind"] == "Service"}
    assert len(services) == 2
    rules = json.dumps(find(objects, "PrometheusRule"))
    assert [one in rules for one in sorted(services)] == [True, False]  # …-metrics, …-page
    assert {len(one["metadata"]["name"]) <= 63 for one in objects if "namespace" in one["metadata"]} == {True}


def test_a_new_chart_version_alone_restarts_nothing() -> None:
    """The pod template carries no chart version."""
    template = find(render(), "Deployment")["spec"]["template"]
    assert set(template["metadata"]["labels"]) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


# --- Metrics ---------------------------------------------------------------------------------------------


def test_metrics_are_served_where_they_are_looked_for() -> None:
    """Argument, port, Service, ServiceMonitor and NetworkPolicy agree."""
    objects = render(API, values={**EVERYTHING, "metrics.port": 9090})
    operator = container(objects)
    assert "--metrics=:9090" in operator["args"]
    assert {"name": "metrics", "containerPort": 9090, "protocol": "TCP"} in operator["ports"]
    service = find(objects, "Service", "crontabber-metrics")
    assert service["spec"]["ports"][0]["targetPort"] == "metrics"
    labels = find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    monitor = find(objects, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    ingress = find(objects, "NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert [one["port"] for one in ingress] == ["health", "metrics"]


def test_without_metrics_none_are_served() -> None:
    """They are on by default, so the operator must be told."""
    objects = render(values={"metrics.enabled": False})
    assert "--metrics=off" in container(objects)["args"]
    assert [port["name"] for port in container(objects)["ports"]] == ["health"]
    assert "Service" not in kinds(objects)


def test_the_page_is_served_where_it_is_looked_for_and_only_for_those_who_are_named() -> None:
    """Argument, port, Service and NetworkPolicy agree; without names, the policy lets nobody in."""
    objects = render(API, values={**EVERYTHING, "page.port": 9091})
    operator = container(objects)
    assert "--page=:9091" in operator["args"]
    assert {"name": "page", "containerPort": 9091, "protocol": "TCP"} in operator["ports"]
    service = find(objects, "Service", "crontabber-page")
    assert service["spec"]["ports"] == [
        {"name": "page", "port": 9091, "targetPort": "page", "protocol": "TCP"}
    ]
    labels = find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    rules = find(objects, "NetworkPolicy")["spec"]["ingress"]
    (rule,) = (one for one in rules if any(port.get("port") == "page" for port in one["ports"]))
    assert rule["from"] == EVERYTHING["page.allowFrom"]
    closed = render(values={"page.enabled": True, "networkPolicy.enabled": True})
    ports = [
        port["port"] for one in find(closed, "NetworkPolicy")["spec"]["ingress"] for port in one["ports"]
    ]
    assert ports == ["health", "metrics"]


def test_there_is_no_page_where_none_is_asked_for() -> None:
    """It shows errors to whoever reaches the port."""
    objects = render()
    assert not [one for one in container(objects)["args"] if one.startswith("--page")]
    assert [port["name"] for port in container(objects)["ports"]] == ["health", "metrics"]


# --- Rights ----------------------------------------------------------------------------------------------


def test_namespaced_mode_has_a_role_in_each_namespace_and_nothing_for_the_cluster() -> None:
    """The same rights as cluster-wide, less the CRDs', in the named namespaces only."""
    objects = render(values={"watchNamespaces": ["a", "b"], "rbac.userRoles": False})
    assert not {"ClusterRole", "ClusterRoleBinding"} & set(kinds(objects))
    roles = [one for one in objects if one["kind"] == "Role" and not is_hook(one) and not is_for_lease(one)]
    assert [one["metadata"]["namespace"] for one in roles] == ["a", "b"]
    whole = rights(find(render(), "ClusterRole", "ops-crontabber")["rules"])
    for role in roles:
        assert rights(role["rules"]) == {one for one in whole if one.resource != "customresourcedefinitions"}
    bindings = [one for one in objects if one["kind"] == "RoleBinding" and not is_hook(one)]
    subject = {"kind": "ServiceAccount", "name": "crontabber", "namespace": "ops"}
    assert [one["subjects"] for one in bindings] == [[subject], [subject], [subject]]


def is_for_lease(one: Body) -> bool:
    """Tell whether a Role is the one for leader election."""
    return bool(one["metadata"]["name"] == "crontabber-lease")


@pytest.mark.parametrize("watched", [[], ["ops"]], ids=["cluster-wide", "namespaced"])
def test_the_lease_is_the_releases_own(watched: list[str]) -> None:
    """Two releases in a namespace have a Lease each; the operator may touch no other."""
    objects = render(values={"fullnameOverride": "x", "watchNamespaces": watched})
    assert "--leader-election=on" in container(objects)["args"]
    assert "--lease=ops/x" in container(objects)["args"]
    assert "POD_NAME" in [one["name"] for one in container(objects)["env"]]
    role = find(objects, "Role", "x-lease")
    assert role["metadata"]["namespace"] == "ops"
    group = "coordination.k8s.io"
    assert rights(role["rules"]) == {
        Right(group, "leases", "get", "x"),
        Right(group, "leases", "patch", "x"),
        Right(group, "leases", "create"),
    }
    assert find(objects, "RoleBinding", "x-lease")["roleRef"]["name"] == "x-lease"


def test_without_election_there_is_nothing_of_it() -> None:
    """Neither arguments nor rights."""
    objects = render(values={"leaderElection.enabled": False})
    assert not [one for one in container(objects)["args"] if "lease" in one or "leader" in one]
    assert not [one for one in objects if "lease" in one["metadata"]["name"].split("-")]


def test_a_new_operator_stands_by_before_the_old_one_ends() -> None:
    """Unless the strategy is changed; what belongs to another one is dropped, as the API server refuses it."""
    strategy = find(render(), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    recreated = render(values={"strategy.type": "Recreate"})
    assert find(recreated, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_several_operators_are_spread_over_nodes() -> None:
    """Where nothing else is said, and without holding anything back."""

    def spread(**values: Any) -> Any:
        return find(render(values=values), "Deployment")["spec"]["template"]["spec"].get(
            "topologySpreadConstraints"
        )

    assert spread() is None
    (constraint,) = spread(replicaCount=2)
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "crontabber"
    own = [{"maxSkew": 2}]
    assert spread(replicaCount=2, topologySpreadConstraints=own) == own


SENTRY = [{"sentry.dsn": "https://k@s/1"}, {"sentry.existingSecret.name": "x"}]


@pytest.mark.parametrize("values", [*SENTRY, {"sentry.namespaceSecrets": True}], ids=["dsn", "secret", "own"])
def test_sentry_takes_the_rights_that_it_needs_where_it_is_on(values: Body) -> None:
    """Events are listed where something is reported; Secrets of one name read where namespaces have their own."""
    before = rights(find(render(), "ClusterRole", "ops-crontabber")["rules"])
    rules = find(render(values=values), "ClusterRole", "ops-crontabber")["rules"]
    more = {Right("", "events", "list")}
    if "sentry.namespaceSecrets" in values:
        more.add(Right("", "secrets", "get", "crontabber-sentry"))
    assert rights(rules) == before | more


def test_no_right_is_a_wildcard_and_no_secret_is_read() -> None:
    """By default the operator never needs Secrets or impersonation, and changes no ConfigMap."""
    for right in rights(find(render(), "ClusterRole", "ops-crontabber")["rules"]):
        assert "*" not in (right.group, right.resource, right.verb)
        assert right.resource not in ("secrets", "serviceaccounts", "pods/exec")
        assert right.resource != "configmaps" or right.verb in ("create", "get")
        assert right.group != "rbac.authorization.k8s.io"


def test_people_get_rights_by_the_roles_that_they_have() -> None:
    """`view` reads, `edit` changes and runs, `admin` marks and resets too."""
    objects = render()
    verbs = {
        which: rights(find(objects, "ClusterRole", f"ops-crontabber-{which}")["rules"])
        for which in ("view", "edit", "admin")
    }
    assert {one.verb for one in verbs["view"]} == {"get", "list", "watch"}
    assert {one.verb for one in verbs["edit"]} == {
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "run",
    }
    assert {one.verb for one in verbs["admin"]} == {"mark", "reset"}
    assert all(one.group == GROUP for each in verbs.values() for one in each)
    for which in verbs:
        labels = find(objects, "ClusterRole", f"ops-crontabber-{which}")["metadata"]["labels"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{which}"] == "true"


def test_releases_of_one_name_in_two_namespaces_do_not_meet() -> None:
    """Cluster-wide objects are called after the namespace too."""
    given = {"crds.enabled": False, "commandPolicy.enabled": True}
    names = [
        {
            (one["kind"], one["metadata"]["name"])
            for one in render(namespace=namespace, values=given)
            if "namespace" not in one["metadata"]
        }
        for namespace in ("a", "b")
    ]
    assert names[0]
    assert not names[0] & names[1]


# --- Jobs from values ------------------------------------------------------------------------------------


def test_jobs_of_values_take_defaults_and_may_differ() -> None:
    """What a job says itself wins over jobDefaults."""
    objects = render(API, values=EVERYTHING)
    daily, hourly = find(objects, KIND, "clearsessions"), find(objects, KIND, "hourly")
    assert daily["spec"] == {"command": "clearsessions", "frequency": "1d", "webapp": {"name": "site"}}
    assert daily["metadata"]["namespace"] == "ops"
    assert hourly["spec"] == {"command": "work", "frequency": "1h", "webapp": {"name": "site"}}
    assert hourly["metadata"]["namespace"] == "site"
    assert hourly["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_job_of_values_may_say_no_to_a_default() -> None:
    """false, 0 and an empty list are values too; a field of the job replaces the default as a whole."""
    defaults = {
        "frequency": "1d",
        "suspend": True,
        "managePy": ["x"],
        "webapp": {"name": "site", "container": "a"},
    }
    spec = {"command": "a", "suspend": False, "managePy": [], "retryLimit": 0, "webapp": {"name": "other"}}
    objects = render(
        API, values={"jobDefaults": defaults, "jobs": {"a": {"spec": spec}, "b": {"spec": {"command": "b"}}}}
    )
    assert find(objects, KIND, "a")["spec"] == {"frequency": "1d", **spec}
    assert find(objects, KIND, "b")["spec"] == {**defaults, "command": "b"}


def test_schema_knows_the_fields_of_a_job() -> None:
    """The API server would drop a misspelt one in silence: Helm doesn't ask it to be strict."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    known = schema["definitions"]["jobSpec"]["properties"]
    assert {name: part["type"] for name, part in spec_schema()["properties"].items()} == {
        name: part["type"] for name, part in known.items()
    }


def test_jobs_of_values_before_the_crd_are_refused_with_the_way_out() -> None:
    """Helm can't create objects of a kind that comes with the same release: it is said, and not left out in silence."""
    with pytest.raises(HelmError, match="Install the release without jobs first, then upgrade it with them"):
        render(values={"jobs": {"a": {"spec": {"command": "a"}}}})


# --- helm test -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watched", "namespace"), [([], "ops"), (["a", "ops"], "ops"), (["a", "b"], "a")], ids=str
)
def test_helm_test_runs_where_the_operator_serves(watched: list[str], namespace: str) -> None:
    """The test's job is made in a namespace whose jobs run."""
    hooks = [one for one in render(values={"watchNamespaces": watched}) if is_hook(one)]
    assert {one["metadata"]["namespace"] for one in hooks} == {namespace}
    assert {one["kind"] for one in hooks} == {"ServiceAccount", "Role", "RoleBinding", KIND, "Pod"}
    for one in hooks:
        assert "hook-succeeded" in one["metadata"]["annotations"]["helm.sh/hook-delete-policy"]


# --- Wrong values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("replicas", 1),
        ("replicaCount", 10),
        ("leaderElection.lease", "x"),
        ("replicaCount", "1"),
        ("image.pullpolicy", "Always"),
        ("image.pullPolicy", "always"),
        ("image.digest", "abc"),
        ("image.repository", "a@sha256:b"),
        ("image.pullSecrets", ["registry"]),
        ("crds.install", True),
        ("crds.keep", "yes"),
        ("rbac.clusterRole", True),
        ("serviceAccount.annotation", {}),
        ("watchNamespaces", "a"),
        ("watchNamespaces", ["team-*"]),
        ("watchNamespace", ["a"]),
        ("webapp.kind", "StatefulSet"),
        ("webapp.name", ""),
        ("webapp.container", "a b"),
        ("webapp.managePy", "python manage.py"),
        ("webapp.managepy", ["python"]),
        ("log.format", "xml"),
        ("sentry.dsn", "sentry.example.com/1"),
        ("sentry.crons", "yes"),
        ("sentry.enabled", True),
        ("maxConcurrentRunsPerNamespace", 0),
        ("health.port", 70_000),
        ("livenessProbe.httpGet", {}),
        ("resources.limit", {}),
        ("strategy.type", "Rolling"),
        ("affinity.podAffinty", {}),
        ("extraEnv", [{"name": "A", "vaule": "b"}]),
        ("extraArgs", "--webapp"),
        ("podDisruptionBudget.minAvailable", 1),
        ("networkPolicy.apiServerPorts", []),
        ("networkPolicy.apiServerCIDRs", ["10.0.0.1"]),
        ("commandPolicy.validationActions", ["Refuse"]),
        ("jobs", {"a": {"specs": {}}}),
        ("jobs", {"a": {"spec": {"command": "a", "frequncy": "1d"}}}),
        ("jobs", {"a": {"spec": {"command": "a", "time": 5}}}),
        ("jobDefaults", {"webap": {"name": "a"}}),
        ("jobDefaults", {"webapp": {"nam": "a"}}),
        ("jobs", {"A": {"spec": {}}}),
        ("jobs", {"a" * 49: {"spec": {}}}),
        ("nodeSelector", {"a": True}),
        ("tolerations", {}),
        ("extraObjects", [1]),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_typo_in_values_is_refused(key: str, value: Any) -> None:
    """What the chart doesn't know, or can't use, fails the installation and is named."""
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        render(values={key: value})


def test_a_parent_chart_may_give_what_helm_gives() -> None:
    """As a subchart it gets `global`, and `enabled` where that is its condition."""
    assert kinds(render(values={"global": {"x": 1}, "enabled": True})) == kinds(render())


def test_schema_and_values_know_the_same_keys() -> None:
    """A value is in both files: else it could not be set, or would do nothing."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(schema["properties"]) - {"global", "enabled"} == set(values)
    optional = {"strategy.rollingUpdate", "resources.claims"}
    for key, part in schema["properties"].items():
        own = set(part.get("properties", {}))
        if own and values[key]:
            missing = {f"{key}.{name}" for name in own ^ set(values[key])}
            assert missing <= optional, key


def test_each_value_is_read_by_a_template() -> None:
    """No value does nothing."""
    text = "".join(
        path.read_text(encoding="utf-8") for path in (CHART / "templates").rglob("*") if path.is_file()
    )
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for key, value in values.items():
        whole = f".Values.{key}" in text or f'"{key}"' in text
        parts = value if isinstance(value, dict) and f"toYaml .Values.{key} " not in text else {}
        assert whole, key
        for part in parts if f"with .Values.{key}" not in text and not key.endswith("Probe") else ():
            assert f".Values.{key}.{part}" in text, f"{key}.{part}"
