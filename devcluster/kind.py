"""kind, for those who have Docker: a cluster for the end-to-end tests, used as a `Cluster` is.

`python -m devcluster.kind up` and `down`. It uses the programs docker and kind, and keeps nothing but a kubeconfig
with a token of its own. The folder of the tests' evidence is the same in the node's container and outside.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import build, components
from devcluster.cluster import ClusterError
from devcluster.paths import state_root, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "crontabber-e2e"
CONTEXT = f"kind-{NAME}"
_NODE = f"{NAME}-control-plane"
_MANIFESTS = "/etc/kubernetes/manifests"
_TIMEOUT_SECONDS = 600.0


def missing() -> str | None:
    """Say what is missing for kind here; None where nothing is."""
    for program in ("docker", "kind"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    try:
        _run(["docker", "info"], timeout_seconds=30)
    except ClusterError:
        return "Docker does not answer"
    return None


class KindCluster:
    """The cluster that `make kind-up` made; use `up`."""

    name = NAME
    context = CONTEXT
    node_kind = "kind"

    @classmethod
    def up(cls, shared: Path) -> KindCluster:
        """Start the cluster, unless it is up, with a folder that its node shares. Raises ClusterError."""
        shared.mkdir(parents=True, exist_ok=True)
        if NAME not in _run(["kind", "get", "clusters"]).split():
            mount = {"hostPath": str(shared), "containerPath": str(shared)}
            config = {
                "kind": "Cluster",
                "apiVersion": "kind.x-k8s.io/v1alpha4",
                "nodes": [{"role": "control-plane", "extraMounts": [mount]}],
            }
            command = ["kind", "create", "cluster", f"--name={NAME}", "--wait=180s", "--config=-"]
            _run(command, given=json.dumps(config), shown=True)
        cluster = cls()
        cluster._log_in()
        return cluster

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that logs in as an administrator, by a token."""
        return state_root() / "kind" / "kubeconfig"

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """Run kubectl as the administrator and return its standard output. Raises ClusterError."""
        program = shutil.which("kubectl") or str(build.binaries(["kubectl"])["kubectl"])
        environment = {"KUBECONFIG": str(self.kubeconfig)}
        command = [program, *arguments]
        return _run(command, given=stdin or "", timeout_seconds=timeout_seconds, environment=environment)

    def build_and_load(
        self,
        name: str,
        folder: Path,
        *,
        dockerfile: Path | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        """Build an image with Docker, and bring it to the node. Raises ClusterError."""
        given = [f"--build-arg={key}={value}" for key, value in (arguments or {}).items()]
        file = dockerfile or folder / "Dockerfile"
        _run(["docker", "build", f"--tag={name}", f"--file={file}", *given, str(folder)], shown=True)
        _run(["kind", "load", "docker-image", name, f"--name={NAME}"])

    def kill(self, component: str) -> None:
        """End a part of the control plane; it stays away until `start_component`."""
        self._in_node(f"mv {_MANIFESTS}/{component}.yaml /{component}.yaml")
        self._in_node(f"while crictl ps --quiet --name '^{component}$' | grep -q .; do sleep 0.2; done")

    def start_component(self, component: str) -> None:
        """Let a part of the control plane come back; return when its container runs."""
        self._in_node(f"mv /{component}.yaml {_MANIFESTS}/{component}.yaml")
        self._in_node(f"until crictl ps --quiet --name '^{component}$' | grep -q .; do sleep 0.2; done")

    def export_logs(self, folder: Path) -> None:
        """Keep the logs of all that runs in it."""
        _run(["kind", "export", "logs", str(folder), f"--name={NAME}"])

    def _in_node(self, script: str) -> None:
        _run(["docker", "exec", _NODE, "timeout", "60", "sh", "-c", script])

    def _log_in(self) -> None:
        """Write the kubeconfig: kind's own has a client certificate, which not all of our tools read."""
        with tempfile.TemporaryDirectory() as folder:
            first = Path(folder) / "kubeconfig"
            _run(["kind", "export", "kubeconfig", f"--name={NAME}", f"--kubeconfig={first}"])
            text = _run(["kind", "get", "kubeconfig", f"--name={NAME}"])
            self.kubeconfig.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy(first, self.kubeconfig)
            self.kubeconfig.chmod(0o600)
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "tests", "namespace": "default"},
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "tests"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "tests", "namespace": "default"}],
        }
        for each in (account, binding):
            self.kubectl("apply", "-f", "-", stdin=json.dumps(each))
        token = self.kubectl("create", "token", "tests", "--duration=24h").strip()
        lines = dict(line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)
        config = components.kubeconfig(
            context=CONTEXT,
            address=lines["server"].removeprefix("https://").rpartition(":")[0],
            port=int(lines["server"].rpartition(":")[2]),
            authority=base64.b64decode(lines["certificate-authority-data"]),
            user="tests",
            token=token,
        )
        write_atomically(self.kubeconfig, config)


def down() -> None:
    """Remove the cluster, if there is one."""
    _run(["kind", "delete", "cluster", f"--name={NAME}"])
    shutil.rmtree(state_root() / "kind", ignore_errors=True)


def _run(
    command: Sequence[str],
    *,
    given: str = "",
    shown: bool = False,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return its standard output; `shown`: what it says on standard error is shown."""
    try:
        result = subprocess.run(
            command,
            input=given,
            stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            env=os.environ | (environment or {}),
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"`{' '.join(command)}` failed: {error}"
        raise ClusterError(message) from error
    if result.returncode != 0:
        said = (result.stderr or result.stdout or "").strip()
        message = f"`{' '.join(command)}` failed: {said}"
        raise ClusterError(message)
    return result.stdout


def main() -> int:
    """Start or remove the cluster."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.kind", description=__doc__)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("--shared", type=Path, default=Path("build/e2e").absolute(), help="see above")
    given = parser.parse_args()
    lacks = missing()
    if lacks is not None:
        print(
            f"kind can't be used: {lacks}. `make e2e` runs without it: on Linux as root on real containers "
            "(devcluster), elsewhere on the devcluster's process node.",
            file=sys.stderr,
        )
        return 1
    try:
        if given.what == "down":
            down()
        else:
            print(f"export KUBECONFIG={KindCluster.up(given.shared).kubeconfig}")
    except ClusterError as error:
        print(f"devcluster.kind: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
