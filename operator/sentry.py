"""Tell Sentry, without ever making the operator wait.

A `Reporter` takes news by methods that return at once and never raise, and sends them from threads of its own,
through isolated clients of the Sentry SDK, one for each DSN. What waits is bounded (sentry_outbox.py). Without
a DSN all of this is off, silently.

How the operator uses it (reporting.py makes and ends it):

- when the pods of a run were inspected, before the books are written:
  `reporter.inspected(job, run, pods, outputs, evidence, events)`; `events` only of pods that
  `pod_starts.never_started`. The same attempt told again is one event, also after a restart: its id is the
  same, and Sentry drops it;
- when the pods of a run that goes on were looked at and one can't start: `reporter.cannot_start(…)`;
- when a status was written: `reporter.status_written(job, status, runs)`, with the resource as it was before.
  That tells recoveries, Jobs that vanished, and the check-ins;
- `reporter.operator_error(error, "what was being done")` for an exception that is caught and not logged.

`failed`, `recovered` and `check_in` are there for whoever has one of these at hand. It must not decide what is
worth telling, and nothing that the operator does may depend on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import socket
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Concatenate, Final, ParamSpec, TypeAlias

import sentry_sdk
from sentry_sdk.utils import BadDsn, Dsn

from crontabber_operator.models import Status
from crontabber_operator.observed import Evidence, Job, Run
from crontabber_operator.pod_starts import CannotStart
from crontabber_operator.report_errors import is_recovery_worth_reporting, is_worth_reporting
from crontabber_operator.sentry_client import deliver, make_client, place
from crontabber_operator.sentry_crons import DEFAULT_THRESHOLDS, CheckIn, Thresholds, check_ins
from crontabber_operator.sentry_events import Told, failure_event, operator_event, recovery_event
from crontabber_operator.sentry_news import (
    Body,
    FailedRun,
    OperatorError,
    Recovered,
    failed_runs,
    not_starting,
    status_news,
)
from crontabber_operator.sentry_outbox import OWN, Counts, Destination, News, Outbox, Outcome, Parcel

logger = logging.getLogger(__name__)

SECRET_NAME: Final = "crontabber-sentry"  # noqa: S105 - the name of a Secret
"""The Secret that gives a namespace its own DSN: keys SENTRY_DSN and, if it likes, SENTRY_ENVIRONMENT."""
THREADS_MAX: Final = 4
CLIENTS_MAX: Final = 32
OPERATOR_EVENTS_MAX: Final = 20
"""So many events a minute about the operator itself; a storm of them says nothing new."""
IDLE_SECONDS: Final = 60.0
KNOWN_FOR: Final = timedelta(minutes=1)
"""So long what a namespace's Secret said is taken for granted."""
FORBIDDEN_FOR: Final = timedelta(minutes=10)
LOOK_UP_AGAIN: Final = timedelta(seconds=10)

SecretReader: TypeAlias = Callable[[str], Awaitable[Mapping[str, str] | None]]
"""Read the Secret SECRET_NAME of a namespace, decoded; None where there is none. PermissionError: not allowed to."""

_IS_RETRIED: Final = re.compile(r"^Request attempt \S+ failed; .*will (?:retry|re-authenticate)")
"""What kopf logs as an error while the API server is away; each line would be an issue of its own."""

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class SentrySettings:
    """What the operator's environment says."""

    dsn: str = field(default="", repr=False)
    environment: str = ""
    release: str = ""
    crons: bool = False
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    @classmethod
    def read(cls, environment: Mapping[str, str], *, crons: bool = False) -> SentrySettings:
        """Read SENTRY_DSN, SENTRY_ENVIRONMENT and SENTRY_RELEASE, which mean what they mean everywhere."""
        return cls(
            dsn=environment.get("SENTRY_DSN", "").strip(),
            environment=environment.get("SENTRY_ENVIRONMENT", "").strip(),
            release=environment.get("SENTRY_RELEASE", "").strip(),
            crons=crons,
        )


def _steady_clock() -> Callable[[], datetime]:
    """Return a clock that starts with the wall clock's time, and never goes back."""
    started, since = datetime.now(UTC), time.monotonic()
    return lambda: started + timedelta(seconds=time.monotonic() - since)


# --- The Reporter -----------------------------------------------------------------------------------------


def _harmless(
    method: Callable[Concatenate[Reporter, _P], None],
) -> Callable[Concatenate[Reporter, _P], None]:
    """Let nothing that goes wrong in telling reach the one who tells."""

    @functools.wraps(method)
    def harmless(self: Reporter, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if not self.active:
            return
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.exception("Something could not be told to Sentry")

    return harmless


class Reporter:
    """Tells Sentry. All methods but `run` and `close` return at once, and may be called from any thread."""

    def __init__(
        self,
        settings: SentrySettings,
        *,
        read_secret: SecretReader | None = None,
        version: str = "",
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Take the settings; `version` is the operator's own. `clock` must never go back."""
        self._settings = settings
        self._read_secret = read_secret
        self._version = version
        self._clock = clock or _steady_clock()
        self._default = _destination(settings.dsn, settings.environment, "SENTRY_DSN")
        self.active = self._default is not None or read_secret is not None
        """False: nothing is ever sent, so nothing needs to be told."""
        self._changed = threading.Condition()
        """Held around everything below."""
        self._outbox = Outbox(self._default, looks_up=read_secret is not None)
        self._clients: OrderedDict[Destination, sentry_sdk.Client] = OrderedDict()
        self._in_use: set[Destination] = set()
        self._told_refused: set[str] = set()
        self._own_times: deque[datetime] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look_up = asyncio.Event()

    @property
    def has_default(self) -> bool:
        """Whether there is a DSN for namespaces without one of their own."""
        return self._default is not None

    # --- Telling -----------------------------------------------------------------------------------------

    @_harmless
    def inspected(
        self,
        job: Job,
        run: Run,
        pods: Iterable[Body],
        outputs: Mapping[str, str],
        evidence: Evidence,
        events: Mapping[str, Iterable[Body]] = MappingProxyType({}),
    ) -> None:
        """Tell of the failed attempts of a run whose pods were looked at; see `sentry_news.failed_runs`."""
        for failed in failed_runs(job, run, pods, outputs, evidence, events):
            self.failed(failed)

    @_harmless
    def cannot_start(self, job: Job, run: Run, pods: Iterable[Body], found: CannotStart) -> None:
        """Tell, long before its time is up, of a run whose pod can't start."""
        pod = next(one for one in pods if one["metadata"]["uid"] == found.pod_uid)
        failed = not_starting(job, run, pod, found)
        if failed is not None:
            self.failed(failed)

    @_harmless
    def status_written(self, job: Job, after: Status, runs: Iterable[Run]) -> None:
        """Tell what a change of the books is worth; `job` is the resource with the status of before."""
        for news in status_news(job, after):
            if isinstance(news, FailedRun):
                self.failed(news)
            else:
                self.recovered(news)
        self.check_ins(job, after, runs)

    @_harmless
    def check_ins(self, job: Job, after: Status, runs: Iterable[Run]) -> None:
        """Tell Sentry Crons of a change of the books; what it knows already changes nothing."""
        if self._settings.crons:
            for check_in in check_ins(job, after, runs, self._settings.thresholds):
                self.check_in(check_in)

    @_harmless
    def failed(self, run: FailedRun) -> None:
        """Tell of a failed attempt."""
        self._put(run.job.namespace, run)

    @_harmless
    def recovered(self, recovered: Recovered) -> None:
        """Tell that a job is well again."""
        self._put(recovered.job.namespace, recovered)

    @_harmless
    def check_in(self, check_in: CheckIn) -> None:
        """Tell Sentry Crons, if that was asked for."""
        if self._settings.crons:
            with self._changed:
                if not self._closing:
                    self._outbox.put_check_in(check_in, self._clock())
                    self._call_a_thread()

    @_harmless
    def operator_error(self, error: BaseException, doing: str) -> None:
        """Tell of an exception in the operator itself. `doing` says what it was about."""
        text = "".join(traceback.format_exception(error))
        self._put_own(OperatorError(message=doing, traceback=text, at=datetime.now(UTC)))

    @_harmless
    def logged(self, record: logging.LogRecord) -> None:
        """Tell of an error that was logged."""
        error = record.exc_info[1] if record.exc_info else None
        self._put_own(
            OperatorError(
                message=str(record.msg),
                shown=record.getMessage(),
                logger=record.name,
                level="fatal" if record.levelno >= logging.CRITICAL else "error",
                traceback="".join(traceback.format_exception(error)) if error is not None else "",
                at=datetime.fromtimestamp(record.created, UTC),
            )
        )

    def log_handler(self) -> logging.Handler:
        """Return a handler that tells of errors that are logged."""
        return _Handler(self)

    def counts(self) -> Counts:
        """Return what became of everything so far."""
        with self._changed:
            return self._outbox.counts()

    def _put_own(self, error: OperatorError) -> None:
        if self._default is None:
            return
        now = self._clock()
        with self._changed:
            while self._own_times and self._own_times[0] <= now - timedelta(minutes=1):
                self._own_times.popleft()
            if len(self._own_times) >= OPERATOR_EVENTS_MAX:
                self._outbox.dropped["rate_limited"] += 1
                return
            self._own_times.append(now)
        self._put(OWN, error)

    def _put(self, namespace: str, news: News) -> None:
        with self._changed:
            if not self._closing:
                self._outbox.put(namespace, news, self._clock())
                self._call_a_thread()

    # --- The namespaces' Secrets -------------------------------------------------------------------------

    async def run(self) -> None:
        """Look up the namespaces' own DSNs, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._look_up.clear()
            with self._changed:
                due = self._outbox.to_look_up(self._clock())
            for namespace in due:
                await self._read(namespace)
            if not due:
                await self._look_up.wait()

    async def _read(self, namespace: str) -> None:
        if self._read_secret is None:
            return
        found, known_for = self._default, KNOWN_FOR
        try:
            secret = await self._read_secret(namespace)
        except PermissionError as error:
            logger.info("Secret %s/%s is not to be read: %s", namespace, SECRET_NAME, error)
            known_for = FORBIDDEN_FOR
        except Exception as error:  # noqa: BLE001 - it is tried again, and concerns one namespace only
            logger.info("Secret %s/%s can't be read: %s", namespace, SECRET_NAME, error)
            with self._changed:
                self._outbox.unresolved(namespace, self._clock() + LOOK_UP_AGAIN)
                self._changed.notify_all()
            return
        else:
            if secret is not None and "SENTRY_DSN" in secret:
                environment = secret.get("SENTRY_ENVIRONMENT", "").strip() or self._settings.environment
                where = f"Secret {namespace}/{SECRET_NAME}"
                found = _destination(secret["SENTRY_DSN"].strip(), environment, where)
        with self._changed:
            self._outbox.resolve(namespace, found, self._clock() + known_for)
            self._changed.notify_all()

    def warm_up(self) -> None:
        """Begin to load the SDK for the operator's own DSN, so that the first failure is sent at once."""
        if self._default is not None:
            destination = self._default
            threading.Thread(target=lambda: self._make(destination), name="sentry", daemon=True).start()

    # --- Sending, in threads -----------------------------------------------------------------------------

    def _call_a_thread(self) -> None:
        """See to it that somebody looks at what waits."""
        if self._idle:
            self._changed.notify_all()
        elif len(self._threads) < THREADS_MAX:
            thread = threading.Thread(target=self._work, name="sentry", daemon=True)
            # Where the process is ending there are no new threads, and nothing more is sent.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._threads.add(thread)

    def _work(self) -> None:
        while True:
            with self._changed:
                parcel = self._wait_for_parcel()
                if parcel is None:
                    self._threads.discard(threading.current_thread())
                    self._changed.notify_all()
                    return
                if not self._outbox.is_empty:
                    self._call_a_thread()
            outcome, why = Outcome.FAILED, ""
            try:
                outcome, why = self._send(parcel)
            except Exception:
                logger.exception("Something could not be told to Sentry")
            finally:
                with self._changed:
                    before = self._outbox.settle(parcel, outcome, self._clock())
                    self._in_use.discard(parcel.destination)
                    self._changed.notify_all()
            self._tell_how_it_goes(parcel.destination, outcome, why, before)

    def _wait_for_parcel(self) -> Parcel | None:
        """Wait for something to send; None: there was nothing for long, or the end has come."""
        until = time.monotonic() + IDLE_SECONDS
        while True:
            now = self._clock()
            parcel = self._outbox.take(now)
            if parcel is not None:
                return parcel
            next_at = self._outbox.next_at(now)
            if next_at is not None and next_at <= now:
                self._ask_for_secrets()
                next_at = now + timedelta(seconds=1)
            left = until - time.monotonic()
            if self._outbox.is_empty and (self._closing or left <= 0):
                return None
            wait_seconds = max(left, 1.0)
            if next_at is not None:
                wait_seconds = min(wait_seconds, max(0.01, (next_at - now).total_seconds()))
            self._idle += 1
            try:
                self._changed.wait(wait_seconds)
            finally:
                self._idle -= 1

    def _ask_for_secrets(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._look_up.set)

    def _send(self, parcel: Parcel) -> tuple[Outcome, str]:
        told = self._told_as(parcel)
        if told is None:
            return Outcome.NEEDLESS, ""
        return deliver(self._client_for(parcel.destination), told)

    def _told_as(self, parcel: Parcel) -> Told | None:
        """Build what is sent; None: it isn't worth it."""
        news, release, environment = parcel.news, self._settings.release, parcel.destination.environment
        match news:
            case FailedRun():
                worth = is_worth_reporting(news)
                return failure_event(news, release=release, environment=environment) if worth else None
            case Recovered():
                worth = is_recovery_worth_reporting(news)
                return recovery_event(news, release=release, environment=environment) if worth else None
            case CheckIn():
                return Told(news.payload(release=release, environment=environment))
            case OperatorError():
                own = release or (f"crontabber-operator@{self._version}" if self._version else "")
                return operator_event(news, release=own, environment=environment, server=socket.gethostname())

    def _client_for(self, destination: Destination) -> sentry_sdk.Client:
        with self._changed:
            self._in_use.add(destination)
            client = self._clients.get(destination)
            if client is not None:
                self._clients.move_to_end(destination)
                return client
        return self._make(destination)

    def _make(self, destination: Destination) -> sentry_sdk.Client:
        client = make_client(destination)
        with self._changed:
            client = self._clients.setdefault(destination, client)
            unused = [one for one in self._clients if one not in self._in_use]
            for one in unused[: max(0, len(self._clients) - CLIENTS_MAX)]:
                del self._clients[one]
        return client

    def _tell_how_it_goes(self, destination: Destination, outcome: Outcome, why: str, before: int) -> None:
        """Log what an operator wants to know, once."""
        where = place(destination.dsn)
        if outcome is Outcome.AWAY and not before:
            logger.warning("Sentry (%s) can't be reached (%s); what is told waits", where, why)
        elif outcome is Outcome.SENT and before:
            logger.info("Sentry (%s) can be reached again", where)
        elif outcome is Outcome.REFUSED and destination.dsn not in self._told_refused:
            self._told_refused.add(destination.dsn)
            logger.warning("Sentry (%s) refuses what it is sent (%s)", where, why)

    # --- The end -----------------------------------------------------------------------------------------

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Send what can be sent in this time, and end. Blocks: call it in a thread."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._threads and self._may_still_be_sent():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._outbox.close()
            self._changed.notify_all()

    def _may_still_be_sent(self) -> bool:
        looks_up = self._loop is not None and self._outbox.is_looking_up
        return looks_up or self._outbox.is_waiting_for_sentry(self._clock())


def _destination(dsn: str, environment: str, where: str) -> Destination | None:
    """Return where a DSN leads; None where there is none, or it is none."""
    if not dsn:
        return None
    try:
        Dsn(dsn)
    except (BadDsn, ValueError) as error:
        logger.warning("The DSN in %s can't be used, so nothing is sent there: %s", where, error)
        return None
    return Destination(dsn, environment or "production")


class _Handler(logging.Handler):
    """Tells of errors that the operator, and what it is made of, log."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.ERROR)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a record, unless it is about telling, or about what is tried again at once."""
        source = record.name.split(".")[0]
        is_own = record.name == logger.name or source in ("sentry_sdk", "urllib3")
        if not is_own and not (source == "kopf" and _IS_RETRIED.search(record.getMessage())):
            self._reporter.logged(record)
