"""A container's environment, command and args, from its pod and the ConfigMaps and Secrets it names. Pure.

The order is the kubelet's (``makeEnvironmentVariables``): envFrom first, later entries over earlier ones; then
env, in which ``$(NAME)`` sees envFrom, the API server's address and the env entries above; command and args see all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.node.expansion import expand
from devcluster.node.fields import NodeFacts, field_value, resource_value
from devcluster.node.sources import MissingSourceError, SourceName, Sources

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

    `services` are the variables that every pod gets (where the API server is); the container's own win over them.
    Raises `MissingSourceError` for a ConfigMap, Secret or key that is missing and not optional, and `FieldError`
    for a field that can't be given.
    """
    variables: dict[str, str] = {}
    for each in container.get("envFrom") or ():
        prefix = each.get("prefix") or ""
        variables |= {prefix + key: value for key, value in _whole_source(each, sources).items()}
    for entry in container.get("env") or ():
        value = _value(pod, container, entry, sources, node, {**services, **variables})
        if value is not None:
            variables[entry["name"]] = value
    usable = {name: value for name, value in variables.items() if _is_usable(name, value)}
    skipped = tuple(sorted(variables.keys() - usable.keys()))
    return Environment({**services, **usable}, skipped)


def _whole_source(reference: Manifest, sources: Sources) -> dict[str, str]:
    if "configMapRef" in reference:
        name, optional = _named("configmap", reference["configMapRef"])
    else:
        name, optional = _named("secret", reference["secretRef"])
    try:
        found = sources.get(name).variables
    except MissingSourceError:
        if optional:
            return {}
        raise
    return {key: _text(value) for key, value in found.items()}


def _value(
    pod: Manifest,
    container: Manifest,
    entry: Manifest,
    sources: Sources,
    node: NodeFacts,
    known: Mapping[str, str],
) -> str | None:
    """The value of one env entry; None: it isn't set, because something optional is missing."""
    value_from = entry.get("valueFrom") or {}
    if entry.get("value") or not value_from:
        return expand(entry.get("value") or "", known)
    if "fieldRef" in value_from:
        return field_value(pod, value_from["fieldRef"]["fieldPath"], node)
    if "resourceFieldRef" in value_from:
        return resource_value(pod, value_from["resourceFieldRef"], container["name"], node)
    if "configMapKeyRef" in value_from:
        return _key(value_from["configMapKeyRef"], "configmap", sources)
    if "secretKeyRef" in value_from:
        return _key(value_from["secretKeyRef"], "secret", sources)
    msg = f"env {entry['name']}: unsupported valueFrom: {', '.join(value_from)}"
    raise MissingSourceError(msg)


def _key(reference: Manifest, kind: str, sources: Sources) -> str | None:
    name, optional = _named(kind, reference)
    key = reference["key"]
    try:
        values = sources.get(name).variables
        if key not in values:
            title = "ConfigMap" if kind == "configmap" else "Secret"
            msg = f"couldn't find key {key} in {title} {sources.namespace}/{name.name}"
            raise MissingSourceError(msg)
    except MissingSourceError:
        if optional:
            return None
        raise
    return _text(values[key])


def _named(kind: str, reference: Manifest) -> tuple[SourceName, bool]:
    optional = bool(reference.get("optional"))
    return SourceName("secret" if kind == "secret" else "configmap", reference["name"]), optional


def _text(value: bytes) -> str:
    # environments are bytes: a Secret that is no UTF-8 reaches the process unchanged
    return value.decode(errors="surrogateescape")


def _is_usable(name: str, value: str) -> bool:
    """Whether the operating system can hold it. Names that no shell accepts are fine, as in Kubernetes 1.34."""
    return bool(name) and "=" not in name and "\0" not in name and "\0" not in value
