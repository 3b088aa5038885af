"""What the tests of the chart share: a cluster of their own, helm, and the operator under a service account.

They don't use the cluster of the operator's tests: the chart brings the CRD, and its operator serves every namespace.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster, LocalImage, build
from tests.integration.operator_process import ROOT, OperatorProcess
from tests.integration.testbed import ApiError, Body, Testbed

CHART = ROOT / "helm"
IMAGE = "crontabber-operator"
KUBE_VERSION = "1.34.0"
"""A helm built from its Go module takes itself for Kubernetes 1.20, which the chart refuses."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CRONTABBER = Path(sys.executable).with_name("crontabber")


def own_image() -> LocalImage:
    """Return what stands for the operator's image: the Dockerfile's ENTRYPOINT and CMD, in the checkout."""
    return LocalImage.of(ROOT, sys.executable, entrypoint=(str(CRONTABBER),), command=("operator",))


@contextmanager
def chart_cluster(name: str, state: Path) -> Iterator[Cluster]:
    """Start a cluster without the CRD; its requests are logged."""
    images = {
        IMAGE: own_image(),
        "app": LocalImage.of(Path(__file__).with_name("command_app")),
        "webapp": LocalImage.of(ROOT / "webapp"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        with Cluster.start(f"{name}-{os.getpid()}", images=images, audit=True) as cluster:
            yield cluster


class HelmError(Exception):
    """Helm refused; the message is what it said."""


def helm(*arguments: str, kubeconfig: Path | None = None, timeout_seconds: float = 240) -> str:
    """Run helm and return its standard output. Raises HelmError."""
    program = build.binaries(["helm"])["helm"]
    result = subprocess.run(
        [str(program), *arguments],
        env=os.environ | {"KUBECONFIG": str(kubeconfig or os.devnull)},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )
    if result.returncode != 0:
        raise HelmError(result.stderr.strip() or result.stdout.strip())
    return result.stdout


def render(*arguments: str, namespace: str = "ops", values: Body | None = None) -> list[Body]:
    """Return what `helm template` makes of the chart, tests included. Raises HelmError."""
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    return copy.deepcopy(_rendered(namespace, *given, *arguments))


@functools.cache
def _rendered(namespace: str, *arguments: str) -> list[Body]:
    """Render once for each set of values: the CRD takes a second to read."""
    fixed = ("template", "crontabber", str(CHART), "--namespace", namespace, "--kube-version", KUBE_VERSION)
    documents = yaml.load_all(helm(*fixed, *arguments), Loader=_LOADER)
    return [one for one in documents if one]


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource, as RBAC and the audit log name it."""

    group: str
    resource: str
    """With its subresource: `pods/log`."""
    verb: str
    name: str = ""
    """The one object that it is for; empty: all."""

    def __str__(self) -> str:
        """Return it as people say it."""
        return f"{self.verb} {self.resource}{f' {self.name}' if self.name else ''}"


def rights(rules: Iterable[Body]) -> set[Right]:
    """Return every right of RBAC rules."""
    return {
        Right(group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def rules_of(granted: Iterable[Right]) -> list[Body]:
    """Return RBAC rules for these rights."""
    return [
        {"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]}
        | ({"resourceNames": [one.name]} if one.name else {})
        for one in sorted(granted)
    ]


class Asked:
    """What an account asked of the API server, from the audit log, from now on."""

    def __init__(self, audit_log: Path, user: str) -> None:
        """Start to listen."""
        self._file = audit_log.open(encoding="utf-8")
        self._file.seek(0, 2)
        self._user = f'"username":"{user}"'
        self._rest = ""
        self.granted: set[Right] = set()
        self.refused: set[Right] = set()

    def read(self) -> None:
        """Take up what was logged since."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            if self._user not in line:
                continue
            entry = json.loads(line)
            what = entry.get("objectRef")
            if what is None:  # discovery
                continue
            if what["resource"] == "selfsubjectaccessreviews":  # everybody may ask what he may do
                continue
            resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
            # Of Secrets it matters which.
            name = what.get("name", "*") if resource == "secrets" else ""
            right = Right(what.get("apiGroup", ""), resource, entry["verb"], name)
            if entry.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
                self.refused.add(right)
            else:
                self.granted.add(right)


def write_kubeconfig(cluster: Cluster, namespace: str, account: str, path: Path) -> Path:
    """Write a kubeconfig that logs in with a token of this service account, and nothing else."""
    token = cluster.kubectl("create", "token", account, "--namespace", namespace, "--duration=2h").strip()
    config: Any = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    path.chmod(0o600)
    return path


def start_operator(
    kubeconfig: Path, log: Path, *arguments: str, environment: Mapping[str, str] = {}
) -> OperatorProcess:
    """Start `crontabber operator`, as the image does."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CRONTABBER_")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(CRONTABBER), "operator", "--health=off", "--metrics=off", *arguments],
            env=kept
            | {"KUBECONFIG": str(kubeconfig), "XDG_STATE_HOME": str(log.parent / "state")}
            | dict(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return OperatorProcess(process, log)


def may(bed: Testbed, user: str, right: Right, namespace: str = "default") -> bool:
    """Ask the API server whether it would let this user."""
    resource, _, subresource = right.resource.partition("/")
    review = {
        "spec": {
            "user": user,
            "groups": ["system:authenticated", "system:serviceaccounts"],
            "resourceAttributes": {
                "namespace": namespace,
                "group": right.group,
                "resource": resource,
                "subresource": subresource,
                "verb": right.verb,
                "name": right.name,
            },
        }
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(bed.api.request("POST", path, review)["status"]["allowed"])


def refused(call: Callable[[], object]) -> ApiError | None:
    """Return the refusal of a request, None where it was done."""
    try:
        call()
    except ApiError as error:
        return error
    return None


def free_ports(count: int) -> Sequence[int]:
    """Return ports that nothing listens at now."""
    import socket  # noqa: PLC0415 - for this only

    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
