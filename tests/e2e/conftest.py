"""Fixtures of the end-to-end tests: one site, one installed chart a session, a namespace for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.installed import TIMEOUT_SECONDS, Chart, api_of, bed_of
from tests.e2e.sites import WORK, Site, site
from tests.integration.conftest import NEVER_LOGGED, bed, pytest_configure, pytest_pyfunc_call
from tests.integration.operator_process import without_output
from tests.integration.side_by_side import Stage, is_side_by_side
from tests.integration.testbed import Testbed

__all__ = ["bed", "pytest_configure", "pytest_pyfunc_call"]

AT_ONCE = 6
LOGS = WORK / "logs"
SAID = pytest.StashKey[list[str]]()
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what runs side by side first: what disturbs the operator runs alone, at the end."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    items.sort(key=lambda item: item in ours and not is_side_by_side(item))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the tests ran, and what was missing."""
    for line in config.stash.get(SAID, []):
        terminalreporter.write_line(f"e2e: {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note whether anything failed: then the logs are kept."""
    report = yield
    if report.failed:
        item.config.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Return the site. What takes long tells how far it is."""
    config = request.config
    capture = config.pluginmanager.getplugin("capturemanager")
    reporter = config.pluginmanager.getplugin("terminalreporter")

    def tell(line: str) -> None:
        config.stash.setdefault(SAID, []).append(line)
        reporter.write_line(f"e2e: {line}")

    shutil.rmtree(LOGS, ignore_errors=True)
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        manager = site(tell)
        made = manager.__enter__()
    try:
        yield made
        if config.stash.get(FAILED, False):
            keep_logs(made)
            tell(f"The logs of the cluster are in {LOGS}.")
    finally:
        manager.__exit__(None, None, None)


def keep_logs(place: Site) -> None:
    """Copy what the cluster's components, its operator and its Events say."""
    LOGS.mkdir(parents=True, exist_ok=True)
    cluster = place.cluster
    if hasattr(cluster, "export_logs"):
        cluster.export_logs(LOGS)
    else:
        for path in cluster.log_path("x").parent.glob("*.log"):
            shutil.copy(path, LOGS)
    (LOGS / "operator.log").write_text(Chart(place).describe(), encoding="utf-8")
    for kind in ("events", "pods", "jobs", "cronjobs", "crontabberjobs"):
        text = cluster.kubectl("get", kind, "--all-namespaces", "--output=wide")
        (LOGS / f"{kind}.txt").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def chart(place: Site) -> Iterator[Chart]:
    """Return the installed chart; its operator may not complain, nor end by itself."""
    made = Chart(place)
    made.install()
    yield made
    log = without_output(made.log_tail())
    assert not [line for line in log.splitlines() if any(words in line for words in NEVER_LOGGED)], log
    ended = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in made.pods()]
    assert not any(ended), made.describe()


@pytest.fixture(scope="session")
def folder() -> Callable[[str], Path]:
    """Return what makes an empty folder, which the node can have too."""
    top = WORK / f"evidence-{os.getpid()}"

    def make(name: str) -> Path:
        path = top / name
        path.mkdir(parents=True)
        path.chmod(0o777)  # containers of whatever user write into it
        return path

    yield make
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="session")
def stage(place: Site, chart: Chart, folder: Callable[[str], Path]) -> Stage:
    """Return what gives each test its namespace, which the chart's operator serves."""
    return Stage(place.cluster, api_of(place), chart, folder, make_bed=bed_of(place), at_once=AT_ONCE)


@pytest.fixture
def cluster(place: Site) -> object:
    """Return the cluster itself."""
    return place.cluster


@pytest.fixture
def team(place: Site, chart: Chart, folder: Callable[[str], Path]) -> Iterator[Testbed]:
    """Return a namespace for a test that runs alone."""
    name = f"team-{os.getpid()}-{next(NUMBERS)}"
    made = bed_of(place)(api_of(place), name, folder(name), lambda: [chart])
    yield made
    made.remove()


@pytest.fixture
def wait() -> Callable[[Callable[[], object], str], None]:
    """Return what waits until something holds, where there is no testbed."""

    def until(holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.2)

    return until


NUMBERS = itertools.count(1)
