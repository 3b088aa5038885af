"""Run tests side by side in threads: the operator's tests mostly wait, for Kubernetes and for their commands.

Tests marked `side_by_side` are all started when the first of them has its turn, a few at a time and in pytest's
order; pytest then takes up their outcomes one by one, as if each had just run. They get only what `Stage` gives.
"""

from __future__ import annotations

import inspect
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from crontabber_operator.models import GROUP, PLURAL, VERSION
from devcluster import Cluster, ClusterError
from tests.integration.operator_process import ROOT, Operator, OperatorProcess
from tests.integration.testbed import Api, Testbed

MARKER = "side_by_side"
AT_ONCE = min(8, 2 * (os.cpu_count() or 1) + 1)
"""More would wait for the processors, not for Kubernetes."""
SHARED = "shared"
CRDS = ROOT / "crds"
_SESSION = f"{os.getpid() % 100_000:x}"


def is_side_by_side(item: pytest.Item) -> bool:
    """Tell whether a test is marked."""
    return item.get_closest_marker(MARKER) is not None


def waits_for_the_clock(item: pytest.Item) -> bool:
    """Tell whether a test waits for a minute: the first of these minutes should pass while others work."""
    return any(mark.kwargs.get("waits_for_the_clock") for mark in item.iter_markers(MARKER))


def apply_crd(cluster: Cluster) -> None:
    """Apply the CRD and return when it is served. `kubectl wait` fails where it has no status yet."""
    cluster.kubectl("apply", "-f", str(CRDS))
    for attempt in itertools.count():
        try:
            cluster.kubectl("get", "ctj")
        except ClusterError:
            if attempt > 100:
                raise
        else:
            return


def delete_crd(cluster: Cluster) -> None:
    """Delete the CRD and return when it is not served any more: the API server is a moment behind."""
    cluster.kubectl("delete", "-f", str(CRDS))
    for _ in range(100):
        try:
            cluster.kubectl("get", "--raw", f"/apis/{GROUP}/{VERSION}/{PLURAL}")
        except ClusterError:
            return
    raise AssertionError("the deleted CRD is still served")


class OwnOperators:
    """A namespace, and operators that a test starts and ends itself."""

    def __init__(
        self, cluster: Cluster, bed: Callable[[Callable[[], list[OperatorProcess]]], Testbed]
    ) -> None:
        """Make the namespace."""
        self.cluster = cluster
        self._stack = ExitStack()
        self.started: list[OperatorProcess] = []
        self.bed = bed(lambda: self.started)

    def start(self, fault: str = "", environment: dict[str, str] | None = None) -> OperatorProcess:
        """Start one more operator on the namespace, with a fault (faulty_operator.py) or without."""
        log = self.bed.folder / f"operator-{len(self.started) + 1}{fault.replace(':', '-')}.log"
        operator = OperatorProcess.start(
            self.cluster.kubeconfig,
            log,
            namespaces=[self.bed.namespace],
            fault=fault,
            environment=environment,
        )
        self.started.append(operator)
        self._stack.enter_context(operator)
        return operator

    def close(self) -> None:
        """End all operators."""
        self._stack.close()


class Stage:
    """What tests side by side are given, by the names of their arguments: `bed`, `own`, `cluster`."""

    def __init__(
        self,
        cluster: Cluster,
        api: Api,
        shared_operator: Operator,
        folder: Callable[[str], Path],
        *,
        make_bed: type[Testbed] = Testbed,
        at_once: int = AT_ONCE,
    ) -> None:
        """Keep what all share. `folder` makes an empty folder; so many tests run at once."""
        self._make_bed = make_bed
        self._at_once = at_once
        self._cluster = cluster
        self._api = api
        self._shared_operator = shared_operator
        self._folder = folder
        self._numbers = itertools.count(1)
        self._outcomes: dict[pytest.Item, Future[None]] = {}

    def outcome(self, item: pytest.Function) -> None:
        """Wait for the test's end; raises what it raised."""
        if item not in self._outcomes:
            beside = [each for each in item.session.items if each.path.parent == item.path.parent]
            self._start([each for each in beside if is_side_by_side(each)])
        self._outcomes[item].result()

    def _start(self, items: list[pytest.Item]) -> None:
        self._outcomes = {item: Future() for item in items}
        waiting = iter(list(self._outcomes.items()))
        turn = threading.Lock()

        def work() -> None:
            while True:
                with turn:
                    item, future = next(waiting, (None, None))
                if item is None or future is None:
                    return
                try:
                    self._run(item)
                except BaseException as error:  # noqa: BLE001 - pytest's failures are not Exceptions
                    future.set_exception(error)
                else:
                    future.set_result(None)

        for number in range(self._at_once):
            threading.Thread(target=work, name=f"side by side {number}", daemon=True).start()

    def _run(self, item: pytest.Item) -> None:
        assert isinstance(item, pytest.Function)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        with ExitStack() as stack:
            given: dict[str, Any] = {}
            for name in inspect.signature(item.function).parameters:
                if name in parameters:
                    given[name] = parameters[name]
                elif name == "cluster":
                    given[name] = self._cluster
                else:
                    given[name] = stack.enter_context({"bed": self.bed, "own": self.own}[name]())
            item.function(**given)

    @contextmanager
    def bed(self) -> Iterator[Testbed]:
        """Make a namespace that the shared operator serves."""
        made = self._bed(SHARED, lambda: [self._shared_operator])
        made.needs = self._shared_operator
        yield made
        made.remove()

    @contextmanager
    def own(self) -> Iterator[OwnOperators]:
        """Make a namespace whose operators the test starts and ends itself."""
        made = OwnOperators(self._cluster, lambda operators: self._bed("own", operators))
        try:
            yield made
        finally:
            made.close()
        made.bed.remove()

    def _bed(self, kind: str, operators: Callable[[], Sequence[Operator]]) -> Testbed:
        name = f"{kind}-{_SESSION}-{next(self._numbers)}"
        return self._make_bed(self._api, name, self._folder(name), operators)
