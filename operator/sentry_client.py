"""Sentry's SDK, isolated: a client for each DSN that touches nothing outside of it and sends where it is asked to.

No hooks, no integrations, no threads of its own: who calls `deliver` waits for the answer, at most TIMEOUT_SECONDS
a request. It must not know what is told, or why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sentry_sdk
import urllib3
from sentry_sdk.attachments import Attachment as SdkAttachment
from sentry_sdk.envelope import Item
from sentry_sdk.transport import HttpTransport
from sentry_sdk.utils import Dsn
from sentry_sdk.worker import Worker

from crontabber_operator.sentry_events import Told
from crontabber_operator.sentry_outbox import Destination, Outcome

TIMEOUT_SECONDS: Final = 10


class _InlineWorker(Worker):
    """Does at once what the SDK wants to do later: the Reporter's threads are the workers."""

    @property
    def is_alive(self) -> bool:
        return True

    def kill(self) -> None:
        """Do nothing: there is no thread to end."""

    def full(self) -> bool:
        return False

    def submit(self, callback: Callable[[], Any]) -> bool:
        callback()
        return True


class _Transport(HttpTransport):
    """The SDK's own HTTP transport, within the thread that asks, remembering how it went."""

    TIMEOUT = TIMEOUT_SECONDS

    def __init__(self, options: dict[str, Any]) -> None:
        self.lost = ""
        """Why the SDK gave up what it was given last; empty where it did not."""
        super().__init__(options)

    def _create_worker(self, options: dict[str, Any]) -> Worker:  # noqa: ARG002 - the SDK's signature
        return _InlineWorker()

    def _get_pool_options(self) -> dict[str, Any]:
        # The Reporter tries again by itself, later.
        return {**super()._get_pool_options(), "retries": urllib3.Retry(0)}

    def on_dropped_event(self, reason: str) -> None:
        """Remember why it got lost."""
        self.lost = reason

    def record_lost_event(
        self,
        reason: str,
        data_category: Any = None,  # noqa: ARG002 - the SDK's signature
        item: Item | None = None,
        *,
        quantity: int = 1,  # noqa: ARG002 - the SDK's signature
    ) -> None:
        """Remember the same where the SDK says it only here. An event may go without its attachment."""
        if item is None or item.type != "attachment":
            self.lost = self.lost or reason


def make_client(destination: Destination) -> sentry_sdk.Client:
    """Make a client that touches nothing outside of it: no hooks, no integrations, no threads."""
    client = sentry_sdk.Client(
        dsn=destination.dsn,
        transport=_Transport,
        environment=destination.environment,
        release="-",
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        enable_backpressure_handling=False,
        send_client_reports=False,
        include_local_variables=False,
        attach_stacktrace=False,
        spotlight=False,
        debug=False,
        shutdown_timeout=0,
    )
    # Else the SDK would give runs the release and the host of the operator.
    client.options["release"] = client.options["server_name"] = None
    return client


def deliver(client: sentry_sdk.Client, told: Told) -> tuple[Outcome, str]:
    """Send one event or check-in, in this thread; return how that went, and what the SDK calls it."""
    transport = client.transport
    if not isinstance(transport, _Transport):
        return Outcome.FAILED, "no transport"
    transport.lost = ""
    attachments = [
        SdkAttachment(bytes=one.data, filename=one.filename, content_type="text/plain")
        for one in told.attachments
    ]
    sent = client.capture_event(told.event, hint={"attachments": attachments})  # type: ignore[arg-type]
    lost = transport.lost
    if not lost:
        return (Outcome.SENT, "") if sent is not None else (Outcome.FAILED, "not taken")
    if lost.startswith(("network", "status_5")):
        return Outcome.AWAY, lost
    if lost in ("status_429", "self_rate_limits", "ratelimit_backoff"):
        return Outcome.RATE_LIMITED, lost
    return Outcome.REFUSED, lost


def place(dsn: str) -> str:
    """Write where a DSN leads, without its key."""
    parsed = Dsn(dsn)
    return f"{parsed.host}, project {parsed.project_id}"
