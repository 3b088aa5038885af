"""The status: it survives what people write into it, and costs few requests."""

from __future__ import annotations

import pytest

from crontabber_operator.output_marks import Marks
from crontabber_operator.output_progress import Stage
from devcluster import Cluster
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import JSON_PATCH, Body, Requests, Testbed, before, short, written

pytestmark = pytest.mark.side_by_side


def test_status_edited_to_garbage_does_not_stop_the_job(own: OwnOperators) -> None:
    """Whatever somebody writes into the status by hand: the job goes on, and the operator with it."""
    bed = own.bed
    slots = bed.missed_slots(2)
    operator = own.start()
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    for count, garbage in enumerate(GARBAGE, start=2):
        # It sees both at once: of a cursor long ago alone it would run the slots since then.
        operator.stop()
        bed.wait(lambda: operator.is_stopped, "it is stopped")
        bed.patch("crontabberjobs", job, {"status": garbage}, subresource="status")
        bed.annotate(job, mark_success=before(slots))
        operator.go_on()
        bed.wait_good(job, count * len(slots))
        status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]), state="Waiting")
        assert status["history"][0]["slot"] == written(slots[-1])
    bed.patch(
        "crontabberjobs", job, [{"op": "remove", "path": "/status"}], subresource="status", kind=JSON_PATCH
    )
    bed.wait_status(job, state="Waiting", missed=0)
    assert bed.good(job) == (1 + len(GARBAGE)) * [short(slot) for slot in slots]
    assert "Traceback" not in operator.own_log()


LONG_AGO = "0001-01-01T00:00:00Z"
GARBAGE: list[Body] = [
    {"errorCount": 2**40, "history": [], "lastError": {"type": "X", "slot": LONG_AGO}},
    {"settledThrough": "9999-12-31T23:59:59Z", "lastSuccessTime": "9999-12-31T23:59:59Z"},
    {"settledThrough": LONG_AGO, "lastSuccessTime": LONG_AGO},
    {
        "ongoing": {
            "slot": "2026-01-01T00:00:00Z",
            "through": "2026-01-01T00:00:00Z",
            "job": "no-such-job",
            "uid": "no-such-uid",
        }
    },
    {"lastCommands": [{"id": "1", "name": "no-such-command", "result": "Pending"}], "state": None},
    {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "X", "lastTransitionTime": LONG_AGO}]},
]


def test_a_run_takes_at_most_three_writes_and_an_idle_job_none(own: OwnOperators, cluster: Cluster) -> None:
    """Creation, claim with the books of the run before, release; and one to delete what the limits don't keep."""
    bed = own.bed
    own.start()
    requests = Requests(cluster.audit_log, bed.namespace)
    first, *slots = bed.missed_slots(9)
    job = bed.job("job", backfill=True, passLastSuccess=True, annotations={"mark-success": before([first])})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    wait_rest(bed, job, requests, deletions=1 + len(slots) - 3)
    requests = Requests(cluster.audit_log, bed.namespace)
    bed.annotate(job, mark_success=written(first))
    bed.wait_good(job, 1 + 2 * len(slots))
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]), state="Waiting")
    wait_rest(bed, job, requests, deletions=len(slots))
    writes = requests.writes()
    runs = [one for one in writes if (one.verb, one.resource) != ("delete", "jobs")]
    commands = 3  # taken, annotation removed, done
    last_books = 1
    assert len(runs) <= 3 * len(slots) + commands + last_books, "\n".join(map(str, runs))
    assert [one.verb for one in writes].count("delete") <= len(slots)
    # Another job's whole life shows that time has passed; the idle one asked for nothing meanwhile.
    idle = Requests(cluster.audit_log, bed.namespace)
    other = bed.job("other", backfill=True, annotations={"mark-success": before(slots[-3:])})
    bed.wait_status(other, missed=0, settledThrough=written(slots[-1]))
    assert [one for one in idle.all() if one.name.startswith(job)] == []


def wait_rest(bed: Testbed, job: str, requests: Requests, *, deletions: int) -> None:
    """Wait until old Jobs are deleted, also by the audit log, and all output was read, by the operator's marks."""

    def is_told() -> bool:
        marks = Marks(bed.folder / "state" / "crontabber" / "output")
        found = [marks.find(one["metadata"]["uid"]) for one in bed.objects("jobs", job)]
        return all(mark is None or mark.stage is Stage.RUN for mark in found)

    bed.wait(lambda: len(bed.objects("jobs", job)) == 3, "old Jobs are deleted")
    bed.wait(
        lambda: [one.verb for one in requests.writes()].count("delete") >= deletions, "the audit log has that"
    )
    bed.wait(is_told, "all that was printed is told")
