"""What the operator's tests stand on: a namespace, its CrontabberJobs, and what became of them.

`Api` speaks with the API server; `Testbed` is one namespace, with the commands' evidence. Nothing here knows
how the operator works.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import urllib3
import yaml

from tests.integration.operator_process import Operator

Body = dict[str, Any]
T = TypeVar("T")

TIMEOUT_SECONDS = 120.0
"""Far more than anything here takes on a free machine."""
FIRST_POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 0.4
PREFIX = "crontabber.dev/"
PATHS = {
    "crontabberjobs": "/apis/crontabber.dev/v1",
    "cronjobs": "/apis/batch/v1",
    "jobs": "/apis/batch/v1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "serviceaccounts": "/api/v1",
    "resourcequotas": "/api/v1",
    "configmaps": "/api/v1",
    "limitranges": "/api/v1",
    "secrets": "/api/v1",
    "leases": "/apis/coordination.k8s.io/v1",
}
OURS = ("devcluster-", "kind-crontabber-e2e")
"""How the contexts of clusters begin that tests may touch."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class ForeignClusterError(Exception):
    """The kubeconfig leads to a cluster that isn't a devcluster: no test may touch it."""


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status."""
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Requests to a devcluster's API server, as its administrator."""

    def __init__(self, kubeconfig: Path) -> None:
        """Log in. Raises ForeignClusterError for any cluster but a devcluster, or what `make kind-up` made."""
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        if not str(config.get("current-context", "")).startswith(OURS):
            message = f"{kubeconfig}: the context {config.get('current-context')!r} is no devcluster's"
            raise ForeignClusterError(message)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        self._pool = urllib3.PoolManager(ssl_context=context, retries=False, maxsize=16)
        self._server = cluster["server"]
        self._headers = {"Authorization": f"Bearer {user['token']}", "User-Agent": "tests"}

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Body:
        """Make one request. Raises ApiError."""
        response = self._pool.request(
            method,
            self._server + path,
            body=None if body is None else json.dumps(body),
            headers={**self._headers, "Content-Type": content_type},
            timeout=30,
        )
        if response.status >= 300:
            raise ApiError(response.status, response.data.decode(errors="replace"))
        answer: Body = json.loads(response.data)
        return answer

    def stream(self, path: str) -> urllib3.BaseHTTPResponse:
        """Open a watch. The caller closes it."""
        return self._pool.request(
            "GET", self._server + path, headers=self._headers, preload_content=False, timeout=None
        )


def _decoded(data: str) -> str:
    import base64  # noqa: PLC0415

    return base64.b64decode(data).decode()


@dataclass(frozen=True)
class CommandRun:
    """One run of the command, as it told itself."""

    id: str
    pid: int
    argv: tuple[str, ...]
    run_time: str | None
    last_success: str | None
    version: str | None
    started: float
    ended: float | None = None
    outcome: str | None = None
    """`good`, `failed`, `terminated`; None: it runs, or was killed."""
    overlapped: bool = False
    """Another run of the same resource was going on."""


@dataclass(frozen=True)
class Request:
    """One request of an operator's own (what kopf watches is not counted)."""

    verb: str
    resource: str
    subresource: str
    name: str
    code: int

    @property
    def is_write(self) -> bool:
        """Whether it asks for a change."""
        return self.verb not in ("get", "list", "watch")


class Requests:
    """What operators ask of the API server in one namespace, from the audit log, from now on."""

    def __init__(self, audit_log: Path, namespace: str) -> None:
        """Start to listen."""
        self._file = audit_log.open(encoding="utf-8")
        self._file.seek(0, 2)
        self._namespace = f'"namespace":"{namespace}"'
        self._known: list[Request] = []
        self._rest = ""

    def all(self) -> list[Request]:
        """Return all so far, in the order that they were answered."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            if '"userAgent":"crontabber"' in line and self._namespace in line:
                entry = json.loads(line)
                what = entry["objectRef"]
                self._known.append(
                    Request(
                        entry["verb"],
                        what["resource"],
                        what.get("subresource", ""),
                        what.get("name", ""),
                        entry["responseStatus"]["code"],
                    )
                )
        return self._known

    def writes(self) -> list[Request]:
        """Return the writes so far, Events aside."""
        return [one for one in self.all() if one.is_write and one.resource != "events"]


class Testbed:
    """One namespace of its own, with evidence files for the commands of its resources."""

    __test__ = False

    short_deadline_seconds = 5
    """A deadline that a hanging run soon passes, and a good one does not: not on a loaded machine, either."""

    def __init__(
        self, api: Api, namespace: str, folder: Path, operators: Callable[[], Sequence[Operator]]
    ) -> None:
        """Make the namespace, and return when pods can run in it."""
        self.api = api
        self.namespace = namespace
        self.folder = folder
        self._operators = operators
        self.needs: Operator | None = None
        """Without this operator nothing is worth waiting for."""
        # Every hour, half an hour from now: no slot falls due while a test runs.
        self._far = (now() + timedelta(minutes=30)).replace(second=0)
        self.schedule = f"{self._far.minute} * * * *"
        api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        self.wait(lambda: self.find("serviceaccounts", "default"), "the service account exists")

    def remove(self) -> None:
        """Delete the namespace, where a test has not done so; it goes in the background."""
        try:
            self.api.request("DELETE", f"/api/v1/namespaces/{self.namespace}")
        except ApiError as error:
            if error.status != 404:
                raise

    # --- Objects -----------------------------------------------------------------------------------------

    def path(self, plural: str, name: str = "", subresource: str = "") -> str:
        """Return the path of an object of the namespace."""
        parts = [f"{PATHS[plural]}/namespaces/{self.namespace}/{plural}", name, subresource]
        return "/".join(part for part in parts if part)

    def get(self, plural: str, name: str) -> Body:
        """Read an object."""
        return self.api.request("GET", self.path(plural, name))

    def find(self, plural: str, name: str) -> Body | None:
        """Read an object, None where there is none."""
        try:
            return self.get(plural, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def objects(self, plural: str, job: str | None = None) -> list[Body]:
        """List objects, oldest first; those of one CrontabberJob."""
        items: list[Body] = self.api.request("GET", self.path(plural)).get("items") or []
        found = [one for one in items if job is None or _belongs(one, job)]
        return sorted(found, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))

    def create(self, plural: str, manifest: Body) -> Body:
        """Create an object."""
        return self.api.request("POST", self.path(plural), manifest)

    def patch(
        self, plural: str, name: str, patch: object, *, subresource: str = "", kind: str = MERGE_PATCH
    ) -> Body:
        """Change an object by a merge patch (or another kind)."""
        return self.api.request("PATCH", self.path(plural, name, subresource), patch, kind)

    def delete(self, plural: str, name: str, *, policy: str = "Background") -> None:
        """Delete an object."""
        self.api.request("DELETE", self.path(plural, name), {"propagationPolicy": policy})

    def missed_slots(self, count: int) -> list[datetime]:
        """Return the newest slots of `schedule`, oldest first."""
        return [self._far - timedelta(hours=1 + back) for back in reversed(range(count))]

    # --- CrontabberJobs ----------------------------------------------------------------------------------

    def job(
        self,
        name: str,
        *,
        annotations: Mapping[str, str] | None = None,
        env: Mapping[str, str] = {},
        **spec: Any,
    ) -> str:
        """Create a CrontabberJob that runs the tests' command; return its name.

        Without a schedule or frequency: hourly, at a minute that is half an hour away. None removes a field.
        """
        fields: Body = {"command": "record", "template": self.template(name, env), **spec}
        if "frequency" not in fields and "schedule" not in fields:
            fields["schedule"] = self.schedule
        body = {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": {
                "name": name,
                "annotations": {PREFIX + key: value for key, value in (annotations or {}).items()},
            },
            "spec": {key: value for key, value in fields.items() if value is not None},
        }
        self.create("crontabberjobs", body)
        return name

    def template(self, name: str, env: Mapping[str, str] = {}) -> Body:
        """Return a pod template whose container writes evidence for this resource."""
        variables = {"EVIDENCE": str(self.evidence_file(name)), **env}
        container = {
            "name": "app",
            "image": "app",
            "env": [{"name": key, "value": value} for key, value in variables.items()],
        }
        return {"spec": self.pod_spec(container)}

    def pod_spec(self, container: Body) -> Body:
        """Return a pod of this container, which writes its evidence into this bed's folder."""
        return {"containers": [container], "terminationGracePeriodSeconds": 1}

    def change(self, name: str, **spec: Any) -> Body:
        """Change fields of a resource's spec; None removes one."""
        return self.patch("crontabberjobs", name, {"spec": spec})

    def annotate(self, name: str, **annotations: str | None) -> Body:
        """Give commands: `mark_success="now"` sets `crontabber.dev/mark-success: now`."""
        given = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
        return self.patch("crontabberjobs", name, {"metadata": {"annotations": given}})

    def resource(self, name: str) -> Body:
        """Read a CrontabberJob."""
        return self.get("crontabberjobs", name)

    def status(self, name: str) -> Body:
        """Read a CrontabberJob's status."""
        found: Body = self.resource(name).get("status") or {}
        return found

    def condition(self, name: str, kind: str) -> Body:
        """Read a condition of a CrontabberJob; an empty one where it isn't there."""
        conditions: list[Body] = self.status(name).get("conditions") or []
        return next((one for one in conditions if one["type"] == kind), {})

    def events(self, name: str) -> list[Body]:
        """List the Events on a CrontabberJob."""
        return [
            one
            for one in self.objects("events")
            if one["involvedObject"].get("name") == name and one["involvedObject"]["kind"] == "CrontabberJob"
        ]

    def reasons(self, name: str) -> list[str]:
        """List the reasons of the Events on a CrontabberJob."""
        return [one["reason"] for one in self.events(name)]

    # --- Commands ----------------------------------------------------------------------------------------

    def evidence_file(self, name: str) -> Path:
        """Return the file that the commands of a resource write to."""
        return self.folder / f"{name}.jsonl"

    def control(self, name: str, **told: Any) -> None:
        """Tell the commands of a resource how to behave, from now on.

        failures: fail the first so many runs (or: of each run time in a dict); how: `traceback`, `exit`,
        `command-error`; seconds: sleep so long; hold: go on until told otherwise (True, or only of
        this run time); ignore_sigterm;
        bad_versions: fail where the env VERSION is one of these; say: print this before failing. output: see
        `chatter` of the command.
        """
        path = Path(f"{self.evidence_file(name)}.control")
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(path)

    def runs(self, name: str) -> list[CommandRun]:
        """Return the runs of a resource's command, in the order of their starts."""
        try:
            text = self.evidence_file(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        *lines, _ = text.split("\n")  # behind the last one another may be just being written
        runs: dict[str, CommandRun] = {}
        for entry in map(json.loads, lines):
            if entry["event"] == "start":
                runs[entry["id"]] = CommandRun(
                    id=entry["id"],
                    pid=entry["pid"],
                    argv=tuple(entry["argv"]),
                    run_time=entry["run_time"],
                    last_success=entry["last_success"],
                    version=entry["version"],
                    started=entry["at"],
                )
            elif entry["event"] == "end":
                runs[entry["id"]] = dataclasses.replace(
                    runs[entry["id"]], ended=entry["at"], outcome=entry["outcome"]
                )
            else:
                runs[entry["id"]] = dataclasses.replace(runs[entry["id"]], overlapped=True)
        return list(runs.values())

    def living(self, name: str) -> list[int]:
        """Return the processes of a resource's commands that have not ended."""
        return [run.pid for run in self.runs(name) if _lives(run)]

    def good(self, name: str) -> list[str | None]:
        """Return the run times of the runs that succeeded, in the order of their starts."""
        return [run.run_time for run in self.runs(name) if run.outcome == "good"]

    # --- Waiting -----------------------------------------------------------------------------------------

    def wait(self, holds: Callable[[], T | None], what: str, timeout_seconds: float = TIMEOUT_SECONDS) -> T:
        """Return the first true value; fail with all that can be known where it takes too long."""
        deadline = time.monotonic() + timeout_seconds
        pause = FIRST_POLL_SECONDS
        while True:
            found = holds()
            if found:
                return found
            if self.needs is not None and not self.needs.runs:
                message = f"the operator ended while it was waited until {what}\n{self.report()}"
                raise AssertionError(message)
            if time.monotonic() > deadline:
                message = f"waited {timeout_seconds:g} s in vain until {what}\n{self.report()}"
                raise AssertionError(message)
            time.sleep(pause)
            pause = min(1.3 * pause, LONGEST_POLL_SECONDS)

    def wait_status(self, name: str, timeout_seconds: float = TIMEOUT_SECONDS, **expected: Any) -> Body:
        """Wait until fields of a status have these values; return the status."""

        def holds() -> Body | None:
            status = self.status(name)
            return status if all(status.get(key) == value for key, value in expected.items()) else None

        return self.wait(holds, f"the status of {name} has {expected}", timeout_seconds)

    def wait_ready(self, name: str) -> Body:
        """Wait until the resource is accepted and its CronJob exists; return the status."""

        def holds() -> Body | None:
            scheduled = self.condition(name, "Ready").get("status") == "True" and self.find("cronjobs", name)
            return self.status(name) if scheduled else None

        return self.wait(holds, f"{name} is scheduled")

    def wait_running(self, name: str, count: int = 1) -> list[CommandRun]:
        """Wait until the command was started so often and the last one has not ended."""

        def holds() -> list[CommandRun] | None:
            runs = self.runs(name)
            return runs if len(runs) >= count and runs[-1].outcome is None else None

        return self.wait(holds, f"run {count} of {name} is going on")

    def wait_failed(self, name: str, count: int = 1) -> Body:
        """Wait until so many runs failed in a row, or more: the next one may be soon; return the status."""

        def holds() -> Body | None:
            status = self.status(name)
            return status if status.get("errorCount", 0) >= count else None

        return self.wait(holds, f"{count} runs of {name} failed")

    def wait_history(self, name: str, count: int, timeout_seconds: float = TIMEOUT_SECONDS) -> Body:
        """Wait until the history has so many entries; return the status."""

        def holds() -> Body | None:
            status = self.status(name)
            return status if len(status.get("history") or []) == count else None

        return self.wait(holds, f"the history of {name} has {count} entries", timeout_seconds)

    def wait_good(self, name: str, count: int) -> None:
        """Wait until so many runs of the command succeeded, in all."""
        self.wait(lambda: len(self.good(name)) >= count, f"{count} runs of {name} are good")

    def wait_event(self, name: str, reason: str) -> Body:
        """Wait for an Event on a resource; return it."""
        return self.wait(
            lambda: next((one for one in self.events(name) if one["reason"] == reason), None),
            f"an Event {reason} on {name}",
        )

    def report(self) -> str:
        """Describe the namespace and the operators for a person who has only the test's output."""
        parts = []
        for resource in self.objects("crontabberjobs"):
            name = resource["metadata"]["name"]
            parts += [f"--- {name}: spec, annotations and status", _text(_shown(resource))]
            parts += [f"--- {name}: what its commands wrote"]
            parts += [str(run) for run in self.runs(name)]
        for plural in ("cronjobs", "jobs", "pods"):
            parts += [f"--- {plural}", *(_line(one) for one in self.objects(plural))]
        parts += [
            "--- events",
            *(f"{one['reason']}: {one['message'][:300]}" for one in self.objects("events")),
        ]
        for operator in self._operators():
            state = "runs" if operator.runs else "ended"
            parts += [f"--- the operator {operator.log_path.name} {state}; its log ends", operator.log_tail()]
        return "\n".join(parts)


def _lives(run: CommandRun) -> bool:
    """Tell whether a command's process has not ended; later its number is another's."""
    try:
        process = psutil.Process(run.pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < run.started + 10
    except psutil.NoSuchProcess:
        return False


def _belongs(body: Body, job: str) -> bool:
    metadata = body["metadata"]
    return bool((metadata.get("labels") or {}).get(f"{PREFIX}job") == job)


def _shown(resource: Body) -> Body:
    spec = {key: value for key, value in resource["spec"].items() if key != "template"}
    annotations = resource["metadata"].get("annotations")
    return {"spec": spec, "annotations": annotations, "status": resource.get("status")}


def _line(body: Body) -> str:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    shown = {
        key: status[key] for key in ("active", "failed", "succeeded", "phase", "reason") if key in status
    }
    for key in ("lastScheduleTime", "lastSuccessfulTime", "startTime", "completionTime"):
        if key in status:
            shown[key] = status[key]
    annotations = {
        key.removeprefix(PREFIX): value
        for key, value in (body["metadata"].get("annotations") or {}).items()
        if key.startswith((PREFIX, "batch.kubernetes.io"))
    }
    name, created = body["metadata"]["name"], body["metadata"]["creationTimestamp"]
    return f"{name} made {created}, suspend {spec.get('suspend')}, {shown}, {annotations}"


def _text(value: object) -> str:
    return json.dumps(value, indent=1)


# --- Times -----------------------------------------------------------------------------------------------


def now() -> datetime:
    """Return the present time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def written(time_: datetime) -> str:
    """Write a time as RFC 3339, as statuses and annotations have it."""
    return time_.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short(time_: datetime) -> str:
    """Write a time as commands get it by default."""
    return time_.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def before(slots: Sequence[datetime]) -> str:
    """Return a mark-success that makes exactly these slots missed."""
    return written(slots[0] - timedelta(minutes=1))
