"""`devcluster up --node=containerd`: real containers, and nothing left of them, whatever ended them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from devcluster import Cluster, ClusterError
from devcluster.realnode import configuration, prerequisites
from devcluster.registry import layout_of, remove
from tests.integration.testbed import Api, Body

pytestmark = [pytest.mark.timeout(600)]

POD = {
    "metadata": {"name": "pause"},
    "spec": {
        "containers": [{"name": "pause", "image": configuration.PAUSE_IMAGE, "imagePullPolicy": "Never"}]
    },
}
PODS = "/api/v1/namespaces/default/pods"


def lacks() -> str | None:
    """Return what real containers lack here."""
    try:
        prerequisites.ensure()
    except prerequisites.MissingError as error:
        return str(error)
    return None


def traces(name: str, cable: configuration.Cable) -> dict[str, list[str]]:
    """Return what can be seen of a node from outside: mounts, cgroups, its cable, packet filters."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    links = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    cgroup = configuration.cgroup_of(name).lstrip("/")
    return {
        "mounts": [line for line in mounts if f"/{name}/" in line or "/run/devcluster" in line],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{cgroup}")]
        + [str(path) for path in Path("/sys/fs/cgroup").glob(cgroup)],
        "cable": [line for line in links.splitlines() if cable.interface in line],
        "packet filters": [
            line for line in tables.splitlines() if "kube-proxy" in line or "devcluster" in line
        ],
    }


def lives(process: psutil.Process) -> bool:
    """Tell whether a process has not ended; one that only waits to be reaped has."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_nothing_is_left_of_a_node_that_lost_its_power(
    wait: Callable[[Callable[[], object], str], None],
) -> None:
    """Its guardian and its supervisor are killed with a pod on it: the kernel ends all, `down` removes the rest."""
    lack = lacks()
    name = f"power-{os.getpid()}"
    if lack is not None:  # then that is what is said, before anything is started
        with pytest.raises(ClusterError, match="there can be no node of real containers"):
            Cluster.start(name, node="containerd")
        return
    before = {path: Path(path).exists() for path in configuration.OWN_FOLDERS}
    settings = {each: Path("/proc/sys", each) for each in configuration.KERNEL_SETTINGS}
    values = {each: path.read_text() for each, path in settings.items() if path.exists()}
    with Cluster.start(name, node="containerd") as cluster:
        cable = configuration.cable(cluster.ports.control)
        api = Api(cluster.kubeconfig)
        api.request("POST", PODS, POD)

        def runs() -> bool:
            pod: Body = api.request("GET", f"{PODS}/pause")
            return bool(pod["status"].get("phase") == "Running")

        wait(runs, "the pod runs")
        seen = traces(name, cable)
        # What the node does inside is not seen outside, but its cgroup and its cable are.
        assert seen["cgroups"]
        assert seen["cable"]
        assert seen["mounts"] == seen["packet filters"] == []
        assert {each: path.read_text() for each, path in settings.items() if path.exists()} == values

        # As after a power cut: it comes back, and the pod with it.
        cluster.kill("node")
        wait(lambda: not traces(name, cable)["cable"], "the kernel has taken the node away")
        cluster.start_component("node")
        wait(
            lambda: (
                api.request("GET", f"{PODS}/pause")["status"]["containerStatuses"][0]["restartCount"] == 1
                and runs()
            ),
            "the pod was started again",
        )

        description = json.loads((cluster.state_dir / "cluster.json").read_text(encoding="utf-8"))
        guardian = psutil.Process(description["guardian"]["pid"])
        processes = guardian.children(recursive=True)
        assert {"kubelet", "containerd", "kube-proxy", "pause"} <= {each.name() for each in processes}
        for process in (guardian, *guardian.children()):
            process.send_signal(signal.SIGKILL)
        wait(lambda: not any(map(lives, processes)), "the kernel has ended the node's processes")
        assert remove(name)
    wait(lambda: not any(traces(name, cable).values()), f"nothing is left: {traces(name, cable)}")
    assert not layout_of(name).folder.exists()
    assert {path: Path(path).exists() for path in configuration.OWN_FOLDERS} == before
