"""Those who look on, from the operator's start to its end: metrics, and the status page.

Nothing is decided here, and nothing that goes wrong here may reach the operator's work.
"""

from __future__ import annotations

from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.metrics import CONTENT_TYPE, Metrics
from crontabber_operator.page import page_application
from crontabber_operator.reconciler import Reconciler
from crontabber_operator.serving import Server, metrics_application
from crontabber_operator.settings import Settings


class Onlookers:
    """Serves what the settings ask for. Make it in the event loop that it is used in."""

    def __init__(self, settings: Settings, reconciler: Reconciler) -> None:
        self._servers: list[Server] = []
        store, figures, clock = reconciler.store, KnownFigures(), reconciler.clock
        reconciler.listeners.add(figures)
        if settings.metrics is not None:
            metrics = Metrics(store, figures, clock)
            reconciler.listeners.add(metrics)
            application = metrics_application(metrics.text, CONTENT_TYPE)
            self._servers.append(Server("metrics", settings.metrics, application))
        if settings.page is not None:
            self._servers.append(Server("page", settings.page, page_application(store, figures, clock)))

    async def close(self) -> None:
        """End."""
        for server in self._servers:
            await server.close()
