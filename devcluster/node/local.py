"""Containers as local processes: turns a pod's container into a command, an environment, a directory and mounts.

A container's world, and how it differs from a real one:

* its directory is the image's (`images`), shared by all containers of the image and with this machine;
* its environment is clean: PATH (the image's Python first), HOME (a directory of the pod's own), HOSTNAME, where the
  API server is, the image's and the pod's variables, and nothing of the node's;
* its volumes, service account directory and termination message file are at their paths where this machine has mount
  namespaces (`mounts`: Linux, as root or with user namespaces). Elsewhere those paths are rewritten in command, args,
  environment and working directory (`pathmap`), so a program that has ``/var/run/secrets/kubernetes.io/serviceaccount``
  or ``/dev/termination-log`` built in does not find it;
* network, users, and all else are this machine's: two containers that listen on the same port collide, and
  securityContext, CPU limits and preStop hooks are ignored. A memory limit is watched (Linux): a container over it
  is killed as OOMKilled.

Files of a pod, below ``<state directory>/pods/<namespace>_<name>_<uid>/``: ``volumes/<volume>/``, ``home/`` and, per
container, ``containers/<name>/<attempt>.log`` and ``<attempt>.termination``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import shutil
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster.node.api import TRANSIENT, Api, ApiError
from devcluster.node.environment import Environment, container_environment
from devcluster.node.expansion import expand
from devcluster.node.fields import FieldError, NodeFacts, quantity
from devcluster.node.images import Image, ImageConfigError, Images
from devcluster.node.logs import ContainerLog, last_lines
from devcluster.node.pathmap import PathMap
from devcluster.node.processes import Order, Process, Spawner
from devcluster.node.runtime import Ended, NotReadyError, StartError
from devcluster.node.sources import (
    MissingSourceError,
    Source,
    SourceName,
    Sources,
    environment_sources,
    source_of,
    volume_sources,
)
from devcluster.node.status import MESSAGE_LIMIT_BYTES, clip, ended_reason
from devcluster.node.volumes import (
    Mount,
    TokenRequest,
    VolumeError,
    VolumeFile,
    mounts,
    token_requests,
    volume_directory,
    volume_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_SYSTEM_PATH = (
    "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    if sys.platform == "darwin"
    else "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
_RENEW_TOKEN_AT = 0.8
"""The part of its life after which a token is renewed, as the kubelet does."""
_RENEWAL_RETRY_SECONDS = 30
_TERMINATION_PATH = "/dev/termination-log"
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the files of a pod are."""

    pod: Path

    @property
    def volumes(self) -> Path:
        return self.pod / "volumes"

    @property
    def home(self) -> Path:
        return self.pod / "home"

    def container(self, name: str) -> Path:
        return self.pod / "containers" / name

    def log(self, name: str, attempt: int) -> Path:
        return self.container(name) / f"{attempt}.log"

    def termination(self, name: str, attempt: int) -> Path:
        return self.container(name) / f"{attempt}.termination"


class LocalContainer:
    """A container that runs as a process of this machine."""

    def __init__(
        self,
        spawner: Spawner,
        order: Order,
        process: Process,
        image: Image,
        container: Manifest,
        files: _Files,
        attempt: int,
    ) -> None:
        """Take over a process whose command was executed."""
        self.container_id = f"process://{uuid.uuid4().hex}"
        self.image_id = f"directory://{image.directory}"
        self._spawner = spawner
        self._order = order
        self._process = process
        self._container = container
        self._log = files.log(container["name"], attempt)
        self._termination = files.termination(container["name"], attempt)
        self._executions = itertools.count()

    async def wait(self) -> Ended:
        """Return how it ended, with its termination message."""
        ended = await self._process.wait()
        reason = ended_reason(ended.code, out_of_memory=ended.out_of_memory)
        return Ended(ended.code, reason, self._message(ended.code), datetime.now(UTC))

    def terminate(self) -> None:
        """Send SIGTERM to its process group."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill all its processes."""
        self._process.kill()

    async def execute(self, command: Sequence[str], timeout_seconds: float) -> int:
        """Run a command in the container's environment, directory and mounts; its output is dropped."""
        file = self._order.file.with_suffix(f".{next(self._executions)}.exec")
        order = replace(self._order, command=command, file=file, memory_limit_bytes=None)
        process = await self._spawner.run(order, lambda _chunk: None)
        try:
            async with asyncio.timeout(timeout_seconds):
                return (await process.wait()).code
        finally:
            process.kill()

    def _message(self, exit_code: int) -> str:
        message = b""
        with contextlib.suppress(OSError), self._termination.open("rb") as file:
            file.seek(max(0, self._termination.stat().st_size - MESSAGE_LIMIT_BYTES))
            message = file.read()
        falls_back = self._container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not message and falls_back and exit_code != 0:
            message = last_lines(self._log)
        return clip(message, MESSAGE_LIMIT_BYTES)


class LocalRuntime:
    """Starts the containers of this node's pods."""

    survives_restarts = False

    def __init__(
        self,
        api: Api,
        images: Images,
        spawner: Spawner,
        node: NodeFacts,
        state_directory: Path,
        *,
        use_mounts: bool,
    ) -> None:
        """`use_mounts`: give containers a file system view of their own; False rewrites paths instead."""
        self._api = api
        self._images = images
        self._spawner = spawner
        self._node = node
        self._state = state_directory
        self._use_mounts = use_mounts
        self._logs: dict[Path, ContainerLog] = {}
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._services = {
            "KUBERNETES_SERVICE_HOST": api.access.host,
            "KUBERNETES_SERVICE_PORT": str(api.access.port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(api.access.port),
        }

    async def prepare(self, pod: Manifest) -> None:
        """Write the pod's volumes; raises `VolumeError` if something for them is missing."""
        files = self._files(pod)
        for directory in (files.volumes, files.home):
            directory.mkdir(parents=True, exist_ok=True)
        sources = await self._read_sources(pod, volume_sources(pod))
        for volume in pod["spec"].get("volumes") or ():
            directory = volume_directory(volume, files.volumes)
            content = volume_files(volume, pod, sources, self._node)
            _make_directory(volume, directory)
            for file in content:
                _write(directory, file)
        requests = token_requests(pod)
        if requests:
            first = min([await self._write_token(pod, request) for request in requests])
            self._renewals[pod["metadata"]["uid"]] = asyncio.create_task(
                self._renew_tokens(pod, requests, first)
            )

    async def start(self, pod: Manifest, container: Manifest, attempt: int) -> LocalContainer:
        """Start a container; raises `NotReadyError` while its image or configuration is missing, and `StartError`."""
        image = self._image(container)
        files, name = self._files(pod), container["name"]
        files.container(name).mkdir(parents=True, exist_ok=True)
        order = await self._order(pod, container, image, attempt)
        log = ContainerLog(files.log(name, attempt))
        self._logs[log.path] = log
        for old in (files.log(name, attempt - 2), files.termination(name, attempt - 2)):
            old.unlink(missing_ok=True)

        def on_output(chunk: bytes) -> None:
            log.write(chunk)
            if not chunk:
                self._logs.pop(log.path, None)

        try:
            process = await self._spawner.run(order, on_output)
        except OSError as error:
            on_output(b"")
            raise NotReadyError("CreateContainerError", str(error)) from error
        try:
            await process.started()
        except StartError:
            await process.wait()
            raise
        return LocalContainer(self._spawner, order, process, image, container, files, attempt)

    async def release(self, pod: Manifest) -> None:
        """Remove the pod's files."""
        renewal = self._renewals.pop(pod["metadata"]["uid"], None)
        if renewal is not None:
            renewal.cancel()
        await asyncio.to_thread(shutil.rmtree, self._files(pod).pod, ignore_errors=True)

    def keep_only(self, uids: Iterable[str]) -> None:
        """Remove the files of all other pods: they went while no node was there."""
        keep = set(uids)
        for directory in (self._state / "pods").glob("*_*_*"):
            if directory.name.rpartition("_")[2] not in keep:
                shutil.rmtree(directory, ignore_errors=True)

    def log(self, pod: Manifest, container_name: str, attempt: int) -> tuple[Path, ContainerLog | None]:
        """Return the log file of a run of a container, and what writes to it if it still runs."""
        path = self._files(pod).log(container_name, attempt)
        return path, self._logs.get(path)

    def _files(self, pod: Manifest) -> _Files:
        metadata = pod["metadata"]
        return _Files(self._state / "pods" / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}")

    def _image(self, container: Manifest) -> Image:
        name = container.get("image", "")
        try:
            image = self._images.find(name)
        except ImageConfigError as error:
            raise NotReadyError("ErrImagePull", str(error)) from error
        if image is not None and image.directory.is_dir():
            return image
        if container.get("imagePullPolicy") == "Never":
            msg = f'Container image "{name}" is not present with pull policy of Never'
            raise NotReadyError("ErrImageNeverPull", msg)
        why = (
            f"{image.directory} is no directory"
            if image
            else "this node has no such image: map it to a directory"
        )
        msg = f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": not found ({why})'
        raise NotReadyError("ErrImagePull", msg)

    async def _order(self, pod: Manifest, container: Manifest, image: Image, attempt: int) -> Order:
        files = self._files(pod)
        environment = await self._environment(pod, container)
        command = environment.expand_all(container.get("command") or ())
        arguments = environment.expand_all(container.get("args") or ())
        if not command:
            command = [*image.entrypoint]
            arguments = arguments or [*image.command]
        if not command + arguments:
            raise NotReadyError("CreateContainerError", "no command specified")
        mounted = self._mounts(pod, container, image, files, environment, attempt)
        directory = container.get("workingDir") or image.working_directory or str(image.directory)
        variables = {
            "PATH": self._path(image),
            "HOME": str(files.home),
            "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
            **image.environment,
            **environment.variables,
        }
        words = command + arguments
        if not self._use_mounts:
            paths = PathMap({mount.target: str(mount.source) for mount in mounted})
            words = [paths.rewrite(word) for word in words]
            variables = {key: paths.rewrite(value) for key, value in variables.items()}
            directory = paths.rewrite(directory)
        stage = files.container(container["name"]) / "root"
        stage.mkdir(exist_ok=True)
        return Order(
            command=words,
            environment=variables,
            directory=directory,
            mounts=mounted if self._use_mounts else (),
            stage=stage,
            file=files.container(container["name"]) / f"{attempt}.order",
            memory_limit_bytes=_memory_limit_bytes(container),
        )

    async def _environment(self, pod: Manifest, container: Manifest) -> Environment:
        try:
            sources = await self._read_sources(pod, environment_sources(container))
            environment = container_environment(pod, container, sources, self._node, self._services)
        except (MissingSourceError, FieldError, VolumeError) as error:
            raise NotReadyError("CreateContainerConfigError", str(error)) from error
        if environment.skipped:
            _log.warning(
                "%s: not usable as environment variables: %s",
                pod["metadata"]["name"],
                ", ".join(environment.skipped),
            )
        return environment

    async def _read_sources(self, pod: Manifest, names: Iterable[SourceName]) -> Sources:
        namespace = pod["metadata"]["namespace"]
        wanted = sorted(names, key=lambda name: (name.kind, name.name))
        results = await asyncio.gather(*(self._read_source(namespace, name) for name in wanted))
        return Sources(
            namespace, {name: source for name, source in zip(wanted, results, strict=True) if source}
        )

    async def _read_source(self, namespace: str, name: SourceName) -> Source | None:
        try:
            manifest = await self._api.get(f"/api/v1/namespaces/{namespace}/{name.kind}s/{name.name}")
        except ApiError as error:
            if error.code == _NOT_FOUND:
                return None
            raise VolumeError(str(error)) from error
        except TRANSIENT as error:
            msg = f"the API server can't be reached: {error}"
            raise VolumeError(msg) from error
        return source_of(name.kind, manifest)

    def _mounts(
        self,
        pod: Manifest,
        container: Manifest,
        image: Image,
        files: _Files,
        environment: Environment,
        attempt: int,
    ) -> tuple[Mount, ...]:
        volumes = {each["name"]: each for each in pod["spec"].get("volumes") or ()}
        directories = {name: volume_directory(volume, files.volumes) for name, volume in volumes.items()}
        try:
            wanted = mounts(pod, container, directories, environment.variables)
            for mount in container.get("volumeMounts") or ():
                _make_sub_path(volumes[mount["name"]], mount, directories[mount["name"]], environment)
        except VolumeError as error:
            raise NotReadyError("CreateContainerConfigError", str(error)) from error
        missing = next((mount for mount in wanted if not mount.source.exists()), None)
        if missing is not None:
            msg = f'failed to prepare subPath for volumeMount at {missing.target} of container "{container["name"]}"'
            raise NotReadyError("CreateContainerConfigError", msg)
        termination = files.termination(container["name"], attempt)
        termination.touch(mode=0o666)
        own = [
            Mount(termination, container.get("terminationMessagePath") or _TERMINATION_PATH, read_only=False)
        ]
        if image.working_directory:
            own.append(Mount(image.directory, image.working_directory, read_only=False))
        # parents first; the image's own directory below the volumes that are mounted into it
        return tuple(sorted([*own, *wanted], key=lambda mount: mount.target.rstrip("/").count("/")))

    def _path(self, image: Image) -> str:
        """Return the PATH on which the image's interpreter is found by any of its names."""
        directory = image.python.parent
        if all((directory / name).exists() for name in ("python", "python3")):
            return f"{directory}:{_SYSTEM_PATH}"
        # a link elsewhere would make Python forget its virtual environment, so a script it is
        key = hashlib.sha256(os.fsencode(image.python)).hexdigest()[:16]
        wrappers = self._state / "python" / key
        for name in ("python", "python3"):
            wrapper = wrappers / name
            if not wrapper.exists():
                _write(wrappers, VolumeFile(name, f'#!/bin/sh\nexec "{image.python}" "$@"\n'.encode(), 0o755))
        return f"{wrappers}:{directory}:{_SYSTEM_PATH}"

    async def _write_token(self, pod: Manifest, request: TokenRequest) -> float:
        """Ask for a token and write it; returns after how many seconds it has to be renewed."""
        metadata = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        body: dict[str, Any] = {
            "spec": {
                "audiences": [request.audience] if request.audience else [],
                "expirationSeconds": request.expiration_seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            }
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        try:
            token = (await self._api.create(path, body))["status"]["token"]
        except (ApiError, *TRANSIENT) as error:
            msg = f'MountVolume.SetUp failed for volume "{request.volume}" : failed to fetch token: {error}'
            raise VolumeError(msg) from error
        _write(
            self._files(pod).volumes / request.volume, VolumeFile(request.path, token.encode(), request.mode)
        )
        return request.expiration_seconds * _RENEW_TOKEN_AT

    async def _renew_tokens(
        self, pod: Manifest, requests: Sequence[TokenRequest], first_seconds: float
    ) -> None:
        pause_seconds = first_seconds
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                pause_seconds = min([await self._write_token(pod, request) for request in requests])
            except (VolumeError, OSError) as error:
                _log.debug("%s: %s", pod["metadata"]["name"], error)
                pause_seconds = _RENEWAL_RETRY_SECONDS


def _make_directory(volume: Manifest, directory: Path) -> None:
    """Make a volume's directory, or check that a hostPath is what it is said to be."""
    if "hostPath" not in volume:
        directory.mkdir(parents=True, exist_ok=True)
        return
    kind = volume["hostPath"].get("type") or ""
    try:
        if kind == "DirectoryOrCreate":
            directory.mkdir(parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            directory.touch()
    except OSError as error:
        msg = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
        raise VolumeError(msg) from error
    if not directory.exists() or (kind == "Directory" and not directory.is_dir()):
        msg = f'MountVolume.SetUp failed for volume "{volume["name"]}" : hostPath type check failed: {directory} is not a {kind or "path"}'
        raise VolumeError(msg)


def _make_sub_path(volume: Manifest, mount: Manifest, directory: Path, environment: Environment) -> None:
    """Make a subPath that doesn't exist, in the volumes that a pod can write to."""
    sub_path = mount.get("subPath") or expand(mount.get("subPathExpr") or "", environment.variables)
    if sub_path and ("emptyDir" in volume or "hostPath" in volume):
        path = directory / sub_path
        if not path.exists():
            path.mkdir(parents=True)


def _write(directory: Path, file: VolumeFile) -> None:
    """Write a file whole: who reads at the same time sees the old or the new one."""
    path = directory / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(file.content)
    new.chmod(file.mode)
    new.replace(path)


def _memory_limit_bytes(container: Manifest) -> int | None:
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return int(quantity(limit)) if limit is not None else None
