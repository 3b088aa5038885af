"""What the chart renders is valid in every version of Kubernetes that it is for, by their published schemas.

Needs the package kubernetes-validate, which carries the schemas.
"""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.integration.chart_release import render
from tests.unit.test_chart import API, EVERYTHING

pytestmark = pytest.mark.timeout(900)  # helm may have to be built first

FOREIGN = {"CrontabberJob", "ServiceMonitor", "PrometheusRule"}
"""Kinds that are not Kubernetes' own."""
VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """Return everything, in both modes."""
    namespaced = {**EVERYTHING, "watchNamespaces": ["a", "b"]}
    return [*render(API, values=EVERYTHING), *render(API, values=namespaced)]


@pytest.mark.parametrize("version", VERSIONS)
def test_rendered_objects_are_valid(objects: list[dict[str, Any]], version: str) -> None:
    """No unknown field, no wrong type."""
    checked = {one["kind"] for one in objects} - FOREIGN
    assert len(checked) >= 12
    for one in objects:
        if one["kind"] not in FOREIGN:
            kubernetes_validate.validate(one, version, strict=True)


def test_a_wrong_field_would_be_found(objects: list[dict[str, Any]]) -> None:
    """The check is one."""
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)
