"""The sample web app from its own manifests, and its jobs as they are in jobs/, in its own image."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from typing import Any

import pytest
import yaml

from tests.integration.operator_process import ROOT
from tests.integration.test_operator_webapp import wait_succeeded
from tests.integration.testbed import Body, Testbed, now, short, written

pytestmark = [pytest.mark.timeout(900)]

JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
DATABASE = "crashes.sqlite3"


def deploy(bed: Testbed, cluster: Any) -> Body:
    """Apply the web app's manifests as they are, with its database in the bed's folder; return the pod's spec."""
    documents = [
        one
        for path in sorted((ROOT / "webapp" / "k8s").glob("*.yaml"))
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    text = {"DATABASE_URL": f"sqlite:///{bed.folder / DATABASE}", "SECRET_KEY": "x" * 50}
    documents.append(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "webapp"}, "stringData": text}
    )
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    pod: Body = deployment["spec"]["template"]["spec"]
    mount = {"name": "database", "mountPath": str(bed.folder)}
    for container in (*pod["initContainers"], *pod["containers"]):
        container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
    pod["volumes"] = [
        *pod.get("volumes", []),
        {"name": "database", "hostPath": {"path": str(bed.folder)}},
    ]
    for one in documents:
        one["metadata"]["namespace"] = bed.namespace
    cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))
    return pod


def manage(bed: Testbed, pod: Body, name: str, *command: str) -> None:
    """Run a management command once, in the web app's pod."""
    container = {**pod["containers"][0], "command": ["python", "manage.py", *command]}
    for field in ("readinessProbe", "ports"):
        container.pop(field, None)
    spec = {**pod, "containers": [container], "initContainers": [], "restartPolicy": "Never"}
    bed.create("jobs", {"metadata": {"name": name}, "spec": {"template": {"spec": spec}}})
    bed.wait(lambda: bed.get("jobs", name)["status"].get("succeeded"), f"manage.py {command[0]} ran")


def runs(bed: Testbed, command: str) -> list[tuple[Any, ...]]:
    """Return run time, last success and outcome of a command's runs, as it wrote them into its database."""
    query = "SELECT run_time, last_success, outcome FROM crashes_cronrun WHERE command = ? ORDER BY id"
    database = sqlite3.connect(bed.folder / DATABASE)
    try:
        return database.execute(query, [command]).fetchall()
    finally:
        database.close()


def test_jobs_of_the_web_app_run_in_its_image_and_catch_up(team: Testbed, cluster: Any) -> None:
    """All of jobs/ are taken as they are; the hourly one catches up, the second hour failing once."""
    pod = deploy(team, cluster)
    team.wait(
        lambda: team.get("deployments", "webapp")["status"].get("availableReplicas") == 1,
        "the web app serves",
    )
    newest = now().replace(minute=0, second=0)
    hours = [newest - timedelta(hours=back) for back in (3, 2, 1, 0)]
    manage(team, pod, "seed", "seed")
    manage(team, pod, "break", "breakslot", "updatesignatures", short(hours[2]))
    cluster.kubectl("--namespace", team.namespace, "apply", *(f"--filename={path}" for path in JOBS))
    names = [path.stem for path in JOBS]
    for job in names:
        team.wait_ready(job)
    team.annotate("updatesignatures", mark_success=written(hours[0]))
    others = [job for job in names if job != "updatesignatures"]
    for job in others:
        team.annotate(job, run_now="")
    status = team.wait_status("updatesignatures", errorCount=1)
    assert status["lastError"]["type"] == "OperationalError"
    assert 'File "/app/' in status["lastError"]["traceback"]
    assert status["settledThrough"] == written(hours[1])
    for job in others:
        wait_succeeded(team, job)
    team.wait(
        lambda: team.status("updatesignatures")["settledThrough"] >= written(newest), "all missed hours ran"
    )
    told = [(hours[1], hours[0]), (hours[2], hours[1]), (hours[2], hours[1]), (hours[3], hours[2])]
    seen = runs(team, "updatesignatures")[:4]
    assert [(run_time[:16], last_success[:16]) for run_time, last_success, _ in seen] == [
        (short(run_time).replace("T", " "), short(last_success).replace("T", " "))
        for run_time, last_success in told
    ]
    assert [outcome for _, _, outcome in seen] == ["succeeded", "failed", "succeeded", "succeeded"]
