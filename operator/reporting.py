"""Connect the Reporter (sentry.py) with the operator: what it hears, what it needs of the cluster, its end.

Nothing is decided here, nothing here may hold up the operator's work, and nothing that goes wrong here may reach it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final

from crontabber_operator.bookkeeping import new_entries
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.inquiry import Inquiry
from crontabber_operator.listening import Listener, Pods
from crontabber_operator.manifests import Owner
from crontabber_operator.models import InvalidSpec, Status
from crontabber_operator.observed import Evidence, Job, Run
from crontabber_operator.pod_starts import CannotStart, never_started
from crontabber_operator.sentry import SECRET_NAME, Reporter, SentrySettings
from crontabber_operator.sentry_news import before_recent
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource, Store

Body = Mapping[str, Any]

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 2.0
"""So long the operator's end waits for what is still to be sent."""
ANSWER_SECONDS: Final = 0.5
"""And so long for what the API server was asked."""
AGAIN_SECONDS: Final = 10.0
ASKING_AT_ONCE: Final = 4
"""So few questions are asked of the API server at once, that the operator's own don't wait for them."""
ASKING_MAX: Final = 500
"""So many may wait. Of more, failures have a less exact name, or are not told again."""


class Reporting(Listener):
    """The Reporter of one operator, from its start to its end. Make it in the event loop that it is used in."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        store: Store,
        inquiry: Inquiry,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Start; from now on also the errors that are logged are told."""
        self._cluster = cluster
        self._store = store
        self._inquiry = inquiry
        self._reporter = Reporter(
            SentrySettings.read(environment, crons=settings.sentry_crons),
            read_secret=self._read_secret if settings.sentry_secrets else None,
            version=metadata.version("crontabber-operator"),
        )
        self._handler = self._reporter.log_handler()
        self._known: set[Key] = set()
        """The resources that were heard of."""
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Semaphore(ASKING_AT_ONCE)
        self._asking: set[asyncio.Task[None]] = set()
        if self._reporter.active:
            logging.getLogger().addHandler(self._handler)
            self._reporter.warm_up()
            self._task = asyncio.create_task(self._look_up(), name="sentry")

    async def close(self) -> None:
        """Send what is left, as far as there is time, and end."""
        if self._task is None:
            return
        if self._asking:
            await asyncio.wait(self._asking, timeout=ANSWER_SECONDS)
        await _cancelled(self._asking)
        await asyncio.to_thread(self._reporter.close, CLOSE_SECONDS)
        logging.getLogger().removeHandler(self._handler)
        await _cancelled({self._task})

    # --- What is heard -----------------------------------------------------------------------------------

    def inspected(
        self, resource: Resource, run: Run, pods: Pods, outputs: Mapping[str, str], evidence: Evidence
    ) -> None:
        """Tell of the failed attempts; where a pod never started, as soon as its Events have said why."""
        if not self._reporter.active:
            return
        unnamed = [pod["metadata"]["uid"] for pod in pods if _has_failed(pod) and never_started(pod)]
        self._heard_of(resource)
        job = resource.job()

        async def ask() -> None:
            events: dict[str, list[dict[str, Any]]] = {}
            try:
                async with self._turn:
                    if await self._is_wanted(job.namespace):
                        for uid in unnamed:
                            events[uid] = await self._cluster.list_events_of(job.namespace, uid)
            except ApiError as error:
                logger.info(
                    "%s/%s: why a pod never started can't be read: %s", job.namespace, job.name, error
                )
            finally:
                # The operator ends perhaps: then what is known has to do.
                self._reporter.inspected(job, run, pods, outputs, evidence, events)

        if not unnamed or not self._ask(ask()):
            self._reporter.inspected(job, run, pods, outputs, evidence)

    def cannot_start(self, resource: Resource, run: Run, pods: Pods, found: CannotStart) -> None:
        """Tell of a run whose pod can't start."""
        self._reporter.cannot_start(resource.job(), run, pods, found)

    def status_written(self, before: Resource, status: Status, runs: Sequence[Run]) -> None:
        """Tell what only the books tell."""
        if self._reporter.active and not isinstance(before.spec, InvalidSpec):
            self._heard_of(before)
            self._reporter.status_written(before.job(), status, runs)

    def passed(self, key: Key, seconds: float) -> None:  # noqa: ARG002 - the listener's signature
        """Take notice of a resource that there is nothing to tell of."""
        resource = self._store.resource(key) if self._reporter.active else None
        if resource is not None:
            self._heard_of(resource)

    def forgotten(self, key: Key) -> None:
        """Forget a resource."""
        self._known.discard(key)

    # --- What an operator that was killed may not have told ----------------------------------------------

    def _heard_of(self, resource: Resource) -> None:
        """Tell what the books of a resource say of the last minutes, when it is heard of for the first time."""
        key = Key.of(resource.owner)
        if key in self._known:
            return
        self._known.add(key)
        if isinstance(resource.spec, InvalidSpec):
            return
        job, runs = resource.job(), self._store.runs(resource.owner)
        before = before_recent(job, runs, datetime.now(UTC))
        self._reporter.check_ins(before, job.status, runs)
        failed = {entry.job for entry in new_entries(before.status, job.status)}
        for run in runs:
            if run.name in failed and run.failed_pods:
                self._ask(self._tell_again(resource.owner, before, run))

    async def _tell_again(self, owner: Owner, before: Job, run: Run) -> None:
        try:
            async with self._turn:
                if not await self._is_wanted(owner.namespace):
                    return
                pods, outputs, evidence = await self._inquiry.read_pods(owner, run)
        except ApiError as error:
            logger.info("%s/%s: pods can't be read again: %s", owner.namespace, owner.name, error)
            return
        # One that never started was told long before its end.
        if not any(_has_failed(pod) and never_started(pod) for pod in pods):
            self._reporter.inspected(before, run, pods, outputs, evidence)

    # --- What the Reporter needs -------------------------------------------------------------------------

    async def _look_up(self) -> None:
        """Look up the namespaces' own DSNs for as long as the operator runs."""
        while True:
            try:
                await self._reporter.run()
            except Exception:
                logger.exception("Looking up the namespaces' own DSNs failed")
                await asyncio.sleep(AGAIN_SECONDS)

    def _ask(self, question: Coroutine[Any, Any, None]) -> bool:
        """Ask the API server beside the operator's work; False: too much is asked already."""
        if len(self._asking) >= ASKING_MAX:
            question.close()
            return False
        task = asyncio.create_task(question, name="a question for Sentry")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return True

    async def _is_wanted(self, namespace: str) -> bool:
        """Whether anybody is told of this namespace. Raises ApiError."""
        if self._reporter.has_default:
            return True
        try:
            return await self._read_secret(namespace) is not None
        except PermissionError:
            return False

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


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """End tasks, and wait until they have ended."""
    ending = set(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)


def _has_failed(pod: Body) -> bool:
    return (pod.get("status") or {}).get("phase") == "Failed"


def decoded(secret: Body) -> dict[str, str]:
    """Return what a Secret holds, as text; what is none is left out."""
    values: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            logger.warning("Key %s of the Secret %s is no text", key, SECRET_NAME)
    return values
