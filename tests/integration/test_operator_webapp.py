"""The sample web app's own jobs, as they are in jobs/, on a real database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.operator_process import ROOT
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import PREFIX, Body, Testbed, now, short, written

pytestmark = pytest.mark.side_by_side

JOBS = sorted((ROOT / "jobs").glob("*.yaml"))


class WebApp:
    """The sample web app in a namespace: its database and its Deployment (its page is not served)."""

    def __init__(self, bed: Testbed) -> None:
        """Make the database, with two days of crashes in it, and the Deployment."""
        self._bed = bed
        self.database = bed.folder / "crashes.sqlite3"
        self.manage("migrate", "--verbosity=0")
        self.manage("seed")
        container = {
            "name": "webapp",
            "image": "webapp",
            "command": ["sleep", "3600"],
            "env": [{"name": "DATABASE_URL", "value": self.url}],
        }
        labels = {"app": "webapp"}
        pod = {"containers": [container], "terminationGracePeriodSeconds": 0}
        template = {"metadata": {"labels": labels}, "spec": pod}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        bed.create("deployments", {"metadata": {"name": "webapp"}, "spec": spec})

    @property
    def url(self) -> str:
        """The database's URL."""
        return f"sqlite:///{self.database}"

    def manage(self, *arguments: str) -> None:
        """Run manage.py outside of the cluster."""
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT / "webapp",
            env={**os.environ, "DATABASE_URL": self.url},
            check=True,
            capture_output=True,
            timeout=120,
        )

    def runs(self, command: str) -> list[tuple[Any, ...]]:
        """Return run time, last success and outcome of a command's runs, as it wrote them into its database."""
        query = "SELECT run_time, last_success, outcome FROM crashes_cronrun WHERE command = ? ORDER BY id"
        database = sqlite3.connect(self.database)
        try:
            return database.execute(query, [command]).fetchall()
        finally:
            database.close()

    def apply(self, manifest: Path, annotations: dict[str, str] | None = None) -> str:
        """Create one of the jobs in jobs/."""
        body: Body = yaml.safe_load(manifest.read_text(encoding="utf-8"))
        body["metadata"]["annotations"] = {PREFIX + key: value for key, value in (annotations or {}).items()}
        self._bed.create("crontabberjobs", body)
        return str(body["metadata"]["name"])


def test_hourly_job_of_the_web_app_catches_up_on_its_database(bed: Testbed) -> None:
    """Three missed hours in order, the second one failing once; the command sees its hour and the last success."""
    app = WebApp(bed)
    newest = now().replace(minute=0, second=0)
    hours = [newest - timedelta(hours=back) for back in (3, 2, 1, 0)]
    app.manage("breakslot", "updatesignatures", short(hours[2]))
    job = app.apply(ROOT / "jobs" / "updatesignatures.yaml", {"mark-success": written(hours[0])})
    status = bed.wait_status(job, errorCount=1)
    assert status["lastError"]["type"] == "OperationalError"
    assert 'File "' in status["lastError"]["traceback"]
    assert status["settledThrough"] == written(hours[1])
    bed.wait(lambda: bed.status(job)["settledThrough"] >= written(newest), "all missed hours ran")
    runs = app.runs("updatesignatures")[:4]
    told = [(hours[1], hours[0]), (hours[2], hours[1]), (hours[2], hours[1]), (hours[3], hours[2])]
    assert [(run_time[:16], last_success[:16]) for run_time, last_success, _ in runs] == [
        (short(run_time).replace("T", " "), short(last_success).replace("T", " "))
        for run_time, last_success in told
    ]
    assert [outcome for _, _, outcome in runs] == ["succeeded", "failed", "succeeded", "succeeded"]


def test_all_jobs_of_the_web_app_are_accepted_and_run(bed: Testbed) -> None:
    """Each manifest in jobs/ is scheduled as it is, and its command works in the web app's pod."""
    app = WebApp(bed)
    jobs = [app.apply(manifest) for manifest in JOBS]
    for job in jobs:
        bed.wait_ready(job)
    for job in jobs:
        bed.annotate(job, run_now="")
    for job in jobs:
        wait_succeeded(bed, job)


def test_the_settings_say_how_a_job_runs_that_does_not_say_it(own: OwnOperators) -> None:
    """Workload, container and what comes before the command; a job that names its own is left alone."""
    bed = own.bed
    own.start(
        environment={
            "CRONTABBER_WEBAPP": "deployment/site",
            "CRONTABBER_WEBAPP_CONTAINER": "django",
            "CRONTABBER_MANAGE_PY": "python -u 'manage.py'",
        }
    )
    evidence = {"name": "EVIDENCE", "value": str(bed.evidence_file("job"))}
    containers: list[Body] = [
        {"name": "proxy", "image": "app"},
        {"name": "django", "image": "app", "env": [evidence]},
    ]
    for name in ("site", "other"):
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
        bed.create("deployments", {"metadata": {"name": name}, "spec": spec})
    bed.job("job", template=None, annotations={"run-now": ""})
    bed.job("own", template=None, webapp={"name": "other"}, managePy=[])
    wait_succeeded(bed, "job")
    (run,) = bed.runs("job")
    assert run.argv == ("record",)
    (container,) = bed.objects("pods", "job")[0]["spec"]["containers"]
    assert (container["name"], container["command"]) == ("django", ["python", "-u", "manage.py"])
    bed.wait_ready("own")
    pod = bed.get("cronjobs", "own")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [(one["name"], one.get("command")) for one in pod["containers"]] == [("proxy", None)]


def wait_succeeded(bed: Testbed, job: str) -> None:
    """Wait until the only pod of a job that was made by hand has succeeded; a slot may fall due beside."""

    def holds() -> bool:
        pods = [pod for pod in bed.objects("pods", job) if pod["metadata"]["name"].startswith(f"{job}-run-")]
        return [pod["status"].get("phase") for pod in pods] == ["Succeeded"]

    bed.wait(holds, f"{job} ran once by hand")
