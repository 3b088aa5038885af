"""Which run's log is meant, and what of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from devcluster.node.logs import LogQuery
from devcluster.node.server import NoLogError, attempt_to_read, parse_query
from devcluster.node.status import ContainerRecord, Running, Terminated, Waiting

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
ENDED = Terminated(1, "Error", NOW, NOW, container_id="process://1")


@pytest.mark.parametrize(
    ("record", "current", "previous"),
    [
        (ContainerRecord(Running(NOW)), 0, None),
        (ContainerRecord(ENDED), 0, None),
        (ContainerRecord(Running(NOW), ENDED, 3), 3, 2),
        (ContainerRecord(ENDED, ENDED, 3), 3, 2),
        (ContainerRecord(Waiting("CrashLoopBackOff"), ENDED, 3), 3, 3),
        (ContainerRecord(Waiting("ContainerCreating"), ENDED, 3), 2, 2),
        (ContainerRecord(Waiting("ErrImagePull"), ENDED, 3), 2, 2),
    ],
)
def test_the_run_that_is_meant(record: ContainerRecord, current: int, previous: int | None) -> None:
    """The one that runs or ended last; with --previous the one that ended before."""
    assert attempt_to_read(record, "c", "p", previous=False) == current
    if previous is None:
        with pytest.raises(NoLogError, match='previous terminated container "c" in pod "p" not found'):
            attempt_to_read(record, "c", "p", previous=True)
    else:
        assert attempt_to_read(record, "c", "p", previous=True) == previous


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("ContainerCreating", "ContainerCreating"),
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
    ],
)
def test_a_container_that_never_ran_has_no_log(reason: str, expected: str) -> None:
    """The message is the kubelet's."""
    with pytest.raises(NoLogError) as caught:
        attempt_to_read(ContainerRecord(Waiting(reason)), "c", "p", previous=False)
    assert str(caught.value) == f'container "c" in pod "p" is waiting to start: {expected}'


def test_all_options_are_read() -> None:
    """Those of the API's PodLogOptions."""
    query = {"follow": "true", "tailLines": "5", "timestamps": "true", "limitBytes": "7"}
    assert parse_query(query) == LogQuery(follow=True, tail_lines=5, timestamps=True, limit_bytes=7)
    assert parse_query({}) == LogQuery()
    assert parse_query({"sinceTime": "2026-11-24T09:00:00+01:00"}).since == NOW


def test_since_seconds_count_from_now() -> None:
    """The time is aware."""
    since = parse_query({"sinceSeconds": "3600"}).since
    assert since is not None
    assert abs(datetime.now(UTC) - timedelta(hours=1) - since) < timedelta(minutes=1)


@pytest.mark.parametrize("query", [{"tailLines": "x"}, {"sinceTime": "yesterday"}, {"limitBytes": "1.5"}])
def test_wrong_options_are_refused(query: dict[str, str]) -> None:
    """The server answers 400."""
    with pytest.raises(ValueError, match=r"invalid|Invalid"):
        parse_query(query)
