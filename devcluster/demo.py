"""`make demo`: the main job on a real Kubernetes, from one command.

Starts a cluster, the operator and a web app, applies the jobs, lets several hourly slots be missed, and shows
them being caught up in order: one run fails, is tried again, and holds the later slots back meanwhile.
The cluster stays up afterwards. It uses nothing that a user of any cluster wouldn't: kubectl and the API.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from devcluster import AlreadyUpError, Cluster, ClusterError, LocalImage
from devcluster.build import BuildError, path_of
from devcluster.images import ImageError

ROOT = Path(__file__).resolve().parent.parent
NAME = "demo"
MISSED = 6
"""So many hourly slots are missed."""
BROKEN = 3
"""This one of them fails once."""
TIMEOUT_SECONDS = 180.0
OWN_JOB = "demo"


class DemoError(Exception):
    """The demo can't go on; the message says why and how to mend it."""


@dataclass(frozen=True, slots=True)
class Project:
    """The Django project that is shown."""

    directory: Path
    python: Path
    command: str
    jobs: Path | None
    is_sample: bool

    @property
    def shown_job(self) -> str:
        """The CrontabberJob that is watched while it catches up."""
        return "updatesignatures" if self.is_sample else OWN_JOB


def main(arguments: list[str] | None = None) -> int:
    """Run the demo, or take it down."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.demo", description=__doc__)
    parser.add_argument("--down", action="store_true", help="remove the demo's cluster")
    parser.add_argument("--webapp", metavar="DIR", default="", help="a Django project of your own")
    parser.add_argument("--python", metavar="FILE", default="", help="its Python, with its dependencies")
    parser.add_argument("--command", default="", help="the management command to show with it (check)")
    parser.add_argument("--jobs", metavar="DIR", default="", help="CrontabberJob manifests to apply with it")
    given = parser.parse_args(arguments)
    try:
        if given.down:
            return _down()
        _demo(_project(given))
    except (DemoError, ClusterError, BuildError, ImageError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; `make demo-down` removes what is left", file=sys.stderr)
        return 130
    return 0


def _project(given: argparse.Namespace) -> Project:
    if not given.webapp:
        return Project(ROOT / "webapp", Path(sys.executable), "", ROOT / "jobs", is_sample=True)
    directory = Path(given.webapp).expanduser().absolute()
    if not (directory / "manage.py").is_file():
        raise DemoError(f"WEBAPP={given.webapp}: there is no manage.py in it; give the folder that has one")
    python = Path(given.python).expanduser().absolute() if given.python else Path(sys.executable)
    if not os.access(python, os.X_OK):
        raise DemoError(f"PYTHON={given.python}: is not a program; give the Python of the project's venv")
    jobs = Path(given.jobs).expanduser().absolute() if given.jobs else None
    return Project(directory, python, given.command or "check", jobs, is_sample=False)


def _down() -> int:
    with contextlib.suppress(ClusterError):
        Cluster.attach(NAME).stop()
        print("The demo's cluster is removed.")
        return 0
    print("There is no demo to remove.")
    return 0


def _demo(project: Project) -> None:
    started = time.monotonic()
    with _step("Starting a Kubernetes control plane and a node"):
        cluster = _start(project)
    with _step("Installing the resource: kubectl apply -f crds/"):
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        _wait("the API server to serve it", lambda: _serves_jobs(cluster), lambda: "")
    with _step("Starting the operator: a Deployment, as in any cluster"):
        cluster.kubectl("apply", "-f", "-", stdin=_operator(cluster))
        _roll_out(cluster, "crontabber")
    port = _free_port()
    with _step("Starting the web app: Deployment webapp"):
        environment = _prepare_webapp(cluster, project, port)
        _roll_out(cluster, "webapp")
    if project.is_sample:
        print(f"  its page:  http://127.0.0.1:{port}/")
    with _step("Applying the jobs"):
        _apply_jobs(cluster, project)
        _wait(
            "every job to be scheduled",
            lambda: all(_condition(one, "Ready") for one in _jobs(cluster)),
            lambda: cluster.kubectl("get", "crontabberjobs", "-o", "wide"),
        )
    print(_indented(cluster.kubectl("get", "crontabberjobs")))
    _miss_slots(cluster, project, environment)
    _follow(cluster, project)
    print("\n$ kubectl get crontabberjobs")
    print(_indented(cluster.kubectl("get", "crontabberjobs")))
    print(f"\nThat took {time.monotonic() - started:.0f} s. The cluster is up. What to try next:\n")
    print(_next_commands(cluster, project, port))


# --- What is started ------------------------------------------------------------------------------------


def _start(project: Project) -> Cluster:
    images = {
        "webapp": LocalImage.of(project.directory, project.python),
        "crontabber": LocalImage.of(ROOT, Path(sys.executable)),
    }
    try:
        return Cluster.start(NAME, images=images, keep=True)
    except AlreadyUpError:
        Cluster.attach(NAME).stop()
        return Cluster.start(NAME, images=images, keep=True)


def _operator(cluster: Cluster) -> str:
    """The operator's Deployment. It logs in by a kubeconfig: on this node a pod is a process."""
    container = {
        "name": "crontabber",
        "image": "crontabber",
        "command": ["crontabber", "operator", "--health", "off"],
        "env": [{"name": "KUBECONFIG", "value": str(cluster.kubeconfig)}],
    }
    return _deployment("crontabber", container, automountServiceAccountToken=False)


def _prepare_webapp(cluster: Cluster, project: Project, port: int) -> dict[str, str]:
    """Make the web app's Secret and Deployment; return the environment that its commands need."""
    if not project.is_sample:
        environment = dict(os.environ)
        container = {
            "name": "webapp",
            "image": "webapp",
            "command": ["python", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
        }
        cluster.kubectl("apply", "-f", "-", stdin=_deployment("webapp", container))
        return environment
    settings = {
        "DATABASE_URL": f"sqlite:///{cluster.state_dir / 'webapp.sqlite3'}",
        "SECRET_KEY": "only-for-the-demo",
    }
    environment = {**os.environ, **settings}
    _manage(project, environment, "migrate", "--verbosity", "0")
    _manage(project, environment, "seed", "--crashes", "2000")
    literals = [f"--from-literal={key}={value}" for key, value in settings.items()]
    cluster.kubectl("create", "secret", "generic", "webapp", *literals)
    cluster.kubectl("apply", "-f", str(ROOT / "webapp/k8s/configmap.yaml"))
    manifest = (ROOT / "webapp/k8s/deployment.yaml").read_text(encoding="utf-8").replace("8000", str(port))
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    return environment


def _apply_jobs(cluster: Cluster, project: Project) -> None:
    if project.jobs is not None:
        cluster.kubectl("apply", "-f", str(project.jobs))
    if not project.is_sample:
        job = {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": {"name": OWN_JOB},
            # The command need not know of slots: the run time is in the environment only.
            "spec": {"command": project.command, "frequency": "1h", "backfill": True, "runTimeArgument": ""},
        }
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(job))


# --- What is shown --------------------------------------------------------------------------------------


def _miss_slots(cluster: Cluster, project: Project, environment: dict[str, str]) -> None:
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    last_success = newest - timedelta(hours=MISSED)
    job = project.shown_job
    if project.is_sample:
        broken = f"{last_success + timedelta(hours=BROKEN):%Y-%m-%dT%H:%M}"
        print(f"\nThe database will be away once, in the run of slot {broken}:")
        print(f"$ python manage.py breakslot {job} {broken} --times 1")
        _manage(project, environment, "breakslot", job, broken, "--times", "1")
    value = f"{last_success:%Y-%m-%dT%H:%M:%SZ}"
    print(f"\nSay that {job} last succeeded {MISSED} hours ago, so that {MISSED} of its slots are missed:")
    print(f"$ kubectl annotate ctj {job} crontabber.dev/mark-success={value}\n")
    cluster.kubectl("annotate", "crontabberjob", job, f"crontabber.dev/mark-success={value}")


def _follow(cluster: Cluster, project: Project) -> None:
    """Show each run as it is recorded, until nothing is missed."""
    shown: set[str] = set()
    waiting = ""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    since = datetime.now(UTC) - timedelta(seconds=5)
    with _watch(cluster, project.shown_job) as states:
        for state in states:
            status = state.get("status") or {}
            for entry in reversed(status.get("history") or []):
                if entry["job"] in shown or entry.get("finished", "") < f"{since:%Y-%m-%dT%H:%M:%SZ}":
                    continue
                shown.add(entry["job"])
                told = f": {entry['message']}" if entry.get("message") else ""
                print(f"  slot {entry['slot']}  attempt {entry['attempt']}  {entry['result']}{told}")
            behind = _find_condition(state, "CaughtUp") or {}
            if behind.get("reason") == "Retrying" and behind["message"] != waiting:
                waiting = behind["message"]
                print(f"  … later slots are held back: {waiting}\n\n$ kubectl get crontabberjobs")
                print(f"{_indented(cluster.kubectl('get', 'crontabberjobs'))}\n")
            if shown and status.get("missed") == 0:
                newest = status["history"][0]["job"]
                print(f"\nWhat the newest of them printed:\n$ kubectl logs job/{newest}")
                print(_indented(cluster.kubectl("logs", f"job/{newest}", "--tail=8")))
                return
            if time.monotonic() > deadline:
                break
    raise DemoError(
        f"{project.shown_job} did not catch up within {TIMEOUT_SECONDS:.0f} s.\n"
        + cluster.kubectl("describe", "crontabberjob", project.shown_job)
        + cluster.kubectl("logs", "deployment/crontabber", "--tail=20")
    )


def _next_commands(cluster: Cluster, project: Project, port: int) -> str:
    job = project.shown_job
    yesterday = f"{datetime.now(UTC) - timedelta(hours=24):%Y-%m-%dT%H:00:00Z}"
    lines = [
        f"  export KUBECONFIG={cluster.kubeconfig}",
        f"  alias kubectl={path_of('kubectl')}",
        "  kubectl get crontabberjobs -o wide",
        f"  kubectl describe ctj {job}",
        f"  kubectl annotate ctj {job} crontabber.dev/run-now=",
        f"  kubectl annotate ctj {job} crontabber.dev/mark-success={yesterday}     # a day again",
        f"  kubectl annotate ctj {job} crontabber.dev/reset=",
        "  kubectl logs deployment/crontabber -f",
        "  make demo-down",
    ]
    if project.is_sample:
        lines.insert(2, f"  open http://127.0.0.1:{port}/     # the web app: what each run was told and did")
    return "\n".join(lines)


# --- How ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    print(f"• {what} …", flush=True)
    started = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - started:.1f} s", flush=True)


def _deployment(name: str, container: dict[str, Any], **pod: object) -> str:
    labels = {"app.kubernetes.io/name": name}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {**pod, "containers": [container]}},
            },
        }
    )


def _roll_out(cluster: Cluster, name: str) -> None:
    try:
        cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=90s", timeout_seconds=120)
    except ClusterError as error:
        pods = cluster.kubectl("get", "pods", "-l", f"app.kubernetes.io/name={name}")
        logs = ""
        with contextlib.suppress(ClusterError):
            logs = cluster.kubectl("logs", f"deployment/{name}", "--all-containers", "--tail=30")
        raise DemoError(f"Deployment {name} did not come up: {error}\n{pods}\n{logs}") from error


def _manage(project: Project, environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [str(project.python), "manage.py", *arguments],
        cwd=project.directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"`manage.py {' '.join(arguments)}` failed:\n{done.stderr[-2000:]}")


def _jobs(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", "crontabberjobs", "-o", "json"))["items"]
    return found


def _serves_jobs(cluster: Cluster) -> bool:
    try:
        _jobs(cluster)
    except ClusterError:
        return False
    return True


def _find_condition(resource: dict[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = (resource.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), None)


def _condition(resource: dict[str, Any], kind: str) -> bool:
    return (_find_condition(resource, kind) or {}).get("status") == "True"


def _wait(what: str, holds: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise DemoError(f"waited {TIMEOUT_SECONDS:.0f} s for {what}:\n{explain()}")
        time.sleep(0.2)


@contextlib.contextmanager
def _watch(cluster: Cluster, job: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Watch a CrontabberJob: each of its states, for at most the demo's time."""
    # Of a list: of one object by its name, kubectl leaves out what changed between its reading and its watch.
    only = f"--field-selector=metadata.name={job}"
    command = [str(path_of("kubectl")), "get", "crontabberjobs", only, "--watch", "-o", "json"]
    command.append(f"--request-timeout={TIMEOUT_SECONDS:.0f}s")
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _objects(process)
        finally:
            process.terminate()


def _objects(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Read the concatenated JSON objects that a watching kubectl prints: each ends with a lone brace."""
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if line.rstrip("\n") == "}":
            yield json.loads("".join(lines))
            lines.clear()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
