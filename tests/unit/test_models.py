"""The models: what a spec means, which specs are refused and how, and that no status ever stops us."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crontabber_operator.models import (
    HISTORY_LENGTH,
    INT32_MAX,
    TRACEBACK_MAX_BYTES,
    CommandRecord,
    Condition,
    ConditionType,
    Dependency,
    Disregarded,
    HistoryEntry,
    InitContainerPolicy,
    InvalidSpec,
    LastError,
    Ongoing,
    Output,
    ReportErrors,
    Result,
    Retry,
    Spec,
    State,
    Status,
    WebApp,
    WorkloadKind,
)
from crontabber_operator.schedule import parse_frequency, parse_schedule
from crontabber_operator.spec_rules import RULES
from crontabber_operator.times import format_time, parse_time

EIGHT = datetime(2026, 11, 24, 8, tzinfo=UTC)
EIGHT_TEXT = "2026-11-24T08:00:00Z"
TEMPLATE = {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}


def spec(**fields: Any) -> Spec:
    """Read a spec that is hourly unless it says otherwise."""
    raw = {"command": "clearsessions", **fields}
    if "schedule" not in raw:
        raw.setdefault("frequency", "1h")
    return Spec.read(raw, name="clearsessions")


def sentences(raw: object, name: str = "clearsessions") -> tuple[str, ...]:
    """Read a spec that is wrong and return what is said about it."""
    with pytest.raises(InvalidSpec) as caught:
        Spec.read(raw, name=name)
    return caught.value.sentences


# --- Times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T08:00:00Z", EIGHT),
        ("2026-11-24t08:00:00z", EIGHT),
        ("2026-11-24T09:00:00+01:00", EIGHT),
        ("2026-11-24T08:00:00.999999999Z", EIGHT),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2199-12-31T23:59:59Z", datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_whole_seconds_in_utc(text: str, expected: datetime) -> None:
    """Every RFC 3339 form gives the same instant in UTC, cut to seconds."""
    assert parse_time(text) == expected
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-24",
        "2026-11-24T08:00:00",
        "2026-11-24T08:00Z",
        "2026-13-24T08:00:00Z",
        "2026-02-30T08:00:00Z",
        "2026-11-24T08:00:60Z",
        "20261124T080000Z",
        "2026-W48-2T08:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "1969-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "\uff12026-11-24T08:00:00Z",
        "2026-11-24T08:00:00Z\n",
    ],
)
def test_what_is_not_rfc_3339_is_not_a_time(text: str) -> None:
    """Times without an offset, days that don't exist and ISO 8601's other forms are refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_times_are_written_as_the_api_server_does() -> None:
    """Whole seconds, UTC, Z, four digits for the year."""
    local = EIGHT.replace(microsecond=5).astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert format_time(local) == EIGHT_TEXT
    assert format_time(datetime(1, 2, 3, tzinfo=UTC)) == "0001-02-03T00:00:00Z"
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2026, 1, 1))  # noqa: DTZ001 - it is the point


# --- Spec: what it means ------------------------------------------------------------------------------------


def test_an_absent_field_means_what_the_design_says() -> None:
    """The smallest spec has design.md's values for all that it leaves out."""
    read = Spec.read({"command": "clearsessions", "frequency": "1h"})
    assert dataclasses.asdict(read) == {
        "command": "clearsessions",
        "args": (),
        "schedule": None,
        "frequency": "1h",
        "time_zone": None,
        "time": None,
        "backfill": False,
        "pass_last_success": False,
        "run_time_argument": "--run-time",
        "last_success_argument": "--last-success",
        "time_format": "%Y-%m-%dT%H:%M",
        "backfill_since": None,
        "backfill_limit": None,
        "backfill_batch": 1,
        "starting_deadline_seconds": None,
        "depends_on": (),
        "concurrency_group": None,
        "retry_delay_seconds": None,
        "retry_max_delay_seconds": None,
        "retry_limit": None,
        "active_deadline_seconds": 7200,
        "suspend": False,
        "report_errors": ReportErrors.AUTO,
        "output": None,
        "successful_jobs_history_limit": 3,
        "failed_jobs_history_limit": 1,
        "webapp": None,
        "template": None,
        "manage_py": None,
    }


def test_every_field_is_read() -> None:
    """A spec with all fields set keeps each of them."""
    read = Spec.read(
        {
            "command": "verifyprocessed",
            "args": ["--verbosity", "2"],
            "schedule": "0 4 * * *",
            "timeZone": "Europe/Berlin",
            "backfill": True,
            "passLastSuccess": True,
            "runTimeArgument": "--at",
            "lastSuccessArgument": "",
            "timeFormat": "%d.%m.%Y",
            "backfillSince": "2026-11-24T09:00:00+01:00",
            "backfillLimit": 24,
            "backfillBatch": 12,
            "startingDeadlineSeconds": 60,
            "dependsOn": [{"name": "crontest"}],
            "concurrencyGroup": "database",
            "retryDelaySeconds": 30,
            "retryMaxDelaySeconds": 300,
            "retryLimit": 0,
            "activeDeadlineSeconds": 600,
            "suspend": True,
            "reportErrors": "Never",
            "output": "Failures",
            "successfulJobsHistoryLimit": 0,
            "failedJobsHistoryLimit": 10,
            "webapp": {
                "kind": "Deployment",
                "name": "site",
                "container": "django",
                "initContainerPolicy": "Drop",
            },
            "managePy": [],
        },
        name="verifyprocessed",
    )
    assert read == Spec(
        command="verifyprocessed",
        args=("--verbosity", "2"),
        schedule="0 4 * * *",
        time_zone="Europe/Berlin",
        backfill=True,
        pass_last_success=True,
        run_time_argument="--at",
        last_success_argument="",
        time_format="%d.%m.%Y",
        backfill_since=EIGHT,
        backfill_limit=24,
        backfill_batch=12,
        starting_deadline_seconds=60,
        depends_on=(Dependency(name="crontest"),),
        concurrency_group="database",
        retry_delay_seconds=30,
        retry_max_delay_seconds=300,
        retry_limit=0,
        active_deadline_seconds=600,
        suspend=True,
        report_errors=ReportErrors.NEVER,
        output=Output.FAILURES,
        successful_jobs_history_limit=0,
        failed_jobs_history_limit=10,
        webapp=WebApp(
            kind=WorkloadKind.DEPLOYMENT,
            name="site",
            container="django",
            init_container_policy=InitContainerPolicy.DROP,
        ),
        manage_py=(),
    )
    assert spec(template=TEMPLATE).template == TEMPLATE


def test_unknown_fields_are_ignored() -> None:
    """A resource that a newer CRD let in is read by an older operator."""
    assert spec(fromTheFuture=True, webapp={"alsoNew": 1}).webapp == WebApp()


def test_a_spec_cannot_be_changed() -> None:
    """Models are frozen: what was read is what is decided on."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().command = "other"  # type: ignore[misc]


def test_slots_are_those_of_the_schedule_or_the_frequency() -> None:
    """A spec knows its slots, with the zone or the time of day."""
    assert spec(schedule="0 5 * * *", timeZone="Europe/Berlin").slots == parse_schedule(
        "0 5 * * *", "Europe/Berlin"
    )
    assert spec(schedule="@daily").slots == parse_schedule("@daily", None)
    assert spec(frequency="7d", time="05:00").slots == parse_frequency("7d", "05:00")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"schedule": "*/7 3 * * MON", "timeZone": "Europe/Berlin"}, "*/7 3 * * MON"),
        ({"schedule": "@daily"}, "@daily"),
        ({"frequency": "45m"}, "every 45m"),
        ({"frequency": "1d", "time": "05:00"}, "every 1d @ 05:00 UTC"),
        ({"frequency": "7d"}, "every 7d @ 00:00 UTC"),
    ],
)
def test_the_schedule_is_shown_as_it_was_given(fields: dict[str, str], text: str) -> None:
    """The column SCHEDULE shows the cron text itself, a frequency in words."""
    assert spec(**fields).schedule_text == text


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({}, True),
        ({"schedule": "0 5 * * *", "timeZone": "Europe/Berlin"}, True),
        ({"frequency": "45m"}, True),
        ({"args": ["--days=3", "$(DAYS)"]}, True),
        ({"args": ["$$(RUN_TIME)", "$$$$(LAST_SUCCESS)", "$RUN_TIME", "(RUN_TIME)"]}, True),
        ({"retryLimit": 3, "activeDeadlineSeconds": 60, "suspend": True}, True),
        ({"schedule": "0 5 * * *", "startingDeadlineSeconds": 60}, True),
        ({"backfillBatch": 1}, True),
        ({"runTimeArgument": "--at", "timeFormat": "%Y"}, True),
        ({"template": TEMPLATE}, True),
        ({"dependsOn": []}, True),
        ({"backfill": False, "passLastSuccess": False}, True),
        ({"backfill": True}, False),
        ({"passLastSuccess": True}, False),
        ({"dependsOn": [{"name": "crontest"}]}, False),
        ({"concurrencyGroup": "database"}, False),
        ({"retryDelaySeconds": 10}, False),
        ({"retryMaxDelaySeconds": 600}, False),
        ({"args": ["--date=$(RUN_TIME)"]}, False),
        ({"args": ["x", "a$(LAST_SUCCESS)b"]}, False),
        ({"args": ["$$$(RUN_TIME)"]}, False),
        ({"args": ["$$(RUN_TIME)$(RUN_TIME)"]}, False),
        ({"frequency": "1h", "startingDeadlineSeconds": 60}, False),
    ],
)
def test_plain_is_what_kubernetes_can_do_alone(fields: dict[str, Any], plain: bool) -> None:
    """Section 3 of the design decides; a given retry delay counts even where it has Kubernetes' own value."""
    read = spec(**fields)
    assert (read.is_plain, read.is_gated) == (plain, not plain)


@pytest.mark.parametrize(
    ("fields", "first", "longest"),
    [
        ({}, 10, 600),
        ({"retryDelaySeconds": 60}, 60, 600),
        ({"retryDelaySeconds": 900}, 900, 900),
        ({"retryMaxDelaySeconds": 5}, 5, 5),
        ({"retryMaxDelaySeconds": 30}, 10, 30),
        ({"retryDelaySeconds": 7, "retryMaxDelaySeconds": 7}, 7, 7),
    ],
)
def test_one_retry_delay_alone_never_contradicts_the_other_ones_default(
    fields: dict[str, int], first: int, longest: int
) -> None:
    """The first wait is at most the longest, whichever of the two was given."""
    read = spec(**fields)
    assert (read.effective_retry_delay_seconds, read.effective_retry_max_delay_seconds) == (first, longest)


def test_times_are_written_for_the_command_by_its_format_in_utc() -> None:
    """A time in another zone is told in UTC; an absent last success is the empty text."""
    local = EIGHT.astimezone(timezone(timedelta(hours=-3)))
    assert spec().written(local) == "2026-11-24T08:00"
    assert spec(timeFormat="%d.%m.%y %H %% %Z").written(local) == "24.11.26 08 % UTC"
    assert spec().written(None) == ""


# --- Spec: what is refused ----------------------------------------------------------------------------------

GIVE_ONE = (
    "spec.schedule: give schedule, a cron expression such as '0 5 * * *', or frequency, such as 1h or 7d"
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, ["spec: is missing; give at least command, and schedule or frequency"]),
        ([], ["spec: is missing; give at least command, and schedule or frequency"]),
        ({"command": "x"}, [GIVE_ONE]),
        ({"frequency": "1h"}, ["spec.command: must be given"]),
        (
            {"command": "x", "frequency": "1h", "schedule": "* * * * *"},
            ["spec.frequency: can't be given together with schedule: remove one of the two"],
        ),
        (
            {"command": "x", "frequency": "1h", "timeZone": "UTC"},
            [
                (
                    "spec.timeZone: goes only with schedule, a frequency is always UTC: remove it, or replace"
                    " frequency by schedule"
                ),
            ],
        ),
        (
            {"command": "x", "frequency": "1h", "time": "05:00"},
            [
                (
                    "spec.time: goes only with a frequency in days, such as 1d: remove it, or write the"
                    " time into schedule"
                ),
            ],
        ),
        (
            {"command": "x", "frequency": "367d"},
            [
                (
                    "spec.frequency: must be at most 366d (8784h, 527040m): write what is rarer as a"
                    " schedule with a date, such as '0 5 1 1 *'"
                ),
            ],
        ),
        (
            {"command": "x", "frequency": "1h", "webapp": {}, "template": TEMPLATE},
            ["spec.template: can't be given together with webapp: remove one of the two"],
        ),
        (
            {
                "command": "x",
                "frequency": "1h",
                "backfillBatch": 2,
                "backfillLimit": 3,
                "backfillSince": EIGHT_TEXT,
            },
            [
                "spec.backfillSince: needs backfill: true; add that or remove this",
                "spec.backfillLimit: needs backfill: true; add that or remove this",
                "spec.backfillBatch: needs backfill: true; add that or remove this",
            ],
        ),
        (
            {"command": "x", "frequency": "1h", "retryDelaySeconds": 20, "retryMaxDelaySeconds": 10},
            ["spec.retryMaxDelaySeconds: must be at least retryDelaySeconds: raise this or lower that"],
        ),
        (
            {
                "command": "x",
                "frequency": "1h",
                "dependsOn": [{"name": "a"}, {"name": "clearsessions"}, {"name": "a"}],
            },
            [
                "spec.dependsOn[1].name: a job can't depend on itself: remove it",
                "spec.dependsOn[2].name: a is there twice: remove one",
            ],
        ),
        (
            {"command": "x", "schedule": "* * * * *", "timeZone": "Mars/Olympus"},
            [
                (
                    "spec.timeZone 'Mars/Olympus': is not known; set an IANA name, written exactly as"
                    " there, such as Europe/Berlin or UTC."
                ),
            ],
        ),
        (
            {"command": "x", "frequency": "1h", "template": {"spec": {}}},
            ["spec.template.spec.containers: must have at least one container"],
        ),
        (
            {"command": "x", "frequency": "1h", "template": {"spec": {"containers": [{}, {"name": "a"}]}}},
            [
                "spec.template.spec.containers[0].name: must be given",
                "spec.template.spec.containers[1].image: must be given",
            ],
        ),
        (
            {"command": "x", "frequency": "1h", "args": ["a\0"]},
            ["spec.args[0]: no argument can hold the character NUL: remove it"],
        ),
        (
            {
                "command": "x",
                "frequency": "1h",
                "backfill": "perhaps",
                "args": [1],
                "retryLimit": -1,
                "backfillBatch": 1001,
                "output": "Some",
                "dependsOn": "a",
                "webapp": 5,
                "managePy": [""],
                "concurrencyGroup": "x" * 64,
            },
            [
                "spec.args[0]: must be a text: put it in quotes",
                "spec.backfill: must be true or false",
                "spec.backfillBatch: must be at most 1000",
                "spec.dependsOn: must be a list",
                "spec.concurrencyGroup: must have at most 63 characters",
                "spec.retryLimit: must be at least 0",
                "spec.output: must be 'All', 'Failures' or 'None'",
                "spec.webapp: must be a mapping",
                "spec.managePy[0]: must not be empty",
            ],
        ),
        (
            {"command": "x", "frequency": "1h", "backfill": True, "backfillSince": "2026-02-30T00:00:00Z"},
            ["spec.backfillSince: must be a day that exists, such as 2026-11-24T08:00:00Z"],
        ),
        (
            {"command": "x", "frequency": "1h", "backfill": True, "backfillSince": "yesterday"},
            ["spec.backfillSince: must be an RFC 3339 time from 1970 to 2199, such as 2026-11-24T08:00:00Z"],
        ),
    ],
)
def test_a_wrong_spec_gets_sentences_that_name_field_and_mend(raw: object, expected: list[str]) -> None:
    """Every mistake is told, each in its own sentence, in the order of the fields."""
    assert sentences(raw) == tuple(expected)


@pytest.mark.parametrize(
    "schedule", ["", "* * * *", "61 * * * *", "5-1 * * * *", "@every 1h", "TZ=UTC @daily"]
)
def test_cron_text_that_the_controller_would_refuse_is_refused(schedule: str) -> None:
    """What robfig/cron can't read never reaches a CronJob; the sentence begins with the field."""
    (sentence,) = sentences({"command": "x", "schedule": schedule})
    assert sentence.startswith("spec.schedule ")


def test_a_name_that_jobs_could_not_carry_is_refused() -> None:
    """48 characters are allowed, 49 are not."""
    raw = {"command": "x", "frequency": "1h"}
    assert Spec.read(raw, name="a" * 48).command == "x"
    assert sentences(raw, name="a" * 49) == ("metadata.name: must be at most 48 characters: shorten it",)


def test_no_rule_is_broken_by_the_smallest_specs() -> None:
    """The rules refuse combinations, never what stands alone."""
    for read in (spec(), spec(schedule="@daily")):
        assert all(rule.holds(read) for rule in RULES)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from([field.name for field in dataclasses.fields(Spec)]),
)
def test_no_value_of_a_field_does_anything_but_refuse(value: object, field: str) -> None:
    """Whatever stands in a field, reading gives a spec or sentences that are about the resource."""
    first, *rest = field.split("_")
    raw = {
        "command": "x",
        "frequency": "1h",
        first + "".join(part.capitalize() for part in rest): value,
    }
    said: tuple[str, ...] = ("spec.",)
    try:
        Spec.read(raw)
    except InvalidSpec as error:
        said = error.sentences
    assert said
    assert all(sentence.startswith("spec.") for sentence in said)


# --- Status -------------------------------------------------------------------------------------------------

FULL = Status(
    observed_generation=7,
    schedule="every 1h",
    state=State.RETRYING,
    first_run_time=EIGHT,
    last_run_time=EIGHT,
    last_success_time=EIGHT,
    settled_through=EIGHT,
    next_run_time=EIGHT,
    missed=3,
    skipped=2,
    error_count=1,
    last_error=LastError(type="ValueError", value="no", traceback="…", slot=EIGHT, time=EIGHT, job="a-1"),
    ongoing=Ongoing(
        slot=EIGHT, through=EIGHT + timedelta(hours=2), job="a-1", uid="u", attempt=2, since=EIGHT
    ),
    retry=Retry(of="1/abc", failures=1, not_before=EIGHT),
    disregarded=Disregarded(jobs=("u1", "u2"), successful_time=EIGHT),
    history=(
        HistoryEntry(
            slot=EIGHT,
            job="a-1",
            attempt=1,
            started=EIGHT,
            finished=EIGHT,
            seconds=1.25,
            result=Result.OUT_OF_MEMORY,
            message="killed",
        ),
    ),
    last_commands=(CommandRecord(id="1", name="reset", value="", time=EIGHT, result="done"),),
    conditions=(
        Condition(
            type="Ready",
            status="True",
            reason="Scheduled",
            message="ok",
            last_transition_time=EIGHT,
            observed_generation=7,
        ),
    ),
)


def test_a_status_is_written_as_the_resource_has_it() -> None:
    """Camel case, RFC 3339, and counters that are zero are there for the columns."""
    assert Status().write() == {
        "schedule": "",
        "missed": 0,
        "skipped": 0,
        "errorCount": 0,
        "history": [],
        "lastCommands": [],
        "conditions": [],
    }
    written = FULL.write()
    assert written["ongoing"] == {
        "slot": EIGHT_TEXT,
        "through": "2026-11-24T10:00:00Z",
        "job": "a-1",
        "uid": "u",
        "attempt": 2,
        "since": EIGHT_TEXT,
    }
    assert written["history"][0]["result"] == "OutOfMemory"
    assert written["history"][0]["seconds"] == 1.25
    assert written["state"] == "Retrying"
    assert written["conditions"][0]["lastTransitionTime"] == EIGHT_TEXT


def test_what_was_written_is_read_again() -> None:
    """A status survives the API server, JSON included."""
    assert Status.read(json.loads(json.dumps(FULL.write()))) == FULL
    assert Status.read({}) == Status.read(None) == Status.read("?") == Status()


_TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(microsecond=0))
_TEXT = st.text(max_size=30)
_COUNT = st.integers(0, 2**31)
_STATUSES = st.builds(
    Status,
    state=st.none() | st.sampled_from(State),
    first_run_time=st.none() | _TIMES,
    settled_through=st.none() | _TIMES,
    missed=_COUNT,
    error_count=_COUNT,
    last_error=st.none() | st.builds(LastError, type=_TEXT, value=_TEXT, traceback=_TEXT, slot=_TIMES),
    ongoing=st.none() | st.builds(Ongoing, slot=_TIMES, through=_TIMES, job=st.just("j"), uid=st.just("u")),
    retry=st.none() | st.builds(Retry, of=_TEXT, failures=_COUNT, not_before=st.none() | _TIMES),
    history=st.lists(
        st.builds(
            HistoryEntry,
            slot=_TIMES,
            seconds=st.none() | st.floats(0, 1e9),
            result=st.sampled_from(Result),
            message=_TEXT,
        ),
        max_size=3,
    ).map(tuple),
    last_commands=st.lists(st.builds(CommandRecord, id=_TEXT, name=_TEXT), max_size=3).map(tuple),
)


@given(_STATUSES)
def test_every_status_survives_writing_and_reading(status: Status) -> None:
    """No value that the models accept is changed by the way through the API server."""
    assert Status.read(json.loads(json.dumps(status.write()))) == status


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"missed": "many"}, {"missed": 0}),
        ({"missed": -1}, {"missed": 0}),
        ({"missed": None}, {"missed": 0}),
        ({"state": "Dancing"}, {"state": None}),
        ({"lastSuccessTime": "yesterday"}, {"last_success_time": None}),
        ({"lastSuccessTime": 1764000000}, {"last_success_time": None}),
        ({"unknown": 1}, {}),
        ({"history": "none"}, {"history": ()}),
        ({"conditions": {"Ready": "True"}}, {"conditions": ()}),
        ({"lastError": {"value": "no type"}}, {"last_error": None}),
        ({"lastError": {"type": "E", "slot": "?", "job": 5}}, {"last_error": LastError(type="E")}),
        ({"ongoing": {"slot": EIGHT_TEXT}}, {"ongoing": None}),
        (
            {"ongoing": {"slot": EIGHT_TEXT, "job": "j", "uid": "u", "attempt": "x", "since": 5}},
            {"ongoing": Ongoing(slot=EIGHT, through=EIGHT, job="j", uid="u")},
        ),
        (
            {"ongoing": {"slot": EIGHT_TEXT, "through": "?", "job": "j", "uid": "u"}},
            {"ongoing": Ongoing(slot=EIGHT, through=EIGHT, job="j", uid="u")},
        ),
        (
            {
                "history": [
                    {"slot": EIGHT_TEXT, "result": "Succeeded"},
                    {"slot": EIGHT_TEXT, "result": "New"},
                    None,
                    {"result": "Failed"},
                    {"slot": EIGHT_TEXT, "result": "Failed", "seconds": "long", "attempt": 0},
                ]
            },
            {
                "history": (
                    HistoryEntry(slot=EIGHT, result=Result.SUCCEEDED),
                    HistoryEntry(slot=EIGHT, result=Result.FAILED),
                )
            },
        ),
    ],
)
def test_what_cannot_be_read_is_dropped_and_the_rest_kept(
    change: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A status edited by hand loses only what is wrong in it."""
    raw = {**FULL.write(), **change}
    before = json.dumps(raw)
    assert Status.read(raw) == dataclasses.replace(FULL, **expected)
    assert json.dumps(raw) == before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just(EIGHT_TEXT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def _damaged(draw: st.DrawFn) -> dict[str, Any]:
    raw: dict[str, Any] = FULL.write()
    for _ in range(draw(st.integers(1, 6))):
        holder: Any = raw
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and draw(st.booleans()):
                holder = holder[key]
                continue
            if draw(st.booleans()):
                del holder[key]
            else:
                holder[key] = draw(_JSON)
            break
    return raw


@settings(max_examples=150)
@given(_damaged())
def test_no_damaged_status_stops_the_operator(raw: dict[str, Any]) -> None:
    """Whatever stands in a status, it is read, and what was read can be written and read again."""
    read = Status.read(raw)
    assert Status.read(json.loads(json.dumps(read.write()))) == read


def test_a_status_of_any_size_is_read() -> None:
    """A history of thousands of wrong entries is dropped, not choked on."""
    raw = {"history": [{"slot": 1}] * 5000 + [{"slot": EIGHT_TEXT, "result": "Lost"}], "missed": 2}
    read = Status.read(raw)
    assert read.missed == 2
    assert [entry.result for entry in read.history] == [Result.LOST]


def test_lists_keep_the_newest_entries() -> None:
    """History and commands never grow beyond ten."""
    entries = tuple(HistoryEntry(slot=EIGHT, attempt=n, result=Result.FAILED) for n in range(1, 15))
    commands = tuple(CommandRecord(id=str(n), name="reset") for n in range(14))
    status = Status(history=entries, last_commands=commands)
    assert status.history == entries[:HISTORY_LENGTH]
    assert status.last_commands == commands[:HISTORY_LENGTH]


def test_long_texts_are_cut_where_they_are_kept() -> None:
    """The end of a traceback, by bytes and from a whole line on; the beginning of messages."""
    traceback = "".join(f"line {n} é\n" for n in range(2000))
    kept = LastError(type="E", value="v" * 5000, traceback=traceback).traceback
    assert len(kept.encode()) <= TRACEBACK_MAX_BYTES
    assert traceback.endswith(kept)
    assert kept.startswith("line ")
    assert len(LastError(type="E", traceback="é" * 5000).traceback.encode()) == TRACEBACK_MAX_BYTES
    assert LastError(type="E", traceback="short").traceback == "short"
    message = HistoryEntry(slot=EIGHT, result=Result.FAILED, message="m" * 5000).message
    assert len(message) == 1024
    assert message.endswith("m…")


def test_texts_that_no_json_can_hold_are_mended() -> None:
    """Output that was no UTF-8 must not make a status that can't be written."""
    error = LastError(type="E\udcff", value="v\udcff", traceback="t\udcff")
    assert (error.type, error.value, error.traceback) == ("E?", "v?", "t?")
    json.dumps(Status(last_error=error).write(), ensure_ascii=False).encode()


def test_a_commands_value_is_cut_without_a_mark() -> None:
    """The operator knows a command again by the beginning of its value, and refuses one that was too long."""
    value = CommandRecord(id="1", name="run-now", value="x" * 5000).value
    assert value == "x" * 2048


def test_conditions_are_found_by_type() -> None:
    """A condition that is there is returned, one that is not is None."""
    assert FULL.condition(ConditionType.READY) == FULL.conditions[0]
    assert FULL.condition(ConditionType.STALLED) is None


def test_naive_times_are_refused() -> None:
    """A time without a zone would be read as local somewhere."""
    with pytest.raises(ValueError, match="time zone"):
        Status(last_run_time=datetime(2026, 1, 1))  # noqa: DTZ001 - it is the point


@pytest.mark.parametrize(
    "value", [FULL, FULL.history[0], FULL.conditions[0], FULL.ongoing, FULL.last_error, spec()]
)
def test_models_are_small(value: object) -> None:
    """Ten thousand resources are held, with ten history entries each: no instance has a dictionary."""
    assert not hasattr(value, "__dict__")


def test_the_largest_retry_limit_fits_a_job() -> None:
    """`retryLimit` becomes a Job's backoffLimit, an int32."""
    assert spec(retryLimit=INT32_MAX).retry_limit == INT32_MAX
    assert sentences({"command": "x", "frequency": "1h", "retryLimit": INT32_MAX + 1}) == (
        f"spec.retryLimit: must be at most {INT32_MAX}",
    )
