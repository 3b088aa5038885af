"""Connect the Reporter (sentry.py) with the operator: what it hears, what it needs of the cluster, its end.

Nothing is decided here, nothing here may hold up the operator's work, and nothing that goes wrong here may reach it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Final

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.listening import Listener, Pods
from crontabber_operator.models import InvalidSpec, Status
from crontabber_operator.observed import Evidence, Job, Run
from crontabber_operator.pod_starts import CannotStart, never_started
from crontabber_operator.sentry import SECRET_NAME, Reporter, SentrySettings
from crontabber_operator.settings import Settings
from crontabber_operator.store import Resource

Body = Mapping[str, Any]

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 2.0
"""So long the operator's end waits for what is still to be sent."""
AGAIN_SECONDS: Final = 10.0
ASKING_MAX: Final = 100
"""Runs whose pods' Events are asked for at once; of more, failures only have a less exact name."""


class Reporting(Listener):
    """The Reporter of one operator, from its start to its end. Make it in the event loop that it is used in."""

    def __init__(
        self, cluster: Cluster, settings: Settings, environment: Mapping[str, str] = os.environ
    ) -> None:
        """Start; from now on also the errors that are logged are told."""
        self._cluster = cluster
        self._reporter = Reporter(
            SentrySettings.read(environment, crons=settings.sentry_crons),
            read_secret=self._read_secret if settings.sentry_secrets else None,
            version=metadata.version("crontabber-operator"),
        )
        self._handler = self._reporter.log_handler()
        self._task: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()
        if self._reporter.active:
            logging.getLogger().addHandler(self._handler)
            self._task = asyncio.create_task(self._look_up(), name="sentry")

    async def close(self) -> None:
        """Send what is left, as far as there is time, and end."""
        if self._task is None:
            return
        until = asyncio.get_running_loop().time() + CLOSE_SECONDS
        if self._asking:
            await asyncio.wait(self._asking, timeout=CLOSE_SECONDS)
        left = max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.to_thread(self._reporter.close, left)
        logging.getLogger().removeHandler(self._handler)
        tasks = {self._task, *self._asking}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    # --- What is heard -----------------------------------------------------------------------------------

    def inspected(
        self, resource: Resource, run: Run, pods: Pods, outputs: Mapping[str, str], evidence: Evidence
    ) -> None:
        """Tell of the failed attempts; where a pod never started, as soon as its Events have said why."""
        if not self._reporter.active:
            return
        unnamed = [
            pod["metadata"]["uid"]
            for pod in pods
            if (pod.get("status") or {}).get("phase") == "Failed" and never_started(pod)
        ]
        job = resource.job()
        if not unnamed or len(self._asking) >= ASKING_MAX:
            self._reporter.inspected(job, run, pods, outputs, evidence)
            return

        async def ask() -> None:
            events = {uid: await self._events(job, uid) for uid in unnamed}
            self._reporter.inspected(job, run, pods, outputs, evidence, events)

        task = asyncio.create_task(ask(), name=f"events of {run.name}")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def cannot_start(self, resource: Resource, run: Run, pods: Pods, found: CannotStart) -> None:
        """Tell of a run whose pod can't start."""
        self._reporter.cannot_start(resource.job(), run, pods, found)

    def status_written(self, before: Resource, status: Status, runs: Sequence[Run]) -> None:
        """Tell what only the books tell."""
        if not isinstance(before.spec, InvalidSpec):
            self._reporter.status_written(before.job(), status, runs)

    # --- What the Reporter needs -------------------------------------------------------------------------

    async def _look_up(self) -> None:
        """Look up the namespaces' own DSNs for as long as the operator runs."""
        while True:
            try:
                await asyncio.to_thread(self._reporter.warm_up)
                await self._reporter.run()
            except Exception:
                logger.exception("Looking up the namespaces' own DSNs failed")
                await asyncio.sleep(AGAIN_SECONDS)

    async def _events(self, job: Job, pod_uid: str) -> list[dict[str, Any]]:
        try:
            return await self._cluster.list_pod_events(job.namespace, pod_uid)
        except ApiError as error:
            logger.info("%s/%s: the Events of a pod can't be listed: %s", job.namespace, job.name, error)
            return []

    async def _read_secret(self, namespace: str) -> Mapping[str, str] | None:
        """Read a namespace's own DSN. Raises PermissionError, and ApiError for what may pass."""
        try:
            body = await self._cluster.get_secret(namespace, SECRET_NAME)
        except ApiError as error:
            if error.not_found:
                return None
            if error.status == 403:
                raise PermissionError(error.message) from error
            raise
        return decoded(body)


def decoded(secret: Body) -> dict[str, str]:
    """Return what a Secret holds, as text; what is none is left out."""
    values: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            logger.warning("Key %s of the Secret %s is no text", key, SECRET_NAME)
    return values
