"""Bring the runner of batches into a resource's namespace, as a ConfigMap that the resource owns.

It is made when the first Job is that needs it, never changed, and goes with its resource. Another runner (or
another resource of the name) gets another one, so that a Job keeps the runner that it was made for. What is
under that name and isn't the runner is never used: it would run with the rights of the web app.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crontabber_operator.batches import RUNNER_FILE, config_map_name
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.manifests import JOB_LABEL, MANAGED_BY, MANAGER, Owner, owner_reference

SOURCE = Path(__file__).with_name("batch_runner.py").read_text(encoding="utf-8")


class NotDeliveredError(Exception):
    """There can be no runner just now; the message says why."""


async def deliver(cluster: Cluster, owner: Owner) -> str:
    """Make sure that the runner is there; return the ConfigMap's name. Raises NotDeliveredError, ApiError."""
    manifest = config_map(owner)
    name = manifest["metadata"]["name"]
    try:
        found = await _create_or_get(cluster, manifest)
    except ApiError as error:
        if error.transient:
            raise
        raise NotDeliveredError(f"ConfigMap {name} was refused: {error.message}") from error
    if found.get("data") != manifest["data"]:
        raise NotDeliveredError(f"ConfigMap {name} has other contents; delete it.")
    return str(name)


async def _create_or_get(cluster: Cluster, manifest: dict[str, Any]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    try:
        return await cluster.create_config_map(manifest)
    except ApiError as error:
        if not error.already_exists:
            raise
    return await cluster.get_config_map(metadata["namespace"], metadata["name"])


def config_map(owner: Owner) -> dict[str, Any]:
    """Build the ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(owner.name, owner.uid, SOURCE),
            "namespace": owner.namespace,
            "labels": {JOB_LABEL: owner.name, MANAGED_BY: MANAGER},
            "ownerReferences": [owner_reference(owner)],
        },
        "immutable": True,
        "data": {RUNNER_FILE: SOURCE},
    }
