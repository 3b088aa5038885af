"""Following many outputs at once, through failures that no test can ask of a real kubelet at will.

The API server is a stand-in here that knows pods and their logs; with a real one it is tried in
tests/integration/test_operator_output.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crontabber_operator import follower, following
from crontabber_operator.cluster import ApiError
from crontabber_operator.following import Following
from crontabber_operator.logs import OUTPUT
from crontabber_operator.manifests import Owner
from crontabber_operator.models import HistoryEntry, Output, Result, Spec, Status
from crontabber_operator.observed import Run, RunKind
from crontabber_operator.output_marks import Marks
from crontabber_operator.output_progress import Mark, Stage
from crontabber_operator.pod_lists import CONTROLLER_UID, JOBS_AT_ONCE, PodLists
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource
from crontabber_operator.times import format_time

SLOT = datetime(2026, 11, 24, 8, tzinfo=UTC)
KEY = Key("shop", "report")


@dataclass
class Log:
    """What a container printed so far."""

    lines: list[bytes] = field(default_factory=list)
    ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Node:
    """Knows pods and what they print; stands in for the API server."""

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, Log] = field(default_factory=dict)
    errors: list[ApiError] = field(default_factory=list)
    """What the next requests for a log meet."""
    asked: list[tuple[str, bool]] = field(default_factory=list)
    """Pod, and whether it was to be followed."""
    listed: list[tuple[str, int]] = field(default_factory=list)
    """Requests for pods: the namespace, and of how many Jobs."""
    list_errors: list[Exception] = field(default_factory=list)
    marked: dict[str, str] = field(default_factory=dict)
    marks_hang: bool = False
    """Who writes a mark waits until it is cancelled."""
    open: Counter[bool] = field(default_factory=Counter)
    most: Counter[bool] = field(default_factory=Counter)
    """So many requests were open at once, by whether they follow."""

    def start(self, job_uid: str, name: str, second: int = 0) -> None:
        """Make a pod that runs."""
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": name,
                "creationTimestamp": format_time(SLOT + timedelta(seconds=second)),
                "labels": {CONTROLLER_UID: job_uid},
            },
            "spec": {"containers": [{"name": "app", "args": ["report"]}]},
            "status": {
                "phase": "Running",
                "containerStatuses": [{"name": "app", "containerID": "c", "state": {"running": {}}}],
            },
        }
        self.logs[name] = Log()

    def prints(self, name: str, *texts: str) -> None:
        """Print lines; each has a time of its own."""
        log = self.logs[name]
        for text in texts:
            at = SLOT + timedelta(milliseconds=100 * len(log.lines))
            log.lines.append(f"{at:%Y-%m-%dT%H:%M:%S.%f}Z {text}\n".encode())
        log.changed.set()

    def ends(self, name: str, phase: str = "Succeeded") -> None:
        """End a pod's container."""
        self.pods[name]["status"] = {
            "phase": phase,
            "containerStatuses": [{"name": "app", "containerID": "c", "state": {"terminated": {}}}],
        }
        self.logs[name].ended = True
        self.logs[name].changed.set()

    async def list_job_pods(self, namespace: str, *job_uids: str) -> list[dict[str, Any]]:
        """List the pods of Jobs."""
        self.listed.append((namespace, len(job_uids)))
        await asyncio.sleep(0)
        if self.list_errors:
            raise self.list_errors.pop(0)
        return [one for one in self.pods.values() if one["metadata"]["labels"][CONTROLLER_UID] in job_uids]

    async def mark_output(self, _namespace: str, name: str, _uid: str, mark: str) -> None:
        """Write a mark on a Job."""
        if self.marks_hang:
            await asyncio.Event().wait()
        self.marked[name] = mark

    async def stream_log(
        self, _namespace: str, pod: str, _container: str, *, follow: bool, since: datetime | None, **_: object
    ) -> AsyncGenerator[bytes, None]:
        """Give what was printed, from the second on; with `follow` until the container ends."""
        self.asked.append((pod, follow))
        self.open[follow] += 1
        self.most[follow] = max(self.most[follow], self.open[follow])
        try:
            await asyncio.sleep(0)
            if self.errors:
                raise self.errors.pop(0)
            log, at = self.logs[pod], 0
            while True:
                for line in log.lines[at:]:
                    if since is None or line >= f"{since:%Y-%m-%dT%H:%M:%S}".encode():
                        yield line
                at = len(log.lines)
                if not follow or log.ended:
                    return
                log.changed.clear()
                await log.changed.wait()
        finally:
            self.open[follow] -= 1


class Desk:
    """A Following, the resource that it hears of, and what it has told."""

    def __init__(self, node: Node, folder: Path, output: Output = Output.ALL) -> None:
        self.node = node
        self.woken: list[Key] = []
        self.following = Following(
            node,  # type: ignore[arg-type]
            Settings(output=output),
            self.woken.append,
            {"XDG_STATE_HOME": str(folder)},
        )
        self.runs: dict[str, Run] = {}
        self.status = Status()

    def look(self, *runs: Run) -> None:
        """Have a pass look at these runs, and those of before."""
        self.runs |= {run.uid: run for run in runs}
        spec = Spec.read({"command": "report", "frequency": "1h", "backfill": True}, name=KEY.name)
        resource = Resource(
            owner=Owner(KEY.namespace, KEY.name, "u"),
            version=1,
            resource_version="1",
            generation=1,
            created=SLOT,
            spec=spec,
            status=self.status,
            annotations={},
            deleting=False,
        )
        self.following.looked(resource, list(self.runs.values()))

    def record(self, run: Run) -> None:
        """Put the end of a run into the books."""
        entry = HistoryEntry(slot=run.slot, job=run.name, finished=run.finished, result=Result.SUCCEEDED)
        self.status = replace(self.status, history=(entry, *self.status.history))


def run(uid: str = "u1", **more: Any) -> Run:
    """Return a run whose pod runs."""
    values: dict[str, Any] = {
        "name": f"job-{uid}",
        "uid": uid,
        "resource_version": "1",
        "kind": RunKind.ONE_OFF,
        "slot": SLOT,
        "through": SLOT,
        "attempt": 1,
        "template_hash": "h",
        "created": SLOT,
        "suspended": False,
        "released": True,
        "active": True,
        "ready": True,
    }
    return Run(**(values | more))


def over(one: Run, **more: Any) -> Run:
    """Return a run that has ended."""
    ended: dict[str, Any] = {
        "active": False,
        "ready": False,
        "finished": SLOT + timedelta(minutes=1),
        "succeeded": True,
    }
    return replace(one, **(ended | more))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return what was told, as `pod: text`."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told = record.told  # type: ignore[attr-defined]
            found.append(f"{told.fields['pod']}: {told.line.text}")

    handler = Handler()
    logger = logging.getLogger(OUTPUT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short; which of them ends first never matters."""
    for name in (
        "AGAIN_SECONDS",
        "START_SECONDS",
        "DRAIN_SECONDS",
        "FIRST_DELAY_SECONDS",
        "LONGEST_DELAY_SECONDS",
    ):
        monkeypatch.setattr(follower, name, 0.01)
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(following, "READS_A_SECOND", 5000)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scene."""
    asyncio.run(asyncio.wait_for(scene(), 60))


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    while not holds():  # noqa: ASYNC110 - what it waits for tells nobody
        await asyncio.sleep(0.002)


def test_lines_are_told_as_they_are_printed_and_the_rest_when_the_container_has_ended(
    tmp_path: Path, lines: list[str]
) -> None:
    """One stream while it runs; its end is believed only when the log was read after it."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        desk.look(run())
        assert desk.following.needs(run())
        node.prints("a", "one")
        await until(lambda: lines == ["a: one"])
        node.prints("a", "two")
        await until(lambda: lines == ["a: one", "a: two"])
        node.logs["a"].ended = True  # the stream ends, though the container, as it is said, goes on
        node.logs["a"].changed.set()
        node.prints("a", "three")
        node.ends("a")
        desk.look(over(run()))
        await until(lambda: not desk.following.needs(over(run())))
        assert lines == ["a: one", "a: two", "a: three"]
        assert ("a", True) in node.asked
        assert node.asked[-1] == ("a", False)
        await desk.following.close()

    play(scene)


def test_in_a_batch_each_line_has_the_slot_that_printed_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the runner says about its slots is not told; the next operator knows which of them it was."""

    def said() -> list[tuple[str, str]]:
        told = [one.told for one in caplog.records if one.name == OUTPUT]  # type: ignore[attr-defined]
        return [(one.fields["slot"][11:13], one.line.text) for one in told]

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.pods["a"]["metadata"]["annotations"] = {"crontabber.dev/batch": '{"nonce": "abc", "slots": []}'}
        desk.look(run(through=SLOT + timedelta(hours=1)))
        node.prints("a", "starts", "crontabber[abc] slot 2026-11-24T08:00:00Z begins", "one")
        node.prints("a", "halfcrontabber[abc] slot 2026-11-24T08:00:00Z succeeded in 0.014 s")
        node.prints(
            "a", "crontabber[abc] slot 2026-11-24T09:00:00Z begins", "two", "crontabber[xyz] slot x begins"
        )
        await until(lambda: len(said()) == 5)
        await desk.following.close()
        node.prints("a", "three")
        node.ends("a")
        desk = Desk(node, tmp_path)
        desk.look(over(run()))
        await until(lambda: not desk.following.needs(over(run())))
        await desk.following.close()

    with caplog.at_level(logging.INFO):
        play(scene)
    assert said() == [
        ("08", "starts"),
        ("08", "one"),
        ("08", "half"),
        ("09", "two"),
        ("09", "crontabber[xyz] slot x begins"),
        ("09", "three"),
    ]


def test_who_was_told_to_wait_is_told_when_it_may_be_removed(tmp_path: Path, lines: list[str]) -> None:
    """And only then."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.prints("a", "one")
        node.ends("a")
        desk.look(over(run()))
        assert desk.following.needs(over(run()))
        assert desk.woken == []
        await until(lambda: desk.woken)
        assert lines == ["a: one"]
        assert desk.woken == [KEY]
        assert not desk.following.needs(over(run()))
        await desk.following.close()

    play(scene)


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_what_may_pass_is_tried_again(tmp_path: Path, lines: list[str], status: int) -> None:
    """Nothing is lost and nothing told twice, however often a read breaks."""

    async def scene() -> None:
        node = Node(errors=[ApiError(status, "Unlucky", "try again") for _ in range(5)])
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        desk.look(run())
        node.prints("a", "one", "two")
        await until(lambda: len(lines) == 2)
        node.errors += [ApiError(status, "Unlucky", "try again") for _ in range(5)]
        node.prints("a", "three")
        node.ends("a")
        desk.look(over(run()))
        await until(lambda: not desk.following.needs(over(run())))
        assert lines == ["a: one", "a: two", "a: three"]
        await desk.following.close()

    play(scene)


@pytest.mark.parametrize(("status", "told"), [(403, "not told further: 403"), (404, "pod a is gone")])
def test_what_will_not_pass_is_told_and_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, told: str
) -> None:
    """A missing right, a pod that was deleted."""

    async def scene() -> None:
        node = Node(errors=[ApiError(status, "No", "no")])
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.ends("a")
        desk.look(over(run()))
        await until(lambda: not desk.following.needs(over(run())))
        await desk.following.close()

    play(scene)
    assert told in caplog.text


def test_a_log_that_can_never_be_read_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while; the Job is kept until then, and not for ever."""
    monkeypatch.setattr(follower, "GIVE_UP_SECONDS", 0.1)

    async def scene() -> None:
        node = Node(errors=[ApiError(502, "BadGateway", "no route to host") for _ in range(1000)])
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.ends("a")
        desk.look(over(run()))
        await until(lambda: not desk.following.needs(over(run())))
        assert len(node.asked) > 2
        await desk.following.close()

    play(scene)
    assert "the output of Job job-u1 is not told further: 502 BadGateway" in caplog.text


def test_attempts_of_a_plain_run_are_told_one_after_the_other(tmp_path: Path, lines: list[str]) -> None:
    """The failed pod is needed until it was read; between attempts nothing is asked."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        plain = run(attempt=0, kind=RunKind.NATIVE)
        node.start("u1", "a")
        desk.look(plain)
        node.prints("a", "one")
        node.ends("a", "Failed")
        between = replace(plain, active=False, ready=False, failed_pods=1)
        desk.look(between)
        assert desk.following.needs(between)
        await until(lambda: not desk.following.needs(between))
        assert lines == ["a: one"]
        asked = len(node.asked)
        await asyncio.sleep(0.1)
        assert len(node.asked) == asked
        node.start("u1", "b", 20)
        node.prints("b", "two")
        node.ends("b")
        desk.look(over(plain, failed_pods=1))
        await until(lambda: not desk.following.needs(over(plain)))
        assert lines == ["a: one", "b: two"]
        await desk.following.close()

    play(scene)


def test_of_failures_only_failed_pods_are_read(tmp_path: Path, lines: list[str]) -> None:
    """When they have failed."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path, Output.FAILURES)
        plain = run(attempt=0, kind=RunKind.NATIVE)
        node.start("u1", "a")
        node.start("u2", "good")
        node.prints("a", "one")
        node.prints("good", "nobody reads this")
        desk.look(plain, run("u2"))
        assert node.asked == []
        node.ends("a", "Failed")
        node.ends("good")
        desk.look(replace(plain, ready=False, failed_pods=1), over(run("u2")))
        await until(lambda: lines)
        node.start("u1", "b", 20)
        node.prints("b", "nor this")
        node.ends("b")
        desk.look(over(plain, failed_pods=1))
        await until(lambda: not desk.following.needs(over(plain)))
        assert lines == ["a: one"]
        assert {pod for pod, _ in node.asked} == {"a"}
        await desk.following.close()

    play(scene)


def test_a_thousand_runs_at_once_are_told_with_a_hundred_streams(tmp_path: Path, lines: list[str]) -> None:
    """The others take turns, a few at a time; all are told while they go on, each line once."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        runs = [run(f"u{number}") for number in range(1000)]
        for one in runs:
            node.start(one.uid, f"pod-{one.uid}")
            node.prints(f"pod-{one.uid}", "begins")
        desk.look(*runs)
        await until(lambda: len(lines) == 1000)
        for one in runs:
            node.prints(f"pod-{one.uid}", "goes on")
        await until(lambda: len(lines) == 2000)
        for one in runs:
            node.prints(f"pod-{one.uid}", "ends")
            node.ends(f"pod-{one.uid}")
        desk.look(*(over(one) for one in runs))
        await until(lambda: not any(desk.following.needs(over(one)) for one in runs))
        expected = [f"pod-{one.uid}: {text}" for one in runs for text in ("begins", "goes on", "ends")]
        assert sorted(lines) == sorted(expected)
        assert node.most[True] == following.FOLLOWED_AT_ONCE
        assert node.most[False] <= following.READ_AT_ONCE
        assert len(node.listed) < sum(count for _, count in node.listed) / 10
        await desk.following.close()

    play(scene)


# --- Pods of many Jobs ------------------------------------------------------------------------------------


def test_who_asks_for_pods_at_the_same_time_shares_a_request() -> None:
    """Each gets its own Job's pods; a namespace is asked once at a time."""

    async def scene() -> None:
        node = Node()
        for number in range(250):
            node.start(f"u{number}", f"p{number}")
        lists = PodLists(node, asyncio.Semaphore(2))  # type: ignore[arg-type]
        asked = [lists.of_job("a", f"u{number % 251}") for number in range(260)]
        found = await asyncio.gather(*asked)
        names = [[pod["metadata"]["name"] for pod in pods] for pods in found]
        assert names[:250] == [[f"p{number}"] for number in range(250)]
        assert names[250:] == [[], *([f"p{number}"] for number in range(9))]
        assert [count for _, count in node.listed] == [JOBS_AT_ONCE, JOBS_AT_ONCE, 51]
        assert await lists.of_job("a", "u7") == [node.pods["p7"]]
        assert await lists.of_job("b", "u7") == [node.pods["p7"]]
        await lists.close()

    play(scene)


@pytest.mark.parametrize("error", [ApiError(503, "Unlucky", "later"), KeyError("x")])
def test_an_error_is_theirs_who_asked_and_the_next_request_is_made_all_the_same(error: Exception) -> None:
    """Also one that nobody expects."""

    async def scene() -> None:
        node = Node(list_errors=[error])
        node.start("u1", "p1")
        lists = PodLists(node, asyncio.Semaphore(2))  # type: ignore[arg-type]
        first, second = await asyncio.gather(
            lists.of_job("a", "u1"), lists.of_job("a", "u2"), return_exceptions=True
        )
        assert first is error
        assert second is error
        waiting = asyncio.create_task(lists.of_job("a", "u2"))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await lists.of_job("a", "u1") == [node.pods["p1"]]
        await lists.close()

    play(scene)


# --- The end of an operator -------------------------------------------------------------------------------


def test_marks_go_when_the_books_have_the_run(tmp_path: Path, lines: list[str]) -> None:
    """Files are kept for what goes on, not for all that ever ran."""
    files = tmp_path / "crontabber" / "output"

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.prints("a", "one")
        desk.look(run())
        assert [one.name for one in files.iterdir()] == []
        await until(lambda: lines)
        assert [one.name for one in files.iterdir()] == ["u1"]
        node.ends("a")
        desk.look(over(run()))
        await until(lambda: not desk.following.needs(over(run())))
        assert [one.name for one in files.iterdir()] == ["u1"]
        desk.record(over(run()))
        desk.look()
        assert [one.name for one in files.iterdir()] == []
        await desk.following.close()
        assert node.marked == {}

    play(scene)


@pytest.mark.parametrize("keeps_files", [True, False])
def test_the_next_operator_goes_on_where_the_last_one_ended(
    tmp_path: Path, lines: list[str], keeps_files: bool
) -> None:
    """By its files, or by its last word on the Job."""

    async def scene() -> None:
        node = Node()
        first = Desk(node, tmp_path / "first")
        node.start("u1", "a")
        node.prints("a", *map(str, range(30)))
        first.look(run())
        await until(lambda: len(lines) == 30)
        await first.following.close()
        assert node.marked.keys() == {"job-u1"}
        node.prints("a", *map(str, range(30, 60)))
        told = node.marked["job-u1"]
        second = Desk(node, tmp_path / ("first" if keeps_files else "second"))
        second.look(run(output_told=told))
        await until(lambda: len(lines) == 60)
        node.ends("a")
        second.look(over(run(output_told=told)))
        await until(lambda: not second.following.needs(over(run())))
        assert lines == [f"a: {number}" for number in range(60)]
        await asyncio.sleep(0.05)
        assert " run " in node.marked["job-u1"]
        await second.following.close()
        third = Desk(node, tmp_path / "third")
        third.record(over(run()))
        third.look(over(run(output_told=node.marked["job-u1"])))
        await asyncio.sleep(0.05)
        assert len(lines) == 60

    play(scene)


def test_an_operator_that_ends_within_its_last_word_on_a_run_says_it_all_the_same(
    tmp_path: Path, lines: list[str]
) -> None:
    """The run is in the books already, but its Job still says where the operator before this one was."""

    async def scene() -> None:
        node = Node(marks_hang=True)
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.prints("a", "one")
        node.ends("a")
        ended = over(run(output_told=Mark().written()))
        desk.look(ended)
        await until(lambda: not desk.following.needs(ended))
        desk.record(ended)
        desk.look()
        node.marks_hang = False
        await desk.following.close()
        left = Mark.read(node.marked["job-u1"])
        assert left is not None
        assert left.stage is Stage.RUN
        assert lines == ["a: one"]

    play(scene)


def test_only_who_leads_tells(tmp_path: Path, lines: list[str]) -> None:
    """Led by another one for a while, an operator is silent; then it goes on with what still goes on."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        for name in ("a", "b"):
            node.start(f"u{name}", name)
            node.prints(name, "one")
        desk.look(run("ua"), run("ub"))
        await until(lambda: len(lines) == 2)
        desk.following.leading(False)
        node.prints("a", "two")
        node.prints("b", "two")
        node.ends("b")
        await until(lambda: not node.open[True])
        await asyncio.sleep(0.05)
        assert sorted(lines) == ["a: one", "b: one"]
        desk.record(over(run("ub")))
        desk.following.leading(True)
        desk.runs.pop("ub")
        desk.look(run("ua"))
        await until(lambda: len(lines) == 3)
        assert lines[2] == "a: two"
        await desk.following.close()
        assert node.marked.keys() == {"job-ua"}

    play(scene)


def test_an_operator_that_ends_stops_to_lead_first_and_notes_all_the_same_how_far_it_was(
    tmp_path: Path, lines: list[str]
) -> None:
    """On the Job."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.prints("a", "one")
        desk.look(run())
        await until(lambda: lines)
        desk.following.leading(False)
        await desk.following.close()
        assert node.marked.keys() == {"job-u1"}

    play(scene)


def test_a_run_whose_job_vanishes_is_told_as_far_as_its_stream_goes(tmp_path: Path, lines: list[str]) -> None:
    """Then nothing of it is kept."""

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        node.start("u1", "a")
        node.prints("a", "one")
        desk.look(run())
        await until(lambda: lines)
        node.prints("a", "two")
        desk.runs.clear()
        desk.look()
        await until(lambda: len(lines) == 2)
        await until(lambda: not node.open[True])
        assert not desk.following.needs(run())
        assert list((tmp_path / "crontabber" / "output").iterdir()) == []
        await desk.following.close()

    play(scene)


def test_where_no_file_can_be_written_it_is_said_once_and_all_works(
    tmp_path: Path, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only file system, a file in the folder's place."""
    (tmp_path / "crontabber").write_text("in the way")

    async def scene() -> None:
        node = Node()
        desk = Desk(node, tmp_path)
        for number in range(3):
            node.start(f"u{number}", f"p{number}")
            node.prints(f"p{number}", "one")
        desk.look(*(run(f"u{number}") for number in range(3)))
        await until(lambda: len(lines) == 3)
        await desk.following.close()

    play(scene)
    assert caplog.text.count("can't be kept on disk") == 1


def test_files_that_are_no_marks_disturb_nothing(tmp_path: Path) -> None:
    """Cut off, empty, or not ours at all."""
    for name, text in (("u1", ""), ("u2", "\0" * 160), ("u3", "p 2026 1 1 readi"), (".x", "x"), ("u4", "ü")):
        (tmp_path / name).write_text(text, encoding="latin-1")
    marks = Marks(tmp_path)
    assert [marks.find(name) for name in ("u1", "u2", "u3", ".x", "u4")] == [None] * 5
