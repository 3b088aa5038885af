"""The downward API: the values that a pod can be told about itself. Pure.

The supported paths and the formats are the kubelet's (``pkg/fieldpath``, ``pkg/api/v1/resource``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Manifest = Mapping[str, Any]

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("MGTPE", start=2)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_QUANTITY = re.compile(r"(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<suffix>[numkMGTPE]?i?|Ki)")
_SUBSCRIPT = re.compile(r"(?P<path>metadata\.(?:annotations|labels))\['(?P<key>.*)'\]")


class FieldError(ValueError):
    """A field or quantity that can't be given; the message is for the pod's status."""


@dataclass(frozen=True)
class NodeFacts:
    """What a pod may be told about its node."""

    name: str
    address: str
    allocatable: Mapping[str, str]


def quantity(text: str | float) -> Decimal:
    """Return what a Kubernetes quantity such as ``500m`` or ``1Gi`` stands for; `FieldError` for others."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or match["suffix"] not in _SUFFIXES:
        msg = f"not a quantity: {text!r}"
        raise FieldError(msg)
    try:
        return Decimal(match["number"]) * _SUFFIXES[match["suffix"]]
    except InvalidOperation:
        msg = f"not a quantity: {text!r}"
        raise FieldError(msg) from None


def field_value(pod: Manifest, field_path: str, node: NodeFacts) -> str:
    """Return the value of a ``fieldRef``; an annotation or label that is absent is the empty string."""
    metadata: Manifest = pod["metadata"]
    subscript = _SUBSCRIPT.fullmatch(field_path)
    if subscript is not None:
        values: Mapping[str, str] = metadata.get(subscript["path"].removeprefix("metadata.")) or {}
        return values.get(subscript["key"], "")
    if field_path in ("metadata.annotations", "metadata.labels"):
        return _format_map(metadata.get(field_path.removeprefix("metadata.")) or {})
    if field_path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata[field_path.removeprefix("metadata.")])
    known = {
        "spec.nodeName": node.name,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": node.address,
        "status.hostIPs": node.address,
        "status.podIP": node.address,
        "status.podIPs": node.address,
    }
    if field_path not in known:
        msg = f"unsupported fieldPath: {field_path}"
        raise FieldError(msg)
    return str(known[field_path])


def resource_value(pod: Manifest, reference: Manifest, container_name: str, node: NodeFacts) -> str:
    """Return the value of a ``resourceFieldRef``: divided, rounded up; an unset limit is the node's size."""
    wanted = reference.get("containerName") or container_name
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    container = next((each for each in containers if each["name"] == wanted), None)
    if container is None:
        msg = f"container {wanted} not found"
        raise FieldError(msg)
    kind, _, resource = reference["resource"].partition(".")
    if kind not in ("limits", "requests") or not resource:
        msg = f"unsupported container resource : {reference['resource']}"
        raise FieldError(msg)
    amount = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    if amount is None:
        amount = node.allocatable.get(resource, "0") if kind == "limits" else "0"
    divisor = quantity(reference.get("divisor") or "1") or Decimal(1)
    return str(int((quantity(amount) / divisor).to_integral_value(ROUND_CEILING)))


def _format_map(values: Mapping[str, str]) -> str:
    # json's quoting is Go's %q for all that annotations usually hold
    return "\n".join(f"{key}={json.dumps(values[key], ensure_ascii=False)}" for key in sorted(values))
