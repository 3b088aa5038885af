"""The metrics: their names and labels, what counts, and what a scrape shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from crontabber_operator import known_figures
from crontabber_operator.cluster import ApiError
from crontabber_operator.exposition import JOB_FAMILIES, escaped
from crontabber_operator.figures import Figures
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.metrics import Metrics
from crontabber_operator.models import HistoryEntry, Ongoing, Result, Retry, SkippedBy, Spec, State, Status
from crontabber_operator.observed import Job, Run, RunKind
from crontabber_operator.store import Key, Resource, Store

NOW = datetime(2026, 11, 24, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
SLOT = NOW.replace(minute=0)
LABELS = {"namespace", "crontabberjob"}
NAMES = {
    "crontabber_job_runs_total": LABELS | {"result"},
    "crontabber_job_run_duration_seconds": LABELS,
    "crontabber_job_last_success_timestamp_seconds": LABELS,
    "crontabber_job_next_run_timestamp_seconds": LABELS,
    "crontabber_job_missed_slots": LABELS,
    "crontabber_job_oldest_missed_slot_timestamp_seconds": LABELS,
    "crontabber_job_success_overdue_seconds": LABELS,
    "crontabber_job_skipped_slots_total": LABELS | {"reason"},
    "crontabber_job_consecutive_errors": LABELS,
    "crontabber_job_info": LABELS | {"command", "schedule", "mode"},
    "crontabber_job_state": LABELS | {"state"},
    "crontabber_release_latency_seconds": set(),
    "crontabber_reconcile_duration_seconds": set(),
    "crontabber_reconcile_errors_total": {"reason"},
    "crontabber_reconcile_failing_resources": set(),
    "crontabber_operator_info": {"version"},
    "crontabber_operator_leader": set(),
}
"""The contract: users' alerts and dashboards are made of these."""


def body(
    name: str, status: Status | None = None, uid: str = "", version: int = 1, **spec: Any
) -> dict[str, Any]:
    """Return a CrontabberJob as the API has it."""
    return {
        "metadata": {
            "namespace": "web",
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "generation": 1,
            "creationTimestamp": "2026-11-24T06:30:00Z",
        },
        "spec": {"command": "work", "frequency": "1h", **spec},
        "status": (status or Status()).write(),
    }


class Bench:
    """A store and the metrics of it."""

    def __init__(self) -> None:
        self.store = Store()
        self.now = NOW
        self.metrics = Metrics(self.store, KnownFigures(), lambda: self.now)
        self.metrics.leading(True)

    def put(self, name: str, status: Status | None = None, **more: Any) -> Resource:
        """Show a resource."""
        key = self.store.put_resource(body(name, status, **more))
        resource = self.store.resource(key)
        assert resource is not None
        return resource

    def scrape(self) -> dict[str, Metric]:
        """Return the metrics as Prometheus reads them."""
        text = b"".join(self.metrics.text()).decode()
        families = list(text_string_to_metric_families(text))
        assert len({one.name for one in families}) == len(families), "a family is in one piece"
        return {one.name: one for one in families}

    def value(self, name: str, job: str = "job", **labels: str) -> float | None:
        """Return one value; None: it is not there."""
        wanted = {"namespace": "web", "crontabberjob": job, **labels} if job else labels
        found = [
            sample.value
            for family in self.scrape().values()
            for sample in family.samples
            if sample.name == name and sample.labels == wanted
        ]
        assert len(found) <= 1, "each series is there once"
        return found[0] if found else None


@pytest.fixture
def bench() -> Bench:
    """Return an empty store and its metrics."""
    return Bench()


def entry(minutes: int, result: Result = Result.SUCCEEDED, seconds: float | None = 30.0) -> HistoryEntry:
    """Return a run."""
    return HistoryEntry(
        slot=SLOT + timedelta(minutes=minutes), job=f"job-{minutes}", result=result, seconds=seconds
    )


def test_names_and_labels_are_the_contract(bench: Bench) -> None:
    """Exactly these, however a job is."""
    bench.put("job", Status(history=(entry(0),), error_count=1), backfill=True, backfillLimit=3)
    bench.put("suspended", Status(next_run_time=NOW), suspend=True)
    bench.metrics.failed(Key("web", "job"), ApiError(500, "InternalError", "no"), 1.0)
    bench.put("told", Status(state=State.WAITING))
    found: dict[str, set[str]] = {}
    for family in bench.scrape().values():
        if family.name.startswith("crontabber_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = {label for sample in family.samples for label in sample.labels if label != "le"}
    assert found == NAMES
    for family in JOB_FAMILIES:
        assert set(family.labels) == NAMES[family.name]


def test_a_last_success_is_there_before_any(bench: Bench) -> None:
    """As 0, so that `time() - x` alerts on a job that never succeeded."""
    bench.put("job")
    assert bench.value("crontabber_job_last_success_timestamp_seconds") == 0
    bench.put("job", Status(last_success_time=SLOT), version=2)
    assert bench.value("crontabber_job_last_success_timestamp_seconds") == SLOT.timestamp()


def test_what_depends_on_time_is_of_the_moment_of_the_scrape(bench: Bench) -> None:
    """The status says that nothing is missed, and nobody writes it."""
    status = Status(settled_through=SLOT, last_success_time=SLOT, missed=0)
    bench.put("job", status)
    assert bench.value("crontabber_job_missed_slots") == 0
    assert bench.value("crontabber_job_oldest_missed_slot_timestamp_seconds") is None
    assert bench.value("crontabber_job_success_overdue_seconds") == 0
    bench.now += 3 * HOUR
    assert bench.value("crontabber_job_missed_slots") == 3
    assert bench.value("crontabber_job_oldest_missed_slot_timestamp_seconds") == (SLOT + HOUR).timestamp()
    assert bench.value("crontabber_job_success_overdue_seconds") == (2 * HOUR + timedelta(minutes=20)).seconds
    bench.now -= 3 * HOUR  # the clock was set back
    assert bench.value("crontabber_job_missed_slots") == 0


def test_a_changed_resource_is_counted_anew(bench: Bench) -> None:
    """What is remembered between scrapes belongs to one state of the resource."""
    bench.put("job", Status(settled_through=SLOT - HOUR))
    assert bench.value("crontabber_job_missed_slots") == 1
    bench.put("job", Status(settled_through=SLOT), version=2)
    assert bench.value("crontabber_job_missed_slots") == 0


def test_runs_are_counted_once_and_from_zero(bench: Bench) -> None:
    """A rewritten status counts nothing; what an operator didn't write itself, it doesn't count."""
    old = Status(history=(entry(-60),))
    before = bench.put("job", old)
    runs = "crontabber_job_runs_total"
    assert bench.value(runs, result="Succeeded") == 0, "the history was written by another operator"
    assert bench.value(runs, result="Failed") == 0
    assert bench.value(runs, result="TimedOut") is None
    new = replace(old, history=(entry(1, Result.TIMED_OUT, 7200.0), entry(0), *old.history), error_count=1)
    bench.metrics.status_written(before, new, ())
    after = bench.put("job", new, version=2)
    bench.metrics.status_written(after, replace(new, missed=3), ())
    assert bench.value(runs, result="Succeeded") == 1
    assert bench.value(runs, result="TimedOut") == 1
    assert bench.value(runs, result="Failed") == 0
    seconds = "crontabber_job_run_duration_seconds"
    assert bench.value(f"{seconds}_count") == 2
    assert bench.value(f"{seconds}_sum") == 7230
    assert bench.value(f"{seconds}_bucket", le="15") == 0
    assert bench.value(f"{seconds}_bucket", le="60") == 1
    assert bench.value(f"{seconds}_bucket", le="7200") == 2
    assert bench.value(f"{seconds}_bucket", le="+Inf") == 2


def test_failures_that_the_history_has_no_room_for_are_counted(bench: Bench) -> None:
    """A plain job failed 14 times while no operator was there; one write records them."""
    before = bench.put("job")
    written = Status(
        history=tuple(entry(minutes, Result.FAILED) for minutes in range(10, 0, -1)), error_count=14
    )
    bench.metrics.status_written(before, written, ())
    assert bench.value("crontabber_job_runs_total", result="Failed") == 14


def test_a_run_that_got_lost_has_no_duration(bench: Bench) -> None:
    """Nobody knows how long it took."""
    before = bench.put("job")
    lost = Status(history=(entry(0, Result.LOST, None),), error_count=1)
    bench.metrics.status_written(before, lost, ())
    assert bench.value("crontabber_job_runs_total", result="Lost") == 1
    assert bench.value("crontabber_job_run_duration_seconds_count") == 0


def test_skipped_slots_are_counted_by_reason(bench: Bench) -> None:
    """From 0 where the spec makes it possible; a reset takes nothing back."""
    skips = "crontabber_job_skipped_slots_total"
    before = bench.put("job", backfill=True, backfillLimit=3)
    assert bench.value(skips, reason="backfillLimit") == 0
    assert bench.value(skips, reason="startingDeadline") is None
    written = Status(skipped=5, skipped_by=SkippedBy(backfill_limit=5))
    bench.metrics.status_written(before, written, ())
    after = bench.put("job", written, version=2, backfill=True, backfillLimit=3)
    bench.metrics.status_written(after, Status(), ())
    assert bench.value(skips, reason="backfillLimit") == 5
    limited = bench.put(
        "plain", retryLimit=2, startingDeadlineSeconds=60, schedule="0 * * * *", frequency=None
    )
    assert not hasattr(limited.spec, "sentences")
    assert bench.value(skips, job="plain", reason="retryLimit") == 0
    assert bench.value(skips, job="plain", reason="startingDeadline") == 0


def test_a_job_that_is_gone_is_told_no_more(bench: Bench) -> None:
    """And one of the same name that is made anew starts at 0."""
    before = bench.put("job", uid="first")
    bench.metrics.status_written(before, Status(history=(entry(0),)), ())
    bench.metrics.failed(Key("web", "job"), ApiError(0, "", "away"), 1.0)
    bench.store.drop_resource(Key("web", "job"), "first")
    assert not [
        one for one in bench.scrape().values() if one.name.startswith("crontabber_job_") and one.samples
    ]
    bench.put("job", uid="second", version=5)
    assert bench.value("crontabber_job_runs_total", result="Succeeded") == 0
    bench.metrics.forgotten(Key("web", "job"))
    assert bench.value("crontabber_reconcile_failing_resources", job="") == 0


def test_an_invalid_job_is_told_as_far_as_it_can_be(bench: Bench) -> None:
    """Nothing is known of its slots; its state is what the alert asks for."""
    status = Status.read({"state": "Invalid", "schedule": 'a "quoted"\\one'})
    bench.put("job", status, frequency="0x")
    assert bench.value("crontabber_job_state", state="Invalid") == 1
    assert bench.value("crontabber_job_missed_slots") is None
    assert bench.value("crontabber_job_success_overdue_seconds") is None
    assert bench.value("crontabber_job_info", command="", schedule='a "quoted"\\one', mode="") == 1


def test_a_job_that_can_not_be_counted_hides_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is a defect, so it is logged; the scrape goes on."""
    real = known_figures.figures_of

    def counted(job: Job, now: datetime) -> Figures:
        if job.name == "bad":
            raise OverflowError(job.name)
        return real(job, now)

    monkeypatch.setattr(known_figures, "figures_of", counted)
    bench.put("bad")
    bench.put("job")
    assert bench.value("crontabber_job_missed_slots", "bad") is None
    assert bench.value("crontabber_job_consecutive_errors", "bad") == 0
    assert bench.value("crontabber_job_missed_slots") is not None
    assert "web/bad" in caplog.text


def test_labels_are_escaped() -> None:
    """Whatever is in them, it stays one label."""
    assert escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


def test_how_a_job_is_run_is_told(bench: Bench) -> None:
    """Plain or gated, command and schedule."""
    bench.put("job")
    bench.put("other", backfill=True)
    assert bench.value("crontabber_job_info", command="work", schedule="every 1h", mode="plain") == 1
    assert bench.value("crontabber_job_info", "other", command="work", schedule="every 1h", mode="gated") == 1


def run(**changes: Any) -> Run:
    """Return a run that was released."""
    values: dict[str, Any] = {
        "name": "job-1",
        "uid": "run",
        "resource_version": "1",
        "kind": RunKind.ONE_OFF,
        "slot": SLOT,
        "through": SLOT,
        "attempt": 1,
        "template_hash": "",
        "created": SLOT,
        "suspended": True,
        "released": False,
    }
    return Run(**{**values, **changes})


CLAIM = Ongoing(slot=SLOT, through=SLOT, job="job-1", uid="run", since=NOW - timedelta(seconds=2))
SHORTLY = NOW - timedelta(seconds=4)


@pytest.mark.parametrize(
    ("made", "status", "spec", "seconds"),
    [
        (run(slot=SHORTLY, created=SHORTLY), Status(), {}, 4),
        (run(slot=SHORTLY, created=SLOT), Status(), {}, 4),
        (run(created=SHORTLY), Status(), {}, 4),
        (run(), Status(history=(replace(entry(0), finished=SHORTLY),)), {}, 4),
        (run(), Status(retry=Retry(of="1/x", failures=1, not_before=SHORTLY)), {}, 4),
        (run(), Status(ongoing=CLAIM), {}, 1200),
        (run(), Status(ongoing=CLAIM), {"dependsOn": [{"name": "other"}]}, 2),
        (run(), Status(ongoing=CLAIM), {"concurrencyGroup": "one"}, 2),
        (run(created=NOW + timedelta(seconds=30)), Status(), {}, 0),
    ],
    ids=["slot", "made ahead", "made late", "run before", "retry", "at once", "dependency", "turn", "skew"],
)
def test_a_release_is_late_from_when_it_was_possible(
    bench: Bench, made: Run, status: Status, spec: dict[str, Any], seconds: float
) -> None:
    """Neither the run before it nor a retry's wait nor other jobs are the operator's delay."""
    resource = bench.put("job", status, backfill=True, **spec)
    assert isinstance(resource.spec, Spec)
    bench.metrics.released(resource, made)
    assert bench.value("crontabber_release_latency_seconds_sum", job="") == seconds
    assert bench.value("crontabber_release_latency_seconds_count", job="") == 1


def test_looks_and_their_errors_are_counted(bench: Bench) -> None:
    """By the answer of the API server; a resource counts as failing until it went well."""
    errors, key = "crontabber_reconcile_errors_total", Key("web", "job")
    assert bench.value(errors, job="", reason="Unexpected") == 0
    assert bench.value(errors, job="", reason="Unreachable") == 0
    for error in (ApiError(403, "Forbidden", "no"), ApiError(0, "", "away"), ValueError("defect")):
        bench.metrics.failed(key, error, 1.0)
    assert [bench.value(errors, job="", reason=one) for one in ("403", "Unreachable", "Unexpected")] == [
        1,
        1,
        1,
    ]
    assert bench.value("crontabber_reconcile_failing_resources", job="") == 1
    bench.metrics.passed(key, 0.02)
    assert bench.value("crontabber_reconcile_failing_resources", job="") == 0
    assert bench.value("crontabber_reconcile_duration_seconds_count", job="") == 1


def test_a_scrape_of_many_jobs_leaves_room_for_other_work(bench: Bench) -> None:
    """It comes in small slices, also while slots are counted; and a job that goes in between disturbs nothing."""
    for number in range(2000):
        bench.put(f"job-{number}", Status(settled_through=SLOT))
    slices: Iterator[bytes] = bench.metrics.text()
    first = next(slices)
    assert first == b""
    bench.store.drop_resource(Key("web", "job-1999"), "uid-job-1999")
    rest = list(slices)
    assert max(len(one) for one in rest) < 200_000
    assert b"".join(rest).count(b"\ncrontabber_job_info{") == 1999


def test_a_standby_tells_nothing_of_jobs(bench: Bench) -> None:
    """Sums over all operators are right; its own series go on, and jobs are back when it leads again."""
    bench.put("job", Status(state=State.WAITING))
    assert (bench.value("crontabber_job_missed_slots"), bench.value("crontabber_operator_leader", "")) != (
        None,
        0.0,
    )
    bench.metrics.leading(False)
    assert bench.value("crontabber_job_missed_slots") is None
    assert bench.value("crontabber_operator_leader", "") == 0.0
    bench.metrics.leading(True)
    assert bench.value("crontabber_job_missed_slots") is not None
    assert bench.value("crontabber_operator_leader", "") == 1.0
