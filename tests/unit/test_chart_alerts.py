"""The chart's alerts and dashboard, on Prometheus' own query engine (tests/promrules/) and the metrics that exist.

An alert is tested with what the operator really tells: resources are put into a store, the clock goes on minute by
minute, each scrape becomes a minute of Prometheus' series.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crontabber_operator.cluster import ApiError
from crontabber_operator.exposition import JOB_FAMILIES
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.metrics import Metrics
from crontabber_operator.store import Key, Store
from tests.go_programs import built
from tests.integration.chart_release import ROOT, render

pytestmark = pytest.mark.timeout(900)  # helm and the rules' engine may have to be built first

Body = dict[str, Any]
START = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EVERYTHING = {
    "metrics.serviceMonitor.enabled": True,
    "metrics.prometheusRule.enabled": True,
    "metrics.prometheusRule.alertLabels": {"team": "web"},
    "metrics.dashboard.enabled": True,
}
UP = {"__name__": "up", "job": "crontabber-metrics", "namespace": "ops", "instance": "10.0.0.1:8080"}
"""What Prometheus itself adds: by the Service's name and the target's namespace."""


@pytest.fixture(scope="module")
def chart() -> list[Body]:
    """Return the objects of the chart, with all of metrics."""
    return render(values=EVERYTHING)


@pytest.fixture(scope="module")
def rules(chart: list[Body]) -> list[Body]:
    """Return the alerting rules."""
    (rule,) = (one for one in chart if one["kind"] == "PrometheusRule")
    (group,) = rule["spec"]["groups"]
    found: list[Body] = group["rules"]
    return found


@pytest.fixture(scope="module")
def dashboard(chart: list[Body]) -> Body:
    """Return the dashboard."""
    (config,) = (one for one in chart if one["kind"] == "ConfigMap")
    found: Body = json.loads(config["data"]["crontabber.json"])
    return found


def ask(question: Body) -> Body:
    """Ask Prometheus."""
    done = subprocess.run(
        [built(ROOT / "tests" / "promrules")],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: Body = json.loads(done.stdout)
    return answer


class Prometheus:
    """Scrapes operators minute by minute."""

    def __init__(self) -> None:
        self.stores: dict[str, Store] = {}
        self.metrics: dict[str, Metrics] = {}
        self.minute = 0
        self.series: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}
        self.version = 0
        self.start("10.0.0.1:8080")

    @property
    def now(self) -> datetime:
        """Return the time."""
        return START + self.minute * MINUTE

    def start(self, instance: str) -> None:
        """Start an operator."""
        self.stores[instance] = Store()
        self.metrics[instance] = Metrics(self.stores[instance], KnownFigures(), lambda: self.now)
        self.metrics[instance].leading(True)

    def stop(self, instance: str) -> None:
        """End an operator."""
        del self.stores[instance], self.metrics[instance]

    def put(self, name: str = "job", status: Body | None = None, **spec: Any) -> None:
        """Show a resource to all operators."""
        self.version += 1
        body = {
            "metadata": {
                "namespace": "web",
                "name": name,
                "uid": name,
                "resourceVersion": str(self.version),
                "generation": self.version,
                "creationTimestamp": "2026-11-24T06:30:00Z",
            },
            "spec": {"command": "work", "frequency": "1h", **spec},
            "status": status or {},
        }
        for store in self.stores.values():
            store.put_resource(body)

    def scrape(self, minutes: int) -> None:
        """Let minutes pass."""
        for _ in range(minutes):
            for instance, metrics in self.metrics.items():
                target = {**UP, "instance": instance}
                self._take(target, 1)
                text = b"".join(metrics.text()).decode()
                for family in text_string_to_metric_families(text):
                    for sample in family.samples:
                        # honorLabels: the metric's own namespace is kept.
                        self._take({**target, "__name__": sample.name, **sample.labels}, sample.value)
            self.minute += 1

    def _take(self, labels: dict[str, str], value: float) -> None:
        self.series.setdefault(tuple(sorted(labels.items())), {})[self.minute] = value

    def firing(self, rules: list[Body], at: list[int] | None = None) -> list[Body]:
        """Return the alerts that fire at these minutes; without any, at the last one."""
        series = []
        for labels, values in self.series.items():
            minutes = range(min(values), self.minute)
            series.append(
                {
                    "labels": dict(labels),
                    "values": [None] * min(values) + [values.get(one) for one in minutes],
                }
            )
        question = {
            "rules": rules,
            "series": series,
            "at": at or [self.minute - 1],
            "start": int(START.timestamp()),
        }
        found: list[Body] = ask(question)["alerts"]
        return found


def names(alerts: list[Body]) -> set[str]:
    """Return the names of alerts."""
    return {one["name"] for one in alerts}


WELL = {
    "settledThrough": "2026-11-24T11:00:00Z",
    "lastSuccessTime": "2026-11-24T11:00:00Z",
    "state": "Waiting",
}


def test_all_is_quiet_while_all_is_well(rules: list[Body]) -> None:
    """Also while slots fall due and run for a while, for a suspended job, and while an operator is replaced."""
    prometheus = Prometheus()
    prometheus.put("waits", WELL)
    prometheus.put("new", {"settledThrough": "2026-11-24T10:30:00Z"})
    suspended = {**WELL, "settledThrough": "2026-11-24T05:00:00Z", "state": "Suspended"}
    prometheus.put("suspended", suspended, suspend=True, backfill=True)
    prometheus.scrape(20)
    prometheus.start("10.0.0.2:8080")
    prometheus.put("waits", WELL)
    prometheus.scrape(2)
    prometheus.stop("10.0.0.1:8080")
    prometheus.put("new", {**WELL, "errorCount": 2})
    prometheus.scrape(58)
    assert prometheus.firing(rules, list(range(80))) == []


@dataclass(frozen=True)
class Case:
    """One alert: what brings it about, from which minute on it fires, and what it says."""

    alert: str
    cause: Callable[[Prometheus], None]
    quiet_at: int
    fires_at: int
    severity: str
    summary: str


def unsettled(prometheus: Prometheus) -> None:
    """Slots fall due from 12:00 on and nothing runs."""
    prometheus.put("job", WELL)


def given_up(prometheus: Prometheus) -> None:
    """Slots are skipped: nothing is missed, yet nothing succeeds."""
    prometheus.put("job", {**WELL, "lastSuccessTime": "2026-11-24T09:00:00Z", "skipped": 2})


def failing(prometheus: Prometheus) -> None:
    """It fails and fails."""
    prometheus.put("job", {**WELL, "state": "Retrying", "errorCount": 3})


def exhausted(prometheus: Prometheus) -> None:
    """It is given up."""
    prometheus.put("job", {**WELL, "state": "RetriesExhausted", "errorCount": 2})


def invalid(prometheus: Prometheus) -> None:
    """It can't be read."""
    prometheus.put("job", {"state": "Invalid"}, frequency="0x")


def stuck(prometheus: Prometheus) -> None:
    """The API server refuses a write again and again."""
    prometheus.put("job", WELL)
    prometheus.metrics["10.0.0.1:8080"].failed(Key("web", "job"), ApiError(403, "Forbidden", "no"), 9.0)


def gone(prometheus: Prometheus) -> None:
    """The operator ends."""
    prometheus.scrape(1)
    prometheus.stop("10.0.0.1:8080")


def led_by_nobody(prometheus: Prometheus) -> None:
    """The operator is there, and may not use its Lease."""
    prometheus.scrape(1)
    prometheus.metrics["10.0.0.1:8080"].leading(False)


DOWN = "Crontabber's operator is not there, or none of them decides."
CASES = [
    Case("CrontabberDown", gone, 10, 11, "critical", DOWN),
    Case("CrontabberDown", led_by_nobody, 10, 11, "critical", DOWN),
    Case(
        "CrontabberOperatorFailing",
        stuck,
        14,
        15,
        "warning",
        "Crontabber's operator can't get on with 1 resources.",
    ),
    Case(
        "CrontabberJobOverdue", unsettled, 125, 126, "warning", "web/job should have succeeded 1h 6m 0s ago."
    ),
    Case("CrontabberJobOverdue", given_up, 5, 6, "warning", "web/job should have succeeded 1h 6m 0s ago."),
    Case(
        "CrontabberSlotsWait",
        unsettled,
        185,
        186,
        "warning",
        "A missed slot of web/job has waited for 2h 6m 0s.",
    ),
    Case("CrontabberJobFailing", failing, -1, 0, "warning", "web/job failed 3 times in a row."),
    Case(
        "CrontabberRetriesExhausted",
        exhausted,
        -1,
        0,
        "critical",
        "web/job used up its retries; it does not run any more.",
    ),
    Case("CrontabberJobInvalid", invalid, 4, 5, "warning", "web/job can't be carried out as it is written."),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.cause.__name__}")
def test_an_alert_fires_when_it_should_and_not_before(case: Case, rules: list[Body]) -> None:
    """Once for the job, with its labels; and it says what is the matter."""
    prometheus = Prometheus()
    case.cause(prometheus)
    prometheus.scrape(case.fires_at + 1 - prometheus.minute)
    fired = [
        one for one in prometheus.firing(rules, list(range(case.fires_at + 1))) if one["name"] == case.alert
    ]
    assert [one["minute"] for one in fired if one["minute"] <= case.quiet_at] == []
    (now,) = (one for one in fired if one["minute"] == case.fires_at)
    assert now["annotations"]["summary"] == case.summary
    assert now["labels"]["severity"] == case.severity
    assert now["labels"]["team"] == "web"
    if now["labels"].get("crontabberjob"):
        assert (now["labels"]["namespace"], now["labels"]["crontabberjob"]) == ("web", "job")
        assert re.search(
            r"kubectl -n web (describe|get|annotate) ctj job\b", now["annotations"]["description"]
        )


def test_every_alert_is_tested(rules: list[Body]) -> None:
    """A new one needs a case."""
    assert {one["alert"] for one in rules} == {case.alert for case in CASES}


def test_two_operators_make_no_two_alerts(rules: list[Body]) -> None:
    """While one is replaced both tell of the job."""
    prometheus = Prometheus()
    prometheus.start("10.0.0.2:8080")
    exhausted(prometheus)
    prometheus.scrape(3)
    fired = prometheus.firing(rules)
    assert [one["labels"]["crontabberjob"] for one in fired] == ["job"]


def test_an_alert_ends_with_its_cause(rules: list[Body]) -> None:
    """A mark, or the job's deletion."""
    prometheus = Prometheus()
    exhausted(prometheus)
    prometheus.put("other", {**WELL, "state": "RetriesExhausted"})
    prometheus.scrape(2)
    assert names(prometheus.firing(rules)) == {"CrontabberRetriesExhausted"}
    prometheus.put("job", WELL)
    prometheus.stores["10.0.0.1:8080"].drop_resource(Key("web", "other"), "other")
    prometheus.scrape(1)
    assert prometheus.firing(rules) == []


def test_rules_and_dashboard_name_metrics_and_labels_that_exist(rules: list[Body], dashboard: Body) -> None:
    """Each of them, as the operator really writes them."""
    prometheus = Prometheus()
    failing(prometheus)
    prometheus.put("limited", {**WELL, "nextRunTime": "2026-11-24T12:00:00Z"}, backfill=True, backfillLimit=2)
    prometheus.put("late", {"settledThrough": "2026-11-24T09:00:00Z"}, backfill=True)
    prometheus.scrape(1)
    exist: dict[str, set[str]] = {}
    for series in prometheus.series:
        labels = dict(series)
        exist.setdefault(labels.pop("__name__"), set()).update(labels)
    variables = [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    asked = [re.fullmatch(r"label_values\((.*), (\w+)\)", one) for one in variables]
    expressions = [one["expr"] for one in rules]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [f"sum by ({one[2]}) ({one[1]})" for one in asked if one is not None]
    assert len(expressions) == len(rules) + sum(len(one["targets"]) for one in dashboard["panels"]) + len(
        variables
    )
    readable = [one.replace("$__rate_interval", "5m") for one in expressions]
    for expression, named in zip(expressions, ask({"expressions": readable})["expressions"], strict=True):
        assert named["metrics"], expression
        labels = set.union(*(exist.get(metric, set()) for metric in named["metrics"]))
        for metric, selected in named["metrics"].items():
            assert metric in exist, f"{metric}: {expression}"
            assert set(selected) <= exist[metric], expression
        assert set(named["labels"]) <= labels, expression


def test_the_dashboard_shows_every_metric_of_jobs(dashboard: Body) -> None:
    """What is worth measuring is worth looking at."""
    text = json.dumps(dashboard)
    assert [one.name for one in JOB_FAMILIES if one.name not in text] == []


def test_panels_have_room(dashboard: Body) -> None:
    """None lies on another, none beside the screen, each has an id of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_service_monitor_keeps_the_jobs_namespace(chart: list[Body]) -> None:
    """Without honorLabels `namespace` would be the operator's, and the job's would be `exported_namespace`."""
    (monitor,) = (one for one in chart if one["kind"] == "ServiceMonitor")
    assert [one["honorLabels"] for one in monitor["spec"]["endpoints"]] == [True]


def test_the_path_that_is_scraped_is_the_one_that_is_served(chart: list[Body]) -> None:
    """The ServiceMonitor names none, so it is /metrics."""
    (monitor,) = (one for one in chart if one["kind"] == "ServiceMonitor")
    assert "path" not in monitor["spec"]["endpoints"][0]
    assert Path(ROOT / "operator" / "serving.py").read_text(encoding="utf-8").count('"/metrics"') == 1
