"""The files of pods on this machine: volumes, service account tokens, home directories, logs.

Below ``<state directory>/pods/<namespace>_<name>_<uid>/`` a pod has ``volumes/<volume>/``, ``home/`` and, per
container, ``containers/<name>/<attempt>.log`` and ``<attempt>.termination``. Starts nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.node.api import TRANSIENT, Api, ApiError
from devcluster.node.sources import Source, SourceName, Sources, source_of, volume_sources
from devcluster.node.volumes import (
    TokenRequest,
    VolumeError,
    VolumeFile,
    token_requests,
    volume_directory,
    volume_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devcluster.node.fields import NodeFacts

    Manifest = Mapping[str, Any]

_log = logging.getLogger(__name__)
_RENEW_TOKEN_AT = 0.8
"""The part of its life after which a token is renewed, as the kubelet does."""
_RENEWAL_RETRY_SECONDS = 30
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class PodFiles:
    """Where the files of a pod are."""

    pod: Path

    @property
    def volumes(self) -> Path:
        """The directory of its volumes."""
        return self.pod / "volumes"

    @property
    def home(self) -> Path:
        """Its containers' home directory."""
        return self.pod / "home"

    def container(self, name: str) -> Path:
        """Return the directory of a container's own files."""
        return self.pod / "containers" / name

    def log(self, name: str, attempt: int) -> Path:
        """Return the log of a container's n-th run."""
        return self.container(name) / f"{attempt}.log"

    def termination(self, name: str, attempt: int) -> Path:
        """Return the file that becomes the termination message of a container's n-th run."""
        return self.container(name) / f"{attempt}.termination"


class PodStorage:
    """Makes and removes the files of this node's pods."""

    def __init__(self, api: Api, node: NodeFacts, state_directory: Path) -> None:
        """Make nothing yet."""
        self._api = api
        self._node = node
        self._state = state_directory
        self._renewals: dict[str, asyncio.Task[None]] = {}

    def files(self, pod: Manifest) -> PodFiles:
        """Return where a pod's files are."""
        metadata = pod["metadata"]
        # cut: a file's name has at most 255 bytes, a pod's 253
        name = f"{metadata['namespace']}_{metadata['name']}"[:180]
        return PodFiles(self._state / "pods" / f"{name}_{metadata['uid']}")

    def has_logs(self, pod: Manifest) -> bool:
        """Tell whether any container of the pod was ever started."""
        return any(self.files(pod).pod.glob("containers/*/*.log"))

    async def prepare(self, pod: Manifest) -> None:
        """Write the pod's volumes; raises `VolumeError` if something for them is missing."""
        files = self.files(pod)
        for directory in (files.volumes, files.home):
            directory.mkdir(parents=True, exist_ok=True)
        sources = await self.read_sources(pod, volume_sources(pod))
        for volume in pod["spec"].get("volumes") or ():
            directory = volume_directory(volume, files.volumes)
            content = volume_files(volume, pod, sources, self._node)
            _make_directory(volume, directory)
            for file in content:
                write_file(directory, file)
        requests = token_requests(pod)
        if requests:
            first = min([await self._write_token(pod, request) for request in requests])
            self._renewals[pod["metadata"]["uid"]] = asyncio.create_task(
                self._renew_tokens(pod, requests, first)
            )

    async def read_sources(self, pod: Manifest, names: Iterable[SourceName]) -> Sources:
        """Read ConfigMaps and Secrets of the pod's namespace; raises `VolumeError` if they can't be read."""
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

    async def finish(self, pod: Manifest) -> None:
        """Remove the pod's volumes and home, and renew its tokens no more."""
        renewal = self._renewals.pop(pod["metadata"]["uid"], None)
        if renewal is not None:
            renewal.cancel()
        files = self.files(pod)
        await asyncio.to_thread(_remove, files.volumes, files.home)

    async def release(self, pod: Manifest) -> None:
        """Remove all of the pod's files."""
        await self.finish(pod)
        await asyncio.to_thread(_remove, self.files(pod).pod)

    def keep_only(self, uids: Iterable[str]) -> None:
        """Remove the files of all other pods: they went while no node was there."""
        keep = set(uids)
        for directory in (self._state / "pods").glob("*_*_*"):
            if directory.name.rpartition("_")[2] not in keep:
                shutil.rmtree(directory, ignore_errors=True)

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
        write_file(
            self.files(pod).volumes / request.volume, VolumeFile(request.path, token.encode(), request.mode)
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
        what = f"hostPath type check failed: {directory} is not a {kind or 'path'}"
        msg = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {what}'
        raise VolumeError(msg)


def write_file(directory: Path, file: VolumeFile) -> None:
    """Write a file whole: who reads at the same time sees the old or the new one."""
    path = directory / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(file.content)
    new.chmod(file.mode)
    new.replace(path)


def _remove(*directories: Path) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
