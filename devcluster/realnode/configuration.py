"""PURE. The addresses, command lines and configuration files of a node of real containers.

Starts nothing, writes nothing. Paths are those inside of the node, where the cluster's folder is `INSIDE`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster.components import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the node finds the cluster's folder: short, for a socket's path may have 107 characters.
INSIDE = Layout(Path("/run/devcluster"))

#: The programs that are built for this node, beside those of the control plane.
PROGRAMS = ("kubelet", "kube-proxy")

CGROUP_PREFIX = "crontabber-devcluster-"
SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "localhost/devcluster-pause:1"
KUBELET_PORT = 10250

#: Addresses of pods. They are seen inside of the node only.
POD_NETWORK = IPv4Network("10.244.0.0/16")

#: RFC 2544 keeps this range for benchmarks of network devices: no real network has it.
_CABLES = IPv4Network("198.18.0.0/15")
_FIRST_PORT = 20000
_PORTS_OF_A_CLUSTER = 10

#: Settings of the whole machine that the kubelet changes to these values where they are others. The node sees
#: a file of its own in their place.
KERNEL_SETTINGS: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

#: Folders whose place is written into the programs, and what the node has there: a folder of the cluster's.
OWN_FOLDERS: Mapping[str, Path] = {
    "/var/lib/kubelet": INSIDE.node / "device-plugins",
    "/var/lib/cni": INSIDE.node / "cni-results",
    "/var/log/pods": INSIDE.node / "logs",
    "/var/log/containers": INSIDE.node / "log-links",
}


@dataclass(frozen=True, slots=True)
class Cable:
    """The virtual cable between this machine and the node: a network of two addresses."""

    interface: str
    """This machine's end."""
    machine: IPv4Address
    node: IPv4Address
    prefix_length: int = 30


def cable(first_port: int) -> Cable:
    """Return the cable of the cluster whose block of ports begins here; no other cluster has the same."""
    number = (first_port - _FIRST_PORT) // _PORTS_OF_A_CLUSTER
    network = IPv4Network((int(_CABLES.network_address) + 4 * number, 30))
    machine, node = network.hosts()
    return Cable(f"devc{first_port}", machine, node)


def cgroup_of(cluster: str) -> str:
    """Return the cgroup that the cluster's containers are in."""
    return f"/{CGROUP_PREFIX}{cluster}"


def containerd_command() -> list[str]:
    """Return containerd's command."""
    return ["containerd", "--config", str(INSIDE.node / "containerd.toml")]


def ctr_command(*arguments: str) -> list[str]:
    """Return a command of containerd's own client, on the images and containers of Kubernetes."""
    return ["ctr", "--address", str(SOCKET), "--namespace", "k8s.io", *arguments]


def kubelet_command(binary: Path, node_name: str, address: IPv4Address) -> list[str]:
    """Return the kubelet's command."""
    return [
        str(binary),
        f"--config={INSIDE.node / 'kubelet.json'}",
        f"--kubeconfig={INSIDE.node_kubeconfig}",
        f"--hostname-override={node_name}",
        f"--node-ip={address}",
        f"--root-dir={INSIDE.node / 'kubelet'}",
        f"--cert-dir={INSIDE.node / 'kubelet-keys'}",
    ]


def kube_proxy_command(binary: Path) -> list[str]:
    """Return kube-proxy's command."""
    return [str(binary), f"--config={INSIDE.node / 'kube-proxy.json'}"]


def files(*, cluster: str, node_name: str, snapshotter: str, plugins: Path) -> dict[str, str]:
    """Return the node's configuration files: name below the node's folder to text."""
    return {
        "containerd.toml": _containerd(snapshotter, plugins),
        "cni/devcluster.conflist": _json(_network()),
        "kubelet.json": _json(_kubelet(cluster)),
        "kube-proxy.json": _json(_kube_proxy(node_name)),
        "network.nft": _packet_filter(),
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _containerd(snapshotter: str, plugins: Path) -> str:
    # AppArmor profiles and OOM scores can't be set everywhere, such as in a container.
    return f"""\
version = 2
root = "{INSIDE.node / "containerd"}"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{INSIDE.node / "cni"}"
"""


def _network() -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",  # given out anew after a restart, when no pod has one any more
        "ranges": [[{"subnet": str(POD_NETWORK)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "devcluster", "plugins": [bridge]}


def _kubelet(cluster: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "port": KUBELET_PORT,
        "healthzPort": 0,
        # Only the API server has a certificate of this authority, whose key is stored nowhere.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(INSIDE.keys.authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_of(cluster),
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        # There is no DNS: names are refused at once, instead of being asked of somebody who isn't there.
        "clusterDNS": ["127.0.0.1"],
        "resolvConf": "",
        # Images were brought here by hand, and a full disk is the machine's own business.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 500,
        "serializeImagePulls": False,
        # Pods of a Deployment that was scaled up for a test are started at once.
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    }


def _kube_proxy(node_name: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(INSIDE.node_kubeconfig)},
        "hostnameOverride": node_name,
        "clusterCIDR": str(POD_NETWORK),
        # Answers of one pod to another go over the bridge, past the packet filter: they must come back to it.
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms"},
        # These are the machine's, not the node's.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }


def _packet_filter() -> str:
    """Return the rules by which pods speak with this machine: under the node's address."""
    return f"""\
table ip devcluster {{
  chain out {{
    type nat hook postrouting priority srcnat;
    ip saddr {POD_NETWORK} oifname "eth0" masquerade
  }}
}}
"""
