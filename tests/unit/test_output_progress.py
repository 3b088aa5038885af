"""What of a run's output is still to be told, by the run, the books, and what a former operator left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import output_progress as progress
from crontabber_operator.models import Disregarded, HistoryEntry, Output, Result, Status
from crontabber_operator.observed import Run, RunKind
from crontabber_operator.output_lines import Position
from crontabber_operator.output_progress import NOBODY, Container, Mark, Stage
from crontabber_operator.times import format_time

SLOT = datetime(2026, 11, 24, 8, tzinfo=UTC)
STARTED = SLOT + timedelta(minutes=30)
"""When the operator was started."""
RUN = Run(
    name="a-1",
    uid="u1",
    resource_version="1",
    kind=RunKind.ONE_OFF,
    slot=SLOT,
    through=SLOT,
    attempt=1,
    template_hash="h",
    created=SLOT,
    suspended=False,
    released=True,
    active=True,
)
ENDED = replace(RUN, active=False, finished=SLOT + timedelta(minutes=1), succeeded=True)
FAILED = replace(ENDED, succeeded=False, failed_pods=1)
MARK = Mark("p1", "2026-11-24T08:00:00Z", Position(5, 1))


def recorded(run: Run, *minutes: int) -> Status:
    """Return books that have attempts of a run, which ended so many minutes after the slot."""
    return Status(
        history=tuple(
            HistoryEntry(
                slot=run.slot,
                job=run.name,
                finished=SLOT + timedelta(minutes=minute),
                result=Result.FAILED,
            )
            for minute in minutes
        )
    )


@pytest.mark.parametrize(
    ("run", "status", "mark", "expected"),
    [
        (RUN, Status(), None, True),
        (ENDED, Status(), None, True),
        (FAILED, Status(), None, True),
        # Nothing was started yet, or ever will be.
        (replace(RUN, active=False), Status(), None, False),
        (replace(RUN, released=False, suspended=True), Status(), None, False),
        # The books have it: it was told. But not where a mark says that it was not told to its end.
        (ENDED, recorded(ENDED, 1), None, False),
        (ENDED, recorded(ENDED, 1), MARK, True),
        (ENDED, recorded(ENDED, 1), replace(MARK, stage=Stage.POD), True),
        (ENDED, recorded(ENDED, 1), replace(MARK, stage=Stage.RUN), False),
        (ENDED, Status(), replace(MARK, stage=Stage.RUN), False),
        (ENDED, Status(settled_through=SLOT), None, False),
        (ENDED, Status(settled_through=SLOT - timedelta(hours=1)), None, True),
        (ENDED, Status(disregarded=Disregarded(jobs=("u1",))), None, False),
        # Settled or disregarded while it goes on: it still prints.
        (RUN, Status(settled_through=SLOT, disregarded=Disregarded(jobs=("u1",))), None, True),
        # A former Job of the same name, fired again.
        (ENDED, recorded(ENDED, -5), None, True),
        # A plain run: attempts are recorded one by one, its end is later than they.
        (replace(ENDED, attempt=0), recorded(ENDED, 0), None, True),
        (replace(ENDED, attempt=0), recorded(ENDED, 0, 1), None, False),
        # Made by hand: no books hold it.
        (replace(RUN, kind=RunKind.MANUAL), Status(), None, True),
        (replace(ENDED, kind=RunKind.MANUAL), Status(), None, False),
        (replace(ENDED, kind=RunKind.MANUAL, finished=STARTED), Status(), None, True),
        (replace(ENDED, kind=RunKind.MANUAL), Status(), MARK, True),
    ],
)
def test_what_is_to_be_told(run: Run, status: Status, mark: Mark | None, expected: bool) -> None:
    """All that goes on, all that ended and that nobody told."""
    assert progress.to_tell(run, status, Output.ALL, mark, STARTED) is expected
    assert progress.to_tell(run, status, Output.NONE, mark, STARTED) is False


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (RUN, False),
        (ENDED, False),
        (FAILED, True),
        (replace(FAILED, failed_pods=0), True),
        (replace(RUN, failed_pods=1, attempt=0), True),
        (replace(ENDED, failed_pods=1, attempt=0), True),
    ],
)
def test_of_failures_alone_only_what_has_failed(run: Run, expected: bool) -> None:
    """An attempt of a plain run is a failure, also where the next one was good."""
    assert progress.to_tell(run, Status(), Output.FAILURES, None, STARTED) is expected


# --- Marks ------------------------------------------------------------------------------------------------

marks = st.builds(
    Mark,
    pod=st.uuids().map(str),
    created=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001 - made aware below
        lambda time: format_time(time.replace(tzinfo=UTC))
    ),
    position=st.builds(Position, st.integers(0, 2**62), st.integers(0, 10**6)),
    stage=st.sampled_from(Stage),
    slot=st.sampled_from([NOBODY, "2026-11-24T08:00:00Z"]),
)


@given(marks)
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    """Also with the blanks behind it that a file has."""
    assert Mark.read(mark.written()) == mark
    assert Mark.read(mark.written().ljust(160)) == mark
    assert len(mark.written()) < 160


@pytest.mark.parametrize(
    "text",
    ["", "x", "a b c d e", "a b 1 2 elsewhere", "a b 1 2 reading - more", "a b 1 2 reading", "\0" * 160],
)
def test_what_is_no_mark_is_none(text: str) -> None:
    """A file that was cut off, an annotation that a person wrote."""
    assert Mark.read(text) is None


def test_the_further_mark_counts() -> None:
    """An operator's file and its last word on the Job may differ; the pods come one after the other."""
    order = [
        Mark(),
        Mark("p1", "2026-11-24T08:00:00Z"),
        Mark("p1", "2026-11-24T08:00:00Z", Position(5, 1)),
        Mark("p1", "2026-11-24T08:00:00Z", Position(5, 2)),
        Mark("p1", "2026-11-24T08:00:00Z", Position(5, 2), Stage.POD),
        Mark("p2", "2026-11-24T08:00:20Z"),
        Mark("p2", "2026-11-24T08:00:20Z", Position(3, 1), Stage.RUN),
    ]
    for at, mark in enumerate(order):
        assert [mark.reaches(other) for other in order] == [True] * (at + 1) + [False] * (len(order) - at - 1)
    # The attempts that were recorded before the first pod was begun say nothing about how far one is.
    assert order[1].reaches(Mark(created="2026-11-24T09:00:00Z"))


# --- Pods -------------------------------------------------------------------------------------------------


def pod(
    name: str, second: int = 0, state: dict[str, Any] | None = None, phase: str = "Running"
) -> dict[str, Any]:
    """Return a pod."""
    made = SLOT + timedelta(seconds=second)
    status: dict[str, Any] = {"phase": phase}
    if state is not None:
        status["containerStatuses"] = [
            {"name": "proxy", "state": {"running": {}}},
            {"name": "crontabber", "containerID": "c", "state": state},
        ]
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": format_time(made)},
        "spec": {"containers": [{"name": "proxy"}, {"name": "crontabber", "args": ["report", "--all"]}]},
        "status": status,
    }


def ended(name: str, second: int) -> dict[str, Any]:
    """Return a pod that failed."""
    finished = format_time(SLOT + timedelta(seconds=second + 5))
    return pod(name, second, {"terminated": {"finishedAt": finished}}, "Failed")


def test_pods_before_the_one_that_is_marked_were_told() -> None:
    """It itself to its end only where the mark says so; those after it not at all."""
    pods = [ended("p0", 0), ended("p1", 20), ended("p2", 60)]
    mark = Mark("p1", progress.created(pods[1]), Position(5, 1))
    assert [progress.is_told(one, mark) for one in pods] == [True, False, False]
    mark = replace(mark, stage=Stage.POD)
    assert [progress.is_told(one, mark) for one in pods] == [True, True, False]
    mark = replace(mark, stage=Stage.RUN)
    assert all(progress.is_told(one, mark) for one in pods)


def test_of_a_run_seen_for_the_first_time_the_attempts_in_the_books_were_told() -> None:
    """By the operator that recorded them."""
    run = replace(RUN, attempt=0, failed_pods=2)
    pods = [ended("p0", 0), ended("p1", 55), ended("p2", 120), pod("p3", 180, {"running": {}})]
    mark = Mark.at_first(run, recorded(run, 1))
    assert [progress.is_told(one, mark) for one in pods] == [True, True, False, False]
    assert not any(progress.is_told(one, Mark.at_first(run, Status())) for one in pods)
    assert Mark.read(mark.written()) == mark


def test_a_pod_is_begun_once_and_then_gone_on_with() -> None:
    """From where it was told to."""
    first, second = ended("p1", 0), ended("p2", 20)
    mark = progress.begin(first, Mark(created="2026-11-24T07:00:00Z"))
    assert mark == Mark("p1", "2026-11-24T08:00:00Z")
    mark = mark.at(Position(7, 2))
    assert progress.begin(first, mark) == mark
    assert progress.begin(second, mark) == Mark("p2", "2026-11-24T08:00:20Z")


@pytest.mark.parametrize(
    ("state", "phase", "expected"),
    [
        (None, "Pending", Container.WAITING),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "Pending", Container.WAITING),
        ({"running": {}}, "Running", Container.RUNNING),
        ({"terminated": {}}, "Running", Container.ENDED),
        ({"terminated": {}}, "Failed", Container.ENDED),
        (None, "Failed", Container.NEVER),
        ({"waiting": {}}, "Failed", Container.NEVER),
    ],
)
def test_what_became_of_the_container(state: dict[str, Any] | None, phase: str, expected: Container) -> None:
    """Of the one that runs the command; sidecars print for themselves."""
    assert progress.container_of(pod("p", 0, state, phase)) == ("crontabber", expected)


def test_a_container_that_was_never_made_has_no_log() -> None:
    """Though it is said to have terminated."""
    one = pod("p", 0, {"terminated": {"reason": "StartError"}}, "Failed")
    one["status"]["containerStatuses"][1]["containerID"] = ""
    assert progress.container_of(one) == ("crontabber", Container.NEVER)


def test_attempts_are_numbered_as_the_books_number_them() -> None:
    """A gated run is one attempt; of a plain one the failed pods that were removed have counted."""
    pods = [ended("p4", 0), ended("p5", 20), pod("p6", 60)]
    assert progress.attempts(replace(RUN, attempt=3), pods[:1]) == {"p4": 3}
    assert progress.attempts(replace(RUN, attempt=0, failed_pods=5), pods) == {"p4": 4, "p5": 5, "p6": 6}
    # The Job has not counted the newest failure yet.
    assert progress.attempts(replace(RUN, attempt=0, failed_pods=1), pods) == {"p4": 1, "p5": 2, "p6": 3}
    assert progress.attempts(replace(RUN, attempt=0), [pod("p1")]) == {"p1": 1}


def test_the_command_is_what_the_pod_runs() -> None:
    """The resource may have another one by now."""
    assert progress.command_of(pod("p")) == "report"
    assert progress.command_of({"spec": {"containers": [{"name": "a"}]}}) == ""


def test_pods_are_told_in_the_order_they_were_made() -> None:
    """Names are random."""
    pods = [pod("a", 40), pod("z", 0), pod("m", 20)]
    assert [one["metadata"]["name"] for one in progress.in_order(pods)] == ["z", "m", "a"]
    assert Mark().pod == NOBODY
