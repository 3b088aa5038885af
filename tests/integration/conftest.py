"""Fixtures of the operator's tests: one devcluster and one operator a session, a namespace for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from devcluster import Cluster, ClusterError, LocalImage
from tests.integration.operator_process import ROOT, OperatorProcess
from tests.integration.testbed import Api, Testbed

SHARED = "shared"
_numbers = itertools.count(1)
_session = f"{os.getpid() % 100_000:x}"


@pytest.fixture(scope="session")
def operator_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return the cluster of all operator tests, with the CRD in it; its requests are logged.

    To try a test again and again: `python -m devcluster up --name x --audit`, then CRONTABBER_TEST_CLUSTER=x.
    """
    images = {
        "app": LocalImage.of(Path(__file__).with_name("command_app")),
        "webapp": LocalImage.of(ROOT / "webapp"),
    }
    kept = os.environ.get("CRONTABBER_TEST_CLUSTER")
    if kept:
        cluster = Cluster.attach(kept)
        cluster.set_images(images)
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        _wait_served(cluster)
        yield cluster
        return
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        cluster = Cluster.start(f"operator-{os.getpid()}", images=images, audit=True)
    try:
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        _wait_served(cluster)
        yield cluster
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(state))
            cluster.stop()


def _wait_served(cluster: Cluster) -> None:
    for attempt in itertools.count():
        try:
            cluster.kubectl("get", "ctj")
        except ClusterError:
            if attempt > 100:
                raise
        else:
            return


@pytest.fixture(scope="session")
def operator_api(operator_cluster: Cluster) -> Api:
    """Return the API server; refuses every cluster that isn't a devcluster."""
    return Api(operator_cluster.kubeconfig)


@pytest.fixture(scope="session")
def shared_operator(
    operator_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Return the operator that serves all namespaces called `shared-…`."""
    log = tmp_path_factory.mktemp("operator") / "shared.log"
    with OperatorProcess.start(operator_cluster.kubeconfig, log, namespaces=[f"{SHARED}-*"]) as operator:
        yield operator
        assert operator.runs, f"the shared operator ended:\n{operator.log_tail()}"


@pytest.fixture
def bed(operator_api: Api, shared_operator: OperatorProcess, tmp_path: Path) -> Iterator[Testbed]:
    """Return a namespace that the shared operator serves."""
    made = Testbed(operator_api, f"{SHARED}-{_session}-{next(_numbers)}", tmp_path / "bed", lambda: [shared_operator])
    yield made
    made.remove()


class OwnOperators:
    """A namespace, and operators that a test starts and ends itself."""

    def __init__(self, cluster: Cluster, api: Api, folder: Path) -> None:
        """Make the namespace."""
        self._cluster = cluster
        self._folder = folder
        self._stack = ExitStack()
        self.started: list[OperatorProcess] = []
        self.bed = Testbed(api, f"own-{_session}-{next(_numbers)}", folder / "bed", lambda: self.started)

    def start(self, fault: str = "", environment: dict[str, str] | None = None) -> OperatorProcess:
        """Start one more operator on the namespace, with a fault (faulty_operator.py) or without."""
        log = self._folder / f"operator-{len(self.started) + 1}{fault.replace(':', '-')}.log"
        operator = OperatorProcess.start(
            self._cluster.kubeconfig,
            log,
            namespaces=[self.bed.namespace],
            fault=fault,
            environment=environment,
        )
        self.started.append(operator)
        self._stack.enter_context(operator)
        return operator

    def close(self) -> None:
        """End all operators and remove the namespace."""
        self._stack.close()
        self.bed.remove()


@pytest.fixture
def own(operator_cluster: Cluster, operator_api: Api, tmp_path: Path) -> Iterator[OwnOperators]:
    """Return a namespace whose operators the test starts and ends itself."""
    made = OwnOperators(operator_cluster, operator_api, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_bed(
    operator_api: Api, shared_operator: OperatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Testbed]:
    """Return a function that makes further namespaces of the shared operator, for what takes minutes."""

    def make() -> Testbed:
        folder = tmp_path_factory.mktemp("bed") / "bed"
        return Testbed(operator_api, f"{SHARED}-{_session}-{next(_numbers)}", folder, lambda: [shared_operator])

    return make
