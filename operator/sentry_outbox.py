"""What waits to be sent to Sentry: bounded, in order, each namespace in its turn.

PURE, but for holding what waits. An outbox knows no network and no clock (`now` is an argument, and never goes
back), and is not thread-safe: the Reporter (sentry.py) holds a lock around it. The oldest is dropped where too
much waits, and counted.

A namespace's news go to the destination that its Secret names; as long as that is not known they wait, because
one tenant's errors must not end up with another. A destination that can't be reached is tried again with a
growing delay, and holds up no other.

It must not import kopf, kubernetes or sentry_sdk.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

from crontabber_operator.sentry_crons import CheckIn, Monitors
from crontabber_operator.sentry_news import FailedRun, OperatorError, Recovered

EVENTS_MAX: Final = 1000
"""So many events wait at most, of all namespaces together."""
CHARACTERS_MAX: Final = 16 * 1024 * 1024
"""So much output may the events that wait hold."""
CHECK_INS_MAX: Final = 5000
REMEMBERED_MAX: Final = 4096
FIRST_DELAY: Final = timedelta(seconds=1)
LONGEST_DELAY: Final = timedelta(minutes=5)
OWN: Final = ""
"""The operator's own errors, beside the namespaces."""

News: TypeAlias = FailedRun | Recovered | OperatorError


class Outcome(Enum):
    """How sending something went."""

    SENT = "sent"
    NEEDLESS = "needless"
    """It was not to be sent after all."""
    AWAY = "away"
    """Sentry could not be reached: try again."""
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go."""

    dsn: str = field(repr=False)
    environment: str = "production"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One thing to send now."""

    namespace: str
    destination: Destination
    news: News | CheckIn
    number: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of what was told, since the start."""

    sent: int
    waiting: int
    dropped: dict[str, int]
    """By reason: `queue_full`, `rate_limited`, `refused`, `failed`, `closed`."""


@dataclass(slots=True)
class _Lane:
    """What waits for one namespace."""

    events: deque[tuple[int, News]] = field(default_factory=deque)
    """With a number each, by age."""
    monitors: Monitors = field(default_factory=Monitors)
    destination: Destination | None = None
    is_known: bool = False
    """Its destination is known, or that it has none."""
    look_up_at: datetime | None = None
    """None: never, or it is being looked up."""

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.monitors.waiting


@dataclass(slots=True)
class _Connection:
    """What is known of a DSN."""

    is_busy: bool = False
    not_before: datetime | None = None
    failures: int = 0


class Outbox:
    """Events and check-ins that wait to be sent."""

    def __init__(self, default: Destination | None, *, looks_up: bool) -> None:
        """Take the destination of all that have none of their own; `looks_up`: namespaces may have."""
        self._default = default
        self._looks_up = looks_up
        self._lanes: dict[str, _Lane] = {}
        self._working: dict[str, None] = {}
        """The lanes that something waits in; the next in turn first."""
        self._connections: dict[str, _Connection] = {}
        self._told: OrderedDict[str, None] = OrderedDict()
        self._number = 0
        self._events = 0
        self._characters = 0
        self._check_ins = 0
        self._sent = 0
        self.dropped: Counter[str] = Counter()

    # --- In ----------------------------------------------------------------------------------------------

    def put(self, namespace: str, news: News, now: datetime) -> None:
        """Take an event, unless it was told before."""
        if not isinstance(news, OperatorError) and not self._is_new(news.event_id):
            return
        self._number += 1
        self._lane(namespace, now).events.append((self._number, news))
        self._count(news, 1)
        while self._events > EVENTS_MAX or (self._characters > CHARACTERS_MAX and self._events > 1):
            self._drop_oldest()

    def put_check_in(self, check_in: CheckIn, now: datetime) -> None:
        """Take a check-in."""
        lane = self._lane(check_in.namespace, now)
        with_before = lane.monitors.waiting
        lane.monitors.offer(check_in, now)
        self._check_ins += lane.monitors.waiting - with_before
        while self._check_ins > CHECK_INS_MAX:
            most = max((self._lanes[name] for name in self._working), key=lambda one: one.monitors.waiting)
            self.dropped["queue_full"] += self._drop_check_ins(most)

    def resolve(self, namespace: str, destination: Destination | None, until: datetime) -> None:
        """Take what a namespace's Secret said, and until when that holds."""
        lane = self._lanes[namespace]
        lane.destination, lane.is_known, lane.look_up_at = destination, True, until

    def unresolved(self, namespace: str, again_at: datetime) -> None:
        """Take that a namespace's Secret could not be read; what was known before still holds."""
        self._lanes[namespace].look_up_at = again_at

    # --- Out ---------------------------------------------------------------------------------------------

    def to_look_up(self, now: datetime) -> list[str]:
        """Return the namespaces whose Secret must be read now; each is returned once until it is answered."""
        due: list[str] = []
        for name in self._working:
            lane = self._lanes[name]
            if lane.look_up_at is not None and lane.look_up_at <= now:
                lane.look_up_at = None
                due.append(name)
        return due

    def take(self, now: datetime) -> Parcel | None:
        """Return what is to be sent next. Its destination gets nothing else until it is settled."""
        for name in list(self._working):
            lane = self._lanes[name]
            if lane.is_known and lane.destination is None:
                self._clear(lane)
            if lane.is_empty:
                del self._working[name]
                continue
            if lane.destination is None or not self._is_free(lane.destination, now):
                continue
            parcel = self._take_from(name, lane, lane.destination, now)
            if parcel is not None:
                self._connection(lane.destination).is_busy = True
                # Its namespace goes to the end of the line.
                del self._working[name]
                self._working[name] = None
                return parcel
        return None

    def next_at(self, now: datetime) -> datetime | None:
        """Return when `take` or `to_look_up` may have something that they have not now; None: not by time."""
        return min(self._times(now), default=None)

    def settle(self, parcel: Parcel, outcome: Outcome, now: datetime) -> int:
        """Take how sending something went. Return how many times in a row its destination was away before."""
        connection = self._connection(parcel.destination)
        connection.is_busy = False
        failures = connection.failures
        if outcome is Outcome.AWAY:
            connection.failures += 1
            connection.not_before = now + min(FIRST_DELAY * 2 ** min(failures, 16), LONGEST_DELAY)
            self._give_back(parcel, now)
            return failures
        connection.failures, connection.not_before = 0, None
        if outcome is Outcome.SENT:
            self._sent += 1
        elif outcome is not Outcome.NEEDLESS:
            self.dropped[outcome.value] += 1
        return failures

    def close(self) -> None:
        """Give up all that waits."""
        self.dropped["closed"] += self._events
        for lane in self._lanes.values():
            self._clear(lane)
        self._working.clear()

    def is_waiting_for_sentry(self, now: datetime) -> bool:
        """Whether something is being sent, or could be at once."""
        if any(connection.is_busy for connection in self._connections.values()):
            return True
        ready = (self._lanes[name] for name in self._working)
        return any(
            lane.destination is not None
            and self._is_free(lane.destination, now)
            and bool(lane.events or ((at := lane.monitors.next_at(now)) is not None and at <= now))
            for lane in ready
        )

    @property
    def is_looking_up(self) -> bool:
        """Whether something waits only for what a namespace's Secret says."""
        return any(not self._lanes[name].is_known for name in self._working if not self._lanes[name].is_empty)

    def counts(self) -> Counts:
        """Return what became of everything so far."""
        dropped = {reason: number for reason, number in self.dropped.items() if number}
        return Counts(sent=self._sent, waiting=self._events + self._check_ins, dropped=dropped)

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return not self._events and not self._check_ins

    # --- Within ------------------------------------------------------------------------------------------

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._told:
            return False
        self._told[event_id] = None
        if len(self._told) > REMEMBERED_MAX:
            self._told.popitem(last=False)
        return True

    def _lane(self, namespace: str, now: datetime) -> _Lane:
        lane = self._lanes.get(namespace)
        if lane is None:
            lane = self._lanes[namespace] = _Lane()
            if namespace == OWN or not self._looks_up:
                lane.destination, lane.is_known = self._default, True
            else:
                lane.look_up_at = now
        self._working.setdefault(namespace)
        return lane

    def _connection(self, destination: Destination) -> _Connection:
        return self._connections.setdefault(destination.dsn, _Connection())

    def _is_free(self, destination: Destination, now: datetime) -> bool:
        connection = self._connection(destination)
        away = connection.not_before is not None and connection.not_before > now
        return not connection.is_busy and not away

    def _take_from(self, name: str, lane: _Lane, destination: Destination, now: datetime) -> Parcel | None:
        if lane.events:
            number, news = lane.events.popleft()
            self._count(news, -1)
            return Parcel(name, destination, news, number)
        check_in = lane.monitors.take(now)
        if check_in is None:
            return None
        self._check_ins -= 1
        return Parcel(name, destination, check_in)

    def _times(self, now: datetime) -> Iterator[datetime]:
        for name in self._working:
            lane = self._lanes[name]
            if lane.look_up_at is not None and not lane.is_empty:
                yield lane.look_up_at
            if lane.destination is None:
                continue
            connection = self._connection(lane.destination)
            if connection.is_busy:
                continue
            if connection.not_before is not None and connection.not_before > now:
                yield connection.not_before
                continue
            at = now if lane.events else lane.monitors.next_at(now)
            if at is not None:
                yield at

    def _give_back(self, parcel: Parcel, now: datetime) -> None:
        lane = self._lane(parcel.namespace, now)
        if isinstance(parcel.news, CheckIn):
            before = lane.monitors.waiting
            lane.monitors.give_back(parcel.news, now)
            self._check_ins += lane.monitors.waiting - before
            return
        lane.events.appendleft((parcel.number, parcel.news))
        self._count(parcel.news, 1)
        if self._events > EVENTS_MAX:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        lanes = [lane for name in self._working if (lane := self._lanes[name]).events]
        oldest = min(lanes, key=lambda lane: lane.events[0][0])
        self._count(oldest.events.popleft()[1], -1)
        self.dropped["queue_full"] += 1

    def _drop_check_ins(self, lane: _Lane) -> int:
        dropped = lane.monitors.drop_some()
        self._check_ins -= dropped
        return dropped

    def _clear(self, lane: _Lane) -> None:
        """Forget what waits; of a namespace without a DSN it was never to be told."""
        while lane.events:
            self._count(lane.events.popleft()[1], -1)
        while self._drop_check_ins(lane):
            pass

    def _count(self, news: News, sign: int) -> None:
        self._events += sign
        if isinstance(news, FailedRun):
            self._characters += sign * (len(news.output) + len(news.ended.traceback))
