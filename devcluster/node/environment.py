"""A container's environment, command and args, from its pod and the ConfigMaps and Secrets it names. Pure.

The order is the kubelet's (``makeEnvironmentVariables``): envFrom first, later entries over earlier ones;
then env, in which ``$(NAME)`` sees envFrom, the API server's address and the env entries above; command and
args see all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.node.expansion import expand
from devcluster.node.fields import NodeFacts, field_value, resource_value
from devcluster.node.sources import Kind, MissingSourceError, Source, SourceName, Sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that the pod gives a container, and the names that could not be used."""

    variables: Mapping[str, str]
    skipped: tuple[str, ...] = ()

    def expand_all(self, words: Sequence[str]) -> list[str]:
        """Expand the words of a command or of args."""
        return [expand(word, self.variables) for word in words]


def container_environment(
    pod: Manifest, container: Manifest, sources: Sources, node: NodeFacts, services: Mapping[str, str]
) -> Environment:
    """Resolve a container's env and envFrom.

    `services` are the variables that every pod gets (where the API server is); the container's own win over
    them. Raises `MissingSourceError` for a ConfigMap, Secret or key that is missing and not optional, and
    `FieldError` for a field that can't be given.
    """
    resolver = _Resolver(pod, container, sources, node)
    variables: dict[str, str] = {}
    for each in container.get("envFrom") or ():
        prefix = each.get("prefix") or ""
        variables |= {prefix + key: value for key, value in resolver.whole_source(each).items()}
    for entry in container.get("env") or ():
        value = resolver.value(entry, {**services, **variables})
        if value is not None:
            variables[entry["name"]] = value
    usable = {name: value for name, value in variables.items() if _is_usable(name, value)}
    skipped = tuple(sorted(variables.keys() - usable.keys()))
    return Environment({**services, **usable}, skipped)


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Finds the values of one container's variables."""

    pod: Manifest
    container: Manifest
    sources: Sources
    node: NodeFacts

    def whole_source(self, reference: Manifest) -> dict[str, str]:
        """Return all variables of an envFrom entry."""
        if "configMapRef" in reference:
            found = self._source("configmap", reference["configMapRef"])
        else:
            found = self._source("secret", reference["secretRef"])
        return {key: _text(value) for key, value in found.variables.items()} if found else {}

    def value(self, entry: Manifest, known: Mapping[str, str]) -> str | None:
        """Return the value of an env entry; None: it isn't set, because something optional is missing."""
        value_from = entry.get("valueFrom") or {}
        if entry.get("value") or not value_from:
            return expand(entry.get("value") or "", known)
        if "fieldRef" in value_from:
            return field_value(self.pod, value_from["fieldRef"]["fieldPath"], self.node)
        if "resourceFieldRef" in value_from:
            return resource_value(self.pod, value_from["resourceFieldRef"], self.container["name"], self.node)
        if "configMapKeyRef" in value_from:
            return self._key("configmap", value_from["configMapKeyRef"])
        if "secretKeyRef" in value_from:
            return self._key("secret", value_from["secretKeyRef"])
        msg = f"env {entry['name']}: unsupported valueFrom: {', '.join(value_from)}"
        raise MissingSourceError(msg)

    def _key(self, kind: Kind, reference: Manifest) -> str | None:
        source = self._source(kind, reference)
        if source is None:
            return None
        key = reference["key"]
        if key in source.variables:
            return _text(source.variables[key])
        if reference.get("optional"):
            return None
        title = "ConfigMap" if kind == "configmap" else "Secret"
        msg = f"couldn't find key {key} in {title} {self.sources.namespace}/{reference['name']}"
        raise MissingSourceError(msg)

    def _source(self, kind: Kind, reference: Manifest) -> Source | None:
        """Return a source; None if it is missing and optional."""
        name = SourceName(kind, reference["name"])
        if reference.get("optional") and name not in self.sources.found:
            return None
        return self.sources.get(name)


def _text(value: bytes) -> str:
    # environments are bytes: a Secret that is no UTF-8 reaches the process unchanged
    return value.decode(errors="surrogateescape")


def _is_usable(name: str, value: str) -> bool:
    """Whether the operating system can hold it.

    Names that no shell accepts are fine, as in Kubernetes 1.34.
    """
    return bool(name) and "=" not in name and "\0" not in name and "\0" not in value
