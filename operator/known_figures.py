"""The figures of the store's jobs, counted anew only when a job changed or its next slot is due.

Shared by all who look on. One job must not keep the others from being looked at: where its figures can't be counted,
which is a defect, that is logged, and there are none.
"""

from __future__ import annotations

import logging
from datetime import datetime

from crontabber_operator.figures import Figures, figures_of
from crontabber_operator.listening import Listener
from crontabber_operator.models import InvalidSpec
from crontabber_operator.store import Key, Resource

logger = logging.getLogger(__name__)


class KnownFigures(Listener):
    """Remembers figures by job."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[Resource, Figures]] = {}

    def of(self, resource: Resource, now: datetime) -> Figures | None:
        """Return a job's figures; None where its spec is invalid, so that nothing can be said about slots."""
        if isinstance(resource.spec, InvalidSpec):
            return None
        key = Key.of(resource.owner)
        known = self._known.get(key)
        if known is not None and known[0] is resource and known[1].hold_at(now):
            return known[1]
        try:
            figures = figures_of(resource.job(), now)
        except Exception:
            logger.exception("%s/%s: its slots can't be counted", key.namespace, key.name)
            return None
        self._known[key] = (resource, figures)
        return figures

    def forgotten(self, key: Key) -> None:
        """Forget a job."""
        self._known.pop(key, None)
