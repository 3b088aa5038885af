"""Records every version of every object, straight from etcd: no API server, no watch cache, nothing left out.

The API server must store JSON (`API_SERVER_FLAGS`). It is followed while the run goes on, because the API
server has etcd forget what is five minutes old.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import urllib3

from devcluster import Cluster
from devcluster.components import Layout
from tests.chaos.evidence import Version, write_version

API_SERVER_FLAGS = ("--storage-media-type=application/json",)
PREFIXES = {
    "crontabberjobs": "/registry/crontabber.dev/crontabberjobs/",
    "cronjobs": "/registry/cronjobs/",
    "jobs": "/registry/jobs/",
}
ALL = "/registry/"
SENTINEL = f"{ALL}chaos-looks"
PAUSE_SECONDS = 0.5
READ_SECONDS = 5.0
CHUNK_BYTES = 1 << 20


class Recorder:
    """Follows etcd in a thread. Use as a context manager."""

    def __init__(self, cluster: Cluster) -> None:
        """Find etcd, and what it lets in."""
        keys = Layout(cluster.state_dir).keys
        self._url = f"https://127.0.0.1:{cluster.ports.etcd}/v3"
        self._pool = urllib3.PoolManager(
            ca_certs=str(keys.authority),
            cert_file=str(keys.client),
            key_file=str(keys.client_key),
            retries=False,
        )
        self._versions: list[Version] = []
        self._seen = 0
        self._more = threading.Condition()
        self._stopped = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop following."""
        self._stopped = True
        self._thread.join()

    def versions(self) -> list[Version]:
        """Return all versions up to now, in their order. Raises RuntimeError where something is missing."""
        put = self._post("kv/put", {"key": _encoded(SENTINEL), "value": ""}, timeout=30).json()
        until = int(put["header"]["revision"])
        with self._more:
            self._more.wait_for(lambda: self._seen >= until or self._problem is not None)
            if self._problem is not None:
                raise RuntimeError(self._problem)
            return list(self._versions)

    def _post(self, path: str, body: object, **options: Any) -> urllib3.BaseHTTPResponse:
        return self._pool.request("POST", f"{self._url}/{path}", body=json.dumps(body), **options)

    def _follow(self) -> None:
        while not self._stopped and self._problem is None:
            with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
                self._watch()
            time.sleep(PAUSE_SECONDS)

    def _watch(self) -> None:
        request = {
            "key": _encoded(ALL),
            "range_end": _encoded(ALL[:-1] + chr(ord(ALL[-1]) + 1)),
            "start_revision": self._seen + 1,
            "prev_kv": True,
        }
        timeout = urllib3.Timeout(connect=READ_SECONDS, read=READ_SECONDS)
        response = self._post("watch", {"create_request": request}, preload_content=False, timeout=timeout)
        try:
            rest = b""
            for chunk in response.stream(CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    self._take(json.loads(line))
                if self._stopped or self._problem is not None:
                    return
        finally:
            response.close()

    def _take(self, answer: dict[str, Any]) -> None:
        result = answer.get("result") or {}
        if int(result.get("compact_revision") or 0) > self._seen + 1:
            self._problem = f"etcd forgot what was after revision {self._seen}"
        with self._more:
            for event in result.get("events") or []:
                key = base64.b64decode(event["kv"]["key"]).decode()
                kind = next((kind for kind, prefix in PREFIXES.items() if key.startswith(prefix)), None)
                if kind is not None:
                    self._versions.append(_version(kind, event))
                self._seen = int(event["kv"]["mod_revision"])
            self._more.notify_all()


def write(path: Path, versions: Iterable[Version]) -> None:
    """Write versions into a file, for `evidence.read`."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(write_version(version) + "\n" for version in versions)


def _version(kind: str, event: dict[str, Any]) -> Version:
    deleted = event.get("type") == "DELETE"
    stored = event["prev_kv"] if deleted else event["kv"]
    return Version(
        revision=int(event["kv"]["mod_revision"]),
        kind=kind,
        body=json.loads(base64.b64decode(stored["value"])),
        deleted=deleted,
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
