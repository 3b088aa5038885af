"""Fixtures of the operator's tests: one devcluster and one operator a session, a namespace for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import Cluster, LocalImage
from tests.integration.operator_process import ROOT, OperatorProcess
from tests.integration.side_by_side import (
    MARKER,
    SHARED,
    OwnOperators,
    Stage,
    apply_crd,
    is_side_by_side,
    waits_for_the_clock,
)
from tests.integration.testbed import Api, Testbed

NEVER_LOGGED = ("Traceback", "unexpected error", "no rest after", "never awaited", "Task was destroyed")


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest the marker."""
    config.addinivalue_line("markers", f"{MARKER}: runs beside other tests, in a thread (side_by_side.py)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what runs side by side at the end: nothing else is disturbed by it."""
    items.sort(key=lambda item: (is_side_by_side(item), not waits_for_the_clock(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Take up the outcome of a test that runs side by side with others."""
    if not is_side_by_side(pyfuncitem):
        return None
    stage = pyfuncitem.funcargs["stage"]
    assert isinstance(stage, Stage)
    stage.outcome(pyfuncitem)
    return True


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
        apply_crd(cluster)
        yield cluster
        return
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        cluster = Cluster.start(f"operator-{os.getpid()}", images=images, audit=True)
    try:
        apply_crd(cluster)
        yield cluster
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(state))
            cluster.stop()


@pytest.fixture(scope="session")
def stage(operator_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return what gives each test its namespace; with the operator that serves all called `shared-…`."""
    log_file = tmp_path_factory.mktemp("operator") / "shared.log"
    api = Api(operator_cluster.kubeconfig)
    with OperatorProcess.start(operator_cluster.kubeconfig, log_file, namespaces=[f"{SHARED}-*"]) as operator:
        yield Stage(
            operator_cluster, api, operator, lambda name: tmp_path_factory.mktemp(name, numbered=False)
        )
        assert operator.runs, f"the shared operator ended:\n{operator.log_tail()}"
        log = operator.own_log()
        assert not [line for line in log.splitlines() if any(words in line for words in NEVER_LOGGED)], log


@pytest.fixture
def bed(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Testbed | None]:
    """Return a namespace that the shared operator serves."""
    if is_side_by_side(request.node):
        yield None  # made where the test runs
        return
    with stage.bed() as made:
        yield made


@pytest.fixture
def own(request: pytest.FixtureRequest, stage: Stage) -> Iterator[OwnOperators | None]:
    """Return a namespace whose operators the test starts and ends itself."""
    if is_side_by_side(request.node):
        yield None  # made where the test runs
        return
    with stage.own() as made:
        yield made


@pytest.fixture
def cluster(operator_cluster: Cluster) -> Cluster:
    """Return the cluster itself."""
    return operator_cluster
