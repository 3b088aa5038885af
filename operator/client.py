"""The API server as the command line uses it: the operator's requests, and those that only people need.

Each method is one request (a list may take several, page by page). Logs in with a kubeconfig's context as
kubectl does. Nothing is decided, retried or remembered here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

import yaml
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from crontabber_operator.cluster import (
    MAX_REQUESTS,
    MERGE_PATCH,
    ApiError,
    Body,
    Cluster,
)
from crontabber_operator.connection import EXIT_USAGE, CannotError, is_unknown_kind
from crontabber_operator.manifests import JOB_LABEL
from crontabber_operator.models import GROUP, PLURAL, VERSION

PAGE = 500
"""So many objects are asked for at once, as kubectl does."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Client(Cluster):
    """The API server, for one command of a person."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        """Use `connected`."""
        super().__init__(client)
        self.namespace = namespace
        """Where names without a namespace are looked for."""

    @classmethod
    async def log_in(cls, kubeconfig: str | None, context: str | None, namespace: str | None) -> Self:
        """Log in with a kubeconfig; without any, with the pod's service account. Raises CannotError."""
        configuration = Configuration()
        found = kubeconfig or os.environ.get("KUBECONFIG")
        if not found and context is None and not _has_kubeconfig():
            default = _in_cluster(configuration)
        else:
            default = await _by_kubeconfig(configuration, found, context)
        configuration.connection_pool_maxsize = MAX_REQUESTS
        return cls(ApiClient(configuration), namespace or default)

    # --- CrontabberJobs ----------------------------------------------------------------------------------

    async def find_resource(self, namespace: str, name: str) -> Body | None:
        """Read a CrontabberJob, None where there is none."""
        try:
            return await self._request("GET", _resources(namespace, name))
        except ApiError as error:
            if is_unknown_kind(error):
                raise
            if error.not_found:
                return None
            raise

    async def list_resources(self, namespace: str | None, selector: str = "") -> list[Body]:
        """List the CrontabberJobs of a namespace, or of all (None), that the label selector selects."""
        return await self._list(_resources(namespace), {"labelSelector": selector} if selector else {})

    async def namespaces(self) -> list[str]:
        """List the names of all namespaces."""
        return sorted(one["metadata"]["name"] for one in await self._list("/api/v1/namespaces", {}))

    async def list_jobs(self, namespace: str, name: str) -> list[Body]:
        """List the Jobs of a CrontabberJob."""
        return await self._list(
            f"/apis/batch/v1/namespaces/{quote(namespace)}/jobs", {"labelSelector": f"{JOB_LABEL}={name}"}
        )

    async def table(self, namespace: str | None, selector: str = "") -> Body:
        """Return what `kubectl get crontabberjobs` shows: the API server's own columns and cells."""
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        whole: Body | None = None
        while True:
            page = await self._request("GET", f"{_resources(namespace)}?{urlencode(query)}", accept=TABLE)
            if whole is None:
                whole = page
            else:
                whole["rows"] += page.get("rows") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return whole
            query["continue"] = more

    async def annotate(self, resource: Body, annotations: Mapping[str, str]) -> Body:
        """Set annotations, if the resource is still at the version that was read."""
        metadata = resource["metadata"]
        patch = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "annotations": dict(annotations),
            }
        }
        return await self._request(
            "PATCH", _resources(metadata["namespace"], metadata["name"]), patch, MERGE_PATCH
        )

    # --- How ---------------------------------------------------------------------------------------------

    async def _list(self, path: str, query: Mapping[str, str]) -> list[Body]:
        items: list[Body] = []
        wanted = {**query, "limit": str(PAGE)}
        while True:
            page = await self._request("GET", f"{path}?{urlencode(wanted)}")
            items += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return items
            wanted["continue"] = more


@contextlib.asynccontextmanager
async def connected(
    kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None
) -> AsyncIterator[Client]:
    """Connect for the time of a `with` block, as these flags say."""
    client = await Client.log_in(kubeconfig, context, namespace)
    try:
        yield client
    finally:
        await client.close()


def _has_kubeconfig() -> bool:
    return Path("~/.kube/config").expanduser().exists()


def _in_cluster(configuration: Configuration) -> str:
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        message = "there is no kubeconfig: set KUBECONFIG, or name it with --kubeconfig."
        raise CannotError(message, EXIT_USAGE) from error
    try:
        return _SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"


async def _by_kubeconfig(configuration: Configuration, files: str | None, context: str | None) -> str:
    """Log in by a kubeconfig; return the context's namespace."""
    try:
        contexts, current = config.list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
        known = {one["name"]: one for one in contexts}
        if context is not None and context not in known:
            message = f"the kubeconfig has no context {context}; it has {', '.join(sorted(known))}."
            raise CannotError(message, EXIT_USAGE)
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=files, context=context, client_configuration=configuration
        )
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        message = f"the kubeconfig {files or '~/.kube/config'} can't be used: {reason}."
        raise CannotError(message, EXIT_USAGE) from error
    chosen = known[context] if context is not None else current
    return str((chosen.get("context") or {}).get("namespace") or "default")


def _resources(namespace: str | None, name: str | None = None) -> str:
    root = f"/apis/{GROUP}/{VERSION}"
    if namespace is not None:
        root += f"/namespaces/{quote(namespace)}"
    return f"{root}/{PLURAL}" + (f"/{quote(name)}" if name is not None else "")
