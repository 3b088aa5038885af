"""`crontabber explain`: what will happen and why not sooner, from the same decisions as the operator's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crontabber_operator import cli, explanation
from crontabber_operator import explain as explain_program
from crontabber_operator.backfill import decide
from crontabber_operator.connection import CannotError
from crontabber_operator.explain import command_line, plan_alone, read_manifests
from crontabber_operator.explanation import Told, forecast, tell_forecast
from crontabber_operator.models import LastError, Ongoing, Retry, Spec, Status
from crontabber_operator.observed import CronJobSeen, Desired, Job, Observed, Run, RunKind, Unavailable
from crontabber_operator.simulation import SimulatedJob
from crontabber_operator.variables import expand

ROOT = Path(__file__).parents[2]
DESIRED = Desired("hash", "template", "schedule")
TOLD = Told(command=("python", "manage.py", "work"), where="in the pod template of Deployment webapp")


def at(hour: int, minute: int = 0, second: int = 0, day: int = 24) -> datetime:
    """Return a time of the day that these tests are about."""
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


NOW = at(8, 25)


def spec(**fields: Any) -> Spec:
    """Return an hourly spec."""
    base: dict[str, Any] = {"command": "work"}
    if "schedule" not in fields:
        base["frequency"] = "1h"
    return Spec.read({**base, **fields})


def job(status: Status | None = None, created: datetime | None = None, **fields: Any) -> Job:
    """Return a job, made at the start of the month."""
    return Job("shop", "job", "uid", "1", 1, created or at(0, day=1), spec(**fields), status or Status())


def cronjob(one: Job, **changes: Any) -> CronJobSeen:
    """Return the CronJob that a job has, as it should be."""
    made = CronJobSeen(
        uid="cronjob",
        resource_version="1",
        ours=True,
        created=one.created,
        hash=DESIRED.hash,
        template_hash=DESIRED.template_hash,
        drifted=False,
        slots=one.spec.slots,
        schedule=DESIRED.schedule,
        suspended=one.spec.suspend,
        last_schedule=one.spec.slots.newest_until(NOW),
        last_successful=None,
    )
    return replace(made, **changes)


def seen(one: Job, *runs: Run, **changes: Any) -> Observed:
    """Return what exists of a job."""
    return replace(Observed(runs=runs, cronjob=cronjob(one), desired=DESIRED), **changes)


def run(slot: datetime, **changes: Any) -> Run:
    """Return a run that goes on."""
    made = Run(
        name=f"job-{int(slot.timestamp()) // 60}-1",
        uid=f"run-{slot:%H%M}",
        resource_version="1",
        kind=RunKind.ONE_OFF,
        slot=slot,
        through=slot,
        attempt=1,
        template_hash=DESIRED.template_hash,
        created=at(8, 20),
        suspended=False,
        released=True,
        started=at(8, 20),
        active=True,
    )
    return replace(made, **changes)


def explain(one: Job, observed: Observed, told: Told = TOLD) -> str:
    """Return all that is told of a job."""
    decision = decide(one, observed, NOW)
    assert not decision.inspect
    return "\n".join(explanation.explain(one, observed, decision, told, NOW))


# --- Jobs of a cluster ----------------------------------------------------------------------------------


def test_a_job_with_nothing_due_tells_its_next_slot() -> None:
    """And that it is settled, when it succeeded last, and what it runs."""
    one = job(Status(settled_through=at(8), last_success_time=at(8, 0, 3)))
    assert explain(one, seen(one)).splitlines() == [
        (
            "shop/job: every 1h; missed slots become one late run. It is plain: Kubernetes starts its runs by"
            " itself, also while the operator is down."
        ),
        "Every slot that was due is settled.",
        "Next: slot 2026-11-24T09:00:00Z, in 35 min.",
        "Last success: 2026-11-24T08:00:03Z (24 min 57 s ago).",
        "It runs `python manage.py work`, in the pod template of Deployment webapp.",
    ]


def test_a_job_that_was_just_made_tells_that_nothing_runs_before_its_first_slot() -> None:
    """The question of everybody who applies their first job."""
    one = job(created=at(8, 20))
    text = explain(one, seen(one))
    assert "It was made at 2026-11-24T08:20:00Z, and no slot before that is run." in text
    assert "It has never succeeded." in text


def test_seven_days_are_mondays() -> None:
    """The slots of a frequency don't depend on when the resource was made."""
    one = job(Status(settled_through=at(8)), frequency="7d")
    assert "A frequency of 7d means Mondays." in explain(one, seen(one))
    one = job(Status(settled_through=at(8)), frequency="5h")
    assert "multiples of 5h since Monday 1970-01-05 UTC" in explain(one, seen(one))


def test_a_run_that_goes_on_is_told_with_its_limit() -> None:
    """Since when, which Job, which attempt, and when it is stopped."""
    claim = Ongoing(slot=at(7), through=at(7), job="job-1", uid="run-0700", attempt=1, since=at(8, 20))
    one = job(Status(settled_through=at(6), last_success_time=at(6), ongoing=claim), backfill=True)
    text = explain(one, seen(one, run(at(7))))
    assert "Slot 2026-11-24T07:00:00Z is running since 2026-11-24T08:20:00Z (Job job-1, attempt 1)" in text
    assert "it is stopped if it takes longer than 2 h." in text
    assert "2 slots are due" in text
    assert "Then: slot 2026-11-24T08:00:00Z, as soon as that run has succeeded." in text


def test_a_failed_slot_tells_when_it_is_tried_again() -> None:
    """And that the later ones wait for it."""
    error = LastError(type="ValueError", value="no", slot=at(7), time=at(8, 24))
    retry = Retry(of="1/template", failures=2, not_before=at(8, 35))
    status = Status(
        settled_through=at(6), last_success_time=at(6), error_count=2, last_error=error, retry=retry
    )
    one = job(status, backfill=True)
    text = explain(one, seen(one))
    assert "another attempt at slot 2026-11-24T07:00:00Z, at 2026-11-24T08:35:00Z (in 10 min)" in text
    assert "Later slots wait for it." in text
    assert "It failed 2 times in a row, the last time with ValueError: no." in text


def test_used_up_retries_tell_what_to_do() -> None:
    """Nothing comes by itself any more."""
    error = LastError(type="ValueError", value="no", slot=at(7), time=at(8, 24))
    retry = Retry(of="1/template", failures=3, not_before=at(8, 35))
    status = Status(settled_through=at(6), error_count=3, last_error=error, retry=retry)
    one = job(status, backfill=True, retryLimit=2)
    text = explain(one, seen(one))
    assert "the retries are used up" in text
    assert "crontabber.dev/mark-success=now" in text
    assert "Nothing is planned." in text


def test_a_suspended_job_tells_so() -> None:
    """And what would be its next slot."""
    one = job(Status(settled_through=at(6)), backfill=True, suspend=True)
    text = explain(one, seen(one))
    assert "It is suspended: no new run starts until spec.suspend is false." in text
    assert "Nothing is planned. Its next slot would be 2026-11-24T09:00:00Z." in text


HINDRANCES = {
    "no web app": (
        {"desired": Unavailable("WebAppNotFound", "Deployment webapp does not exist.")},
        TOLD,
        "It can't be scheduled: Deployment webapp does not exist.",
    ),
    "dependency": ({}, replace(TOLD, waiting_for="it waits for slot x."), "it waits for slot x."),
    "circle": (
        {"problem": Unavailable("DependencyCycle", "a → b → a is a circle.", stalled=True)},
        TOLD,
        "a → b → a is a circle.",
    ),
    "refused": (
        {},
        replace(TOLD, refused="The API server refused: quota."),
        "The API server refused: quota.",
    ),
    "no operator": ({}, replace(TOLD, unattended=True), "it seems not to run"),
    "pending": ({}, replace(TOLD, pending=("reset",)), "Given by annotation and not done yet: reset."),
}


@pytest.mark.parametrize(("changes", "told", "sentence"), HINDRANCES.values(), ids=HINDRANCES)
def test_what_holds_a_job_back_is_told(changes: dict[str, Any], told: Told, sentence: str) -> None:
    """Whatever it is, it is said in a sentence."""
    one = job(Status(settled_through=at(8)), backfill=True)
    assert sentence in explain(one, seen(one, **changes), told)


def test_a_cronjob_of_somebody_else_is_told() -> None:
    """With what can be done about it."""
    one = job()
    observed = seen(one, cronjob=cronjob(one, ours=False))
    assert "CronJob job exists and was not made for this resource." in explain(one, observed)
    assert explanation.is_held_back(one, observed, TOLD, NOW)


# --- The dry run ----------------------------------------------------------------------------------------


def test_every_missed_slot_is_listed_oldest_first() -> None:
    """As `decide()` runs them."""
    one = job(Status(settled_through=at(5), last_success_time=at(5)), backfill=True)
    found = forecast(one, seen(one), NOW)
    assert found.slots == (at(6), at(7), at(8))
    assert (found.count, found.running, found.skipped) == (3, 0, 0)


def test_the_list_has_an_end_and_the_rest_is_counted() -> None:
    """A year of missed minutes is counted as quickly as an hour of them."""
    one = job(
        Status(settled_through=at(0, day=1) - timedelta(days=365)),
        created=at(0, day=1) - timedelta(days=365),
        frequency="1m",
        backfill=True,
    )
    one = replace(one, spec=spec(schedule="* * * * *", backfill=True))
    found = forecast(one, seen(one), NOW, listed=3)
    assert len(found.slots) == 3
    assert found.count == one.spec.slots.count(at(0, day=1) - timedelta(days=365), NOW)
    assert list(tell_forecast(found, one.spec, held_back=False))[-1] == f"  … and {found.count - 3} more"


def test_slots_without_backfill_collapse_into_one() -> None:
    """One late run, of the newest."""
    one = job(Status(settled_through=at(2), last_success_time=at(2)), passLastSuccess=True)
    found = forecast(one, seen(one), NOW)
    assert (found.slots, found.count, found.collapsed) == ((at(8),), 1, 6)
    assert list(tell_forecast(found, one.spec, held_back=False)) == [
        "Dry run: 1 slot would be caught up, if each run succeeds:",
        "  2026-11-24T08:00:00Z (one run for all 6 missed slots)",
    ]


def test_a_plain_jobs_missed_slot_is_listed() -> None:
    """The operator has Kubernetes fire it again."""
    one = job(Status(settled_through=at(2), last_success_time=at(2)))
    assert forecast(one, seen(one), NOW).slots == (at(8),)


def test_slots_beyond_the_limit_are_told_as_skipped() -> None:
    """backfillLimit and startingDeadlineSeconds, as they are applied."""
    one = job(Status(settled_through=at(2)), backfill=True, backfillLimit=2)
    found = forecast(one, seen(one), NOW)
    assert (found.slots, found.count, found.skipped) == ((at(7), at(8)), 2, 4)
    assert "4 slots will be skipped by backfillLimit." in list(
        tell_forecast(found, one.spec, held_back=False)
    )
    one = job(Status(settled_through=at(2)), backfill=True, startingDeadlineSeconds=3600)
    found = forecast(one, seen(one), NOW)
    assert (found.slots, found.skipped) == ((at(8),), 5)
    assert "5 slots will be skipped by startingDeadlineSeconds." in list(
        tell_forecast(found, one.spec, held_back=False)
    )


def test_the_slot_that_is_running_is_marked() -> None:
    """It belongs to those that are being caught up."""
    claim = Ongoing(slot=at(7), through=at(7), job="job-1", uid="run-0700", attempt=1)
    one = job(Status(settled_through=at(6), ongoing=claim), backfill=True)
    found = forecast(one, seen(one, run(at(7))), NOW)
    assert (found.slots, found.count, found.running) == ((at(7), at(8)), 2, 1)
    assert list(tell_forecast(found, one.spec, held_back=False))[1] == "  2026-11-24T07:00:00Z (running)"


@pytest.mark.parametrize(
    "changes",
    [
        {"desired": Unavailable("WebAppNotFound", "no")},
        {"hold": lambda _slot: "it waits."},
        {"cronjob": None},
    ],
)
def test_the_dry_run_is_of_what_happens_once_nothing_holds_it_back(changes: dict[str, Any]) -> None:
    """The question is how much there will be to do."""
    one = job(Status(settled_through=at(6)), backfill=True)
    assert forecast(one, seen(one, **changes), NOW).slots == (at(7), at(8))


def test_the_dry_run_of_a_suspended_job_is_that_of_its_resumption() -> None:
    """With backfill every slot counts, without it nothing is invented."""
    one = job(Status(settled_through=at(6), observed_generation=1), backfill=True, suspend=True)
    assert forecast(one, seen(one), NOW).slots == (at(7), at(8))
    one = job(Status(settled_through=at(6), observed_generation=1), passLastSuccess=True, suspend=True)
    assert forecast(one, seen(one), NOW).slots == ()


def test_used_up_retries_are_taken_to_be_mended() -> None:
    """What comes after a mend is what the person wants to know."""
    error = LastError(type="ValueError", slot=at(7), time=at(8, 24))
    retry = Retry(of="1/template", failures=3, not_before=at(8, 35))
    status = Status(settled_through=at(6), error_count=3, last_error=error, retry=retry)
    one = job(status, backfill=True, retryLimit=2)
    assert forecast(one, seen(one), NOW).slots == (at(7), at(8))


@settings(max_examples=60, deadline=None)
@given(
    hours=st.integers(0, 40),
    backfill=st.booleans(),
    limit=st.none() | st.integers(1, 30),
    late=st.none() | st.integers(1, 100_000),
    listed=st.integers(1, 30),
)
def test_the_dry_run_agrees_with_the_slots(
    hours: int, backfill: bool, limit: int | None, late: int | None, listed: int
) -> None:
    """Listed, counted and skipped ones are all that are due; the list is their beginning, in order."""
    cursor = at(8) - timedelta(hours=hours)
    fields: dict[str, Any] = {"passLastSuccess": True, "backfill": backfill}
    fields |= {"backfillLimit": limit} if limit and backfill else {}
    fields |= {"startingDeadlineSeconds": late} if late else {}
    one = job(Status(settled_through=cursor), **fields)
    found = forecast(one, seen(one), NOW, listed=listed)
    due = one.spec.slots.count(cursor, NOW)
    kept = found.collapsed if not backfill else found.count
    assert kept + found.skipped == due
    assert list(found.slots) == sorted(set(found.slots))
    if backfill:
        assert len(found.slots) == min(found.count, listed)
        newest = [at(8) - timedelta(hours=back) for back in reversed(range(found.count))]
        assert list(found.slots) == newest[:listed]


# --- The simulation beneath it --------------------------------------------------------------------------


def test_a_simulated_job_runs_its_slots_as_they_fall_due() -> None:
    """Plain and gated: native runs, at their slots, each once."""
    kinds: tuple[dict[str, Any], ...] = ({}, {"backfill": True}, {"passLastSuccess": True})
    for fields in kinds:
        simulated = SimulatedJob(job=job(created=at(5, 30), **fields), desired=DESIRED)
        ran: list[datetime] = []
        for minute in range(0, 200, 5):
            now = at(5, 30) + timedelta(minutes=minute)
            for start in simulated.advance(now):
                ran.append(start.slot)
                simulated.end(start.uid, now + timedelta(seconds=5), None)
        simulated.advance(at(8, 50))
        assert ran == [at(6), at(7), at(8)], fields
        assert simulated.status.settled_through == at(8)


def test_a_simulated_plain_run_is_retried_as_the_job_controller_does() -> None:
    """After ten seconds, then twice as long each time; with a limit it is given up."""
    from crontabber_operator.models import Result  # noqa: PLC0415
    from crontabber_operator.observed import Attempt  # noqa: PLC0415

    simulated = SimulatedJob(job=job(created=at(5, 30), retryLimit=2), desired=DESIRED)
    simulated.advance(at(5, 30))
    clock = at(6)
    attempts = []
    for _ in range(100):
        for start in simulated.advance(clock):
            attempts.append((start.attempt, clock))
            simulated.end(start.uid, clock, Attempt(Result.FAILED, "ValueError", "no", "", clock, clock))
        clock += timedelta(seconds=1)
    assert attempts == [(1, at(6)), (2, at(6, 0, 10)), (3, at(6, 0, 30))]
    assert (simulated.status.skipped, simulated.status.settled_through) == (1, at(6))


# --- Files ----------------------------------------------------------------------------------------------


def manifests(tmp_path: Path, *specs: dict[str, Any]) -> str:
    """Write manifests into one file."""
    documents = [
        {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": {"name": f"job-{number}"},
            "spec": one,
        }
        for number, one in enumerate(specs)
    ]
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump_all([*documents, {"kind": "Secret"}, None]), encoding="utf-8")
    return str(path)


def test_the_example_files_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Each in a few sentences, none with a mistake."""
    assert cli.main(["explain", "-f", str(ROOT / "jobs"), "-f", str(ROOT / "examples" / "socorro")]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.count("Its first slot would be ") == 18
    assert (
        "updatesignatures: every 1h; each missed slot is caught up, oldest first. It is gated" in output.out
    )
    assert "because of backfill and passLastSuccess." in output.out
    assert "Its CronJob would have the schedule '0 5 * * 1'." in output.out
    assert "python webapp/manage.py update_graphics_pci" in output.out


def test_a_file_tells_schedule_zone_and_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the CronJob will have them."""
    path = manifests(
        tmp_path,
        {
            "command": "a",
            "schedule": "30 5 * * *",
            "timeZone": "Europe/Berlin",
            "webapp": {"name": "w", "container": "c"},
        },
        {"command": "b", "frequency": "7h", "suspend": True, "managePy": [], "args": ["$(RUN_TIME)"]},
    )
    assert cli.main(["explain", "-f", path]) == 0
    text = capsys.readouterr().out
    assert "Its CronJob would have the schedule '30 5 * * *' in Europe/Berlin." in text
    assert "in the pod template of Deployment w, container c." in text
    assert "Its CronJob would have the schedule '@every 7h'." in text
    assert "because of $(RUN_TIME) in args." in text
    assert "It is suspended: nothing starts until spec.suspend is false." in text
    assert "It would run `b $(RUN_TIME)`" in text


def test_a_file_with_a_past_backfill_since_lists_its_slots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are missed from the start."""
    since = datetime.now(UTC) - timedelta(hours=30)
    path = manifests(
        tmp_path,
        {"command": "a", "frequency": "1h", "backfill": True, "backfillSince": f"{since:%Y-%m-%dT%H:%M:%SZ}"},
    )
    assert cli.main(["explain", "-f", path, "--slots", "4"]) == 0
    text = capsys.readouterr().out
    assert "backfillSince lies in the past" in text
    assert "Dry run: 30 slots would be caught up" in text
    assert "… and 26 more" in text


def test_mistakes_in_a_file_are_told_with_their_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1; the good ones beside them are explained all the same."""
    path = manifests(
        tmp_path,
        {"command": "a", "schedule": "61 * * * *"},
        {"command": "b", "frequency": "1h"},
        {"command": "c", "frequency": "1h", "schedule": "0 * * * *", "backfillLimit": 3},
    )
    assert cli.main(["explain", "-f", path]) == 1
    text = capsys.readouterr().out
    assert f"{path}: job-0 can't be carried out:\nspec.schedule" in text
    assert "job-1: every 1h" in text
    assert "spec.frequency: can't be given together with schedule: remove one of the two" in text
    assert "spec.backfillLimit: needs backfill: true" in text


def test_the_operators_settings_say_what_a_file_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the operator's flags and variables; what the file says itself is left alone."""
    monkeypatch.setenv("CRONTABBER_WEBAPP_CONTAINER", "django")
    path = manifests(
        tmp_path,
        {"command": "a", "frequency": "1h"},
        {"command": "b", "frequency": "1h", "managePy": [], "webapp": {"name": "other"}},
    )
    flags = ["--webapp", "deployment/site", "--manage-py", "uv run manage.py"]
    assert cli.main(["explain", "-f", path, *flags]) == 0
    text = capsys.readouterr().out
    assert "`uv run manage.py a`, in the pod template of Deployment site, container django." in text
    assert "`b`, in the pod template of Deployment other." in text


def test_a_schedule_without_slots_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The 30th of February."""
    assert cli.main(["explain", "-f", manifests(tmp_path, {"command": "a", "schedule": "0 0 30 2 *"})]) == 0
    assert "it would never run" in capsys.readouterr().out


DEAD = """\
current-context: a
clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: a, user: {token: t}}]
contexts: [{name: a, context: {cluster: a, user: a, namespace: shop}}]
"""
"""The kubeconfig of a cluster that doesn't answer."""


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["-f", "nowhere.yaml"], 2, "nowhere.yaml: can't be read: No such file or directory."),
        (["-f", "bad.yaml"], 2, "bad.yaml:2: is not YAML"),
        (["-f", "none.yaml"], 2, "there is no CrontabberJob in none.yaml."),
        (["-f", "binary.yaml"], 2, "binary.yaml: can't be read: is not text in UTF-8."),
        (["-f", "none.yaml", "job"], 2, "not both"),
        (["--live"], 2, "--live goes only with -f."),
        (["-f", "good.yaml", "--webapp", "pod/x"], 2, "--webapp takes deployment/NAME"),
        (["job", "--kubeconfig", "nowhere"], 2, "the kubeconfig nowhere can't be used"),
        (["job", "--kubeconfig", "none.yaml"], 2, "the kubeconfig none.yaml can't be used"),
        (["job", "--kubeconfig", "bad.yaml"], 2, "the kubeconfig bad.yaml can't be used"),
        (
            ["job", "--kubeconfig", "dead.yaml"],
            1,
            "the API server can't be reached: GET /apis/crontabber.dev",
        ),
        (["job", "--kubeconfig", "dead.yaml", "--context", "b"], 2, "has no context b; it has a."),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the exit code of wrong arguments."""
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("a: [\n", encoding="utf-8")
    Path("none.yaml").write_text("kind: Secret", encoding="utf-8")
    Path("binary.yaml").write_bytes(b"\xff\xfe\xff")
    Path("good.yaml").write_text(
        "{kind: CrontabberJob, metadata: {name: a}, spec: {command: a, frequency: 1h}}", encoding="utf-8"
    )
    Path("dead.yaml").write_text(DEAD, encoding="utf-8")
    assert cli.main(["explain", *arguments]) == code
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.splitlines()) == 1


def test_lists_and_json_are_read(tmp_path: Path) -> None:
    """What `kubectl get -o yaml` writes."""
    (tmp_path / "list.json").write_text(
        '{"kind": "List", "items": [{"kind": "CrontabberJob", "metadata": {"name": "a", "namespace": "n"},'
        ' "spec": {"command": "a"}}, 5]}',
        encoding="utf-8",
    )
    (one,) = read_manifests([str(tmp_path)])
    assert (one.name, one.namespace, one.spec) == ("a", "n", {"command": "a"})
    with pytest.raises(CannotError):
        read_manifests([])


# --- Command lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B)", "$(B)"),
        ("$(A", "$(A"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(C)", "$(A)"),
        ("", ""),
    ],
)
def test_variables_are_filled_in_as_kubernetes_does(text: str, expected: str) -> None:
    """Unknown ones stay; what a value brings in is not expanded again."""
    assert expand(text, {"A": "1", "C": "$(A)"}) == expected


def test_the_command_line_is_that_of_the_cronjob() -> None:
    """With the values of its next run."""
    made = plan_alone("shop", "job", spec(backfill=True, passLastSuccess=True, args=["--x", "$(RUN_TIME)"]))
    assert command_line(made, {"RUN_TIME": "t", "LAST_SUCCESS": ""}) == (
        *("python", "manage.py", "work", "--x", "t", "--run-time=t", "--last-success="),
    )


def durations() -> Iterator[tuple[int, str]]:
    """Yield seconds and how they are told."""
    yield from ((0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (86400 * 3 + 7200, "3 d 2 h"))


@pytest.mark.parametrize(("seconds", "text"), list(durations()))
def test_durations_are_told_in_two_units(seconds: int, text: str) -> None:
    """As people say them."""
    one = job(Status(last_success_time=NOW - timedelta(seconds=seconds), settled_through=at(8)))
    assert f"({text} ago)" in explain(one, seen(one))


def test_explaining_changes_nothing() -> None:
    """The same job, explained twice, tells the same."""
    one = job(Status(settled_through=at(5)), backfill=True)
    observed = seen(one)
    texts = {explain(one, observed) for _ in itertools.repeat(None, 2)}
    assert len(texts) == 1
    assert forecast(one, observed, NOW) == forecast(one, observed, NOW)


def test_nothing_that_an_error_says_takes_effect_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Colours, line breaks and reversed text are shown, or left out."""
    explain_program._write(["It failed with \x1b[31mred\u202e and\x07.", ""])  # noqa: SLF001 - where all lines go through
    shown = capsys.readouterr().out
    assert shown.isprintable() or shown.rstrip("\n").isprintable()
    assert "red" in shown
