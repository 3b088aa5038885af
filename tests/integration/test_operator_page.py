"""The status page of a real operator: jobs in all states on a real cluster, and what changes while one looks."""

from __future__ import annotations

import json

import pytest

from crontabber_operator.models import State
from tests.browser import Browser
from tests.integration.chart_release import free_ports
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import before

pytestmark = pytest.mark.side_by_side

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def test_jobs_in_all_states_are_seen_and_change_while_one_looks(own: OwnOperators) -> None:
    """What commands printed is text; a run that ends moves its job without a reload; the next operator goes on."""
    bed = own.bed
    (port,) = free_ports(1)
    environment = {"CRONTABBER_PAGE": f"127.0.0.1:{port}"}
    operator = own.start(environment=environment)
    slots = bed.missed_slots(3)
    three, one = before(slots), before(slots[-1:])
    bed.control("catching-up", hold=True)
    bed.control("running", hold=True)
    for name in ("retrying", "exhausted"):
        bed.control(name, failures=99, how="exit", say=HOSTILE)
    bed.job("catching-up", backfill=True, annotations={"mark-success": three})
    bed.job("running", backfill=True, annotations={"mark-success": one})
    bed.job("retrying", backfill=True, retryDelaySeconds=600, annotations={"mark-success": one})
    bed.job("exhausted", backfill=True, retryLimit=0, annotations={"mark-success": one})
    bed.job("suspended", suspend=True)
    bed.job("invalid", schedule="30-10 * * * *")
    bed.job("waiting")
    with Browser(bed.folder / "chromium") as browser:
        bed.wait(lambda: operator.log().count("--page: listening"), "the page is served")
        browser.open(f"http://127.0.0.1:{port}/")
        states = (
            "JSON.stringify([...document.querySelectorAll('#rows > tr:not(.details)')].map(row =>"
            " [row.querySelector('.name').textContent, row.querySelector('.badge').textContent]))"
        )
        wanted = {
            "catching-up": "catching up",
            "running": "running",
            "retrying": "retrying",
            "exhausted": "retries exhausted",
            "suspended": "suspended",
            "invalid": "invalid",
            "waiting": "waiting",
        }
        assert len(wanted) == len(State)
        bed.wait(lambda: dict(json.loads(browser.js(states))) == wanted, "all states are seen")
        browser.js("window.stays = true")
        browser.js("[...document.querySelectorAll('.name')].find(e => e.textContent === 'retrying').click()")
        error = "document.querySelector('pre')"
        browser.wait(f"{error} && {error}.textContent.includes({json.dumps(HOSTILE)})")
        assert "taken" not in browser.js("document.title")
        assert "30-10" in browser.js("document.querySelector('#rows').innerText")
        bed.control("running")
        bed.control("catching-up")
        moved = wanted | {"running": "waiting", "catching-up": "waiting"}
        bed.wait(lambda: dict(json.loads(browser.js(states))) == moved, "runs that ended are seen")
        bed.delete("crontabberjobs", "suspended")
        del moved["suspended"]
        bed.wait(lambda: dict(json.loads(browser.js(states))) == moved, "a deleted job is gone")
        operator.kill()
        own.start(environment=environment)
        bed.control("retrying")
        bed.annotate("retrying", mark_success="now")
        moved["retrying"] = "waiting"
        bed.wait(lambda: dict(json.loads(browser.js(states))) == moved, "the next operator goes on")
        assert browser.js("window.stays") is True
        assert [one for one in browser.complaints if "net::ERR_" not in one] == []
