"""`crontabber state`: what of the bookkeeping travels, and what an import makes of a job that exists."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import bookkeeping, cli
from crontabber_operator.models import (
    CommandRecord,
    Condition,
    Disregarded,
    HistoryEntry,
    LastError,
    Ongoing,
    Result,
    Retry,
    State,
    Status,
)
from crontabber_operator.observed import CronJobSeen, Observed, Run, RunKind
from crontabber_operator.state_file import (
    TRAVELLING,
    StateFileError,
    StateItem,
    read_state,
    travelling,
    write_state,
)
from crontabber_operator.state_merge import COMMAND, Kind, Outcome, merge
from crontabber_operator.state_transfer import exported
from crontabber_operator.store import Resource, Store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(hour: int, minute: int = 0) -> datetime:
    """Return a time of the day that these tests are about."""
    return datetime(2026, 11, 24, hour, minute, tzinfo=UTC)


def entry(slot: datetime, result: Result = Result.SUCCEEDED) -> HistoryEntry:
    """Return a run that ended."""
    return HistoryEntry(slot=slot, job=f"job-{slot:%H}", finished=slot + timedelta(minutes=1), result=result)


FULL = Status(
    observed_generation=7,
    schedule="every 1h",
    state=State.RETRYING,
    first_run_time=at(0),
    last_run_time=at(9),
    last_success_time=at(8),
    settled_through=at(8),
    next_run_time=at(10),
    missed=2,
    skipped=3,
    error_count=1,
    last_error=LastError(type="ValueError", value="no", traceback="Traceback", slot=at(9), time=at(9, 1)),
    ongoing=Ongoing(slot=at(9), through=at(9), job="job-9", uid="uid"),
    retry=Retry(of="7/hash", failures=1, not_before=at(9, 10)),
    disregarded=Disregarded(jobs=("uid",)),
    history=(entry(at(9), Result.FAILED), entry(at(8))),
    last_commands=(
        CommandRecord(id="1", name="reset", time=at(1), result="Done"),
        CommandRecord(id="2", name="run-now", time=at(9), result="Pending"),
    ),
    conditions=(Condition(type="Ready", status="True", reason="Scheduled", last_transition_time=at(0)),),
)
"""A status with everything in it."""


def resource(status: Status | None = None, created: datetime | None = None, **spec: Any) -> Resource:
    """Return a resource as the API server has it."""
    store = Store()
    key = store.put_resource(
        {
            "metadata": {
                "namespace": "shop",
                "name": "job",
                "uid": "owner",
                "resourceVersion": "5",
                "generation": 1,
                "creationTimestamp": f"{created or at(11):%Y-%m-%dT%H:%M:%SZ}",
            },
            "spec": {"command": "work", "frequency": "1h", **spec},
            "status": (status or Status()).write(),
        }
    )
    found = store.resource(key)
    assert found is not None
    return found


def run(slot: datetime, **changes: Any) -> Run:
    """Return a run of the cluster that is imported into."""
    made = Run(
        name=f"job-{slot:%H}",
        uid=f"run-{slot:%H}",
        resource_version="1",
        kind=RunKind.NATIVE,
        slot=slot,
        through=slot,
        attempt=0,
        template_hash="",
        created=slot,
        suspended=False,
        released=True,
        finished=slot + timedelta(minutes=1),
        succeeded=True,
    )
    return replace(made, **changes)


def imported(
    incoming: Status, here: Resource, *runs: Run, force: bool = False, now: datetime = NOW
) -> Outcome:
    """Return what an import does."""
    return merge(incoming, here, Observed(runs=runs), now, force=force)


BOOKS = travelling(FULL, at(8))


# --- What travels ---------------------------------------------------------------------------------------


def test_the_books_travel_and_nothing_that_belongs_to_a_cluster() -> None:
    """Last success, cursor, runs, errors, done commands; no uids, claims, conditions."""
    text = write_state([StateItem("shop", "job", BOOKS)], NOW)
    status = json.loads(text)["items"][0]["status"]
    assert set(status) == {
        *("firstRunTime", "lastRunTime", "lastSuccessTime", "settledThrough", "skipped", "errorCount"),
        *("lastError", "history", "lastCommands"),
    }
    assert "uid" not in text
    assert [command["id"] for command in status["lastCommands"]] == ["1"]


def test_what_was_written_is_read_again() -> None:
    """Nothing is lost on the way."""
    items = [StateItem("shop", "job", BOOKS), StateItem(None, "other", travelling(Status(), None))]
    assert sorted(read_state(write_state(items, NOW), "x"), key=lambda item: item.name) == items


def test_two_exports_of_the_same_books_are_the_same() -> None:
    """So they can be compared, and kept in version control."""
    items = [StateItem("b", "x", BOOKS), StateItem("a", "y", BOOKS)]
    assert write_state(items, NOW) == write_state(reversed(items), NOW)


def test_the_cursor_is_written_out_where_it_comes_from_the_creation() -> None:
    """A resource made anew is younger: the slots in between would be lost."""
    assert exported(resource(created=at(3))).settled_through == at(3)
    since = resource(created=at(3), backfill=True, backfillSince="2026-11-24T01:00:00Z")
    assert exported(since).settled_through == at(0, 59) + timedelta(seconds=59)
    assert exported(resource(BOOKS, created=at(3))).settled_through == at(8)


def test_a_resource_that_is_invalid_is_exported_too() -> None:
    """Its books are kept for the day on which it is mended."""
    assert exported(resource(BOOKS, schedule="nonsense", frequency=None)).settled_through == at(8)


WRONG_FILES = {
    "no JSON": ("{", "is not JSON"),
    "empty": ("", "is not JSON"),
    "a list": ("[]", "is not a file that 'crontabber state export' writes"),
    "other kind": ('{"kind": "List", "items": []}', "is not a file that"),
    "other version": (
        '{"apiVersion": "crontabber.dev/v9", "kind": "CrontabberState", "items": []}',
        "apiVersion",
    ),
    "item is none": ([5], "item 1: must be an object with name and status"),
    "no status": ([{"name": "a"}], "item 1: must be an object with name and status"),
    "no name": ([{"status": {}}], "item 1: name must be the name of a Kubernetes object, not None"),
    "name with a slash": ([{"name": "../a", "status": {}}], "name must be the name of a Kubernetes object"),
    "namespace": ([{"name": "a", "namespace": "A B", "status": {}}], "namespace must be the name"),
    "time": ([{"name": "a", "status": {"settledThrough": "soon"}}], "item 1 (a): status.settledThrough"),
    "success": ([{"name": "a", "status": {"lastSuccessTime": 5}}], "item 1 (a): status.lastSuccessTime"),
    "history": ([{"name": "a", "status": {"history": "none"}}], "item 1 (a): status.history"),
    "twice": ([{"name": "a", "status": {}}, {"name": "a", "status": {}}], "a is there twice; remove one"),
}


@pytest.mark.parametrize(("content", "sentence"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_would_lose_something_is_refused(content: str | list[Any], sentence: str) -> None:
    """As a whole, before anything is written."""
    if not isinstance(content, str):
        content = json.dumps({"apiVersion": "crontabber.dev/v1", "kind": "CrontabberState", "items": content})
    with pytest.raises(StateFileError, match="file: ") as caught:
        read_state(content, "file")
    assert sentence in str(caught.value)


@given(
    st.text(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["kind", "items", "apiVersion", "name", "status", "history"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=9,
    ).map(json.dumps)
)
def test_no_text_breaks_the_reader(text: str) -> None:
    """It is read, or refused with a sentence."""
    try:
        read_state(text, "file")
    except StateFileError as error:
        assert str(error).startswith("file")  # noqa: PT017 - either outcome is right


# --- What an import does --------------------------------------------------------------------------------


def test_a_job_that_was_made_anew_goes_on_where_the_file_ends() -> None:
    """Its conditions and state stay: the operator derives them."""
    here = resource(Status(observed_generation=1, state=State.WAITING, conditions=FULL.conditions))
    outcome = imported(BOOKS, here)
    assert (outcome.kind, outcome.sentence) == (
        Kind.IMPORTED,
        "imported: last success 2026-11-24T08:00:00Z, settled up to 2026-11-24T08:00:00Z.",
    )
    after = outcome.status
    assert after is not None
    for name in TRAVELLING:
        if name != "last_commands":
            assert getattr(after, name) == getattr(BOOKS, name), name
    assert (after.observed_generation, after.state, after.conditions) == (1, State.WAITING, FULL.conditions)
    assert (after.ongoing, after.retry, after.disregarded) == (None, None, None)
    assert [(record.name, record.result) for record in after.last_commands] == [
        (COMMAND, "Done"),
        ("reset", "Done"),
    ]


def test_a_failing_slot_stays_the_next_to_run() -> None:
    """Also without backfill, where the missed slots would collapse into the newest."""
    here = resource(passLastSuccess=True)
    after = imported(BOOKS, here).status
    assert after is not None
    job = replace(here.job(), status=after)
    from crontabber_operator.observed import View  # noqa: PLC0415

    assert bookkeeping.head(View.of_job(job, Observed(), NOW), after) == at(9)


def test_importing_again_changes_nothing() -> None:
    """Whatever ran since."""
    first = imported(BOOKS, resource()).status
    assert first is not None
    again = imported(BOOKS, resource(first))
    assert (again.kind, again.status) == (Kind.UNCHANGED, None)
    went_on = replace(first, last_success_time=at(11), settled_through=at(11), error_count=0, last_error=None)
    assert imported(BOOKS, resource(went_on)).kind is Kind.UNCHANGED
    running = replace(went_on, ongoing=FULL.ongoing)
    assert imported(BOOKS, resource(running)).kind is Kind.UNCHANGED


def test_a_last_success_does_not_move_back_unasked() -> None:
    """The slots since then would run again."""
    here = resource(Status(last_success_time=at(10), settled_through=at(10)))
    outcome = imported(BOOKS, here, run(at(10)))
    assert (outcome.kind, outcome.status, outcome.may_pass) == (Kind.LEFT, None, False)
    assert (
        "its last success is 2026-11-24T10:00:00Z, in the file 2026-11-24T08:00:00Z; --force"
        in outcome.sentence
    )
    forced = imported(BOOKS, here, run(at(10)), force=True).status
    assert forced is not None
    assert (forced.last_success_time, forced.settled_through) == (at(8), at(8))
    assert forced.disregarded == Disregarded(jobs=("run-10",))


def test_a_success_that_is_only_in_one_place_is_not_lost() -> None:
    """A file that knows no success, for a job that has one."""
    here = resource(Status(last_success_time=at(10), settled_through=at(10)))
    outcome = imported(Status(settled_through=at(11)), here)
    assert outcome.kind is Kind.LEFT
    assert "in the file none" in outcome.sentence


def test_a_newer_file_moves_the_books_forward() -> None:
    """What ran in the other cluster doesn't run here again."""
    here = resource(Status(last_success_time=at(5), settled_through=at(5), history=(entry(at(5)),)))
    after = imported(BOOKS, here).status
    assert after is not None
    assert (after.last_success_time, after.settled_through) == (at(8), at(8))
    assert [one.slot for one in after.history] == [at(9), at(8), at(5)]


def test_a_run_that_is_not_in_the_books_yet_still_counts() -> None:
    """It ended here before the import, and is younger than the file: it must not run again."""
    after = imported(BOOKS, resource(), run(at(11))).status
    assert after is not None
    assert after.disregarded is None


@pytest.mark.parametrize(
    ("here", "runs", "sentence"),
    [
        (resource(Status(ongoing=FULL.ongoing)), (), "Job job-9 is running"),
        (resource(), (run(at(11), finished=None, succeeded=False),), "Job job-11 is running"),
    ],
)
def test_a_running_job_is_left_alone(here: Resource, runs: tuple[Run, ...], sentence: str) -> None:
    """Its run would not count; it may end soon."""
    outcome = imported(BOOKS, here, *runs)
    assert (outcome.kind, outcome.status, outcome.may_pass) == (Kind.LEFT, None, True)
    assert sentence in outcome.sentence


def test_a_run_by_hand_is_no_hindrance() -> None:
    """It is outside the bookkeeping."""
    by_hand = run(at(11), kind=RunKind.MANUAL, finished=None, succeeded=False)
    assert imported(BOOKS, resource(), by_hand).kind is Kind.IMPORTED


def test_a_time_in_the_future_is_refused() -> None:
    """Nothing would run until then."""
    outcome = imported(BOOKS, resource(), now=at(7))
    assert outcome.kind is Kind.LEFT
    assert "is in the future; is this clock right?" in outcome.sentence


def test_a_job_that_never_ran_is_left_as_it_is() -> None:
    """The file knows nothing of it."""
    assert imported(Status(), resource()).kind is Kind.UNCHANGED


def test_history_and_commands_keep_the_newest_ten() -> None:
    """Of both places, none twice."""
    mine = tuple(entry(at(hour)) for hour in (7, 5, 3, 1))
    theirs = tuple(entry(at(hour)) for hour in (9, 8, 7, 6, 4, 2, 0))
    here = resource(Status(history=mine))
    after = imported(replace(BOOKS, history=theirs), here).status
    assert after is not None
    assert [one.slot.hour for one in after.history] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


times = st.none() | st.integers(0, 11).map(at)


@given(
    success=times,
    settled=times,
    here_success=times,
    here_settled=times,
    force=st.booleans(),
)
def test_nothing_is_invented_and_no_success_lost(
    success: datetime | None,
    settled: datetime | None,
    here_success: datetime | None,
    here_settled: datetime | None,
    *,
    force: bool,
) -> None:
    """Without force no success moves back; the cursor only where the job has not succeeded; never past both."""
    incoming = Status(last_success_time=success, settled_through=settled)
    here = resource(Status(last_success_time=here_success, settled_through=here_settled))
    outcome = imported(incoming, here, force=force)
    if outcome.status is None:
        assert outcome.kind is not Kind.IMPORTED
        return
    after = outcome.status
    assert after.settled_through in (settled, here_settled)
    assert after.last_success_time == success
    if not force and here_success is not None:
        assert after.last_success_time is not None
        assert after.last_success_time >= here_success
        assert here_settled is None or (after.settled_through or at(0)) >= here_settled


# --- The command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export"], "name jobs, or say --all, -A or -l."),
        (["export", "a", "--all"], "name jobs, or say --all, -A or -l."),
        (["import", "nowhere.json"], "nowhere.json: can't be read: No such file or directory."),
        (["import", "bad.json"], "bad.json: is not JSON"),
        (["import", "binary.json"], "binary.json: is not text in UTF-8."),
        (["import", "two.json", "-n", "x"], "two.json: has jobs of several namespaces; -n would mix them."),
        (["import", "two.json", "--kubeconfig", "nowhere"], "the kubeconfig nowhere can't be used"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_done(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one sentence, with exit code 2, before the cluster is asked."""
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("{", encoding="utf-8")
    Path("binary.json").write_bytes(b"\xff")
    Path("two.json").write_text(
        write_state([StateItem("a", "x", BOOKS), StateItem("b", "x", BOOKS)], NOW), encoding="utf-8"
    )
    assert cli.main(["state", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["move"], ["import", "--wait", "soon"], ["import", "--wait=-1"]])
def test_wrong_arguments_end_with_a_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As everywhere."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["state", *arguments])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_cronjob_is_no_run() -> None:
    """What a forced import disregards includes what the CronJob remembers."""
    live = CronJobSeen(
        uid="c",
        resource_version="1",
        ours=True,
        created=at(1),
        hash="",
        template_hash="",
        drifted=False,
        slots=None,
        schedule="",
        suspended=False,
        last_schedule=at(10),
        last_successful=at(10, 1),
    )
    here = resource(Status(last_success_time=at(10), settled_through=at(10)))
    after = merge(BOOKS, here, Observed(cronjob=live), NOW, force=True).status
    assert after is not None
    assert after.disregarded == Disregarded(successful_time=at(10, 1))
