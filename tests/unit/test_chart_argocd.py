"""Argo CD's view of CrontabberJobs, run by a Lua interpreter on statuses that a real API server had.

Needs the package lupa.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

from tests.integration.chart_release import ROOT

Body = dict[str, Any]
FOLDER = ROOT / "contrib" / "argocd"
TIME = "2026-11-25T02:14:02Z"


def run(name: str, resource: Body) -> Any:
    """Run a script as Argo CD does: with the resource as `obj`; return what it returns."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals()["obj"] = lua.table_from(resource, recursive=True)
    return lua.execute((FOLDER / name).read_text(encoding="utf-8"))


def resource(state: str = "", *conditions: tuple[str, str, str, str], **spec: Any) -> Body:
    """Build a resource with the conditions (type, status, reason, message) that it had."""
    body: Body = {"metadata": {"name": "job", "generation": 1}, "spec": {"command": "work", **spec}}
    if state:
        body["status"] = {
            "state": state,
            "observedGeneration": 1,
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "observedGeneration": 1,
                    "lastTransitionTime": TIME,
                }
                for kind, status, reason, message in conditions
            ],
        }
    return body


READY = ("Ready", "True", "Scheduled", "Accepted and scheduled: 43 * * * *.")
FINE = ("Stalled", "False", "Accepted", "Nothing in the spec needs a person.")
GOOD = ("LastRunSucceeded", "True", "Succeeded", "The run of slot 2026-11-25T00:43Z succeeded.")
NEVER = ("LastRunSucceeded", "Unknown", "NeverRun", "No run has succeeded yet.")
BAD = (
    "LastRunSucceeded",
    "False",
    "Failed",
    "1 failed in a row; the last one: RuntimeError: the database is on fire",
)
SETTLED = ("CaughtUp", "True", "NothingMissed", "Every slot that was due is settled.")
BEHIND = ("CaughtUp", "False", "Running", "1 slot is due; slot 2026-11-25T01:43Z is running.")


@pytest.mark.parametrize(
    ("body", "health", "message"),
    [
        (resource(), "Progressing", "Waiting for the operator."),
        (resource("Waiting", READY, GOOD, SETTLED, FINE), "Healthy", READY[3]),
        (resource("Running", READY, NEVER, SETTLED, FINE), "Healthy", READY[3]),
        (resource("CatchingUp", READY, GOOD, BEHIND, FINE), "Healthy", BEHIND[3]),
        (resource("Retrying", READY, BAD, BEHIND, FINE), "Degraded", BAD[3]),
        (resource("RetriesExhausted", READY, BAD, BEHIND, FINE), "Degraded", BAD[3]),
        (resource("Suspended", READY, BAD, BEHIND, FINE, suspend=True), "Suspended", READY[3]),
        (
            resource(
                "Waiting", ("Ready", "False", "WebAppNotRolledOut", "Not rolled out."), NEVER, SETTLED, FINE
            ),
            "Progressing",
            "Not rolled out.",
        ),
        (
            resource("CatchingUp", ("Ready", "False", "Refused", "quota"), GOOD, BEHIND, FINE),
            "Degraded",
            "quota",
        ),
        (
            resource(
                "Invalid",
                ("Ready", "False", "Invalid", "wrong"),
                NEVER,
                BEHIND,
                ("Stalled", "True", "Invalid", "wrong"),
            ),
            "Degraded",
            "wrong",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("status", {}).get("state", "new"),
)
def test_health_is_what_a_person_would_say(body: Body, health: str, message: str) -> None:
    """Each state has a health, and says why."""
    told = run("health.lua", body)
    assert (told["status"], told["message"]) == (health, message)


def test_a_change_that_was_not_seen_yet_is_progressing() -> None:
    """What is told belongs to an older spec."""
    body = resource("Waiting", READY, GOOD, SETTLED, FINE)
    body["metadata"]["generation"] = 2
    assert run("health.lua", body)["status"] == "Progressing"


@pytest.mark.parametrize(("name", "value"), [("mark-success", "now"), ("reset", ""), ("run-now", "")])
@pytest.mark.parametrize("annotations", [None, {"mine": "kept"}], ids=["none", "some"])
def test_an_action_sets_its_annotation_alone(name: str, value: str, annotations: Body | None) -> None:
    """The command is given, and nothing else of the resource is touched."""
    body = resource()
    if annotations is not None:
        body["metadata"]["annotations"] = annotations
    changed = run(f"actions/{name}.lua", body)
    assert dict(changed["metadata"]["annotations"]) == {
        **(annotations or {}),
        f"crontabber.dev/{name}": value,
    }
    assert dict(changed["spec"]) == body["spec"]


def test_actions_that_wait_are_not_offered() -> None:
    """All are offered, but one whose annotation the operator has not taken up."""
    body = resource()
    offered = {name: entry["disabled"] for name, entry in run("actions/discovery.lua", body).items()}
    assert offered == {"mark-success": False, "reset": False, "run-now": False}
    body["metadata"]["annotations"] = {"crontabber.dev/reset": ""}
    assert run("actions/discovery.lua", body)["reset"]["disabled"]


def test_patch_holds_every_script() -> None:
    """What is given to Argo CD is these files."""
    spec = importlib.util.spec_from_file_location("argocd_patch", FOLDER / "patch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = yaml.safe_load(module.patch())["data"]
    health = data["resource.customizations.health.crontabber.dev_CrontabberJob"]
    actions = yaml.safe_load(data["resource.customizations.actions.crontabber.dev_CrontabberJob"])
    given = {f"actions/{one['name']}.lua": one["action.lua"] for one in actions["definitions"]}
    given |= {"health.lua": health, "actions/discovery.lua": actions["discovery.lua"]}
    files = {
        str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.lua")
    }
    assert given == files
