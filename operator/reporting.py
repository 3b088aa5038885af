"""Connect the Reporter (sentry.py) with the operator: what it needs of the cluster, its beginning and its end.

Nothing is decided here, and nothing that goes wrong here may reach the operator's work.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Final

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.pod_starts import never_started
from crontabber_operator.sentry import SECRET_NAME, Reporter, SentrySettings
from crontabber_operator.settings import Settings

Body = Mapping[str, Any]

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 2.0
"""So long the operator's end waits for what is still to be sent."""
AGAIN_SECONDS: Final = 10.0


class Reporting:
    """The Reporter of one operator, from its start to its end. Make it in the event loop that it is used in."""

    def __init__(
        self, cluster: Cluster, settings: Settings, environment: Mapping[str, str] = os.environ
    ) -> None:
        """Start; from now on also the errors that are logged are told."""
        self._cluster = cluster
        self.reporter = Reporter(
            SentrySettings.read(environment, crons=settings.sentry_crons),
            read_secret=self._read_secret if settings.sentry_secrets else None,
            version=metadata.version("crontabber-operator"),
        )
        self._handler = self.reporter.log_handler()
        self._task: asyncio.Task[None] | None = None
        if self.reporter.active:
            logging.getLogger().addHandler(self._handler)
            self._task = asyncio.create_task(self._look_up(), name="sentry")

    async def close(self) -> None:
        """Send what is left, as far as there is time, and end."""
        if self._task is None:
            return
        await asyncio.to_thread(self.reporter.close, CLOSE_SECONDS)
        logging.getLogger().removeHandler(self._handler)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def events_of(self, namespace: str, pods: Iterable[Body]) -> dict[str, list[dict[str, Any]]]:
        """Return the Events of the failed pods that never started, by uid: only they say why."""
        if not self.reporter.active:
            return {}
        return {
            pod["metadata"]["uid"]: await self._events(namespace, pod["metadata"]["uid"])
            for pod in pods
            if (pod.get("status") or {}).get("phase") == "Failed" and never_started(pod)
        }

    async def _look_up(self) -> None:
        """Look up the namespaces' own DSNs for as long as the operator runs."""
        while True:
            try:
                await self.reporter.run()
            except Exception:
                logger.exception("Looking up the namespaces' own DSNs failed")
                await asyncio.sleep(AGAIN_SECONDS)

    async def _events(self, namespace: str, pod_uid: str) -> list[dict[str, Any]]:
        try:
            return await self._cluster.list_pod_events(namespace, pod_uid)
        except ApiError as error:
            # Without them such a failure only has a less exact name.
            logger.info("The Events of a pod in %s can't be listed: %s", namespace, error)
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
