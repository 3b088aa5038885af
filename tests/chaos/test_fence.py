"""The real system with a mistake in it is found out by the checker, and without one comes through the same scenes.

All play side by side, each in a namespace of its own. `make mutants` plays all, CI those marked `quick`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from devcluster import Cluster, LocalImage
from tests.chaos import scenes
from tests.chaos.checker import Clause, Verdict
from tests.chaos.mutant_operator import MUTANTS
from tests.chaos.proxy import ProxyThread
from tests.chaos.recorder import API_SERVER_FLAGS, Recorder
from tests.chaos.scenes import Scene, Studio, played
from tests.integration.side_by_side import apply_crd

AT_ONCE = 5
Play = tuple[Callable[[Scene], None], str]

FOUND_BY: dict[str, tuple[Callable[[Scene], None], Clause]] = {
    "claims without a guard": (scenes.frozen_in_a_claim, Clause.BOOKS),
    "takes commands without a guard": (scenes.removal_that_is_late, Clause.COMMANDS),
    "releases whatever has the name": (scenes.release_of_a_former_job, Clause.ARGUMENTS),
    "releases what was released": (scenes.release_of_what_was_suspended, Clause.HANDS_OFF),
    "releases without any guard": (scenes.release_of_a_former_job, Clause.ARGUMENTS),
    "releases beside another run": (scenes.marked_while_it_runs, Clause.ALONE),
    "releases beside a pod that is left": (scenes.job_deleted_while_its_command_goes_on, Clause.ALONE),
    "records before the outcome": (scenes.catching_up, Clause.SUCCEEDED),
    "records a batch ahead": (scenes.catching_up_in_batches, Clause.SUCCEEDED),
    "takes a batch that failed for good": (scenes.catching_up_in_batches, Clause.SUCCEEDED),
    "runs the newest first": (scenes.catching_up, Clause.ORDER),
    "settles what failed": (scenes.catching_up, Clause.SUCCEEDED),
    "forgets what succeeded": (scenes.catching_up, Clause.LAST_SUCCESS),
    "releases without a claim": (scenes.catching_up, Clause.FENCE),
    "tells the wrong run time": (scenes.catching_up, Clause.ARGUMENTS),
    "tells the wrong last success": (scenes.catching_up, Clause.ARGUMENTS),
    "takes a failure for the last success": (scenes.catching_up, Clause.LAST_SUCCESS),
    "counts no failures": (scenes.catching_up, Clause.BOOKS),
}
QUICK = (
    "claims without a guard",
    "releases whatever has the name",
    "releases beside another run",
    "records before the outcome",
    "runs the newest first",
)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Return a cluster whose every change is recorded."""
    images = {"app": LocalImage.of(Path(__file__).with_name("command_app"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with (
            Cluster.start(
                f"fence-{os.getpid()}", images=images, api_server_flags=API_SERVER_FLAGS
            ) as cluster,
            Recorder(cluster) as recorder,
            ProxyThread() as proxies,
        ):
            apply_crd(cluster)
            yield Studio(cluster, recorder, proxies, tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def plays(request: pytest.FixtureRequest, studio: Studio) -> Iterator[dict[Play, Future[Verdict]]]:
    """Play what the selected tests ask for, side by side."""
    wanted: list[Play] = [
        (cast("Callable[[Scene], None]", item.callspec.params["scene"]), str(item.callspec.params["mutant"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and "plays" in item.fixturenames
    ]
    numbers = itertools.count(1)

    def play(scene: Callable[[Scene], None], mutant: str) -> Verdict:
        with played(studio, scene, f"scene-{next(numbers)}", mutant) as stage:
            return stage.judge()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {each: pool.submit(play, *each) for each in wanted}


@pytest.mark.parametrize("mutant", [""], ids=["as-it-is"])
@pytest.mark.parametrize("scene", scenes.SCENES, ids=lambda scene: scene.__name__)
def test_operator_as_it_is_comes_through(
    plays: dict[Play, Future[Verdict]], scene: Callable[[Scene], None], mutant: str
) -> None:
    """No clause is broken, and something was judged."""
    verdict = plays[scene, mutant].result()
    assert verdict.violations == (), "\n".join(map(str, verdict.violations))
    assert verdict.counts["starts"] > 0


@pytest.mark.parametrize(
    ("mutant", "scene", "clause"),
    [
        pytest.param(mutant, scene, clause, id=mutant, marks=[pytest.mark.quick] if mutant in QUICK else [])
        for mutant, (scene, clause) in FOUND_BY.items()
    ],
)
def test_mistake_is_found(
    plays: dict[Play, Future[Verdict]], mutant: str, scene: Callable[[Scene], None], clause: Clause
) -> None:
    """By the clause that it breaks."""
    verdict = plays[scene, mutant].result()
    assert clause in verdict.clauses, f"found only {verdict.violations}, of {verdict.counts}"


def test_every_mutant_plays() -> None:
    """None is forgotten."""
    assert set(FOUND_BY) == set(MUTANTS)
