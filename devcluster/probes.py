"""Asks components whether they serve. Waits for nothing and changes nothing."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

from devcluster.ports import ADDRESS, Ports

if TYPE_CHECKING:
    from devcluster.components import Layout

_TIMEOUT_SECONDS = 5.0


class Probes:
    """One question for each kind of component; "no" is also the answer when nothing listens yet."""

    def __init__(self, layout: Layout, ports: Ports) -> None:
        """Read the administrator's token and the certificates; all must be written."""
        self._ports = ports
        self._token = json.loads(layout.kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]["token"]
        self._tls = ssl.create_default_context(cafile=str(layout.keys.authority))
        self._tls.load_cert_chain(str(layout.keys.client), str(layout.keys.client_key))

    def etcd(self) -> bool:
        """Whether etcd takes writes."""
        health = self._get(self._ports.etcd, "/health")
        return health is not None and health.get("health") == "true"

    def api_server(self) -> bool:
        """Whether the API server is ready."""
        return self._get(self._ports.api_server, "/readyz") is not None

    def controller_manager(self) -> bool:
        """Whether the controller manager runs and pods are accepted.

        Pods are refused in a namespace without its service account, which the controller manager makes.
        """
        return (
            self._get(self._ports.controller_manager, "/healthz") is not None
            and self._get(self._ports.api_server, "/api/v1/namespaces/default/serviceaccounts/default")
            is not None
            and self._get(self._ports.api_server, "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
            is not None
        )

    def scheduler(self) -> bool:
        """Whether the scheduler runs."""
        return self._get(self._ports.scheduler, "/healthz") is not None

    def node(self, name: str) -> bool:
        """Whether the node of this name says that it is ready."""
        node = self._get(self._ports.api_server, f"/api/v1/nodes/{name}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _get(self, port: int, path: str) -> dict[str, Any] | None:
        """Return the JSON object that is answered, {} for other text; None unless it is answered with 200."""
        request = urllib.request.Request(f"https://{ADDRESS}:{port}{path}")
        if port == self._ports.api_server:
            request.add_header("Authorization", f"Bearer {self._token}")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        )
        try:
            with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        return dict(json.loads(body)) if body.startswith(b"{") else {}
