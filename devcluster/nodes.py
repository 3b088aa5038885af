"""PURE. What a node is made of, for each kind of node that a cluster can have.

A further kind (real containers, say) is a further entry of `NODE_KINDS` and a further case here: any number
of components, which are started in this order, and owned, logged and told of like all others. The cluster
waits until the node says that it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.ports import ADDRESS, Ports

if TYPE_CHECKING:
    from devcluster.components import Layout

NODE = "node"

#: The kinds and what they do, the default first.
NODE_KINDS = {
    "process": "pods run as local processes",
    "instant": "pods succeed at once, nothing is run",
    "none": "no node",
}


@dataclass(frozen=True, slots=True)
class NodeComponent:
    """One program of a node."""

    name: str
    command: list[str]
    grace_seconds: float
    """How long it may take to end its pods' processes when the cluster ends."""


def node_components(
    kind: str, *, python: str, layout: Layout, ports: Ports, node_name: str
) -> list[NodeComponent]:
    """Return the programs of this kind of node. Raises ValueError for a kind that isn't known."""
    match kind:
        case "none":
            return []
        case "process" | "instant":
            command = [
                *(python, "-m", "devcluster.node"),
                *("--kubeconfig", str(layout.node_kubeconfig)),
                *("--name", node_name),
                *("--address", ADDRESS, "--port", str(ports.node)),
                *("--state-dir", str(layout.node)),
                *("--images", str(layout.images)),
                *(["--instant"] if kind == "instant" else []),
            ]
            return [NodeComponent(NODE, command, grace_seconds=5.0)]
        case _:
            message = f"{kind!r} is no kind of node: {', '.join(NODE_KINDS)}"
            raise ValueError(message)
