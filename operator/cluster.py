"""Every request that the operator itself makes to the API server (kopf only watches).

Thin on purpose: each method is one request, says by which precondition it is guarded, and returns the
object as the API server now has it. Nothing is decided, retried or remembered here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from urllib.request import getproxies

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from crontabber_operator.manifests import JOB_LABEL, MANAGER, OUTPUT_TOLD, TOLD, Manifest, Owner
from crontabber_operator.models import GROUP, PLURAL, VERSION
from crontabber_operator.projection import FIELD_MANAGER
from crontabber_operator.refusals import without_values
from crontabber_operator.server_clock import ServerClock
from crontabber_operator.store import PLACES, Kind
from crontabber_operator.times import format_time

Body = dict[str, Any]

MAX_REQUESTS = 64
"""Requests under way at once; more would only queue in the API server."""
MAX_STREAMS = 108
"""Outputs that are read at once, beside those requests."""
TIMEOUT_SECONDS = 30.0
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LEASES = "coordination.k8s.io/v1"
PAGE_SIZE = 500
EVENTS_MAX = 50


class ApiError(Exception):
    """The API server refused a request, or could not be reached (`status` 0)."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def not_found(self) -> bool:
        """The object doesn't exist (any more)."""
        return self.status == 404

    @property
    def forbidden(self) -> bool:
        """The operator has no right to do this, or a policy refused it."""
        return self.status == 403

    @property
    def already_exists(self) -> bool:
        """The name is taken."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def guard_failed(self) -> bool:
        """A precondition didn't hold: what was decided on is not what exists."""
        return self.status in (409, 412, 422) and not self.already_exists

    @property
    def too_large(self) -> bool:
        """The object would not fit into etcd."""
        return "request is too large" in self.message

    @property
    def denied(self) -> bool:
        """An admission webhook or policy refused it, whose answer has any status: 400 and 422 by themselves."""
        return "denied request:" in self.message or "denied the request" in self.message

    @property
    def transient(self) -> bool:
        """The same request may succeed later, with nothing changed."""
        return self.status in (0, 408, 429) or self.status >= 500


class Cluster:
    """The API server, for one operator. Use it in the event loop that it was connected in."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.clock = ServerClock()
        """The API server's."""
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self.may_write: Callable[[], bool] = lambda: True
        """Asked right before each request that changes anything."""
        self.wrote: Callable[[Body], None] = lambda _: None
        """Told of each object that was created or changed, as the API server now has it."""

    @classmethod
    async def connect(cls) -> Cluster:
        """Log in as kopf does: by the pod's service account, else by the kubeconfig."""
        configuration = Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        configuration.connection_pool_maxsize = MAX_REQUESTS + MAX_STREAMS
        # Looking for a proxy or a .netrc costs each request two turns of a thread: only where there can be one.
        configuration.client_session_kwargs = {"trust_env": bool(getproxies()) or "NETRC" in os.environ}
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    # --- The resource ------------------------------------------------------------------------------------

    async def get_resource(self, owner: Owner) -> Body:
        """Read the CrontabberJob."""
        return await self._request("GET", _resource_path(owner))

    async def write_status(self, owner: Owner, resource_version: str, status: Manifest) -> Body:
        """Replace the status whole, if the resource is still what was decided on (uid and resourceVersion)."""
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": owner.uid},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._request("PATCH", f"{_resource_path(owner)}/status", patch, JSON_PATCH)

    async def remove_annotations(self, owner: Owner, resource_version: str, names: Iterable[str]) -> Body:
        """Remove annotations, if the resource is still what was decided on (uid and resourceVersion).

        A JSON patch that tests their values would not do: for the API server a text with other than ASCII in it,
        or with &, < or >, never equals its own value.
        """
        metadata = {
            "uid": owner.uid,
            "resourceVersion": resource_version,
            "annotations": dict.fromkeys(names),
        }
        return await self._request("PATCH", _resource_path(owner), {"metadata": metadata}, MERGE_PATCH)

    # --- CronJobs ----------------------------------------------------------------------------------------

    async def get_cronjob(self, namespace: str, name: str) -> Body:
        """Read a CronJob."""
        return await self._request("GET", _path("batch/v1", namespace, "cronjobs", name))

    async def create_cronjob(self, manifest: Manifest) -> Body:
        """Create a CronJob; its name is the guard."""
        return await self._request(
            "POST", _path("batch/v1", manifest["metadata"]["namespace"], "cronjobs"), manifest
        )

    async def patch_cronjob(self, namespace: str, name: str, patch: list[Manifest]) -> Body:
        """Change a CronJob by a JSON patch, which has its guards in it."""
        return await self._request("PATCH", _path("batch/v1", namespace, "cronjobs", name), patch, JSON_PATCH)

    async def move_last_schedule(
        self, namespace: str, name: str, resource_version: str, to: datetime
    ) -> Body:
        """Set `status.lastScheduleTime`, if the CronJob is at this resourceVersion."""
        patch = {
            "metadata": {"resourceVersion": resource_version},
            "status": {"lastScheduleTime": format_time(to)},
        }
        return await self._request(
            "PATCH", _path("batch/v1", namespace, "cronjobs", name, "status"), patch, MERGE_PATCH
        )

    # --- Jobs --------------------------------------------------------------------------------------------

    async def get_job(self, namespace: str, name: str) -> Body:
        """Read a Job."""
        return await self._request("GET", _path("batch/v1", namespace, "jobs", name))

    async def list_jobs(self, namespace: str, name: str) -> list[Body]:
        """List the Jobs that were made for a resource."""
        query = {"labelSelector": f"{JOB_LABEL}={name}"}
        return await self._list(_path("batch/v1", namespace, "jobs"), query)

    async def create_job(self, manifest: Manifest) -> Body:
        """Create a Job; its name is the guard."""
        return await self._request(
            "POST", _path("batch/v1", manifest["metadata"]["namespace"], "jobs"), manifest
        )

    async def patch_job(self, namespace: str, name: str, patch: list[Manifest]) -> Body:
        """Change a Job by a JSON patch, which has its guards in it."""
        return await self._request("PATCH", _path("batch/v1", namespace, "jobs", name), patch, JSON_PATCH)

    async def mark_told(self, namespace: str, name: str, uid: str, failures: int) -> Body:
        """Remember on a Job made by hand that so many failures of it were told, if it has this uid."""
        patch = {"metadata": {"uid": uid, "annotations": {TOLD: str(failures)}}}
        return await self._request("PATCH", _path("batch/v1", namespace, "jobs", name), patch, MERGE_PATCH)

    async def mark_output(self, namespace: str, name: str, uid: str, mark: str) -> Body:
        """Write on a Job how far its output was told, if it has this uid."""
        patch = {"metadata": {"uid": uid, "annotations": {OUTPUT_TOLD: mark}}}
        return await self._request("PATCH", _path("batch/v1", namespace, "jobs", name), patch, MERGE_PATCH)

    async def delete_job(
        self, namespace: str, name: str, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete a Job and its pods, if it has this uid (and is at this resourceVersion)."""
        await self._delete(_path("batch/v1", namespace, "jobs", name), uid, resource_version)

    async def delete_cronjob(self, namespace: str, name: str, uid: str) -> None:
        """Delete a CronJob and its Jobs, if it has this uid."""
        await self._delete(_path("batch/v1", namespace, "cronjobs", name), uid)

    # --- ConfigMaps --------------------------------------------------------------------------------------

    async def create_config_map(self, manifest: Manifest) -> Body:
        """Create a ConfigMap; its name is the guard."""
        return await self._request(
            "POST", _path("v1", manifest["metadata"]["namespace"], "configmaps"), manifest
        )

    async def get_config_map(self, namespace: str, name: str) -> Body:
        """Read a ConfigMap."""
        return await self._request("GET", _path("v1", namespace, "configmaps", name))

    # --- Pods --------------------------------------------------------------------------------------------

    async def list_job_pods(self, namespace: str, *job_uids: str) -> list[Body]:
        """List the pods of a Job, or of several."""
        query = {"labelSelector": f"batch.kubernetes.io/controller-uid in ({','.join(job_uids)})"}
        return await self._list(_path("v1", namespace, "pods"), query)

    async def list_unended_pods(self, namespace: str) -> list[Body]:
        """List the pods of all CrontabberJobs of a namespace that have not ended; their metadata alone."""
        query = {"labelSelector": JOB_LABEL, "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
        return [one async for one in self._metadata(_path("v1", namespace, "pods"), query)]

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """Delete a pod, if it has this uid."""
        options = {"preconditions": {"uid": uid}}
        await self._request("DELETE", _path("v1", namespace, "pods", name), options)

    async def read_log(self, namespace: str, pod: str, container: str, limit_lines: int) -> str:
        """Return the last lines of a container's output."""
        query = {"container": container, "tailLines": str(limit_lines)}
        raw = await self._send("GET", f"{_path('v1', namespace, 'pods', pod, 'log')}?{urlencode(query)}")
        return raw.decode(errors="replace")

    async def stream_log(  # noqa: PLR0913 - what the API takes
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
        idle_seconds: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield what a container printed, as it comes; with `follow` until it ends.

        Raises ApiError, also where nothing comes for `idle_seconds`. It takes a connection, but no turn of
        MAX_REQUESTS: bound it yourself.
        """
        query = {"container": container}
        if follow:
            query["follow"] = "true"
        if tail is not None:
            query["tailLines"] = str(tail)
        if since is not None:
            query["sinceTime"] = format_time(since)
        if timestamps:
            query["timestamps"] = "true"
        path = f"{_path('v1', namespace, 'pods', pod, 'log')}?{urlencode(query)}"
        headers = {"Accept": "*/*", "User-Agent": MANAGER}
        timeout = aiohttp.ClientTimeout(total=None, connect=TIMEOUT_SECONDS, sock_read=idle_seconds)
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
            answer = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
                "GET", self._client.configuration.host + path, headers=headers, _request_timeout=timeout
            )
            try:
                if answer.status != 200:
                    raise _refusal(answer.status, answer.headers or {}, await answer.read())
                async for chunk in answer.response.content.iter_any():
                    yield chunk
            finally:
                answer.response.close()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(0, type(error).__name__, f"GET {path}: {error or 'no answer'}") from error

    async def list_events_of(self, namespace: str, uid: str) -> list[Body]:
        """List the Events of a pod or another object, as many as say anything."""
        query = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(EVENTS_MAX)}
        return await self._list(_path("v1", namespace, "events"), query)

    # --- Leases ------------------------------------------------------------------------------------------

    async def find_lease(self, namespace: str, name: str) -> Body | None:
        """Read a Lease, None where there is none."""
        try:
            return await self._request("GET", _path(LEASES, namespace, "leases", name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def create_lease(self, namespace: str, name: str, spec: Manifest) -> Body:
        """Create a Lease; its name is the guard."""
        lease = {"apiVersion": LEASES, "kind": "Lease", "metadata": {"name": name}, "spec": spec}
        return await self._request("POST", _path(LEASES, namespace, "leases"), lease)

    async def change_lease(
        self, namespace: str, name: str, resource_version: str, change: Mapping[str, object]
    ) -> Body:
        """Change fields of a Lease's spec (None removes one), if it is at this resourceVersion."""
        patch = {"metadata": {"resourceVersion": resource_version}, "spec": change}
        return await self._request("PATCH", _path(LEASES, namespace, "leases", name), patch, MERGE_PATCH)

    # --- Secrets -----------------------------------------------------------------------------------------

    async def get_secret(self, namespace: str, name: str) -> Body:
        """Read a Secret; its values are in base64."""
        return await self._request("GET", _path("v1", namespace, "secrets", name))

    # --- Workloads and events ----------------------------------------------------------------------------

    async def get_deployment(self, namespace: str, name: str) -> Body:
        """Read a Deployment."""
        return await self._request("GET", _path("apps/v1", namespace, "deployments", name))

    async def list_replica_sets(self, namespace: str, selector: Mapping[str, str]) -> list[Body]:
        """List the ReplicaSets that have these labels."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())}
        return await self._list(_path("apps/v1", namespace, "replicasets"), query)

    async def create_event(self, namespace: str, event: Manifest) -> Body:
        """Create an Event."""
        return await self._request("POST", _path("v1", namespace, "events"), event)

    async def patch_event(self, namespace: str, name: str, patch: Manifest) -> Body:
        """Change an Event: the same thing happened again."""
        return await self._request("PATCH", _path("v1", namespace, "events", name), patch, MERGE_PATCH)

    # --- What there is -----------------------------------------------------------------------------------

    async def serves_resource(self) -> bool:
        """Tell whether the API server knows the CRD and serves it."""
        try:
            found = await self._request("GET", f"/apis/{GROUP}/{VERSION}")
        except ApiError as error:
            if not error.not_found:
                raise
            return False
        return any(one.get("name") == PLURAL for one in found.get("resources") or [])

    async def may(self, verb: str, resource: str) -> bool:
        """Tell whether the operator has a right on a kind of the core API, for the whole cluster."""
        review = {"spec": {"resourceAttributes": {"verb": verb, "resource": resource}}}
        found = await self._request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(found["status"].get("allowed"))

    async def list_served(self) -> set[str]:
        """List the groups and versions that the API server says it serves, such as `batch/v1`."""
        found = await self._request("GET", "/apis")
        return {
            str(version.get("groupVersion"))
            for group in found.get("groups") or []
            for version in group.get("versions") or []
        }

    async def ask_time(self) -> None:
        """Have the API server answer anything: its clock is read from each answer."""
        with contextlib.suppress(ApiError):
            await self._send("GET", "/version")

    async def list_uids(self, kind: Kind, namespace: str) -> set[str]:
        """List the uids of all objects of a kind that are watched in a namespace."""
        group, version, plural = PLACES[kind]
        api = f"{group}/{version}"
        query = {"labelSelector": JOB_LABEL} if kind is not Kind.RESOURCE else {}
        path = _path(api, namespace, plural)
        return {one["metadata"]["uid"] async for one in self._metadata(path, query)}

    # --- How ---------------------------------------------------------------------------------------------

    async def _delete(self, path: str, uid: str, resource_version: str | None = None) -> None:
        """Delete an object; the garbage collector removes what it owns."""
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        options = {"propagationPolicy": "Background", "preconditions": preconditions}
        await self._request("DELETE", path, options)

    async def _list(self, path: str, query: Mapping[str, str]) -> list[Body]:
        found = await self._request("GET", f"{path}?{urlencode(query)}")
        return list(found.get("items") or [])

    async def _metadata(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Body]:
        """Yield the metadata of all objects, page by page."""
        parameters = {"limit": str(PAGE_SIZE), **query}
        while True:
            page = await self._request("GET", f"{path}?{urlencode(parameters)}", accept=METADATA_ONLY)
            for one in page.get("items") or []:
                yield one
            following = page["metadata"].get("continue")
            if not following:
                return
            parameters["continue"] = following

    async def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        *,
        accept: str = "application/json",
    ) -> Body:
        raw = await self._send(method, path, body, content_type, accept=accept)
        try:
            parsed = json.loads(raw)
        except ValueError as error:
            raise ApiError(0, "BadResponse", f"{method} {path}: the answer is not JSON") from error
        if not isinstance(parsed, dict):
            raise ApiError(0, "BadResponse", f"{method} {path}: the answer is not an object")
        if method in ("POST", "PATCH"):
            self.wrote(parsed)
        return parsed

    async def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        *,
        accept: str = "application/json",
    ) -> bytes:
        if method in ("POST", "PATCH"):
            path += f"{'&' if '?' in path else '?'}fieldManager={FIELD_MANAGER}"
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": MANAGER}
        async with self._slots:
            if method != "GET" and not self.may_write():
                raise ApiError(0, "NotLeading", f"{method} {path}: not sent, as another operator may lead")
            sent = self.clock.stopwatch()
            try:
                await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
                response = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
                    method,
                    self._client.configuration.host + path,
                    headers=headers,
                    body=body,
                    _request_timeout=TIMEOUT_SECONDS,
                )
                raw: bytes = await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise ApiError(0, type(error).__name__, f"{method} {path}: {error or 'no answer'}") from error
        self.clock.heard((response.headers or {}).get("Date"), sent)
        if not 200 <= response.status <= 299:
            raise _refusal(response.status, response.headers or {}, raw)
        return raw


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Cluster]:
    """Connect for the time of a `with` block."""
    cluster = await Cluster.connect()
    try:
        yield cluster
    finally:
        await cluster.close()


def _refusal(status: int, headers: Mapping[str, str], raw: bytes) -> ApiError:
    try:
        told = json.loads(raw)
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    message = without_values(str(told.get("message") or raw[:200].decode(errors="replace")))
    try:
        retry_after = float(headers.get("Retry-After", ""))
    except ValueError:
        retry_after = None
    return ApiError(status, str(told.get("reason") or ""), message, retry_after)


def _path(api: str, namespace: str, plural: str, *rest: str) -> str:
    root = "/api/v1" if api == "v1" else f"/apis/{api}"
    return "/".join([root, "namespaces", quote(namespace, ""), plural, *(quote(part, "") for part in rest)])


def _resource_path(owner: Owner) -> str:
    return _path(f"{GROUP}/{VERSION}", owner.namespace, PLURAL, owner.name)
