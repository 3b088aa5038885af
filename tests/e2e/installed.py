"""The chart as it is installed for the end-to-end tests, and what tests stand on there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from devcluster import ClusterError
from tests.e2e.sites import VERSION, Site
from tests.integration.chart_release import CHART, HelmError, helm
from tests.integration.testbed import Api, Body, Testbed

T = TypeVar("T")

NAMESPACE = "crontabber"
PODS = "app.kubernetes.io/name=crontabber"
TIMEOUT_SECONDS = 240.0
"""A pod on a real node takes some seconds more, and the machine's cores are few."""
LOG_TAIL_LINES = 200


class Chart:
    """The chart's release, in a namespace that enforces restricted Pod Security. Its operator serves all others."""

    log_path = Path(f"{NAMESPACE}/deployment/crontabber")
    runs = True
    """The node starts it again whenever it ends."""

    def __init__(self, site: Site) -> None:
        """Install nothing yet."""
        self._site = site

    def install(self) -> None:
        """Install it, or upgrade what an earlier run left, and wait until the operator is ready. Raises HelmError."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": labels},
        }
        self._site.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
        given = (
            str(CHART),
            f"--namespace={NAMESPACE}",
            f"--set=image.tag={VERSION}",
            "--wait",
            "--timeout=180s",
        )
        try:
            self.helm("upgrade", "--install", "crontabber", *given, *self._site.chart_values)
        except HelmError as error:
            raise HelmError(f"{error}\n{self.describe()}") from error

    def helm(self, *arguments: str) -> str:
        """Run helm in the site's cluster. Raises HelmError."""
        return helm(*arguments, kubeconfig=self._site.cluster.kubeconfig)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in the release's namespace. Raises ClusterError."""
        return str(self._site.cluster.kubectl("--namespace", NAMESPACE, *arguments, **options))

    def pods(self) -> list[Body]:
        """Return the operator's pods that are not on their way out."""
        items = json.loads(self.kubectl("get", "pods", f"--selector={PODS}", "--output=json"))["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def log_tail(self) -> str:
        """Return the end of the operator's log; of the one before it too, where it was started again."""
        told = []
        for which in ((), ("--previous",)):
            with contextlib.suppress(ClusterError):
                told.append(self.kubectl("logs", f"--selector={PODS}", f"--tail={LOG_TAIL_LINES}", *which))
        return "\n".join(reversed(told))

    def describe(self) -> str:
        """Return what kubectl knows of the release's pods."""
        try:
            return self.kubectl("describe", "pods") + self.kubectl("get", "events") + self.log_tail()
        except ClusterError as error:
            return str(error)


class PatientBed(Testbed):
    """A testbed on a node that takes its time."""

    short_deadline_seconds = 20

    def wait(self, holds: Callable[[], T | None], what: str, timeout_seconds: float = TIMEOUT_SECONDS) -> T:
        """Return the first true value; wait longer than on local processes."""
        return super().wait(holds, what, max(timeout_seconds, TIMEOUT_SECONDS))


class ContainerBed(PatientBed):
    """A testbed whose commands run in containers: they see its folder at the same path as the tests do."""

    def living(self, name: str) -> list[int]:
        """Return none: numbers of processes in containers mean nothing here, and their pods' end was awaited."""
        return []

    def pod_spec(self, container: Body) -> Body:
        """Return a pod of this container, with the folder mounted. Nothing is pulled: nodes have the images."""
        mount = {"name": "evidence", "mountPath": str(self.folder)}
        return {
            **super().pod_spec({**container, "imagePullPolicy": "IfNotPresent", "volumeMounts": [mount]}),
            "volumes": [{"name": "evidence", "hostPath": {"path": str(self.folder)}}],
        }


def bed_of(site: Site) -> type[Testbed]:
    """Return what testbeds are made of on this site."""
    return ContainerBed if site.runs_containers else PatientBed


def api_of(site: Site) -> Api:
    """Return requests to the site's API server."""
    return Api(site.cluster.kubeconfig)
