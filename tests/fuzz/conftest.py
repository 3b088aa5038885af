"""Fixtures of the fuzz tests: a cluster whose pods end at once, and one operator on its namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from devcluster import Cluster
from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import apply_crd
from tests.integration.testbed import Api

PREFIX = "fuzz"


@pytest.fixture(scope="session")
def fuzz_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster of instant pods; its requests are logged.

    To try again and again: `python -m devcluster up --name x --node=instant --audit`, then CRONTABBER_FUZZ_CLUSTER=x.
    """
    kept = os.environ.get("CRONTABBER_FUZZ_CLUSTER")
    if kept:
        cluster = Cluster.attach(kept)
        apply_crd(cluster)
        yield cluster
        return
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        flags = ("--kube-api-qps=300", "--kube-api-burst=600", "--concurrent-job-syncs=20")
        cluster = Cluster.start(
            f"fuzz-{os.getpid()}", node="instant", audit=True, controller_manager_flags=flags
        )
    try:
        apply_crd(cluster)
        yield cluster
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(state))
            cluster.stop()


@pytest.fixture
def fuzz_api(fuzz_cluster: Cluster) -> Api:
    """Return the way to its API server."""
    return Api(fuzz_cluster.kubeconfig)


@pytest.fixture
def fuzz_operator(
    fuzz_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Return an operator."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with OperatorProcess.start(fuzz_cluster.kubeconfig, log, namespaces=[f"{PREFIX}-*"]) as operator:
        yield operator
