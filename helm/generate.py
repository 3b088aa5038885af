"""Write what is made from other files: the chart's CRD, its README, and contrib/kustomize/base/.

`make chart` runs it; tests/unit/test_chart_generated.py fails where it would change anything. It is not part of
the packaged chart. It only reads the chart and writes text: no cluster is asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent
ROOT = CHART.parent
KUBE_VERSION = "1.34.0"
"""What `helm template` renders for: a helm that was built from its Go module takes itself for 1.20."""

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")

_README = """\
<!-- Written by `make chart` from Chart.yaml and values.yaml. -->
# crontabber

{description}.

    helm install crontabber ./helm --namespace crontabber --create-namespace

Version {version}, for Kubernetes {kube_version}. How to install, upgrade and remove it: docs/install.md of the
source. What may be set, and when one would: docs/configuration.md. Values that the chart doesn't know are refused.

## Values

| value | default | meaning |
|---|---|---|
{rows}
"""

_KUSTOMIZATION_HEADER = """\
# Written by `make chart` from the chart with its default values, in the namespace crontabber.
"""


@dataclass(frozen=True)
class Value:
    """One value of the chart."""

    path: str
    default: str
    comment: str


def values(text: str) -> Iterator[Value]:
    """Yield the commented values of a values.yaml. Raises ValueError for one that has no comment."""
    defaults = yaml.safe_load(text)
    comment: list[str] = []
    parents: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        found = _KEY.match(line)
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
        elif not stripped:
            comment = []
        elif found is not None:
            parents = [*parents[: len(found["indent"]) // 2], found["key"]]
            default = _lookup(defaults, parents)
            if comment:
                yield Value(".".join(parents), json.dumps(default), " ".join(comment))
                parents[-1] = _DONE
            elif _DONE not in parents and not isinstance(default, dict):
                message = f"{'.'.join(parents)}: has no comment"
                raise ValueError(message)
            comment = []


_DONE = "(described)"
"""Stands for a value whose comment is for all that is below it."""


def _lookup(defaults: Any, path: list[str]) -> Any:
    for key in path:
        if key == _DONE:
            return None
        defaults = defaults[key]
    return defaults


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def readme() -> str:
    """Return the chart's README."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    rows = [
        f"| `{value.path}` | `{value.default}` | {_cell(value.comment)} |"
        for value in values((CHART / "values.yaml").read_text(encoding="utf-8"))
    ]
    return _README.format(
        description=chart["description"],
        version=chart["version"],
        kube_version=chart["kubeVersion"].removesuffix("-0").replace(">=", "") + " and later",
        rows="\n".join(rows),
    )


def rendered(helm: Path) -> tuple[str, str]:
    """Return the kustomize base: the CRD, and all else of the chart with its default values."""
    result = subprocess.run(
        [
            *(str(helm), "template", "crontabber", str(CHART), "--namespace", "crontabber"),
            *("--kube-version", KUBE_VERSION, "--skip-tests"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    documents = [one for one in yaml.safe_load_all(result.stdout) if one]
    for one in documents:
        labels = one["metadata"]["labels"]
        del labels["helm.sh/chart"]
        labels["app.kubernetes.io/managed-by"] = "kustomize"
        one["metadata"].get("annotations", {}).pop("helm.sh/resource-policy", None)
        if not one["metadata"].get("annotations", True):
            del one["metadata"]["annotations"]
    crds = [one for one in documents if one["kind"] == "CustomResourceDefinition"]
    others = [one for one in documents if one["kind"] != "CustomResourceDefinition"]
    return _dumped(crds), _dumped(others)


def _dumped(documents: list[dict[str, Any]]) -> str:
    return _KUSTOMIZATION_HEADER + yaml.safe_dump_all(
        documents, sort_keys=False, width=120, allow_unicode=True
    )


def files(helm: Path) -> dict[Path, str]:
    """Return what each written file should hold, by its path."""
    crd, operator = rendered(helm)
    base = ROOT / "contrib" / "kustomize" / "base"
    return {
        CHART / "files" / "crontabberjobs.yaml": (ROOT / "crds" / "crontabberjobs.yaml").read_text(
            encoding="utf-8"
        ),
        CHART / "README.md": readme(),
        base / "crd.yaml": crd,
        base / "operator.yaml": operator,
    }


def main() -> int:
    """Write all of it. The CRD comes first: the chart renders it."""
    sys.path.insert(0, str(ROOT))
    from devcluster import build  # noqa: PLC0415 - from the checkout, which a script doesn't see by itself

    copy = CHART / "files" / "crontabberjobs.yaml"
    copy.write_bytes((ROOT / "crds" / "crontabberjobs.yaml").read_bytes())
    for path, text in files(build.binaries(["helm"])["helm"]).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))  # noqa: T201 - a command says what it wrote
    return 0


if __name__ == "__main__":
    sys.exit(main())
