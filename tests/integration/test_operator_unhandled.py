"""An error that nobody expects: told once for each try, counted, tried again with growing delays; others go on."""

from __future__ import annotations

import re

import pytest

from tests.integration.chart_release import free_ports
from tests.integration.side_by_side import OwnOperators
from tests.integration.test_operator_metrics import Scraped
from tests.integration.testbed import before, short, written

pytestmark = pytest.mark.side_by_side

TIMES = 3
TOLD = re.compile(r"(\S+)/(\S+): unexpected error; tried again in (\d+) s")


@pytest.mark.parametrize("where", ["put_resource", "put_job", "put_cronjob", "decide", "begins", "rests"])
def test_a_poisoned_resource_is_told_and_tried_again_and_stops_nobody(own: OwnOperators, where: str) -> None:
    """Wherever it strikes: in what takes an event of a watch in, in a decision, or beside it."""
    bed = own.bed
    (port,) = free_ports(1)
    metrics = Scraped(port)
    environment = {"OPERATOR_POISON": f"{where}:poisoned:{TIMES}", **metrics.environment}
    operator = own.start(environment=environment)
    slots = bed.missed_slots(2)
    for job in ("poisoned", "well"):
        bed.job(job, backfill=True, annotations={"mark-success": before(slots)})
    for job in ("well", "poisoned"):
        bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
        assert bed.good(job) == [short(slot) for slot in slots]
    told = TOLD.findall(operator.log())
    assert [(namespace, name) for namespace, name, _ in told] == [(bed.namespace, "poisoned")] * TIMES
    assert [int(delay) for *_, delay in told] == [1, 2, 4]
    assert operator.log().count("RuntimeError: poisoned") == TIMES, "with its traceback, once"
    errors = metrics.value("crontabber_reconcile_errors_total", reason="Unexpected")
    assert errors == TIMES
    bed.wait(lambda: metrics.value("crontabber_reconcile_failing_resources") == 0, "none fails any more")
    assert operator.runs
