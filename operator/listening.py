"""What the reconciler tells those who only listen: Sentry, metrics, the followers of output.

A listener returns at once and decides nothing; what it raises is logged and stops nobody. This module must
not import any of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from crontabber_operator.models import Status
from crontabber_operator.observed import Evidence, Run
from crontabber_operator.pod_starts import CannotStart
from crontabber_operator.store import Key, Resource

logger = logging.getLogger(__name__)

Pods = Sequence[Mapping[str, Any]]


class Listener:
    """Hears everything and minds nothing; override what is of interest."""

    def leading(self, leads: bool) -> None:
        """This operator decides from now on, or does not any more; until the first of these it doesn't."""

    def passed(self, key: Key, seconds: float) -> None:
        """One pass over a resource ended well; `seconds` is what it took."""

    def failed(self, key: Key, error: Exception, delay_seconds: float) -> None:
        """A pass ended with an error, and is tried again after the delay."""

    def looked(self, resource: Resource, runs: Sequence[Run]) -> None:
        """A pass has looked: this is all that there is, and nothing that it shows is in the books yet."""

    def needs(self, run: Run) -> bool:  # noqa: ARG002 - who listens may answer
        """Whether the run's Job and pods must not be removed yet. Only to be asked; the answer becomes no soon."""
        return False

    def inspected(
        self, resource: Resource, run: Run, pods: Pods, outputs: Mapping[str, str], evidence: Evidence
    ) -> None:
        """The pods of a run were read, before what they tell is in the books; `outputs` by the pod's uid."""

    def cannot_start(self, resource: Resource, run: Run, pods: Pods, found: CannotStart) -> None:
        """The pods of a run that goes on were read, and one of them can't start; told once for each pod."""

    def released(self, resource: Resource, run: Run) -> None:
        """A run was started by this operator."""

    def status_written(self, before: Resource, status: Status, runs: Sequence[Run]) -> None:
        """The books were written; `before` is what they were decided on."""

    def forgotten(self, key: Key) -> None:
        """The resource is gone."""


class Listeners(Listener):
    """Tells all."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)

    def add(self, listener: Listener) -> None:
        """Tell this one too from now on."""
        self._listeners.append(listener)

    def leading(self, leads: bool) -> None:
        """Pass it on."""
        self._tell("leading", leads)

    def passed(self, key: Key, seconds: float) -> None:
        """Pass it on."""
        self._tell("passed", key, seconds)

    def failed(self, key: Key, error: Exception, delay_seconds: float) -> None:
        """Pass it on."""
        self._tell("failed", key, error, delay_seconds)

    def looked(self, resource: Resource, runs: Sequence[Run]) -> None:
        """Pass it on."""
        self._tell("looked", resource, runs)

    def needs(self, run: Run) -> bool:
        """Whether any of them does."""
        return any(self._tell("needs", run))

    def inspected(
        self, resource: Resource, run: Run, pods: Pods, outputs: Mapping[str, str], evidence: Evidence
    ) -> None:
        """Pass it on."""
        self._tell("inspected", resource, run, pods, outputs, evidence)

    def cannot_start(self, resource: Resource, run: Run, pods: Pods, found: CannotStart) -> None:
        """Pass it on."""
        self._tell("cannot_start", resource, run, pods, found)

    def released(self, resource: Resource, run: Run) -> None:
        """Pass it on."""
        self._tell("released", resource, run)

    def status_written(self, before: Resource, status: Status, runs: Sequence[Run]) -> None:
        """Pass it on."""
        self._tell("status_written", before, status, runs)

    def forgotten(self, key: Key) -> None:
        """Pass it on."""
        self._tell("forgotten", key)

    def _tell(self, what: str, *arguments: object) -> list[Any]:
        answers = []
        for listener in self._listeners:
            try:
                answers.append(getattr(listener, what)(*arguments))
            except Exception:  # the work goes on, whoever listens
                logger.exception("%s did not take %r", type(listener).__name__, what)
        return answers
