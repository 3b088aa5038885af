"""What the pod of `helm test` runs: wait until the release's operator has run the test's job, and say how it ended.

Standard library only, in the operator's image. It changes nothing. Arguments: the namespace and the name of the
CrontabberJob, and after how many seconds to give up.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL_SECONDS = 1.0


def get(path: str) -> dict[str, Any]:
    """Ask the API server, as the pod's service account. Raises OSError."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    request = urllib.request.Request(
        url, headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text(encoding='utf-8')}"}
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=context) as response:  # noqa: S310 - as above
        answer: dict[str, Any] = json.load(response)
    return answer


def ending(job: dict[str, Any]) -> str | None:
    """Return `Complete` or `Failed` once the Job has ended."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return next(
        (
            one["type"]
            for one in conditions
            if one["type"] in ("Complete", "Failed") and one["status"] == "True"
        ),
        None,
    )


def main(namespace: str, name: str, timeout_seconds: float) -> int:
    """Wait for the run; 0 where it succeeded."""
    selector = urllib.parse.quote(f"crontabber.dev/job={name}")
    jobs_path = f"/apis/batch/v1/namespaces/{namespace}/jobs?labelSelector={selector}"
    deadline = time.monotonic() + timeout_seconds
    seen = "no answer from the API server"
    while time.monotonic() < deadline:
        try:
            jobs = get(jobs_path)["items"]
        except OSError as error:
            seen = f"the API server: {error}"
        else:
            seen = "the operator made no Job for the annotation run-now: is it up, and does it serve this namespace?"
            for job in jobs:
                if "crontabber.dev/run-now" not in (job["metadata"].get("annotations") or {}):
                    continue
                seen, ended = f"Job {job['metadata']['name']} did not end", ending(job)
                if ended is not None:
                    print(f"Job {job['metadata']['name']}: {ended}")  # noqa: T201 - the pod's log
                    return 0 if ended == "Complete" else 1
        time.sleep(POLL_SECONDS)
    print(f"gave up after {timeout_seconds:g} s: {seen}")  # noqa: T201 - as above
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
