"""The downward API: what a pod can be told about itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from devcluster.node.fields import FieldError, NodeFacts, field_value, quantity, resource_value

NODE = NodeFacts("node-1", "127.0.0.1", {"cpu": "4", "memory": "8Gi"})
POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "site",
        "uid": "u-1",
        "labels": {"app": "web", "app.kubernetes.io/name": "w"},
        "annotations": {"crontabber.dev/run-time": "2026-11-24T08:00", "empty": "", "quoted": 'a "b"\nc'},
    },
    "spec": {
        "serviceAccountName": "runner",
        "initContainers": [{"name": "init"}],
        "containers": [
            {
                "name": "main",
                "resources": {
                    "limits": {"cpu": "1500m", "memory": "64Mi"},
                    "requests": {"cpu": "250m", "memory": "64M"},
                },
            },
            {"name": "bare"},
        ],
    },
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web-1"),
        ("metadata.namespace", "site"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['app.kubernetes.io/name']", "w"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['crontabber.dev/run-time']", "2026-11-24T08:00"),
        ("metadata.annotations['empty']", ""),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'app="web"\napp.kubernetes.io/name="w"'),
        (
            "metadata.annotations",
            'crontabber.dev/run-time="2026-11-24T08:00"\nempty=""\nquoted="a \\"b\\"\\nc"',
        ),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "runner"),
        ("status.podIP", "127.0.0.1"),
        ("status.podIPs", "127.0.0.1"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_fields_have_the_values_that_a_kubelet_gives(path: str, expected: str) -> None:
    """Metadata, node, addresses; what is absent is empty."""
    assert field_value(POD, path, NODE) == expected


@pytest.mark.parametrize("path", ["spec.hostname", "metadata.generation", "status.phase", ""])
def test_other_fields_are_refused(path: str) -> None:
    """The message names the field."""
    with pytest.raises(FieldError, match="unsupported fieldPath"):
        field_value(POD, path, NODE)


@pytest.mark.parametrize(
    ("resource", "container", "divisor", "expected"),
    [
        ("limits.cpu", "main", None, "2"),
        ("limits.cpu", "main", "1m", "1500"),
        ("requests.cpu", "main", None, "1"),
        ("limits.memory", "main", None, "67108864"),
        ("limits.memory", "main", "1Mi", "64"),
        ("limits.memory", "main", "1M", "68"),
        ("requests.memory", "main", "0", "64000000"),
        ("limits.cpu", "bare", None, "4"),
        ("limits.memory", "bare", "1Gi", "8"),
        ("requests.cpu", "bare", None, "0"),
    ],
)
def test_resources_are_divided_and_rounded_up(
    resource: str, container: str, divisor: str | None, expected: str
) -> None:
    """A limit that is not set is the node's size, a request that is not set is nothing."""
    reference = {"resource": resource} | ({"divisor": divisor} if divisor else {})
    assert resource_value(POD, reference, container, NODE) == expected


def test_a_resource_of_another_container_can_be_named() -> None:
    """`containerName` wins over the container that asks."""
    assert resource_value(POD, {"resource": "limits.cpu", "containerName": "main"}, "bare", NODE) == "2"
    with pytest.raises(FieldError, match="container gone not found"):
        resource_value(POD, {"resource": "limits.cpu", "containerName": "gone"}, "bare", NODE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", "1"),
        ("0.5", "0.5"),
        ("100m", "0.1"),
        ("1e3", "1000"),
        ("2k", "2000"),
        ("1M", "1000000"),
        ("1Ki", "1024"),
        ("1Gi", "1073741824"),
        ("1E", "1000000000000000000"),
        ("5n", "0.000000005"),
    ],
)
def test_quantities_are_read_exactly(text: str, expected: str) -> None:
    """Decimal and binary suffixes, exponents."""
    assert quantity(text) == Decimal(expected)


@pytest.mark.parametrize("text", ["", "x", "1X", "1kI", "1ki", "1 Gi", "--1", "1.2.3", "Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """The message repeats it."""
    with pytest.raises(FieldError, match="not a quantity"):
        quantity(text)
