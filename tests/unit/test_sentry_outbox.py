"""What waits for Sentry: bounds, order, destinations and delays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crontabber_operator import sentry_outbox
from crontabber_operator.models import Result
from crontabber_operator.observed import Attempt
from crontabber_operator.sentry_crons import CheckIn, CheckInStatus, MonitorConfig
from crontabber_operator.sentry_news import FailedRun, JobTold, OperatorError, PodTold
from crontabber_operator.sentry_outbox import OWN, Destination, Outbox, Outcome, Parcel

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DEFAULT = Destination("https://key@sentry.example.com/1")
OTHER = Destination("https://key@sentry.example.com/2", "staging")


def failed(number: int, namespace: str = "web", output: str = "") -> FailedRun:
    """Return a failed run."""
    return FailedRun(
        job=JobTold(namespace=namespace, name="reports", command="x"),
        slot=NOW,
        attempt=number,
        run="r",
        run_uid=f"{namespace}-{number}",
        ended=Attempt(Result.FAILED, "ValueError", "", "", None, None),
        pod=PodTold(name="p", uid=f"{namespace}-{number}"),
        output=output,
    )


def check_in(name: str, namespace: str = "web", uid: str = "u") -> CheckIn:
    """Return a check-in."""
    return CheckIn(
        namespace=namespace,
        slug=name,
        status=CheckInStatus.OK,
        run_uid=uid,
        attempt=1,
        monitor=MonitorConfig("0 * * * *", "UTC", 5, 121),
    )


def attempts(outbox: Outbox, now: datetime = NOW, outcome: Outcome = Outcome.SENT) -> list[int]:
    """Send all that can be sent; return the attempts, in order."""
    found = []
    while (parcel := outbox.take(now)) is not None:
        outbox.settle(parcel, outcome, now)
        assert isinstance(parcel.news, FailedRun)
        found.append(parcel.news.attempt)
    return found


def test_events_go_in_their_order_one_at_a_time_to_a_destination() -> None:
    """What is under way must be settled first."""
    outbox = Outbox(DEFAULT, looks_up=False)
    for number in (1, 2):
        outbox.put("web", failed(number), NOW)
    first = outbox.take(NOW)
    assert first is not None
    assert first.destination == DEFAULT
    assert outbox.take(NOW) is None
    assert outbox.next_at(NOW) is None
    outbox.settle(first, Outcome.SENT, NOW)
    assert attempts(outbox) == [2]
    assert (outbox.counts().sent, outbox.counts().waiting, outbox.counts().dropped) == (2, 0, {})


def test_namespaces_take_turns() -> None:
    """One that fails a thousand times keeps nobody else waiting."""
    outbox = Outbox(DEFAULT, looks_up=False)
    for number in range(3):
        outbox.put("loud", failed(number, "loud"), NOW)
    outbox.put("calm", failed(7, "calm"), NOW)
    assert attempts(outbox) == [0, 7, 1, 2]


def test_same_attempt_is_told_once() -> None:
    """Also where it was sent long ago."""
    outbox = Outbox(DEFAULT, looks_up=False)
    outbox.put("web", failed(1), NOW)
    outbox.put("web", replace(failed(1), attempt=2), NOW)
    assert attempts(outbox) == [1]
    outbox.put("web", failed(1), NOW)
    assert attempts(outbox) == []


def test_oldest_is_dropped_and_counted_where_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all namespaces together, by number and by size."""
    monkeypatch.setattr(sentry_outbox, "EVENTS_MAX", 3)
    outbox = Outbox(DEFAULT, looks_up=False)
    for number in range(5):
        outbox.put(f"n{number}", failed(number, f"n{number}"), NOW)
    assert outbox.counts().dropped == {"queue_full": 2}
    assert attempts(outbox) == [2, 3, 4]
    monkeypatch.setattr(sentry_outbox, "CHARACTERS_MAX", 100)
    for number in range(10, 13):
        outbox.put("web", failed(number, output="x" * 60), NOW)
    assert attempts(outbox) == [12]
    assert outbox.counts().dropped == {"queue_full": 4}
    outbox.put("web", failed(20, output="x" * 1000), NOW)
    assert attempts(outbox) == [20]


def test_real_bounds_hold_while_sentry_is_away() -> None:
    """Five thousand failures leave a thousand of the newest, and the number of the lost."""
    outbox = Outbox(DEFAULT, looks_up=False)
    for number in range(5000):
        outbox.put("web", failed(number), NOW)
    assert outbox.counts().waiting == 1000
    assert outbox.counts().dropped == {"queue_full": 4000}
    assert attempts(outbox)[0] == 4000


def test_destination_that_is_away_is_tried_again_with_a_growing_delay() -> None:
    """And in the old order; others go on meanwhile."""
    outbox = Outbox(DEFAULT, looks_up=True)
    for namespace, destination in (("web", DEFAULT), ("shop", OTHER)):
        outbox.put(namespace, failed(1, namespace), NOW)
        outbox.put(namespace, failed(2, namespace), NOW)
        outbox.resolve(namespace, destination, NOW + timedelta(days=1))
    now, delays = NOW, []
    for failures in range(12):
        parcel = outbox.take(now)
        if failures == 0:
            assert parcel is not None
            away = parcel.namespace
        assert parcel is not None
        assert parcel.namespace == away
        assert isinstance(parcel.news, FailedRun)
        assert parcel.news.attempt == 1
        assert outbox.settle(parcel, Outcome.AWAY, now) == failures
        if failures == 0:
            assert attempts(outbox, now) == [1, 2]
        at = outbox.next_at(now)
        assert at is not None
        assert outbox.take(at - SECOND / 10) is None
        delays.append((at - now).total_seconds())
        now = at
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert attempts(outbox, now) == [1, 2]
    # It came back: the next trouble starts afresh.
    outbox.put(away, failed(3, away), now)
    parcel = outbox.take(now)
    assert parcel is not None
    assert outbox.settle(parcel, Outcome.AWAY, now) == 0


@pytest.mark.parametrize("outcome", [Outcome.RATE_LIMITED, Outcome.REFUSED, Outcome.FAILED])
def test_what_sentry_does_not_want_is_dropped_and_counted(outcome: Outcome) -> None:
    """It would not want it later either."""
    outbox = Outbox(DEFAULT, looks_up=False)
    outbox.put("web", failed(1), NOW)
    assert attempts(outbox, outcome=outcome) == [1]
    assert outbox.counts().dropped == {outcome.value: 1}
    assert attempts(outbox) == []


def test_needless_events_are_no_loss() -> None:
    """What was not worth sending is neither sent nor dropped."""
    outbox = Outbox(DEFAULT, looks_up=False)
    outbox.put("web", failed(1), NOW)
    attempts(outbox, outcome=Outcome.NEEDLESS)
    assert (outbox.counts().sent, outbox.counts().dropped) == (0, {})


def test_nothing_goes_anywhere_before_it_is_known_where_to() -> None:
    """One tenant's errors must not end up with another while its Secret can't be read."""
    outbox = Outbox(DEFAULT, looks_up=True)
    outbox.put("web", failed(1), NOW)
    assert outbox.take(NOW) is None
    assert outbox.to_look_up(NOW) == ["web"]
    assert outbox.to_look_up(NOW) == []
    outbox.unresolved("web", NOW + 10 * SECOND)
    assert (outbox.take(NOW), outbox.next_at(NOW)) == (None, NOW + 10 * SECOND)
    assert outbox.to_look_up(NOW + 10 * SECOND) == ["web"]
    outbox.resolve("web", OTHER, NOW + 60 * SECOND)
    parcel = outbox.take(NOW)
    assert parcel is not None
    assert parcel.destination == OTHER


def test_known_destination_holds_while_it_is_looked_up_again() -> None:
    """And it is looked up only where there is something to send."""
    outbox = Outbox(DEFAULT, looks_up=True)
    outbox.put("web", failed(1), NOW)
    outbox.to_look_up(NOW)
    outbox.resolve("web", OTHER, NOW + SECOND)
    assert attempts(outbox) == [1]
    assert outbox.to_look_up(NOW + 5 * SECOND) == []
    assert outbox.next_at(NOW + 5 * SECOND) is None
    outbox.put("web", failed(2), NOW + 5 * SECOND)
    assert outbox.to_look_up(NOW + 5 * SECOND) == ["web"]
    outbox.unresolved("web", NOW + 15 * SECOND)
    parcel = outbox.take(NOW + 5 * SECOND)
    assert parcel is not None
    assert parcel.destination == OTHER


def test_namespace_without_a_dsn_is_silent() -> None:
    """Where neither it nor the operator has one, nothing is kept and nothing counts as lost."""
    outbox = Outbox(None, looks_up=True)
    outbox.put("web", failed(1), NOW)
    outbox.put_check_in(check_in("a"), NOW)
    outbox.to_look_up(NOW)
    outbox.resolve("web", None, NOW + SECOND)
    assert outbox.take(NOW) is None
    assert (outbox.counts().waiting, outbox.counts().dropped) == (0, {})
    assert outbox.is_empty


def test_operators_own_errors_need_no_secret() -> None:
    """They go to the operator's own DSN."""
    outbox = Outbox(DEFAULT, looks_up=True)
    outbox.put(OWN, OperatorError(message="x"), NOW)
    assert outbox.to_look_up(NOW) == []
    assert outbox.take(NOW) == Parcel(OWN, DEFAULT, OperatorError(message="x"), 1)


def test_check_ins_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace with most gives up what has waited longest."""
    monkeypatch.setattr(sentry_outbox, "CHECK_INS_MAX", 10)
    outbox = Outbox(DEFAULT, looks_up=True)
    outbox.put_check_in(check_in("calm", "calm"), NOW)
    for number in range(30):
        outbox.put_check_in(check_in(f"m{number}", "loud"), NOW)
    assert (outbox.counts().waiting, outbox.counts().dropped) == (10, {"queue_full": 21})
    for namespace in ("calm", "loud"):
        outbox.resolve(namespace, DEFAULT, NOW + SECOND)
    names = []
    while (parcel := outbox.take(NOW)) is not None:
        assert isinstance(parcel.news, CheckIn)
        names.append(parcel.news.slug)
        outbox.settle(parcel, Outcome.SENT, NOW)
    assert names == ["calm", *(f"m{number}" for number in range(21, 30))]
    assert outbox.counts().waiting == 0


def test_check_in_that_could_not_be_sent_waits_again() -> None:
    """Within the same bounds."""
    outbox = Outbox(DEFAULT, looks_up=False)
    outbox.put_check_in(check_in("a"), NOW)
    parcel = outbox.take(NOW)
    assert parcel is not None
    assert outbox.counts().waiting == 0
    outbox.settle(parcel, Outcome.AWAY, NOW)
    assert outbox.counts().waiting == 1
    assert outbox.take(NOW) is None
    again = outbox.take(NOW + SECOND)
    assert again is not None
    assert again.news == parcel.news


def test_throttled_check_ins_say_when_they_are_due() -> None:
    """So that whoever sends knows how long to sleep."""
    outbox = Outbox(DEFAULT, looks_up=False)
    for number in range(7):
        outbox.put_check_in(check_in("a", uid=str(number)), NOW)
        parcel = outbox.take(NOW)
        if parcel is not None:
            outbox.settle(parcel, Outcome.SENT, NOW)
    assert outbox.counts().sent == 6
    assert outbox.next_at(NOW) == NOW + timedelta(minutes=1)
    assert not outbox.is_waiting_for_sentry(NOW)


def test_end_gives_up_what_waits_and_counts_it() -> None:
    """Nothing is left to be sent afterwards."""
    outbox = Outbox(DEFAULT, looks_up=False)
    for number in range(3):
        outbox.put("web", failed(number), NOW)
    assert outbox.is_waiting_for_sentry(NOW)
    outbox.close()
    assert outbox.is_empty
    assert outbox.take(NOW) is None
    assert outbox.counts().dropped == {"closed": 3}
    assert not outbox.is_waiting_for_sentry(NOW)


def test_a_dsn_is_not_shown() -> None:
    """It is a key."""
    assert "key" not in repr(DEFAULT)
