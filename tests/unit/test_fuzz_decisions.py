"""Whatever stands in a status, a Job or a CronJob: a decision is made from it, soon, and comes to rest.

CRONTABBER_FUZZ is how many cases there are; `make fuzz` has many more than a test run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crontabber_operator import commands, telling
from crontabber_operator.backfill import decide
from crontabber_operator.manifests import Owner
from crontabber_operator.models import INT64_MAX, InvalidSpec, Spec, Status
from crontabber_operator.observed import Desired, Evidence, Job, Observed, Run, Unavailable
from crontabber_operator.projection import read_cronjob, read_run
from tests.fuzz import specs
from tests.fuzz.from_schema import Maker

CASES = int(os.environ.get("CRONTABBER_FUZZ", "400"))
CASES_EACH = 50
STEPS_MAX = 8
OWNER = Owner("ns", "job", "u")
NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)


def _job(seed: int) -> Job | None:
    maker = Maker(f"spec {seed}", wildness=0.01)
    try:
        spec = Spec.read(specs.spec(maker), name=OWNER.name)
    except InvalidSpec:
        return None
    status = Status.read(specs.status(Maker(f"status {seed}", wildness=0.05)))
    return Job("ns", "job", "u", "5", 3, NOW - timedelta(days=400), spec, status)


def _worlds(seed: int, job: Job) -> Iterator[Observed]:
    maker = Maker(f"world {seed}")
    bodies = [specs.job(maker, "job", number) for number in range(maker.random.randint(0, 4))]
    runs = tuple(run for body in bodies if (run := read_run(body)) is not None)
    cronjob = read_cronjob(specs.cronjob(maker, "job"), OWNER)
    claimed = job.status.ongoing
    for desired in (Desired("h", "t", "0 5 * * * "), Unavailable("Refused", "No.")):
        yield Observed(desired=desired)
        seen = Observed(
            runs=runs,
            cronjob=cronjob,
            desired=desired,
            gone=frozenset({claimed.uid} if claimed is not None else ()),
            evidence={run.uid: Evidence() for run in runs},
        )
        yield seen


def _answered(seen: Observed, questions: tuple[Run, ...], gone: str | None) -> Observed:
    return replace(
        seen,
        gone=seen.gone | ({gone} if gone is not None else set()),
        evidence={**seen.evidence, **{run.uid: Evidence() for run in questions}},
    )


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int):
        yield value


@pytest.mark.parametrize("first", range(0, CASES, CASES_EACH))
def test_a_decision_is_made_from_anything(first: int) -> None:
    """It can be written, is read again as it was, and there are few steps until nothing more changes."""
    accepted = 0
    for seed in range(first, first + CASES_EACH):
        job = _job(seed)
        if job is None:
            continue
        accepted += 1
        for seen in _worlds(seed, job):
            _comes_to_rest(job, seen, specs.annotations(Maker(seed)))
    assert accepted > CASES_EACH / 4


def _comes_to_rest(job: Job, seen: Observed, annotations: dict[str, str]) -> None:
    for _ in range(STEPS_MAX):
        commands.next_step(job, annotations, seen, NOW)
        decision = decide(job, seen, NOW)
        if decision.asks:
            assert all(run.name != decision.look_for_job for run in seen.runs)
            seen = replace(
                _answered(seen, decision.inspect, decision.confirm_gone),
                absent=decision.look_for_job or seen.absent,
            )
            continue
        if decision.status is None:
            return
        list(telling.changes(job.status, decision.status, job.spec))
        written = decision.status.write()
        assert max(_numbers(written), default=0) <= INT64_MAX
        assert Status.read(written) == decision.status
        job = replace(job, status=decision.status)
    pytest.fail(f"no rest: {job}, {seen}")
