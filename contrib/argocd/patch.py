"""Print the merge patch for Argo CD's ConfigMap `argocd-cm` that brings health and actions of CrontabberJobs.

Reads the Lua files beside it; asks no cluster.
"""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
KIND = "crontabber.dev_CrontabberJob"
ACTIONS = ("mark-success", "reset", "run-now")


def patch() -> str:
    """Return the patch as YAML."""
    actions = {
        "discovery.lua": _read("actions/discovery.lua"),
        "definitions": [{"name": name, "action.lua": _read(f"actions/{name}.lua")} for name in ACTIONS],
    }
    data = {
        f"resource.customizations.health.{KIND}": _read("health.lua"),
        f"resource.customizations.actions.{KIND}": yaml.safe_dump(actions, sort_keys=False),
    }
    return yaml.safe_dump({"data": data}, sort_keys=False)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    print(patch(), end="")  # noqa: T201 - that is what it is for
