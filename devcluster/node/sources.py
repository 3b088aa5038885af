"""ConfigMaps and Secrets as a pod sees them: which ones it names, and what is in them. Pure.

Reading them from the API is somebody else's job; here they are already there, or known to be missing.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Manifest = Mapping[str, Any]

Kind = Literal["configmap", "secret"]


class MissingSourceError(LookupError):
    """A ConfigMap, a Secret or a key that is needed does not exist; the message is for the pod's status."""


@dataclass(frozen=True, slots=True)
class SourceName:
    """A ConfigMap or Secret of the pod's namespace."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Source:
    """What is in a ConfigMap or Secret: `variables` for environments, `files` for volumes."""

    variables: Mapping[str, bytes]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Sources:
    """What a pod's names stand for; a name that is not in `found` does not exist."""

    namespace: str
    found: Mapping[SourceName, Source] = field(default_factory=dict)

    def get(self, name: SourceName) -> Source:
        """Return the source; `MissingSourceError` if it doesn't exist."""
        try:
            return self.found[name]
        except KeyError:
            plural = "configmaps" if name.kind == "configmap" else "secrets"
            msg = f'{plural} "{name.name}" not found'
            raise MissingSourceError(msg) from None


def source_of(kind: Kind, manifest: Manifest) -> Source:
    """Read a ConfigMap or Secret as the API returns it."""
    if kind == "configmap":
        text = {key: value.encode() for key, value in (manifest.get("data") or {}).items()}
        binary = {key: base64.b64decode(value) for key, value in (manifest.get("binaryData") or {}).items()}
        return Source(text, {**text, **binary})
    data = {key: base64.b64decode(value or "") for key, value in (manifest.get("data") or {}).items()}
    return Source(data, data)


def environment_sources(container: Manifest) -> frozenset[SourceName]:
    """Every ConfigMap and Secret that a container's env and envFrom name, optional or not."""
    return frozenset(_named_by_environment(container))


def volume_sources(pod: Manifest) -> frozenset[SourceName]:
    """Every ConfigMap and Secret that a pod's volumes name, optional or not."""
    return frozenset(_named_by_volumes(pod))


def _named_by_environment(container: Manifest) -> Iterator[SourceName]:
    for each in container.get("envFrom") or ():
        if "configMapRef" in each:
            yield SourceName("configmap", each["configMapRef"]["name"])
        if "secretRef" in each:
            yield SourceName("secret", each["secretRef"]["name"])
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom") or {}
        if "configMapKeyRef" in value_from:
            yield SourceName("configmap", value_from["configMapKeyRef"]["name"])
        if "secretKeyRef" in value_from:
            yield SourceName("secret", value_from["secretKeyRef"]["name"])


def _named_by_volumes(pod: Manifest) -> Iterator[SourceName]:
    for volume in pod["spec"].get("volumes") or ():
        if "configMap" in volume:
            yield SourceName("configmap", volume["configMap"]["name"])
        if "secret" in volume:
            yield SourceName("secret", volume["secret"]["secretName"])
        for part in (volume.get("projected") or {}).get("sources") or ():
            if "configMap" in part:
                yield SourceName("configmap", part["configMap"]["name"])
            if "secret" in part:
                yield SourceName("secret", part["secret"]["name"])
