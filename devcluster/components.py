"""PURE. The command lines and configuration files of the control plane and the node.

Starts nothing, writes nothing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.ports import ADDRESS, Ports

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.certificates import KeyFiles

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
NODE = "node"

#: How a node's pods are run. A further kind is a further branch of `node_command` and of what calls it.
NODE_KINDS = ("process", "instant", "none")

#: The range of Services' addresses, and the API server's own Service in it.
_SERVICE_RANGE = "10.96.0.0/16"
_SERVICE_ADDRESS = "10.96.0.1"

#: What the serving certificate must be valid for: where clients connect, and how pods name the API server.
SERVER_ADDRESSES = [
    ADDRESS,
    _SERVICE_ADDRESS,
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
]

#: Who may log in, by token: the user's name and groups.
ADMIN = ("devcluster-admin", ("system:masters",))
CONTROLLER_MANAGER_USER = ("system:kube-controller-manager", ())


def node_user(node_name: str) -> tuple[str, tuple[str, ...]]:
    """Return who the node logs in as: an administrator, for it also binds pods, as a scheduler does."""
    return f"system:node:{node_name}", ("system:nodes", "system:masters")



@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a cluster's state directory."""

    folder: Path

    @property
    def description(self) -> Path:
        """What `Cluster.attach` needs to find the cluster's processes and ports."""
        return self.folder / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def controller_manager_kubeconfig(self) -> Path:
        """The controller manager's."""
        return self.folder / "controller-manager.kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        """The node's."""
        return self.folder / "node.kubeconfig"

    @property
    def tokens(self) -> Path:
        """Who may log in to the API server."""
        return self.folder / "tokens.csv"

    @property
    def images(self) -> Path:
        """The image map."""
        return self.folder / "images.json"

    @property
    def keys(self) -> Path:
        """Keys and certificates."""
        return self.folder / "keys"

    @property
    def etcd(self) -> Path:
        """The data of etcd."""
        return self.folder / "etcd"

    @property
    def node(self) -> Path:
        """The node's own folder."""
        return self.folder / "node"

    @property
    def audit_policy(self) -> Path:
        """What the audit log is to hold."""
        return self.folder / "audit-policy.json"

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request that the API server served."""
        return self.logs / "audit.log"

    @property
    def logs(self) -> Path:
        """A log for each component."""
        return self.folder / "logs"

    def log(self, component: str) -> Path:
        """The log of one component."""
        return self.logs / f"{component}.log"


def etcd_command(binary: Path, layout: Layout, keys: KeyFiles, ports: Ports) -> list[str]:
    """Return etcd's command: no fsync, for nothing here must survive the machine; closed to other users."""
    client = f"https://{ADDRESS}:{ports.etcd}"
    peer = f"https://{ADDRESS}:{ports.etcd_peer}"
    return [
        str(binary),
        "--name=devcluster",
        f"--data-dir={layout.etcd}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=devcluster={peer}",
        "--client-cert-auth",
        f"--trusted-ca-file={keys.authority}",
        f"--cert-file={keys.server}",
        f"--key-file={keys.server_key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={keys.authority}",
        f"--peer-cert-file={keys.server}",
        f"--peer-key-file={keys.server_key}",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=10000",
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    ]


def api_server_command(
    binary: Path, layout: Layout, keys: KeyFiles, ports: Ports, *, audit: bool, extra_flags: tuple[str, ...] = ()
) -> list[str]:
    """Return the API server's command; of a flag given twice the last one counts."""
    audit_flags = [
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
    ]
    return [
        str(binary),
        f"--etcd-servers=https://{ADDRESS}:{ports.etcd}",
        f"--etcd-cafile={keys.authority}",
        f"--etcd-certfile={keys.client}",
        f"--etcd-keyfile={keys.client_key}",
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        f"--secure-port={ports.api_server}",
        # A loopback address is not allowed in Endpoints, and nothing reads those of the API server here.
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={keys.server}",
        f"--tls-private-key-file={keys.server_key}",
        f"--token-auth-file={layout.tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys.service_accounts_public}",
        f"--service-account-signing-key-file={keys.service_accounts}",
        f"--service-cluster-ip-range={_SERVICE_RANGE}",
        # By name, `kubectl logs` would look the node up in DNS.
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={keys.client}",
        f"--kubelet-client-key={keys.client_key}",
        "--allow-privileged",
        "--profiling=false",
        *(audit_flags if audit else []),
        *extra_flags,
    ]


def controller_manager_command(
    binary: Path, layout: Layout, keys: KeyFiles, ports: Ports, *, extra_flags: tuple[str, ...] = ()
) -> list[str]:
    """Return the controller manager's command; of a flag given twice the last one counts."""
    kubeconfig = layout.controller_manager_kubeconfig
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={ADDRESS}",
        f"--secure-port={ports.controller_manager}",
        f"--tls-cert-file={keys.server}",
        f"--tls-private-key-file={keys.server_key}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={keys.service_accounts}",
        f"--root-ca-file={keys.authority}",
        # A node that a test has paused, or a laptop that slept, must not lose its pods.
        "--node-monitor-grace-period=24h",
        # Its own default of 20 requests a second would be the bottleneck of every test.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
        *extra_flags,
    ]


def node_command(python: str, layout: Layout, ports: Ports, *, node_name: str, kind: str) -> list[str]:
    """Return the command of the node that runs pods as local processes, or ends them at once (`instant`)."""
    return [
        python,
        "-m",
        "devcluster.node",
        "--kubeconfig",
        str(layout.node_kubeconfig),
        "--name",
        node_name,
        "--address",
        ADDRESS,
        "--port",
        str(ports.node),
        "--state-dir",
        str(layout.node),
        "--images",
        str(layout.images),
        *(["--instant"] if kind == "instant" else []),
    ]


def kubeconfig(*, context: str, port: int, authority: bytes, user: str, token: str) -> str:
    """Return a kubeconfig with one context, which needs no other file. JSON, which is YAML."""
    cluster = {
        "server": f"https://{ADDRESS}:{port}",
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user, "namespace": "default"}}],
    }
    return json.dumps(config, indent=2) + "\n"


def token_file(tokens: dict[tuple[str, tuple[str, ...]], str]) -> str:
    """Return the API server's token file: token, user, uid, groups."""
    lines = [f'{token},{user},{user},"{",".join(groups)}"' for (user, groups), token in tokens.items()]
    return "\n".join(lines) + "\n"


def audit_policy() -> str:
    """Return the audit policy: one entry, without bodies, for each request when it was answered."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    return json.dumps(policy, indent=2) + "\n"
