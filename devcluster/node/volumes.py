"""What a pod's volumes hold and where a container mounts them. Pure: nothing is written here.

Supported: configMap, secret, downwardAPI, projected (these, and service account tokens), emptyDir and
hostPath. The files are written once, when the pod starts; unlike on a kubelet a later change of a ConfigMap
or Secret is not carried into running pods. Tokens are renewed (see `local`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from devcluster.node.expansion import expand
from devcluster.node.fields import NodeFacts, field_value, resource_value
from devcluster.node.sources import Kind, MissingSourceError, Source, SourceName, Sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Manifest = Mapping[str, Any]

_DEFAULT_MODE = 0o644
_WRITTEN_BY_THE_NODE = ("configMap", "secret", "downwardAPI", "projected")


class VolumeError(Exception):
    """A volume can't be set up; the message is for the pod's events."""


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """A file below a volume's directory."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service account token that belongs into a projected volume."""

    volume: str
    path: str
    mode: int
    audience: str | None
    expiration_seconds: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of this machine that a container sees at `target`."""

    source: Path
    target: str
    read_only: bool


def volume_files(
    volume: Manifest, pod: Manifest, sources: Sources, node: NodeFacts
) -> tuple[VolumeFile, ...]:
    """Return the files of one volume, tokens aside; none for an emptyDir or hostPath.

    Raises `VolumeError` if something is missing that is not optional, or for an unsupported kind of volume.
    """
    if "emptyDir" in volume or "hostPath" in volume:
        return ()
    kind = next((each for each in _WRITTEN_BY_THE_NODE if each in volume), None)
    if kind is None:
        unsupported = ", ".join(key for key in volume if key != "name")
        what = f"not supported by a devcluster: {unsupported}"
        msg = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {what}'
        raise VolumeError(msg)
    whole = volume[kind]
    mode = int(whole.get("defaultMode", _DEFAULT_MODE))
    parts = whole.get("sources") or () if kind == "projected" else ({kind: whole},)
    try:
        # of two files at the same path the later one wins
        files = {file.path: file for part in parts for file in _part_files(part, mode, pod, sources, node)}
    except (ValueError, LookupError) as error:
        msg = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error.args[0]}'
        raise VolumeError(msg) from error
    return tuple(files.values())


def token_requests(pod: Manifest) -> tuple[TokenRequest, ...]:
    """Return every service account token that a pod's volumes ask for."""
    return tuple(
        TokenRequest(
            volume["name"],
            part["serviceAccountToken"]["path"],
            int(volume["projected"].get("defaultMode", _DEFAULT_MODE)),
            part["serviceAccountToken"].get("audience") or None,
            int(part["serviceAccountToken"].get("expirationSeconds", 3600)),
        )
        for volume in pod["spec"].get("volumes") or ()
        for part in (volume.get("projected") or {}).get("sources") or ()
        if "serviceAccountToken" in part
    )


def volume_directory(volume: Manifest, below: Path) -> Path:
    """Return where a volume is on this machine: `below`/its name, or the hostPath itself."""
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    return below / str(volume["name"])


def mounts(
    pod: Manifest, container: Manifest, directories: Mapping[str, Path], variables: Mapping[str, str]
) -> tuple[Mount, ...]:
    """Return a container's mounts, each below the directory of its volume, in the order they must be made."""
    kinds = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    found = []
    for mount in container.get("volumeMounts") or ():
        volume = kinds[mount["name"]]
        sub_path = mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables)
        if ".." in PurePosixPath(sub_path).parts or sub_path.startswith("/"):
            msg = f"subPath must be a relative path without '..': {sub_path}"
            raise VolumeError(msg)
        read_only = bool(mount.get("readOnly")) or any(kind in volume for kind in _WRITTEN_BY_THE_NODE)
        target = str(PurePosixPath(mount["mountPath"]))
        found.append(Mount(directories[mount["name"]] / sub_path, target, read_only))
    return tuple(sorted(found, key=lambda mount: len(PurePosixPath(mount.target).parts)))


def _part_files(
    part: Manifest, mode: int, pod: Manifest, sources: Sources, node: NodeFacts
) -> Iterator[VolumeFile]:
    if "configMap" in part:
        yield from _source_files("configmap", part["configMap"]["name"], part["configMap"], mode, sources)
    elif "secret" in part:
        # in a projected volume the Secret's name is `name`, alone it is `secretName`
        name = part["secret"].get("secretName") or part["secret"]["name"]
        yield from _source_files("secret", name, part["secret"], mode, sources)
    elif "downwardAPI" in part:
        for item in part["downwardAPI"].get("items") or ():
            if "fieldRef" in item:
                value = field_value(pod, item["fieldRef"]["fieldPath"], node)
            else:
                value = resource_value(pod, item["resourceFieldRef"], "", node)
            yield VolumeFile(item["path"], value.encode(), int(item.get("mode", mode)))
    elif "serviceAccountToken" not in part:
        msg = f"not supported by a devcluster: {', '.join(part)}"
        raise MissingSourceError(msg)


def _source_files(
    kind: Kind, name: str, reference: Manifest, mode: int, sources: Sources
) -> Iterator[VolumeFile]:
    optional = bool(reference.get("optional"))
    try:
        source = sources.get(SourceName(kind, name))
    except MissingSourceError:
        if not optional:
            raise
        source = Source({}, {})
    items = reference.get("items") or [{"key": key, "path": key} for key in sorted(source.files)]
    for item in items:
        if item["key"] in source.files:
            yield VolumeFile(item["path"], source.files[item["key"]], int(item.get("mode", mode)))
        elif not optional:
            what = (
                "references non-existent secret"
                if kind == "secret"
                else "configmap references non-existent config"
            )
            msg = f"{what} key: {item['key']}"
            raise MissingSourceError(msg)
