"""The sample web app's commands and page, in this process on a database of its own.

WEBAPP_TEST_DATABASE_URL names another, empty database to run on, such as a PostgreSQL one; SQLite by default.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import django
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.test import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

WEBAPP = Path(__file__).resolve().parents[2] / "webapp"
SLOT = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
LAST_SUCCESS = SLOT - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
BUILD = "20261101093000"
REPORT = {
    "product": "Falcon",
    "version": "142.0",
    "build_id": BUILD,
    "frames": ["abort", "gfx::Paint", "main"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The app's models, once Django is set up and the tables are made."""
    database = tmp_path_factory.mktemp("webapp") / "crashes.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(WEBAPP)
        patch.setenv("DJANGO_SETTINGS_MODULE", "collector.settings")
        patch.setenv("DATABASE_URL", os.environ.get("WEBAPP_TEST_DATABASE_URL", f"sqlite:///{database}"))
        patch.setenv("ALLOWED_HOSTS", "testserver")
        patch.delenv("SENTRY_DSN", raising=False)
        patch.delenv("DEBUG", raising=False)
        django.setup()
        call_command("migrate", verbosity=0)
        yield importlib.import_module("crashes.models")
        django.db.connection.close()


@pytest.fixture(autouse=True)
def _empty_tables(models: Any) -> Iterator[None]:
    """Whatever a test writes is gone after it."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def runs(models: Any) -> ModuleType:
    """The module that all scheduled commands share."""
    return importlib.import_module("crashes.runs")


def run(command: str, *arguments: str) -> str:
    """Run a command as `manage.py` would; return what it printed."""
    output = io.StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def add_crash(
    models: Any,
    processed: datetime | None,
    *,
    signature: str = "gfx::Paint",
    build: str = BUILD,
    submitted: datetime | None = None,
) -> Any:
    """A crash in the table, processed at `processed`; None: not processed."""
    return models.CrashReport.objects.create(
        product="Falcon",
        version="142.0",
        build_id=build,
        frames="gfx::Paint\nmain",
        date_submitted=submitted or processed,
        date_processed=processed,
        signature=signature if processed else "",
    )


def known_signatures(models: Any) -> list[tuple[str, datetime, str]]:
    """What the table of signatures says, in the order of the names."""
    rows = models.Signature.objects.order_by("signature")
    return list(rows.values_list("signature", "first_seen", "first_build"))


# --- Times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T05:00", SLOT),
        ("2026-11-24T05:00:00Z", SLOT),
        ("2026-11-24t05:00:00z", SLOT),
        ("2026-11-24T06:30:00+01:30", SLOT),
        ("2026-11-24 05:00:00.000000000Z", SLOT),
        (" 2026-11-24T05:00 ", SLOT),
        ("2026-11-24", SLOT.replace(hour=0)),
    ],
)
def test_times_are_read_as_utc(models: Any, text: str, expected: datetime) -> None:
    """The operator's default format, RFC 3339 and a bare day are accepted."""
    assert importlib.import_module("crashes.times").parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-24T5:00",
        "20261124",
        "2026-02-30T05:00",
        "2026-W48-2",
        "0001-01-01T00:00+01:00",
    ],
)
def test_other_times_are_refused_with_a_sentence(models: Any, text: str) -> None:
    """A time that can't be read is never taken for another."""
    with pytest.raises(ValueError, match="is not a time"):
        importlib.import_module("crashes.times").parse_time(text)


def test_wrong_time_is_a_command_error() -> None:
    """The command doesn't start, and says which option is wrong."""
    with pytest.raises(CommandError, match="--run-time"):
        run("updatesignatures", "--run-time=yesterday")


# --- updatesignatures ---------------------------------------------------------------------------------------


def test_updatesignatures_looks_from_ten_minutes_before_the_last_success_up_to_the_run_time(
    models: Any,
) -> None:
    """The window is half-open, so that slot after slot covers everything."""
    start = LAST_SUCCESS - 10 * MINUTE
    for name, time in (
        ("before", start - timedelta(microseconds=1)),
        ("first", start),
        ("last", SLOT - timedelta(microseconds=1)),
        ("after", SLOT),
    ):
        add_crash(models, time, signature=name)
    run("updatesignatures", "--last-success=2026-11-24T04:00", "--run-time=2026-11-24T05:00")
    assert [name for name, _, _ in known_signatures(models)] == ["first", "last"]


def test_updatesignatures_without_a_last_success_looks_ninety_minutes_back(models: Any) -> None:
    """The first run ever gets an empty last success."""
    add_crash(models, SLOT - 91 * MINUTE, signature="before")
    add_crash(models, SLOT - 90 * MINUTE, signature="first")
    run("updatesignatures", "--last-success=", "--run-time=2026-11-24T05:00")
    assert [name for name, _, _ in known_signatures(models)] == ["first"]


def test_updatesignatures_keeps_the_earliest_time_and_the_earliest_build(models: Any) -> None:
    """They may be those of different crashes."""
    add_crash(models, SLOT - 30 * MINUTE, build="20261102000000")
    add_crash(models, SLOT - 20 * MINUTE, build="20261101000000")
    run("updatesignatures", "--run-time=2026-11-24T05:00")
    assert known_signatures(models) == [("gfx::Paint", SLOT - 30 * MINUTE, "20261101000000")]


def test_updatesignatures_leaves_out_what_is_not_processed(models: Any) -> None:
    """A crash has no signature before it is processed."""
    add_crash(models, None, submitted=SLOT - MINUTE)
    run("updatesignatures", "--run-time=2026-11-24T05:00")
    assert known_signatures(models) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 1, 1, 2, 0), (1, 2, 0, 2)])
def test_updatesignatures_gives_the_same_in_any_order_and_when_slots_repeat(
    models: Any, order: tuple[int, ...]
) -> None:
    """A retried or repeated slot does no damage."""
    for index in range(30):
        add_crash(
            models,
            LAST_SUCCESS + index * 6 * MINUTE,
            signature=f"kind {index % 7}",
            build=f"202611{28 - index % 20:02}000000",
        )
    for index in order:
        last_success = LAST_SUCCESS + timedelta(hours=index)
        run(
            "updatesignatures",
            f"--last-success={last_success:%Y-%m-%dT%H:%M}",
            f"--run-time={last_success + timedelta(hours=1):%Y-%m-%dT%H:%M}",
        )
    crashes = list(models.CrashReport.objects.all())
    expected = []
    for name in sorted({crash.signature for crash in crashes}):
        alike = [crash for crash in crashes if crash.signature == name]
        first_seen = min(crash.date_processed for crash in alike)
        expected.append((name, first_seen, min(crash.build_id for crash in alike)))
    assert known_signatures(models) == expected


def test_updatesignatures_writes_more_signatures_than_fit_in_one_statement(models: Any) -> None:
    """The writes are cut into batches, and nothing falls between two of them."""
    times = [SLOT - MINUTE] * 1203
    models.CrashReport.objects.bulk_create(
        models.CrashReport(
            product="Falcon", version="1", build_id=BUILD, date_processed=time, signature=f"kind {index}"
        )
        for index, time in enumerate(times)
    )
    assert "1203 signatures: 1203 new" in run("updatesignatures", "--run-time=2026-11-24T05:00")
    assert models.Signature.objects.count() == len(times)


def test_updatesignatures_dry_run_changes_nothing(models: Any) -> None:
    """It says what it would do, and leaves no evidence and no planned fault used up."""
    add_crash(models, SLOT - MINUTE)
    run("breakslot", "updatesignatures", "2026-11-24T05:00")
    assert "Dry run: 1 crashes, 1 signatures: 1 new" in run(
        "updatesignatures", "--run-time=2026-11-24T05:00", "--dry-run"
    )
    assert known_signatures(models) == []
    assert models.CronRun.objects.count() == 0
    assert models.Fault.objects.get().remaining == 1


def test_updatesignatures_refuses_a_last_success_after_the_run_time() -> None:
    """An order that makes no sense is a CommandError, not an empty success."""
    with pytest.raises(CommandError, match="nothing between them"):
        run("updatesignatures", "--last-success=2026-11-24T06:00", "--run-time=2026-11-24T05:00")


# --- bugassociations ----------------------------------------------------------------------------------------


def add_bug(models: Any, number: int, text: str, changed: datetime = SLOT) -> Any:
    """A bug of the tracker that names signatures in `text`."""
    return models.Bug.objects.create(
        number=number, summary="Crash", status="NEW", crash_signature=text, last_changed=changed
    )


def associations(models: Any) -> set[tuple[int, str]]:
    """Which bug is said to be about which signature."""
    return set(models.BugAssociation.objects.values_list("bug_id", "signature"))


def test_bugassociations_follow_what_the_bug_says(models: Any) -> None:
    """New ones are added, others are removed; repeated, nothing changes."""
    bug = add_bug(models, 1, "[@ one] [@ operator[] | two]\n[@three ]")
    run("bugassociations", "--last-success=")
    assert associations(models) == {(1, "one"), (1, "operator[] | two"), (1, "three")}
    bug.crash_signature = "see [@ three] and [@ four], [@ ] or [@ cut"
    bug.save()
    for arguments in (("--dry-run",), ()):
        assert "1 associations added, 2 removed" in run("bugassociations", *arguments)
    assert "0 associations added, 0 removed" in run("bugassociations")
    assert associations(models) == {(1, "three"), (1, "four")}


def test_bugassociations_looks_at_bugs_changed_since_the_last_success(models: Any) -> None:
    """With the overlap of ten minutes; without a last success at all bugs."""
    add_bug(models, 1, "[@ old]", LAST_SUCCESS - 11 * MINUTE)
    add_bug(models, 2, "[@ new]", LAST_SUCCESS - 10 * MINUTE)
    run("bugassociations", "--last-success=2026-11-24T04:00")
    assert associations(models) == {(2, "new")}
    run("bugassociations")
    assert associations(models) == {(1, "old"), (2, "new")}


# --- verifyprocessed, updatemissing, processcrashes ---------------------------------------------------------


def test_verifyprocessed_lists_the_unprocessed_crashes_of_the_day_before(models: Any) -> None:
    """The UTC day before the run time, from its first to its last moment; a repetition adds nothing."""
    midnight = SLOT.replace(hour=0)
    day = midnight - timedelta(days=1)
    add_crash(models, None, submitted=day - timedelta(microseconds=1))
    first = add_crash(models, None, submitted=day)
    last = add_crash(models, None, submitted=midnight - timedelta(microseconds=1))
    add_crash(models, None, submitted=midnight)
    add_crash(models, day + timedelta(hours=1))
    output = run("verifyprocessed", "--run-time=2026-11-24T04:00")
    assert "2026-11-23: 3 crashes, 2 not processed, 2 of them newly found" in output
    assert f"Missing: {first}" in output
    found = set(models.MissingProcessed.objects.values_list("crash_id", flat=True))
    assert found == {first.crash_id, last.crash_id}
    assert "2 not processed, 0 of them newly found" in run("verifyprocessed", "--run-time=2026-11-24T04:00")


def test_missing_crashes_are_found_again_once_processed(models: Any) -> None:
    """verifyprocessed, processcrashes and updatemissing hand a crash on to each other."""
    crash = add_crash(models, None, submitted=SLOT - timedelta(days=1))
    run("verifyprocessed", "--run-time=2026-11-24T04:00")
    assert "0 missing crashes were processed since, 1 are still missing" in run("updatemissing")
    assert "1 crashes processed, 0 still waiting" in run("processcrashes")
    crash.refresh_from_db()
    assert crash.signature == "gfx::Paint | main"
    assert "1 missing crashes were processed since, 0 are still missing" in run("updatemissing")
    assert models.MissingProcessed.objects.get().processed_at == crash.date_processed
    assert "0 missing crashes were processed since, 0 are still missing" in run("updatemissing")


def test_processcrashes_stops_at_its_limit_oldest_first(models: Any) -> None:
    """What is left waits for the next run."""
    for day in (1, 2, 3):
        add_crash(models, None, submitted=SLOT - timedelta(days=day))
    assert "2 crashes processed, 1 still waiting" in run("processcrashes", "--limit=2")
    assert models.CrashReport.objects.get(date_processed=None).date_submitted == SLOT - timedelta(days=1)


# --- auditgroups --------------------------------------------------------------------------------------------


def test_auditgroups_removes_the_deactivated_and_the_idle_and_keeps_a_record(models: Any) -> None:
    """Active members stay; the record says who left which group and why; a repetition finds nobody."""
    auth = importlib.import_module("django.contrib.auth.models")
    groups = [auth.Group.objects.create(name=name) for name in ("one", "two")]
    now = datetime.now(UTC)
    for name, is_active, idle_days in (("active", True, 364), ("idle", True, 366), ("gone", False, 1)):
        user = auth.User.objects.create(
            username=name, is_active=is_active, last_login=now - timedelta(days=idle_days)
        )
        user.groups.set(groups)
    newcomer = auth.User.objects.create(username="never logged in", date_joined=now)
    newcomer.groups.set(groups)
    assert "4 group memberships removed" in run("auditgroups", "--dry-run")
    assert models.GroupAudit.objects.count() == 0
    assert "4 group memberships removed" in run("auditgroups")
    members = set(groups[0].user_set.values_list("username", flat=True))
    assert members == {"active", "never logged in"}
    reasons = dict(models.GroupAudit.objects.filter(group="two").values_list("username", "reason"))
    assert reasons == {"gone": "deactivated", "idle": f"not seen since {now - timedelta(days=366):%Y-%m-%d}"}
    assert "0 group memberships removed" in run("auditgroups")


@pytest.mark.parametrize(
    "order", [("auditgroups", "--idle-days=0"), ("processcrashes", "--limit=0"), ("seed", "--crashes=0")]
)
def test_numbers_that_make_no_sense_are_refused(order: tuple[str, str]) -> None:
    """A CommandError names the option."""
    with pytest.raises(CommandError, match=f"{order[1].split('=')[0]} is 0"):
        run(*order)


# --- Planned faults and evidence ----------------------------------------------------------------------------


def test_breakslot_fails_its_slot_so_many_times_and_no_other(models: Any) -> None:
    """What a demonstration needs: the slot fails, is retried, and then does its work."""
    add_crash(models, SLOT - MINUTE)
    run("breakslot", "updatesignatures", "2026-11-24T05:00", "--times=2")
    run("updatesignatures", "--run-time=2026-11-24T04:00")
    run("bugassociations")
    for _ in range(2):
        with pytest.raises(OperationalError, match=r"planted by breakslot for 2026-11-24T05:00Z"):
            run("updatesignatures", "--run-time=2026-11-24T05:00")
        assert known_signatures(models) == []
    run("updatesignatures", "--run-time=2026-11-24T05:00:00Z")
    assert len(known_signatures(models)) == 1


def test_breakslot_any_fails_the_next_runs_whatever_their_slot() -> None:
    """Also those of commands that are not told a slot."""
    run("breakslot", "updatemissing", "any", "--times=1")
    with pytest.raises(OperationalError, match="planted by breakslot for this run"):
        run("updatemissing")
    run("updatemissing")


def test_breakslot_zero_times_takes_the_plan_back(models: Any) -> None:
    """And the last plan for a slot is the one that counts."""
    run("breakslot", "crontest", "any", "--times=5")
    run("breakslot", "crontest", "any", "--times=0")
    assert [fault.remaining for fault in models.Fault.objects.all()] == [0]
    run("crontest")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nonsense", "any"), "not a scheduled command"),
        (("migrate", "any"), "not a scheduled command"),
        (("seed", "any"), "not a scheduled command"),
        (("updatemissing", "2026-11-24T05:00"), "is not told its slot"),
        (("crontest", "yesterday"), "is not a time"),
        (("crontest", "any", "--times=-1"), "must be 0 or more"),
    ],
)
def test_breakslot_refuses_what_could_never_fail(arguments: tuple[str, ...], sentence: str) -> None:
    """A plan that no run would meet is a mistake."""
    with pytest.raises(CommandError, match=sentence):
        run("breakslot", *arguments)


def test_each_run_leaves_what_it_was_told_and_what_came_of_it(models: Any) -> None:
    """The failed ones too, with the error."""
    run("crontest", "--run-time=2026-11-24T05:00", "--last-success=2026-11-24T04:00", "--print=hello")
    with pytest.raises(Exception, match="crash requested"):
        run("crontest", "--crash")
    rows = models.CronRun.objects.order_by("id").values_list("run_time", "last_success", "outcome", "summary")
    assert list(rows) == [
        (SLOT, LAST_SUCCESS, "succeeded", "hello"),
        (None, None, "failed", "PlannedCrashError: crash requested"),
    ]
    assert not models.CronRun.objects.filter(finished=None).exists()


def test_evidence_of_a_command_does_not_grow_for_ever(
    models: Any, runs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are kept, of each command."""
    monkeypatch.setattr(runs, "RUNS_KEPT_PER_COMMAND", 3)
    run("updatemissing")
    for index in range(5):
        run("crontest", f"--print={index}")
    kept = models.CronRun.objects.order_by("id").values_list("summary", flat=True)
    assert list(kept.filter(command="crontest")) == ["2", "3", "4"]
    assert kept.filter(command="updatemissing").count() == 1


def test_crontest_prints_what_it_was_told() -> None:
    """The exact arguments can be seen in the pod's log."""
    output = run("crontest", "--run-time=2026-11-24T05:00", "--last-success=", "--print=hello there")
    assert output.splitlines() == ["run_time: 2026-11-24T05:00Z", "hello there"]


# --- seed ---------------------------------------------------------------------------------------------------


def test_seed_makes_the_same_data_for_the_same_arguments(models: Any) -> None:
    """Repeating it adds nothing, and an empty database gets the same rows again."""
    arguments = ("seed", "--days=1", "--crashes=500", "--until=2026-11-24T12:00")
    assert "500 crashes added" in run(*arguments)
    first = set(models.CrashReport.objects.values_list("crash_id", "signature", "date_submitted"))
    assert "0 crashes added" in run(*arguments)
    models.CrashReport.objects.all().delete()
    models.Bug.objects.all().delete()
    run(*arguments)
    assert set(models.CrashReport.objects.values_list("crash_id", "signature", "date_submitted")) == first
    assert {submitted.date().day for _, _, submitted in first} == {23, 24}


def test_seed_gives_every_command_something_to_do(models: Any) -> None:
    """New signatures hour after hour, unprocessed crashes, bugs, members who left, expired sessions."""
    run("seed", "--until=2026-11-24T12:00", "--crashes=5000")
    for hour in range(1, 5):
        end = datetime(2026, 11, 24, hour, 0, tzinfo=UTC)
        run("updatesignatures", f"--last-success={end - timedelta(hours=1)}", f"--run-time={end}")
    assert models.Signature.objects.filter(first_seen__gte=datetime(2026, 11, 24, 1, tzinfo=UTC)).exists()
    run("verifyprocessed", "--run-time=2026-11-24T04:00")
    assert models.MissingProcessed.objects.exists()
    run("bugassociations")
    assert models.BugAssociation.objects.exists()
    run("auditgroups")
    assert models.GroupAudit.objects.exists()
    sessions = importlib.import_module("django.contrib.sessions.models").Session.objects
    assert sessions.exists()
    run("clearsessions")
    assert not sessions.exists()


# --- The page and the address for reports -------------------------------------------------------------------


def test_page_of_empty_tables_says_how_to_begin() -> None:
    """The first thing that a user sees is no error."""
    response = Client().get("/")
    assert response.status_code == 200
    assert "No command has run yet" in response.text


def test_page_shows_what_is_in_the_tables(models: Any) -> None:
    """Crashes, signatures with first sighting and bugs, runs with their times, planned faults."""
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    add_crash(models, hour - MINUTE, signature="gfx::Paint | main")
    add_bug(models, 1234567, "[@ gfx::Paint | main]")
    run("updatesignatures", f"--run-time={hour}", f"--last-success={hour - timedelta(hours=1)}")
    run("bugassociations")
    run("breakslot", "updatesignatures", f"{hour + timedelta(hours=1)}", "--times=2")
    text = Client().get("/").text
    assert "bug 1234567" in text
    assert "1 crashes, 1 signatures: 1 new" in text
    assert "is planned to fail 2 more times" in text
    assert text.count("bar bar-succeeded") == 1
    assert text.count('"bar bar-none"') == 23


def test_page_escapes_what_was_submitted(models: Any) -> None:
    """A report comes from anybody; its text must not become part of the page."""
    add_crash(models, datetime.now(UTC), signature="<script>alert(1)</script>")
    assert "<script" not in Client().get("/").text


def test_page_needs_nothing_from_elsewhere() -> None:
    """No script, font, image or style sheet of another address, and the browser is told so."""
    response = Client().get("/")
    assert "//" not in response.text.replace("<!doctype html>", "")
    assert response["Content-Security-Policy"].startswith("default-src 'none'")
    assert response["X-Frame-Options"] == "DENY"


def test_page_refuses_unknown_hosts_and_other_methods() -> None:
    """The usual guards of Django are on."""
    client = Client()
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    assert client.post("/").status_code == 405


def test_health_is_answered_whatever_the_host_is_called() -> None:
    """A kubelet asks by the pod's IP address."""
    response = Client().get("/healthz", headers={"Host": "10.1.2.3:8000"})
    assert (response.status_code, response.text) == (200, "ok\n")


def test_health_and_page_say_when_the_database_is_away(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, so that no traffic comes; the error's text, which may name hosts, stays inside."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OperationalError("connection to db.internal failed")

    monkeypatch.setattr(models.CrashReport.objects, "exists", fail)
    monkeypatch.setattr(models.CrashReport.objects, "count", fail)
    for path in ("/healthz", "/"):
        response = Client().get(path)
        assert response.status_code == 503
        assert "OperationalError" in response.text
        assert "db.internal" not in response.text


def submit(report: object) -> Any:
    """Send a report as a crashed program would: no cookie, no token."""
    return Client(enforce_csrf_checks=True).post("/submit", report, content_type="application/json")


def test_submitted_report_is_kept_until_it_is_processed(models: Any) -> None:
    """It gets an id, waits, and is processed into a signature without its irrelevant frames."""
    response = submit(REPORT)
    assert response.status_code == 201
    crash = models.CrashReport.objects.get(crash_id=response.json()["crash_id"])
    assert (crash.date_processed, crash.signature) == (None, "")
    run("processcrashes")
    crash.refresh_from_db()
    assert crash.signature == "gfx::Paint | main"


def test_report_sent_twice_is_kept_once(models: Any) -> None:
    """A program that got no answer sends it again with its own id."""
    report = REPORT | {"crash_id": str(UUID(int=7))}
    assert [submit(report).status_code for _ in range(2)] == [201, 200]
    assert models.CrashReport.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"product": ""}, "product must be"),
        ({"product": "x" * 51}, "product must be"),
        ({"product": "nul\0"}, "product must be"),
        ({"version": 142}, "version must be"),
        ({"build_id": "2026110109300"}, "build_id must be"),
        ({"build_id": "".join(chr(0xFF10 + int(digit)) for digit in BUILD)}, "build_id must be"),
        ({"frames": "main"}, "frames must be"),
        ({"frames": [1]}, "frames must be"),
        ({"frames": ["\ud800"]}, "frames must be"),
        ({"frames": ["f"] * 201}, "frames must be"),
        ({"crash_id": "7"}, "crash_id must be"),
        ({"crash_id": 7}, "crash_id must be"),
    ],
)
def test_report_that_can_not_be_taken_gets_a_sentence(
    models: Any, change: dict[str, object], sentence: str
) -> None:
    """Status 400, and nothing is kept."""
    response = submit(json.dumps(REPORT | change))
    assert response.status_code == 400
    assert sentence in response.json()["error"]
    assert models.CrashReport.objects.count() == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b"1" * 5_000])
def test_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """Whatever it is, it is no server error."""
    assert submit(body).status_code == 400


def test_report_that_is_too_long_is_refused(models: Any) -> None:
    """More than 64 KiB is no crash report."""
    assert submit(json.dumps(REPORT | {"frames": ["f" * 1000] * 100})).status_code == 400
    assert models.CrashReport.objects.count() == 0


# --- The project --------------------------------------------------------------------------------------------


def test_migrations_make_the_tables_that_the_models_describe() -> None:
    """Somebody who changes a model must add its migration."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_system_checks_pass() -> None:
    """Django itself finds nothing wrong."""
    call_command("check", "--fail-level=WARNING")
    assert sys.modules["collector.settings"].DEBUG is False
