"""What all measurements stand on: a cluster, an operator, many objects at once, and who watches the Jobs.

Times are taken where a watch shows them, by one clock: what lies between two of them is what a user sees.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from devcluster import Cluster, LocalImage
from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import apply_crd
from tests.integration.testbed import Api

Body = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 12
POLL_SECONDS = 0.2
CALM_SECONDS = 0.6
READS = ("get", "list", "watch")
SAMPLES_A_SECOND = 50
PROFILER_ENDS_WITHIN_SECONDS = 60
PREFIX = "crontabber.dev/"


@dataclass
class Seen:
    """When a watch showed what of a Job, by the wall clock."""

    made: float
    released: float | None = None
    finished: float | None = None
    slot: str = ""
    job: str = ""


class JobWatch:
    """Watches the Jobs of a namespace in a thread of its own."""

    def __init__(self, api: Api, namespace: str) -> None:
        """Begin; returns when the watch is open."""
        self.jobs: dict[str, Seen] = {}
        self._api = api
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        version = api.request("GET", f"{self._path}?limit=1")["metadata"]["resourceVersion"]
        self._response = api.stream(f"{self._path}?watch=true&resourceVersion={version}")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rest = b""
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            for chunk in self._response.stream(65536, decode_content=True):
                now = time.time()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._take(event["object"], now)

    def _take(self, body: Body, now: float) -> None:
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        seen = self.jobs.setdefault(metadata["name"], Seen(now))
        annotations = metadata.get("annotations") or {}
        seen.slot = annotations.get(f"{PREFIX}slot") or seen.slot
        seen.job = (metadata.get("labels") or {}).get(f"{PREFIX}job", "")
        if not spec.get("suspend"):
            seen.released = seen.released or now
        if any(one["type"] == "Complete" for one in status.get("conditions") or ()):
            seen.finished = seen.finished or now

    def close(self) -> None:
        """End."""
        self._response.shutdown()  # close() would wait for the thread, which waits for the next event


@dataclass
class Stand:
    """A cluster with its operators."""

    cluster: Cluster
    api: Api
    folder: Path
    is_profiled: bool = False
    operators: list[OperatorProcess] = field(default_factory=list)
    profilers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_operator(self, **environment: str) -> OperatorProcess:
        """Start an operator for all namespaces; its modules are compiled once, as in its image."""
        log = self.folder / f"operator-{len(self.operators) + 1}.log"
        environment.setdefault("PYTHONDONTWRITEBYTECODE", "")
        operator = OperatorProcess.start(
            self.cluster.kubeconfig, log, namespaces=["bench-*"], environment=environment
        )
        self.operators.append(operator)
        if self.is_profiled:
            self.profilers.append(_profiler(operator.pid, self.folder / f"{log.stem}.folded"))
        return operator

    def namespace(self, name: str) -> str:
        """Make a namespace."""
        made = f"bench-{name}"
        self.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": made}})
        self.wait(
            lambda: self.exists(f"/api/v1/namespaces/{made}/serviceaccounts/default"),
            "the namespace is ready",
        )
        return made

    def exists(self, path: str) -> bool:
        """Tell whether there is an object."""
        try:
            self.api.request("GET", path)
        except Exception as error:
            if getattr(error, "status", None) == 404:
                return False
            raise
        return True

    def create(self, path: str, bodies: Iterable[Body]) -> float:
        """Create objects, many at once; return the seconds that it took."""
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda body: self.api.request("POST", path, body), bodies):
                pass
        return time.monotonic() - began

    def patch(self, paths: Iterable[str], patch: Body) -> None:
        """Change objects, many at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(
                lambda path: self.api.request("PATCH", path, patch, "application/merge-patch+json"), paths
            ):
                pass

    def resources(self, namespace: str) -> list[Body]:
        """List the CrontabberJobs of a namespace."""
        found: list[Body] = []
        following = ""
        while True:
            page = self.api.request("GET", f"{resources_path(namespace)}?limit=500&continue={following}")
            found += page["items"]
            following = page["metadata"].get("continue") or ""
            if not following:
                return found

    def wait(
        self,
        holds: Callable[[], object],
        what: str,
        timeout_seconds: float = 900,
        every_seconds: float = POLL_SECONDS,
    ) -> float:
        """Wait until something holds, which is asked so often; return the seconds that it took."""
        began = time.monotonic()
        while not holds():
            waited = time.monotonic() - began
            if waited > timeout_seconds or any(not one.runs for one in self.operators[-1:]):
                log = self.operators[-1].log_tail() if self.operators else ""
                raise TimeoutError(f"waited {waited:.0f} s in vain until {what}\n{log}")
            time.sleep(every_seconds)
        return time.monotonic() - began

    def calm(self) -> None:
        """Wait until nobody has written anything for a moment, Leases aside."""
        since = time.monotonic()
        with self.cluster.audit_log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            while time.monotonic() - since < CALM_SECONDS:
                if sum(map(_is_write, file)):
                    since = time.monotonic()
                time.sleep(POLL_SECONDS)

    def writes(self, position: int, namespace: str) -> tuple[list[str], int]:
        """List the operator's writes since a position of the audit log, Events aside; and the position now."""
        found = []
        with self.cluster.audit_log.open("rb") as file:
            file.seek(position)
            for line in file:
                if (
                    b'"userAgent":"crontabber"' not in line
                    or f'"namespace":"{namespace}"'.encode() not in line
                ):
                    continue
                entry = json.loads(line)
                what = entry["objectRef"]
                if entry["verb"] not in READS and what["resource"] != "events":
                    found.append(f"{entry['verb']} {what['resource']}{'/' * ('subresource' in what)}")
            return found, file.tell()


def _is_write(line: bytes) -> bool:
    if b'"resource":"leases"' in line:
        return False
    return not any(f'"verb":"{verb}"'.encode() in line for verb in READS)


def resources_path(namespace: str) -> str:
    """Return where the CrontabberJobs of a namespace are."""
    return f"/apis/crontabber.dev/v1/namespaces/{namespace}/crontabberjobs"


def resource(name: str, **spec: Any) -> Body:
    """Build a CrontabberJob; annotations of crontabber's own by `annotations`, its pods' by `pod_annotations`."""
    annotations = spec.pop("annotations", {})
    template = {
        "metadata": {"annotations": spec.pop("pod_annotations", {})},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }
    return {
        "apiVersion": "crontabber.dev/v1",
        "kind": "CrontabberJob",
        "metadata": {
            "name": name,
            "annotations": {PREFIX + key: value for key, value in annotations.items()},
        },
        "spec": {"command": "work", "template": template, **spec},
    }


def _profiler(pid: int, folded: Path) -> subprocess.Popen[bytes]:
    """Sample the stacks of a process into a file, until it ends."""
    program = Path(sys.executable).with_name("py-spy")
    flags = ("--pid", str(pid), "--format", "raw", "--function", "--rate", str(SAMPLES_A_SECOND))
    return subprocess.Popen(
        [program, "record", *flags, "--duration", "unlimited", "--output", folded],
        stdout=subprocess.DEVNULL,
        stderr=folded.with_suffix(".err").open("wb"),
    )


@contextlib.contextmanager
def standing(
    kind: str, folder: Path, images: dict[str, LocalImage] | None = None, *, is_profiled: bool = False
) -> Iterator[Stand]:
    """Start a cluster with this kind of node; ends it and the operators, whose stacks may be sampled."""
    folder.mkdir(parents=True, exist_ok=True)
    with Cluster.start(f"bench-{os.getpid()}-{kind}", node=kind, images=images or {}, audit=True) as cluster:
        apply_crd(cluster)
        stand = Stand(cluster, Api(cluster.kubeconfig), folder, is_profiled)
        try:
            yield stand
        finally:
            for operator in stand.operators:
                operator.kill()
            for profiler in stand.profilers:
                profiler.wait(PROFILER_ENDS_WITHIN_SECONDS)
