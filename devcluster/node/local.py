"""Containers as local processes: a pod's container becomes a command, an environment, a directory, mounts.

A container's world, and how it differs from a real one:

* its directory is the image's (`images`), shared by all containers of the image and with this machine; a
  volume that is mounted into it leaves an empty directory there;
* its environment is clean: PATH (the image's Python first), HOME (a directory of the pod's own), HOSTNAME,
  where the API server is, the image's and the pod's variables, and nothing of the node's;
* its volumes, service account directory and termination message file are at their paths where this machine
  has mount namespaces (`mounts`: Linux, as root or with user namespaces). Elsewhere those paths are rewritten
  in command, args, environment and working directory (`pathmap`), so a program that has
  ``/var/run/secrets/kubernetes.io/serviceaccount`` or ``/dev/termination-log`` built in does not find it;
* network, users, and all else are this machine's: two containers that listen on the same port collide, and
  securityContext, CPU limits and preStop hooks are ignored. A memory limit is watched (Linux): a container
  over it is killed as OOMKilled.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devcluster.node.environment import Environment, container_environment
from devcluster.node.expansion import expand
from devcluster.node.fields import FieldError, NodeFacts, quantity
from devcluster.node.images import Image, ImageConfigError, Images
from devcluster.node.logs import ContainerLog, last_lines
from devcluster.node.pathmap import PathMap
from devcluster.node.processes import Order, Process, Spawner
from devcluster.node.runtime import Ended, NotReadyError, StartError
from devcluster.node.sources import MissingSourceError, environment_sources
from devcluster.node.status import MESSAGE_LIMIT_BYTES, clip, ended_reason, has_started_containers
from devcluster.node.storage import PodStorage, write_file
from devcluster.node.volumes import Mount, VolumeError, VolumeFile, mounts, volume_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devcluster.node.api import Api

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_SYSTEM_PATH = (
    "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    if sys.platform == "darwin"
    else "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
_TERMINATION_PATH = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a container: what is run, and where it leaves what it says."""

    order: Order
    log: Path
    termination: Path
    falls_back_to_log: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine gives to containers."""

    spawner: Spawner
    state_directory: Path
    use_mounts: bool
    """Whether containers get a file system view of their own; otherwise paths are rewritten."""


class LocalContainer:
    """A container that runs as a process of this machine."""

    def __init__(self, spawner: Spawner, image: Image, run: _Run, process: Process) -> None:
        """Take over a process whose command was executed."""
        self.container_id = f"process://{uuid.uuid4().hex}"
        self.image_id = f"directory://{image.directory}"
        self._spawner = spawner
        self._run = run
        self._process = process
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
        file = self._run.order.file.with_suffix(f".{next(self._executions)}.exec")
        order = replace(self._run.order, command=command, file=file, memory_limit_bytes=None)
        process = await self._spawner.run(order, lambda _chunk: None)
        try:
            async with asyncio.timeout(timeout_seconds):
                return (await process.wait()).code
        finally:
            process.kill()

    def _message(self, exit_code: int) -> str:
        message = b""
        with contextlib.suppress(OSError), self._run.termination.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MESSAGE_LIMIT_BYTES))
            message = file.read(MESSAGE_LIMIT_BYTES)
        if not message and exit_code != 0 and self._run.falls_back_to_log:
            message = last_lines(self._run.log)
        return clip(message, MESSAGE_LIMIT_BYTES)


class LocalRuntime:
    """Starts the containers of this node's pods."""

    def __init__(self, api: Api, images: Images, node: NodeFacts, machine: Machine) -> None:
        """Start nothing yet."""
        self._storage = PodStorage(api, node, machine.state_directory)
        self._images = images
        self._node = node
        self._machine = machine
        self._logs: dict[Path, ContainerLog] = {}
        self._services = {
            "KUBERNETES_SERVICE_HOST": api.access.host,
            "KUBERNETES_SERVICE_PORT": str(api.access.port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(api.access.port),
        }

    def lost(self, pod: Manifest) -> bool:
        """Tell whether containers of this pod were started; their processes ended with the node that did."""
        # the files know of a start that the API was not told of any more
        return has_started_containers(pod) or self._storage.has_logs(pod)

    def forget_all_but(self, uids: Iterable[str]) -> None:
        """Remove the files of all other pods: they went while no node was there."""
        self._storage.keep_only(uids)

    async def prepare(self, pod: Manifest) -> None:
        """Write the pod's volumes; raises `VolumeError` if something for them is missing."""
        await self._storage.prepare(pod)

    async def finish(self, pod: Manifest) -> None:
        """Remove all of the pod's files but its logs."""
        await self._storage.finish(pod)

    async def release(self, pod: Manifest) -> None:
        """Remove all of the pod's files."""
        await self._storage.release(pod)

    async def start(self, pod: Manifest, container: Manifest, attempt: int) -> LocalContainer:
        """Start a container.

        Raises `NotReadyError` while its image or configuration is missing, and `StartError`.
        """
        try:
            return await self._start(pod, container, attempt)
        except OSError as error:  # a full disk, say: tried again
            raise NotReadyError("CreateContainerError", str(error)) from error

    async def _start(self, pod: Manifest, container: Manifest, attempt: int) -> LocalContainer:
        image = self._image(container)
        files, name = self._storage.files(pod), container["name"]
        files.container(name).mkdir(parents=True, exist_ok=True)
        run = _Run(
            await self._order(pod, container, image, attempt),
            files.log(name, attempt),
            files.termination(name, attempt),
            container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
        )
        log = ContainerLog(run.log)
        self._logs[log.path] = log
        for old in (files.log(name, attempt - 2), files.termination(name, attempt - 2)):
            old.unlink(missing_ok=True)

        def on_output(chunk: bytes) -> None:
            log.write(chunk)
            if not chunk:
                self._logs.pop(log.path, None)

        try:
            process = await self._machine.spawner.run(run.order, on_output)
        except OSError:
            on_output(b"")
            raise
        try:
            await process.started()
        except StartError:
            await process.wait()
            raise
        return LocalContainer(self._machine.spawner, image, run, process)

    def log(self, pod: Manifest, container_name: str, attempt: int) -> tuple[Path, ContainerLog | None]:
        """Return the log file of a run of a container, and what writes to it if it still runs."""
        path = self._storage.files(pod).log(container_name, attempt)
        return path, self._logs.get(path)

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
        msg = f'failed to pull and unpack image "{name}": not found: {why}'
        raise NotReadyError("ErrImagePull", msg)

    async def _order(self, pod: Manifest, container: Manifest, image: Image, attempt: int) -> Order:
        files = self._storage.files(pod)
        environment = await self._environment(pod, container)
        command = environment.expand_all(container.get("command") or ())
        arguments = environment.expand_all(container.get("args") or ())
        if not command:
            command = [*image.entrypoint]
            arguments = arguments or [*image.command]
        if not command + arguments:
            raise NotReadyError("CreateContainerError", "no command specified")
        mounted = self._mounts(pod, container, image, environment, attempt)
        directory = container.get("workingDir") or image.working_directory or str(image.directory)
        variables = {**image.environment, **environment.variables}
        words = command + arguments
        if not self._machine.use_mounts:
            paths = PathMap({mount.target: str(mount.source) for mount in mounted})
            words = [paths.rewrite(word) for word in words]
            variables = {key: paths.rewrite(value) for key, value in variables.items()}
            directory = paths.rewrite(directory)
        stage = files.container(container["name"]) / "root"
        stage.mkdir(exist_ok=True)
        return Order(
            command=words,
            environment={
                "PATH": self._path(image),
                "HOME": str(files.home),
                "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
                **variables,
            },
            directory=directory,
            mounts=mounted if self._machine.use_mounts else (),
            stage=stage,
            file=files.container(container["name"]) / f"{attempt}.order",
            memory_limit_bytes=_memory_limit_bytes(container),
        )

    async def _environment(self, pod: Manifest, container: Manifest) -> Environment:
        try:
            sources = await self._storage.read_sources(pod, environment_sources(container))
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

    def _mounts(
        self,
        pod: Manifest,
        container: Manifest,
        image: Image,
        environment: Environment,
        attempt: int,
    ) -> tuple[Mount, ...]:
        files = self._storage.files(pod)
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
            msg = f"failed to prepare subPath for volumeMount at {missing.target}: no {missing.source.name}"
            raise NotReadyError("CreateContainerConfigError", msg)
        termination = files.termination(container["name"], attempt)
        termination.write_bytes(b"")
        termination_path = container.get("terminationMessagePath") or _TERMINATION_PATH
        own = [
            Mount(termination, termination_path, read_only=False),
            # mounted on itself, it stays the real one though a volume is mounted into it: what containers
            # write beside that volume (a database's journal) must be seen by all of them
            Mount(image.directory, str(image.directory), read_only=False),
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
        wrappers = self._machine.state_directory / "python" / key
        for name in ("python", "python3"):
            wrapper = wrappers / name
            if not wrapper.exists():
                write_file(
                    wrappers, VolumeFile(name, f'#!/bin/sh\nexec "{image.python}" "$@"\n'.encode(), 0o755)
                )
        return f"{wrappers}:{directory}:{_SYSTEM_PATH}"


def _make_sub_path(volume: Manifest, mount: Manifest, directory: Path, environment: Environment) -> None:
    """Make a subPath that doesn't exist, in the volumes that a pod can write to."""
    sub_path = mount.get("subPath") or expand(mount.get("subPathExpr") or "", environment.variables)
    if sub_path and ("emptyDir" in volume or "hostPath" in volume):
        path = directory / sub_path
        if not path.exists():
            path.mkdir(parents=True)


def _memory_limit_bytes(container: Manifest) -> int | None:
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return int(quantity(limit)) if limit is not None else None
