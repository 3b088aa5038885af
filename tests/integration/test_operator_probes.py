"""The probes of a running operator fail where it doesn't watch or decide any more, and for nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import urllib3

from tests.integration.chart_release import free_ports
from tests.integration.line import Line
from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import OwnOperators
from tests.integration.test_operator_election import LEASE, candidate, holder, miss
from tests.integration.testbed import Body

pytestmark = pytest.mark.side_by_side

AWAY_SECONDS = 60.0


class Probes:
    """Asks an operator's probes, as the kubelet does."""

    def __init__(self, own: OwnOperators) -> None:
        """Choose a port."""
        (self.port,) = free_ports(1)
        self._own = own
        self._pool = urllib3.PoolManager(retries=False, timeout=10.0)

    def launch(self, fault: str, **environment: str) -> OperatorProcess:
        """Start an operator that answers here, perhaps never that it lives."""
        return self._own.start(fault, {"CRONTABBER_HEALTH": f"127.0.0.1:{self.port}", **environment})

    def start(
        self, fault: str = "none", kubeconfig: Path | None = None, **environment: str
    ) -> OperatorProcess:
        """Start an operator that answers here; return when it lives."""
        more = {"KUBECONFIG": str(kubeconfig)} if kubeconfig is not None else {}
        operator = self.launch(fault, **more, **environment)
        self.wait("healthz", 200)
        return operator

    def ask(self, which: str) -> tuple[int, Body]:
        """Return status and answer; 0 where there is none."""
        try:
            response = self._pool.request("GET", f"http://127.0.0.1:{self.port}/{which}")
        except urllib3.exceptions.HTTPError:
            return 0, {}
        answer: Body = response.json()
        return response.status, answer

    def wait(self, which: str, status: int) -> Body:
        """Wait for an answer of this status."""

        def answered() -> Body | None:
            found, answer = self.ask(which)
            return answer or {"status": 0} if found == status else None

        return self._own.bed.wait(answered, f"/{which} answers {status}")


def test_an_operator_that_watches_and_decides_lives_and_is_ready(own: OwnOperators) -> None:
    """Also while it has a lot to do, and when there is nothing at all to watch."""
    probes = Probes(own)
    operator = probes.start()
    probes.wait("readyz", 200)
    slots = own.bed.missed_slots(5)
    job = miss(own.bed, "job", slots)
    own.bed.wait_good(job, 5)
    assert probes.ask("healthz") == (200, {"ok": True, "reasons": [], "election": "off"})
    assert operator.terminate() == 0


def test_a_standby_is_ready_and_says_that_it_stands_by(own: OwnOperators) -> None:
    """A rolling update goes on when the new operator stands by."""
    candidate(own, "first")
    own.bed.wait(lambda: holder(own.bed) == "first", "the first leads")
    probes = Probes(own)
    probes.start(
        CRONTABBER_LEADER_ELECTION="on", CRONTABBER_LEASE=f"{own.bed.namespace}/{LEASE}", POD_NAME="second"
    )
    # It may be ready before it has seen the Lease.
    told = {"ok": True, "reasons": [], "election": "standby; first leads"}
    own.bed.wait(lambda: probes.ask("readyz") == (200, told), "it is ready, and stands by")


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_an_api_server_that_is_away_for_a_minute_fails_no_liveness(own: OwnOperators, how: str) -> None:
    """It refuses, or it swallows all that is asked; the operator lives on, and works when it is back."""
    bed = own.bed
    probes = Probes(own)
    copy = bed.folder / "line.kubeconfig"
    slots = bed.missed_slots(3)
    with Line.to(own.cluster.kubeconfig, copy) as line:
        operator = probes.start(
            kubeconfig=copy,
            CRONTABBER_LEADER_ELECTION="on",
            CRONTABBER_LEASE=f"{bed.namespace}/{LEASE}",
            HEALTH_LASTS_SECONDS="5",
            HEALTH_ECHO_SECONDS="5",
        )
        job = miss(bed, "job", slots)
        bed.control(job, hold=True)
        bed.wait_running(job)
        getattr(line, how)()
        bed.control(job)
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            assert probes.ask("healthz")[0] == 200
            time.sleep(1.0)
        line.mend()
        bed.wait_good(job, 3)
        bed.wait_status(job, missed=0)
        assert probes.ask("healthz")[0] == 200
        assert operator.runs


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("claim:before:1:hang", "does not end"),
        ("deaf", "the watch of crontabberjobs shows nothing"),
        ("clock", "nobody is woken in time"),
    ],
)
def test_an_operator_that_works_no_more_fails_liveness(own: OwnOperators, fault: str, reason: str) -> None:
    """A pass that hangs, a watch that shows nothing, a ticker that wakes nobody: with the reason in the answer."""
    bed = own.bed
    probes = Probes(own)
    probes.launch(
        fault,
        HEALTH_LASTS_SECONDS="1",
        HEALTH_ECHO_SECONDS="5",
        HEALTH_STUCK_SECONDS="5",
        HEALTH_TICKER_SECONDS="5",
    )
    bed.control("job", failures=9)
    miss(bed, "job", bed.missed_slots(2))

    def fails() -> bool:
        status, answer = probes.ask("healthz")
        return status == 503 and any(reason in each for each in answer["reasons"])

    bed.wait(fails, f"it does not live, because {reason}")
    assert probes.ask("readyz")[0] == 503


def test_an_operator_whose_loop_is_blocked_does_not_answer(own: OwnOperators) -> None:
    """The kubelet's own timeout notices that."""
    probes = Probes(own)
    probes.start("claim:before:1:block")
    miss(own.bed, "job", own.bed.missed_slots(1))
    probes.wait("healthz", 0)


def test_an_operator_whose_ticker_ended_ends(own: OwnOperators) -> None:
    """It would only look alive."""
    operator = Probes(own).launch("ended")
    own.bed.wait(lambda: not operator.runs, "it ends")
    assert "The reconciler ended" in operator.log()
