"""PURE. What a node is made of, for each kind of node that a cluster can have, and what it asks of the rest.

A further kind is a further entry of `NODE_KINDS` and a further case here: any number of components, which are
started in this order, and owned, logged and told of like all others. The cluster waits until the node says
that it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.components import SCHEDULER, scheduler_command
from devcluster.ports import ADDRESS, Ports
from devcluster.realnode.configuration import cable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.components import Layout

NODE = "node"

#: The kind whose pods are real containers.
REAL = "containerd"

#: The kinds and what they do, the default first.
NODE_KINDS = {
    "process": "pods run as local processes",
    REAL: "pods run as real containers (Linux, root)",
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


def api_server_address(kind: str, ports: Ports) -> str:
    """Return the address at which the node, and what runs on it, reaches the API server."""
    return str(cable(ports.control).machine) if kind == REAL else ADDRESS


def api_server_flags(kind: str, ports: Ports) -> list[str]:
    """Return what this kind of node asks of the API server: pods find it behind its Service."""
    if kind != REAL:
        return []
    return [f"--advertise-address={cable(ports.control).machine}", "--endpoint-reconciler-type=lease"]


def node_components(
    kind: str, *, python: str, layout: Layout, ports: Ports, node_name: str, binaries: Mapping[str, Path]
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
        case "containerd":
            command = [
                *(python, "-m", "devcluster.realnode"),
                *("--name", layout.folder.name),
                *("--node-name", node_name),
                *("--state", str(layout.folder)),
                *("--port", str(ports.control)),
                *("--binaries", str(binaries["kubelet"].parent)),
            ]
            scheduler = scheduler_command(binaries[SCHEDULER], layout, ports)
            return [
                NodeComponent(SCHEDULER, scheduler, grace_seconds=0.0),
                NodeComponent(NODE, command, grace_seconds=10.0),
            ]
        case _:
            message = f"{kind!r} is no kind of node: {', '.join(NODE_KINDS)}"
            raise ValueError(message)
