"""PURE. The command lines and configuration files of the control plane.

Starts nothing, writes nothing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.ports import ADDRESS, Ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

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
SCHEDULER_USER = ("system:kube-scheduler", ())


def node_user(node_name: str) -> tuple[str, tuple[str, ...]]:
    """Return who the node logs in as: an administrator, for it also binds pods, as a scheduler does."""
    return f"system:node:{node_name}", ("system:nodes", "system:masters")


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where a cluster's keys and certificates are; all PEM, readable by their owner only."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that clients check servers against, and servers clients."""
        return self.folder / "ca.crt"

    @property
    def server(self) -> Path:
        """The certificate of etcd, the API server and the controller manager, for 127.0.0.1."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """The server certificate's key."""
        return self.folder / "server.key"

    @property
    def client(self) -> Path:
        """The API server's certificate towards etcd and the node."""
        return self.folder / "client.crt"

    @property
    def client_key(self) -> Path:
        """The client certificate's key."""
        return self.folder / "client.key"

    @property
    def service_accounts(self) -> Path:
        """The private key that service accounts' tokens are signed with."""
        return self.folder / "service-accounts.key"

    @property
    def service_accounts_public(self) -> Path:
        """The key that the API server checks service accounts' tokens with."""
        return self.folder / "service-accounts.pub"


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
    def scheduler_kubeconfig(self) -> Path:
        """The scheduler's."""
        return self.folder / "scheduler.kubeconfig"

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
    def keys(self) -> KeyFiles:
        """Keys and certificates."""
        return KeyFiles(self.folder / "keys")

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


def etcd_command(binary: Path, layout: Layout, ports: Ports) -> list[str]:
    """Return etcd's command: no fsync, for nothing here must survive the machine; closed to other users."""
    keys = layout.keys
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


AUDIT_LOG_MEGABYTES = 100_000


def api_server_command(
    binary: Path,
    layout: Layout,
    ports: Ports,
    *,
    audit: bool,
    extra_flags: Sequence[str] = (),
) -> list[str]:
    """Return the API server's command; of a flag given twice the last one counts."""
    keys = layout.keys
    audit_flags = [
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        # One file: who counts what is in it from some point on must not have it moved away (by itself at 100).
        f"--audit-log-maxsize={AUDIT_LOG_MEGABYTES}",
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
        # Without it, SIGTERM would wait a minute for watches to end by themselves.
        "--shutdown-watch-termination-grace-period=1s",
        *(audit_flags if audit else []),
        *extra_flags,
    ]


def controller_manager_command(
    binary: Path, layout: Layout, ports: Ports, *, extra_flags: Sequence[str] = ()
) -> list[str]:
    """Return the controller manager's command; of a flag given twice the last one counts."""
    keys = layout.keys
    kubeconfig = layout.controller_manager_kubeconfig
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--authentication-skip-lookup",  # there are no client certificates to look up
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


def scheduler_command(binary: Path, layout: Layout, ports: Ports) -> list[str]:
    """Return the scheduler's command."""
    kubeconfig = layout.scheduler_kubeconfig
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--authentication-skip-lookup",
        f"--bind-address={ADDRESS}",
        f"--secure-port={ports.scheduler}",
        f"--tls-cert-file={layout.keys.server}",
        f"--tls-private-key-file={layout.keys.server_key}",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def kubeconfig(
    *, context: str, port: int, authority: bytes, user: str, token: str, address: str = ADDRESS
) -> str:
    """Return a kubeconfig with one context, which needs no other file. JSON, which is YAML."""
    cluster = {
        "server": f"https://{address}:{port}",
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
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
