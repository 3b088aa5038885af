"""What `make chart` writes is as it would write it now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from devcluster import build
from tests.integration.chart_release import CHART, ROOT

pytestmark = pytest.mark.timeout(900)  # helm may have to be built first


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """Return the generator, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("chart_generate", CHART / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys  # noqa: PLC0415

    sys.modules["chart_generate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_written_files_are_current(generate: ModuleType) -> None:
    """The chart's CRD and README, and the kustomize base."""
    files = generate.files(build.binaries(["helm"])["helm"])
    assert len(files) == 4
    outdated = [
        str(path.relative_to(ROOT))
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not outdated, "run `make chart`"


def test_each_value_is_described(generate: ModuleType) -> None:
    """The README has a row for every value; one without a comment is refused."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    paths = {one.path for one in generate.values(text)}
    assert {"image.repository", "crds.keep", "jobs", "podSecurityContext"} <= paths
    assert not any(path.startswith("podSecurityContext.") for path in paths)
    with pytest.raises(ValueError, match=r"^log\.format: has no comment"):
        list(generate.values("log:\n  format: text\n"))


def test_kustomize_base_lists_its_files() -> None:
    """Nothing that is written is forgotten in the kustomization."""
    base = ROOT / "contrib" / "kustomize" / "base"
    kustomization = yaml.safe_load((base / "kustomization.yaml").read_text(encoding="utf-8"))
    assert {Path(name) for name in kustomization["resources"]} == {
        path.relative_to(base) for path in base.glob("*.yaml") if path.name != "kustomization.yaml"
    }
