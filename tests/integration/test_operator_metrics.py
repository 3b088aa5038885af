"""The metrics of real operators, over HTTP: counted once, right after a restart, gone with the job."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.chart_release import free_ports
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import before, short, written

pytestmark = pytest.mark.side_by_side

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """The metrics at a port."""

    def __init__(self, port: int) -> None:
        self._pool = urllib3.PoolManager(retries=False)
        self._port = port

    @property
    def environment(self) -> dict[str, str]:
        """Return what tells an operator to serve them."""
        return {"CRONTABBER_METRICS": f"127.0.0.1:{self._port}"}

    def get(self, path: str = "/metrics") -> urllib3.BaseHTTPResponse:
        """Ask for a page. Raises HTTPError where nobody answers."""
        return self._pool.request("GET", f"http://127.0.0.1:{self._port}{path}", timeout=30)

    def samples(self) -> Samples:
        """Return all that is told; nothing while nobody answers."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            text = self.get().data.decode()
            return {
                (one.name, frozenset(one.labels.items())): one.value
                for family in text_string_to_metric_families(text)
                for one in family.samples
            }
        return {}

    def value(self, name: str, **labels: str) -> float | None:
        """Return one value, None where it is not told."""
        return self.samples().get((name, frozenset(labels.items())))


def test_runs_are_counted_by_whoever_recorded_them(own: OwnOperators) -> None:
    """Two operators on one job: together they count each run exactly once."""
    bed = own.bed
    places = [Scraped(port) for port in free_ports(2)]
    operators = [own.start(environment=place.environment) for place in places]
    first, *slots = bed.missed_slots(7)
    job = bed.job("job", backfill=True, annotations={"mark-success": before([first])})
    labels = {"namespace": bed.namespace, "crontabberjob": job}

    def runs() -> float:
        name = "crontabber_job_runs_total"
        return sum(place.value(name, **labels, result="Succeeded") or 0 for place in places)

    count = 1 + len(slots)
    bed.wait_status(job, missed=0, state="Waiting", lastSuccessTime=written(slots[-1]))
    bed.wait(lambda: runs() == count, f"{count} runs are counted")
    bed.annotate(job, mark_success=written(first))
    bed.wait_good(job, count + len(slots))
    bed.wait(lambda: runs() == count + len(slots), "the second round is counted")
    state = {
        "crontabber_job_last_success_timestamp_seconds": slots[-1].timestamp(),
        "crontabber_job_missed_slots": 0,
        "crontabber_job_success_overdue_seconds": 0,
    }
    bed.wait(
        lambda: all(
            place.value(name, **labels) == value for place in places for name, value in state.items()
        ),
        "each tells the job's state, whoever recorded its runs",
    )
    durations = sum(
        place.value("crontabber_job_run_duration_seconds_count", **labels) or 0 for place in places
    )
    assert durations == runs()
    latency = "crontabber_release_latency_seconds_count"
    bed.wait(
        lambda: sum(place.value(latency) or 0 for place in places) == runs(), "each of them was released once"
    )
    operators[0].terminate()
    own.start(environment=places[0].environment)
    last = slots[-1].timestamp()
    bed.wait(
        lambda: places[0].value("crontabber_job_last_success_timestamp_seconds", **labels) == last,
        "the new operator tells the last success",
    )
    assert places[0].value("crontabber_job_runs_total", **labels, result="Succeeded") == 0


def test_a_job_that_fails_and_is_deleted(own: OwnOperators) -> None:
    """What is missed and failed is told while it lasts; and nothing of the job after its deletion."""
    bed = own.bed
    place = Scraped(free_ports(1)[0])
    own.start(environment=place.environment)
    slots = bed.missed_slots(3)
    bed.control("job", failures=99, how="exit")
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    labels = {"namespace": bed.namespace, "crontabberjob": job}
    errors = "crontabber_job_consecutive_errors"

    def of_job(name: str, **more: str) -> tuple[str, frozenset[tuple[str, str]]]:
        return name, frozenset({**labels, **more}.items())

    def two_failures() -> Samples | None:
        # The watch may show a write before its answer comes, which is counted.
        samples = place.samples()
        known = (
            samples.get(of_job(errors), 0),
            samples.get(of_job("crontabber_job_runs_total", result="Failed"), 0),
        )
        return samples if min(known) >= 2 else None

    told = bed.wait(two_failures, "two failures are told")

    def value(name: str, **more: str) -> float:
        return told[of_job(name, **more)]

    assert value("crontabber_job_missed_slots") == len(slots)
    assert value("crontabber_job_oldest_missed_slot_timestamp_seconds") == slots[0].timestamp()
    assert value("crontabber_job_success_overdue_seconds") > 0
    assert value("crontabber_job_runs_total", result="Succeeded") == 0
    assert value("crontabber_job_state", state="Retrying") == 1
    assert value("crontabber_job_info", command="record", schedule=bed.schedule, mode="gated") == 1
    assert place.get("/").status == 404
    bed.control("job")
    bed.wait(lambda: place.value(errors, **labels) == 0, "it recovers")
    bed.wait_good(job, len(slots))
    assert bed.good(job)[0] == short(slots[0])
    bed.delete("crontabberjobs", job)
    label = ("crontabberjob", job)
    bed.wait(
        lambda: not [name for name, of in place.samples() if label in of],
        "nothing of the job is told any more",
    )


def test_a_port_that_is_taken_stops_nobody(own: OwnOperators) -> None:
    """The operator works without it, says so once, and serves as soon as the port is free."""
    bed = own.bed
    place = Scraped(free_ports(1)[0])
    first = own.start(environment=place.environment)
    bed.wait(place.samples, "the first operator serves")
    second = own.start(environment=place.environment)
    bed.wait(lambda: "--metrics: can't listen" in second.log(), "the second one says that it can't")
    first.terminate()
    job = bed.job("job", backfill=True, annotations={"mark-success": before(bed.missed_slots(1))})
    bed.wait_good(job, 1)
    bed.wait(
        lambda: place.value("crontabber_job_missed_slots", namespace=bed.namespace, crontabberjob=job) == 0,
        "the second operator serves",
    )
    assert second.log().count("can't listen") == 1
