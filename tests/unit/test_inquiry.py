"""What is asked of the API server beside the watches: how a run failed, where its log can't be read at once; a Job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from crontabber_operator.cluster import ApiError
from crontabber_operator.inquiry import READ_TRIES, Inquiry
from crontabber_operator.listening import Listener
from crontabber_operator.manifests import Owner
from crontabber_operator.memory import Memory
from crontabber_operator.models import Spec, Status
from crontabber_operator.observed import Run, RunKind
from crontabber_operator.store import Resource, Store

SLOT = datetime(2026, 11, 24, 8, tzinfo=UTC)
OWNER = Owner("shop", "report", "u")
RUN = Run(
    name="report-1",
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
    finished=SLOT,
    failed_pods=1,
)
POD = {
    "metadata": {"name": "p", "uid": "p", "creationTimestamp": "2026-11-24T08:00:00Z"},
    "spec": {"containers": [{"name": "app"}]},
    "status": {
        "phase": "Failed",
        "containerStatuses": [
            {"name": "app", "state": {"terminated": {"exitCode": 1, "message": "ValueError: from the end"}}}
        ],
    },
}
LOG = "Traceback (most recent call last):\n  …\nValueError: from the log\n"


class Answers:
    """Answers requests for a log, one after the other; stands in for the API server."""

    def __init__(self, answers: Sequence[str | ApiError]) -> None:
        self._answers = list(answers)

    async def list_job_pods(self, _namespace: str, _uid: str) -> list[dict[str, Any]]:
        """List the pods of a Job."""
        return [POD]

    async def read_log(self, *_: object) -> str:
        """Give the next answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer


def inspected(answers: Sequence[str | ApiError], *, reads_logs: bool = True) -> tuple[str, int]:
    """Inspect a run, again after each error as the reconciler does; return the value of its error, and the errors."""
    inquiry = Inquiry(
        Answers(answers),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        Listener(),
        reads_logs=reads_logs,
    )
    spec = Spec.read({"command": "report", "frequency": "1h"}, name="report")
    resource = Resource(OWNER, 1, "1", 1, SLOT, spec, Status(), {}, deleting=False)
    memory, errors = Memory(), 0
    while True:
        try:
            asyncio.run(inquiry.inspect(resource, RUN, memory))
        except ApiError:
            errors += 1
        else:
            return memory.inspected["u1"].evidence.failures[0].value, errors


@pytest.mark.parametrize("exists", [True, False])
def test_a_job_that_no_watch_has_shown_is_looked_for(exists: bool) -> None:
    """It is seen from then on, or known to be absent."""
    body = {
        "metadata": {
            "name": "report-1",
            "uid": "u1",
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-24T08:00:00Z",
            "labels": {"crontabber.dev/job": "report"},
            "annotations": {"crontabber.dev/slot": "2026-11-24T08:00:00Z"},
            "ownerReferences": [{"kind": "CrontabberJob", "name": "report", "uid": OWNER.uid}],
        },
        "spec": {},
    }

    async def get_job(_namespace: str, _name: str) -> dict[str, Any]:
        if not exists:
            raise ApiError(404, "NotFound", "not there")
        return body

    store, memory = Store(), Memory()
    cluster = SimpleNamespace(get_job=get_job)
    inquiry = Inquiry(cluster, store, None, Listener())  # type: ignore[arg-type]
    asyncio.run(inquiry.look_for_job(OWNER, "report-1", memory))
    assert [run.name for run in store.runs(OWNER)] == (["report-1"] if exists else [])
    assert memory.absent == (None if exists else "report-1")


BLIP = ApiError(502, "BadGateway", "the kubelet is away")


@pytest.mark.parametrize("blips", [0, 1, READ_TRIES])
def test_a_log_that_can_be_read_a_little_later_is_waited_for(blips: int) -> None:
    """So that the traceback is in the books, and in Sentry."""
    assert inspected([*[BLIP] * blips, LOG]) == ("from the log", blips)


def test_a_log_that_can_not_be_read_holds_the_books_up_for_a_moment_only() -> None:
    """Then the end that the pod itself shows has to do."""
    assert inspected([BLIP] * 100) == ("from the end", READ_TRIES)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_what_will_not_be_there_later_is_not_waited_for(status: int) -> None:
    """A container that never started, a missing right, a pod that was deleted."""
    assert inspected([ApiError(status, "No", "no")]) == ("from the end", 0)


def test_where_nobody_wants_output_no_log_is_read() -> None:
    """The termination message has to do."""
    assert inspected([], reads_logs=False) == ("from the end", 0)


def test_after_a_log_that_was_read_the_next_one_is_waited_for_as_long() -> None:
    """What went wrong before doesn't count against it."""
    memory = Memory(unread_logs=READ_TRIES)
    spec = Spec.read({"command": "report", "frequency": "1h"}, name="report")
    resource = Resource(OWNER, 1, "1", 1, SLOT, spec, Status(), {}, deleting=False)
    inquiry = Inquiry(Answers([LOG]), None, None, Listener())  # type: ignore[arg-type]
    asyncio.run(inquiry.inspect(resource, RUN, memory))
    assert memory.unread_logs == 0
