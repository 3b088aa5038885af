"""What the operator hears and asks for Sentry's sake.

The API server is told what to answer here, or not to; the tests on the devcluster ask a real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crontabber_operator.cluster import ApiError
from crontabber_operator.failures import evidence
from crontabber_operator.inquiry import PodsRead
from crontabber_operator.manifests import Owner
from crontabber_operator.models import HistoryEntry, Result, Spec, Status
from crontabber_operator.observed import Run, RunKind
from crontabber_operator.reporting import ASKING_AT_ONCE, Reporting, decoded
from crontabber_operator.sentry_client import make_client
from crontabber_operator.sentry_outbox import Destination
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource, Store
from tests.sentry_ingest import Ingest, ingest

NOW = datetime.now(UTC).replace(microsecond=0)
OWNER = Owner("web", "job", "owner")


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    """Load the SDK: that takes longer the first time than an operator takes to end."""
    make_client(Destination("http://key@127.0.0.1:9/1"))


@pytest.mark.parametrize(
    ("secret", "values"),
    [
        ({"data": {"SENTRY_DSN": "aHR0cHM6Ly9rQHMvMQ=="}}, {"SENTRY_DSN": "https://k@s/1"}),
        ({"data": {"SENTRY_DSN": ""}}, {"SENTRY_DSN": ""}),
        ({"data": {"SENTRY_DSN": "not base64!", "b": "/w==", "c": "eA=="}}, {"c": "x"}),
        ({"data": None}, {}),
        ({}, {}),
    ],
)
def test_a_secret_is_read_as_text(secret: dict[str, Any], values: dict[str, str]) -> None:
    """As the API has it; what is no text is left out."""
    assert decoded(secret) == values


class Answers:
    """An API server for what Reporting asks, and the pods that a run has."""

    def __init__(self) -> None:
        self.secret: Mapping[str, Any] | ApiError = ApiError(404, "NotFound", "no")
        self.events: list[dict[str, Any]] | ApiError = []
        self.hangs = False
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def get_secret(self, namespace: str, _name: str) -> Mapping[str, Any]:
        """Answer."""
        self.asked.append(f"secret {namespace}")
        if isinstance(self.secret, ApiError):
            raise self.secret
        return self.secret

    async def list_events_of(self, _namespace: str, uid: str) -> list[dict[str, Any]]:
        """Answer, or never."""
        self.asked.append(f"events {uid}")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await (asyncio.Event().wait() if self.hangs else asyncio.sleep(0))
        finally:
            self.at_once -= 1
        if isinstance(self.events, ApiError):
            raise self.events
        return self.events

    async def read_pods(self, _owner: Owner, run: Run) -> PodsRead:
        """Return the pods of a run."""
        self.asked.append(f"pods {run.name}")
        pods = [pod(run.name, started=True)]
        return PodsRead(pods, {}, evidence(pods, {}))


def pod(name: str, *, started: bool = False) -> dict[str, Any]:
    """Return a failed pod."""
    ended = {"terminated": {"exitCode": 3, "finishedAt": NOW.isoformat()}}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": NOW.isoformat()},
        "spec": {"containers": [{"name": "app"}]},
        "status": {
            "phase": "Failed",
            "reason": "" if started else "DeadlineExceeded",
            "containerStatuses": [{"name": "app", "state": ended if started else {}}],
        },
    }


def run_named(name: str) -> Run:
    """Return a run that failed."""
    return Run(
        name=name,
        uid=f"run-{name}",
        resource_version="1",
        kind=RunKind.ONE_OFF,
        slot=NOW,
        through=NOW,
        attempt=1,
        template_hash="",
        created=NOW,
        suspended=False,
        released=True,
        finished=NOW,
        failed_pods=1,
    )


def resource(status: Status | None = None) -> Resource:
    """Return a resource."""
    return Resource(
        owner=OWNER,
        version=1,
        resource_version="1",
        generation=1,
        created=NOW,
        spec=Spec.read({"command": "work", "frequency": "1h", "backfill": True}),
        status=status or Status(),
        annotations={},
        deleting=False,
    )


class Known(Store):
    """A store that shows one resource and its runs."""

    def __init__(self, shown: Resource, runs: tuple[Run, ...]) -> None:
        super().__init__()
        self.shown, self.of_it = shown, runs

    def resource(self, key: Key) -> Resource | None:
        """Show it."""
        return self.shown if key == Key.of(OWNER) else None

    def runs(self, owner: Owner) -> tuple[Run, ...]:
        """Show them."""
        return self.of_it


Told = Callable[[Reporting], Awaitable[None]]


def report(answers: Answers, environment: dict[str, str], tell: Told, store: Store | None = None) -> None:
    """Make an operator's Reporting, tell it something, and end it."""

    async def session() -> None:
        reporting = Reporting(
            answers,  # type: ignore[arg-type]
            Settings(),
            store or Store(),
            answers,  # type: ignore[arg-type]
            environment,
        )
        try:
            await tell(reporting)
        finally:
            await reporting.close()

    asyncio.run(session())


def failing(*names: str) -> Told:
    """Tell of runs whose pods never started."""

    async def tell(reporting: Reporting) -> None:
        for name in names:
            pods = [pod(name)]
            reporting.inspected(resource(), run_named(name), pods, {}, evidence(pods, {}))
        for _ in range(50):
            await asyncio.sleep(0)

    return tell


def kinds(server: Ingest) -> list[str]:
    """Return the types of the exceptions that arrived."""
    return sorted(event["exception"]["values"][-1]["type"] for event in server.events())


BACK_OFF = [{"reason": "BackOff", "message": "Back-off pulling image"}]


@pytest.mark.parametrize(
    ("events", "hangs", "kind"),
    [
        (BACK_OFF, False, "ErrImagePull"),
        (ApiError(403, "Forbidden", "no"), False, "NeverStarted"),
        (ApiError(0, "Away", "no"), False, "NeverStarted"),
        (BACK_OFF, True, "NeverStarted"),
    ],
    ids=["answered", "forbidden", "away", "hangs"],
)
def test_a_pod_that_never_started_is_told_whatever_its_events_say(
    events: list[dict[str, Any]] | ApiError, hangs: bool, kind: str
) -> None:
    """Also at the operator's end, when the API server does not answer any more."""
    answers = Answers()
    answers.events, answers.hangs = events, hangs
    with ingest() as server:
        report(answers, {"SENTRY_DSN": server.dsn()}, failing("a"))
        assert kinds(server) == [kind]


def test_many_pods_that_never_started_ask_a_few_at_a_time() -> None:
    """The operator's own requests must not wait for these."""
    answers = Answers()
    answers.events = BACK_OFF
    with ingest() as server:
        report(answers, {"SENTRY_DSN": server.dsn()}, failing(*(f"p{number}" for number in range(40))))
        assert len(server.events()) == 40
    assert 1 < answers.most_at_once <= ASKING_AT_ONCE


@pytest.mark.parametrize("secret", [ApiError(404, "NotFound", "no"), ApiError(403, "Forbidden", "no")])
def test_where_nobody_is_told_little_is_asked(secret: ApiError) -> None:
    """No DSN, and none of the namespace: no Events, no pods; only whether there is one."""
    answers = Answers()
    answers.secret = secret
    report(answers, {}, failing("a"))
    assert set(answers.asked) == {"secret web"}


def recorded(minutes: int) -> Known:
    """Return a store with a run whose failure has been in the books for so long."""
    finished = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minutes)
    entry = HistoryEntry(slot=NOW, job="a", attempt=1, finished=finished, result=Result.FAILED)
    return Known(resource(Status(history=(entry,), error_count=1)), (run_named("a"),))


async def passes(reporting: Reporting) -> None:
    """Two passes over the resource end well."""
    for _ in range(2):
        reporting.passed(Key.of(OWNER), 0.1)
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.mark.parametrize(("minutes", "kind"), [(1, ["Exit3"]), (6, [])])
def test_an_operator_that_starts_tells_again_what_was_just_recorded(minutes: int, kind: list[str]) -> None:
    """The one before may have been killed with it in its hands; what is older it has told."""
    answers = Answers()
    with ingest() as server:
        report(answers, {"SENTRY_DSN": server.dsn()}, passes, recorded(minutes))
        assert kinds(server) == kind
    assert answers.asked.count("pods a") == len(kind)


def test_an_operator_that_starts_asks_for_nothing_where_nobody_is_told() -> None:
    """Without Sentry a start costs nothing."""
    answers = Answers()
    report(answers, {}, passes, recorded(1))
    assert "pods a" not in answers.asked


def test_what_was_recorded_by_this_operator_is_not_told_again() -> None:
    """It heard of the resource before that."""
    answers = Answers()
    store = recorded(1)

    async def tell(reporting: Reporting) -> None:
        before = replace(store.shown, status=Status())
        reporting.status_written(before, store.shown.status, store.of_it)
        await passes(reporting)

    with ingest() as server:
        report(answers, {"SENTRY_DSN": server.dsn()}, tell, store)
        assert kinds(server) == []
    assert "pods a" not in answers.asked
