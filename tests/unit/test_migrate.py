"""`crontabber migrate`: the original crontabber's jobs and bookkeeping in their new form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import cli
from crontabber_operator.migrate import STATE_FILE
from crontabber_operator.models import Spec
from crontabber_operator.old_bookkeeping import DumpError, OldRecord, read_dump, restore
from crontabber_operator.old_jobs import OldJob, OldJobsError, read_old_jobs
from crontabber_operator.state_file import read_state

ROOT = Path(__file__).parents[2]

# Socorro's own: command, frequency, time, backfill, last_success (design.md section 4).
SOCORRO: tuple[tuple[str, str, str | None, bool, bool], ...] = (
    ("crontest", "1d", None, False, False),
    ("clearsessions", "7d", "05:00", False, False),
    ("auditgroups", "1d", "05:00", False, False),
    ("update_graphics_pci", "7d", "04:00", False, False),
    ("cleanse_cronlog", "7d", "05:00", False, False),
    ("bugassociations", "1h", None, False, True),
    ("updatesignatures", "1h", None, True, True),
    ("esclean", "7d", "06:00", False, False),
    ("verifyprocessed", "1d", "04:00", True, False),
    ("updatemissing", "1d", "03:00", False, False),
    ("archivescraper", "1h", None, False, False),
)


def socorro_file() -> str:
    """Write Socorro's jobs as its file has them: dicts with only the keys that they need, and other code."""
    jobs: list[dict[str, Any]] = []
    for command, frequency, time, backfill, last_success in SOCORRO:
        job: dict[str, Any] = {"cmd": command, "frequency": frequency}
        job |= {"time": time} if time else {}
        job |= {"last_success": True} if last_success else {}
        job |= {"backfill": True} if backfill else {}
        jobs.append(job)
    return (
        f"JOBS = {jobs!r}\n"
        'JOBS_MAP = {job_spec["cmd"]: job_spec for job_spec in JOBS}\n'
        "MAX_ONGOING = 60 * 60 * 2\nERROR_RETRY_TIME = 60\nDEFAULT_FREQUENCY = '1d'\n"
        "class JobNotFoundError(Exception):\n    pass\n"
    )


def migrate(tmp_path: Path, text: str, *options: str, name: str = "jobs.py") -> int:
    """Write a file and migrate it."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    return cli.main(["migrate", str(tmp_path / name), *options])


def written(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the manifests of a folder, by name."""
    manifests = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yaml")]
    return {manifest["metadata"]["name"]: manifest for manifest in manifests}


def dump(*rows: Mapping[str, Any], logs: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write a `dumpdata` of the Job and the Log table."""
    entries = [{"model": "cron.job", "pk": number, "fields": row} for number, row in enumerate(rows, 1)]
    entries += [{"model": "cron.log", "pk": number, "fields": row} for number, row in enumerate(logs, 1)]
    return json.dumps([{"model": "sessions.session", "pk": "x", "fields": {"app_name": "no"}}, *entries])


# --- Manifests ------------------------------------------------------------------------------------------


def test_socorros_eleven_jobs_become_the_manifests_of_its_example(tmp_path: Path) -> None:
    """The migration writes what examples/socorro/ has, which was written by hand."""
    out = tmp_path / "out"
    assert migrate(tmp_path, socorro_file(), "--out", str(out), "--manage-py", "python webapp/manage.py") == 0
    assert written(out) == written(ROOT / "examples" / "socorro")
    assert len(written(out)) == len(SOCORRO)


def test_manifests_go_to_standard_output_without_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one stream, as kubectl apply -f - takes it."""
    assert migrate(tmp_path, socorro_file(), "-n", "crashes", "--webapp", "collector") == 0
    manifests = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [manifest["spec"]["command"] for manifest in manifests] == [job[0] for job in SOCORRO]
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"crashes"}
    assert {manifest["spec"]["webapp"]["name"] for manifest in manifests} == {"collector"}


def test_the_file_is_never_run(tmp_path: Path) -> None:
    """Whatever else stands in it: only what can be read without running it counts."""
    marker = tmp_path / "ran"
    text = f"open({str(marker)!r}, 'w').close()\nimport nowhere\n{socorro_file()}raise SystemExit\n"
    assert migrate(tmp_path, text, "--out", str(tmp_path / "out")) == 0
    assert not marker.exists()


def test_times_are_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML 1.1 would read 15:00 as a number."""
    migrate(tmp_path, "JOBS = [{'cmd': 'a', 'time': '15:00'}]")
    assert '  time: "15:00"\n' in capsys.readouterr().out


def test_comments_beside_a_job_stay_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those right above it and those in it; others don't belong to it."""
    text = """\
JOBS = [
    # Of no job.

    # Above it,
    # in two lines.
    {"cmd": "a"},
    {
        # In it.
        "cmd": "b",  # beside it
    },
]
"""
    migrate(tmp_path, text)
    first, second = capsys.readouterr().out.split("---\n")
    assert first.startswith("# Above it,\n# in two lines.\napiVersion")
    assert second.startswith("# In it.\n# beside it\napiVersion")


SPELLINGS = {
    "name of a constant": "DAY = '1d'\nJOBS = [{'cmd': 'a', 'frequency': DAY}]",
    "dict call": "JOBS = [dict(cmd='a', frequency='1d')]",
    "spread": "BASE = {'frequency': '1d'}\nJOBS = [{**BASE, 'cmd': 'a'}]",
    "spread in a call": "BASE = {'frequency': '1d'}\nJOBS = [dict(cmd='a', **BASE)]",
    "later key wins": "JOBS = [{'cmd': 'a', 'frequency': '2h', **{'frequency': '1d'}}]",
    "named job": "A = {'cmd': 'a', 'frequency': '1d'}\nJOBS = [A]",
    "sum": "MORE = [{'cmd': 'a', 'frequency': '1d'}]\nJOBS = [] + MORE",
    "star": "MORE = ({'cmd': 'a', 'frequency': '1d'},)\nJOBS = [*MORE]",
    "plus equals": "JOBS = []\nJOBS += [{'cmd': 'a', 'frequency': '1d'}]",
    "itself plus": "JOBS = []\nJOBS = JOBS + [{'cmd': 'a', 'frequency': '1d'}]",
    "append": "JOBS = []\nJOBS.append({'cmd': 'a', 'frequency': '1d'})",
    "extend": "JOBS: list = []\nJOBS.extend([{'cmd': 'a', 'frequency': '1d'}])",
    "annotated": "JOBS: list[dict] = [{'cmd': 'a', 'frequency': '1d'}]",
    "another variable": "TASKS = [{'cmd': 'a', 'frequency': '1d'}]",
    "default frequency": "JOBS = [{'cmd': 'a'}]",
    "default frequency of the file": "DEFAULT_FREQUENCY = '1' + 'd'\nJOBS = [{'cmd': 'a'}]",
    "None is absent": "JOBS = [{'cmd': 'a', 'frequency': '1d', 'time': None, 'cmd_args': None}]",
    "leading zeros": "JOBS = [{'cmd': 'a', 'frequency': '01d'}]",
    "crontabber's own variable": "OTHER = [{'cmd': 'b'}]\nCRONTABBER_JOBS = [{'cmd': 'a', 'frequency': '1d'}]",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_a_list_is_read_however_python_spells_it(text: str) -> None:
    """As far as its value is known without running it."""
    (job,) = read_old_jobs(text, "jobs.py").jobs
    assert (job.command, job.frequency.lstrip("0")) == ("a", "1d")


FORMS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"cmd": "a", "frequency": "24h", "time": "3:05"}, {"frequency": "1d", "time": "03:05"}),
    ({"cmd": "a", "frequency": "2880m", "time": "00:00"}, {"frequency": "2d", "time": "00:00"}),
    ({"cmd": "a", "time": "04:00"}, {"frequency": "1d", "time": "04:00"}),
    ({"cmd": "a", "cmd_args": ["--days", 3]}, {"args": ["--days", "3"], "frequency": "1d"}),
    ({"cmd": "a --x 'y z'", "cmd_args": ["--w"]}, {"args": ["--x", "y z", "--w"], "frequency": "1d"}),
    ({"cmd": "a", "backfill": False, "last_success": False}, {"frequency": "1d"}),
    ({"cmd": "a", "backfill": True}, {"frequency": "1d", "backfill": True}),
    ({"cmd": "a", "last_success": True}, {"frequency": "1d", "passLastSuccess": True}),
)


@pytest.mark.parametrize(("old", "new"), FORMS)
def test_each_key_has_its_new_form(
    old: dict[str, Any], new: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command aside, these are all fields of the spec."""
    assert migrate(tmp_path, f"JOBS = [{old!r}]") == 0
    assert yaml.safe_load(capsys.readouterr().out)["spec"] == {"command": "a", **new}


def test_dependencies_are_named_as_the_resources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command as JOBS has it, or by app name; resources' names have no underscores."""
    text = (
        "JOBS = [{'cmd': 'a_b'}, {'cmd': 'c', 'depends_on': 'a_b'}, {'cmd': 'd', 'depends_on': ['a-b', 'c']}]"
    )
    assert migrate(tmp_path, text) == 0
    first, second, third = yaml.safe_load_all(capsys.readouterr().out)
    assert (first["metadata"]["name"], first["spec"]["command"]) == ("a-b", "a_b")
    assert second["spec"]["dependsOn"] == [{"name": "a-b"}]
    assert third["spec"]["dependsOn"] == [{"name": "a-b"}, {"name": "c"}]


def test_another_limit_for_zombies_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MAX_ONGOING is the original's activeDeadlineSeconds; two hours are both's default."""
    assert migrate(tmp_path, "MAX_ONGOING = 60 * 60\nJOBS = [{'cmd': 'a'}]") == 0
    assert yaml.safe_load(capsys.readouterr().out)["spec"]["activeDeadlineSeconds"] == 3600


def test_a_key_without_meaning_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was of no effect before, but nobody should find that out later."""
    assert migrate(tmp_path, "JOBS = [{'cmd': 'a', 'colour': 'red'}]") == 0
    assert "jobs.py:1: the key 'colour' has no meaning" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_shortened_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two long ones that begin alike stay apart."""
    assert migrate(tmp_path, f"JOBS = [{{'cmd': '{'x' * 60}'}}, {{'cmd': '{'x' * 61}'}}]") == 0
    output = capsys.readouterr()
    names = [manifest["metadata"]["name"] for manifest in yaml.safe_load_all(output.out)]
    assert len(set(names)) == 2
    assert all(len(name) <= 48 for name in names)
    assert output.err.count("is longer than 48 characters") == 2


CLASSES = (
    ("jobs='''\n  socorro.cron.jobs.foo.FooCronApp|12h\n'''", ("foo", "12h", None)),
    ("a.ProductVersionsCronApp|1d|05:00", ("product_versions", "1d", "05:00")),
    ("a.FTPScraperCronApp|05:30", ("ftp_scraper", "1d", "05:30")),
    ("# a.Gone|1h\na.LagLog|5m # often", ("lag_log", "5m", None)),
    ("a.App|1h", ("app", "1h", None)),
)


@pytest.mark.parametrize(("text", "expected"), CLASSES)
@pytest.mark.parametrize("where", ["crontabber.ini", "jobs.py"])
def test_lines_with_class_paths_are_read(
    text: str, expected: tuple[str, str, str | None], where: str
) -> None:
    """In a configuration file, or as the text that a Python file has for its default."""
    given = f"DEFAULT_JOBS = {text!r}" if where.endswith(".py") else text
    (job,) = read_old_jobs(given, where).jobs
    assert job.class_path is not None
    assert (job.frequency, job.time) == expected[1:]


@pytest.mark.parametrize(("text", "expected"), CLASSES)
def test_a_class_gets_the_name_of_a_command_and_a_note(
    text: str, expected: tuple[str, str, str | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No class is run by anything: the person has to write the command, and is told so."""
    assert migrate(tmp_path, text, name="crontabber.ini") == 0
    output = capsys.readouterr()
    assert yaml.safe_load(output.out)["spec"]["command"] == expected[0]
    assert f"write a management command {expected[0]}" in output.err
    assert output.out.startswith("# Was ")


def test_a_python_list_of_class_lines_is_read() -> None:
    """Joined or not, in several lists."""
    text = "BASE = ['a.OneCronApp|7d', 'a.TwoApp|1d|05:00']\nDEFAULT_JOBS = ', '.join(BASE)"
    jobs = read_old_jobs(text, "app.py").jobs
    assert [(job.class_path, job.frequency) for job in jobs] == [("a.OneCronApp", "7d"), ("a.TwoApp", "1d")]


# --- What can't be read ---------------------------------------------------------------------------------

REFUSED = {
    "syntax": ("JOBS = [", "jobs.py:1: is not Python"),
    "no list": ("X = 1", "has no list of jobs"),
    "empty": ("JOBS = []", "has no list of jobs"),
    "two lists": ("A = [{'cmd': 'a'}]\nB = [{'cmd': 'b'}]", "several lists of jobs (A, B)"),
    "made by code": ("JOBS = make()", "has no list of jobs"),
    "unknown value": (
        "import os\nJOBS = [{'cmd': 'a',\n 'frequency': os.environ['F']}]",
        "jobs.py:3: the value of os.environ['F'] is not known without running",
    ),
    "f-string": ("JOBS = [{'cmd': f'{x}'}]", "jobs.py:1: the value of"),
    "no dict": ("JOBS = [{'cmd': 'a'}, 5]", "jobs.py:1: is not a job"),
    "itself": ("A = B\nB = A\nJOBS = [{'cmd': A}]", "made from itself"),
    "no command": ("JOBS = [\n {'frequency': '1d'}]", "jobs.py:2: has no cmd"),
    "bad command": ("JOBS = [{'cmd': 'a;b'}]", "spec.command: must be the name of one management command"),
    "empty command": ("JOBS = [{'cmd': ''}]", "spec.command"),
    "command is a number": ("JOBS = [{'cmd': 5}]", "cmd must be the name of a management command, not 5"),
    "args are a text": ("JOBS = [{'cmd': 'a', 'cmd_args': '--x'}]", "cmd_args must be a list of texts"),
    "args of dicts": ("JOBS = [{'cmd': 'a', 'cmd_args': [{}]}]", "cmd_args must be a list of texts"),
    "frequency": (
        "JOBS = [{'cmd': 'a', 'frequency': '1w'}]",
        "frequency '1w' must be a number and m, h or d",
    ),
    "frequency 0": ("JOBS = [{'cmd': 'a', 'frequency': '0d'}]", "frequency '0d' must be"),
    "frequency is a number": ("JOBS = [{'cmd': 'a', 'frequency': 5}]", "frequency must be such as"),
    "too rare": ("JOBS = [{'cmd': 'a', 'frequency': '400d'}]", "spec.frequency: must be at most 366d"),
    "time": ("JOBS = [{'cmd': 'a', 'time': '25:00'}]", "time '25:00' must be HH:MM"),
    "time with hours": (
        "JOBS = [{'cmd': 'a', 'frequency': '5h', 'time': '05:00'}]",
        "only with a frequency in days",
    ),
    "same name": ("JOBS = [{'cmd': 'a_b'},\n {'cmd': 'a-b'}]", "the name a-b is taken by"),
    "dependency": (
        "JOBS = [{'cmd': 'a', 'depends_on': ['z']}]",
        "depends_on names z, which is none of these",
    ),
    "itself a dependency": ("JOBS = [{'cmd': 'a', 'depends_on': 'a'}]", "a job can't depend on itself"),
    "null": ("JOBS = [{'cmd': 'a', 'cmd_args': ['\\0']}]", "NUL"),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_migrated_is_told_and_nothing_is_written(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with file and line, exit code 2; the good jobs beside it are not written either."""
    assert migrate(tmp_path, text, "--out", str(tmp_path / "out")) == 2
    output = capsys.readouterr()
    assert sentence in output.err
    assert "Traceback" not in output.err
    assert output.out == ""
    assert not (tmp_path / "out").exists()


def test_every_mistake_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to mend them one by one."""
    migrate(tmp_path, "JOBS = [{'cmd': 'a', 'frequency': '1w'},\n{'cmd': 'b', 'time': 'x'},\n{'cmd': 'c'}]")
    lines = capsys.readouterr().err.splitlines()
    assert [re.search(r"jobs.py:(\d)", line)[1] for line in lines] == ["1", "2"]  # type: ignore[index]


def test_files_are_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody may have edited them."""
    out = tmp_path / "out"
    assert migrate(tmp_path, "JOBS = [{'cmd': 'a'}]", "--out", str(out)) == 0
    (out / "a.yaml").write_text("mine", encoding="utf-8")
    assert migrate(tmp_path, "JOBS = [{'cmd': 'a'}]", "--out", str(out)) == 2
    assert "a.yaml exists; add --overwrite" in capsys.readouterr().err
    assert (out / "a.yaml").read_text(encoding="utf-8") == "mine"
    assert migrate(tmp_path, "JOBS = [{'cmd': 'a'}]", "--out", str(out), "--overwrite") == 0
    assert (out / "a.yaml").read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.py"], "can't be read: No such file"),
        (["jobs.py", "--state", "x.json"], "--state needs a folder for its file; add --out DIR"),
        (["jobs.py", "--state", "x.json", "--out", "o"], "x.json: can't be read"),
        (["jobs.py", "--manage-py", "'"], "--manage-py"),
        (["jobs.py", "--variable", "NONE"], "has no variable NONE"),
        (["jobs.py", "--variable", "MAX"], "MAX is no list of jobs"),
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one sentence, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    Path("jobs.py").write_text("MAX = 5\nJOBS = [{'cmd': 'a'}]", encoding="utf-8")
    assert cli.main(["migrate", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@given(st.text(max_size=200), st.sampled_from(["x.py", "x.ini"]))
def test_no_text_breaks_the_reader(text: str, filename: str) -> None:
    """Whatever a file holds, it is read or refused with a sentence."""
    try:
        jobs = read_old_jobs(text, filename).jobs
    except OldJobsError as error:
        assert error.sentences  # noqa: PT017 - either outcome is right
    else:
        assert all(isinstance(job, OldJob) for job in jobs)


# --- Bookkeeping ----------------------------------------------------------------------------------------

HOURLY = Spec.read({"command": "a", "frequency": "1h", "backfill": True})
DAILY = Spec.read({"command": "a", "frequency": "1d", "time": "05:00"})


def at(hour: int, minute: int = 0) -> datetime:
    """Return a time of the day that these tests are about."""
    return datetime(2026, 11, 24, hour, minute, tzinfo=UTC)


def test_bookkeeping_comes_along_in_a_file_for_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Last success, first and last run, of the jobs that there are."""
    rows = (
        {
            "app_name": "updatesignatures",
            "first_run": "2020-01-01T00:00:00Z",
            "last_run": "2026-11-24T08:03:11.123Z",
            "last_success": "2026-11-24T08:00:00Z",
            "next_run": "2026-11-24T09:03:11Z",
            "error_count": 0,
            "last_error": "{}",
        },
        {"app_name": "crontest", "last_success": "2026-11-24T00:04:59.5+00:00", "error_count": 0},
        {"app_name": "long_gone", "last_success": "2019-01-01T00:00:00Z", "error_count": 0},
    )
    (tmp_path / "dump.json").write_text(dump(*rows), encoding="utf-8")
    out = tmp_path / "out"
    options = ("--state", str(tmp_path / "dump.json"), "--out", str(out), "-n", "crashes")
    assert migrate(tmp_path, socorro_file(), *options) == 0
    items = {item.name: item for item in read_state((out / STATE_FILE).read_text(encoding="utf-8"), "x")}
    assert set(items) == {"updatesignatures", "crontest"}
    status = items["updatesignatures"].status
    assert items["updatesignatures"].namespace == "crashes"
    assert (status.last_success_time, status.settled_through) == (at(8), at(8))
    assert status.first_run_time == datetime(2020, 1, 1, tzinfo=UTC)
    assert items["crontest"].status.settled_through == datetime(2026, 11, 24, 0, 4, 59, tzinfo=UTC)
    told = capsys.readouterr().err
    assert (
        "updatesignatures: settled up to 2026-11-24T08:00:00Z; the next slot is 2026-11-24T09:00:00Z" in told
    )
    assert "The dump's row of long_gone is left out" in told
    assert "esclean: the dump has no row of it" in told
    assert f"crontabber state import < {out}/{STATE_FILE}" in told


def test_the_state_file_is_none_that_kubectl_reads() -> None:
    """`kubectl apply -f DIR/` reads *.json, *.yaml and *.yml, and would refuse it."""
    assert Path(STATE_FILE).suffix not in {".json", ".yaml", ".yml"}


def test_a_failed_slot_is_not_taken_for_a_success() -> None:
    """The original stores the failed slot as the last success: the Log's newest success is the truth."""
    record = OldRecord(last_success=at(8), error_count=2, logged_success=at(6))
    restored = restore(record, HOURLY)
    assert (restored.status.last_success_time, restored.status.settled_through) == (at(6), at(6))
    assert restored.status.error_count == 2


def test_without_a_log_the_failed_slots_are_counted_back() -> None:
    """Two failures in a row at hourly slots, the last at 8: so 6 was the last that succeeded."""
    restored = restore(OldRecord(last_success=at(8, 3), error_count=2), HOURLY)
    assert (restored.status.last_success_time, restored.status.settled_through) == (at(6), at(6))
    assert "Dump cron.log too" in restored.notes[0]


def test_a_failing_job_without_backfill_runs_once_again() -> None:
    """Its last success isn't known, but the slot that failed is: it is due after the import."""
    restored = restore(OldRecord(last_success=at(5, 2), last_run=at(5, 2), error_count=1), DAILY)
    assert restored.status.last_success_time is None
    assert restored.status.settled_through is not None
    assert DAILY.slots.next_after(restored.status.settled_through) == at(5)
    assert "not known" in restored.notes[0]


def test_a_job_that_never_ran_starts_with_its_first_slot() -> None:
    """Its row was made before it ran."""
    restored = restore(OldRecord(), DAILY)
    assert (restored.status.settled_through, restored.notes) == (None, ())


def test_a_run_that_goes_on_is_told_and_not_counted() -> None:
    """It may succeed after the dump: the person has to know that its slot runs again."""
    restored = restore(OldRecord(last_success=at(7), ongoing=at(8)), HOURLY)
    assert restored.status.settled_through == at(7)
    assert "was running since 2026-11-24T08:00Z" in restored.notes[0]


def test_the_last_error_is_kept_from_the_log() -> None:
    """As the original wrote it: class, value, traceback."""
    row = {"app_name": "a", "last_success": "2026-11-24T08:00:00Z", "error_count": 1, "last_error": "{…"}
    logs: list[dict[str, Any]] = [
        {"app_name": "a", "log_time": "2026-11-24T07:00:00Z", "success": "2026-11-24T07:00:00Z"},
        {
            "app_name": "a",
            "log_time": "2026-11-24T08:00:09Z",
            "success": None,
            "exc_type": "<class 'django.db.utils.OperationalError'>",
            "exc_value": "OperationalError('gone')",
            "exc_traceback": '  File "x.py", line 1, in f\n',
        },
    ]
    record = read_dump(dump(row, logs=logs), "dump.json")["a"]
    assert record.logged_success == at(7)
    assert record.error is not None
    assert (record.error.type, record.error.value) == ("OperationalError", "OperationalError('gone')")
    assert record.error.traceback == '  File "x.py", line 1, in f\n'


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("{'type': <class 'app.Bad'>, 'value': 'no', 'traceback': '  File\\n'}", "Bad", "no"),
        ('{"type": "<class \'ValueError\'>", "value": "x"}', "ValueError", "x"),
        ("whatever", "whatever", "whatever"),
        ("two words", "Error", "two words"),
    ],
)
def test_the_last_error_is_kept_without_a_log(text: str, kind: str, value: str) -> None:
    """The original wrote what Python prints of it, which is no JSON."""
    record = read_dump(dump({"app_name": "a", "error_count": 1, "last_error": text}), "dump.json")["a"]
    assert record.error is not None
    assert (record.error.type, record.error.value) == (kind, value)


def test_a_dump_may_have_an_object_a_line() -> None:
    """`dumpdata --format jsonl`."""
    lines = "\n".join(json.dumps(entry) for entry in json.loads(dump({"app_name": "a", "error_count": 0})))
    assert set(read_dump(lines, "dump.jsonl")) == {"a"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no rows of the Job table"),
        ("[]", "has no rows of the Job table; make it with 'manage.py dumpdata cron.job cron.log'"),
        ("<xml/>", "is not the JSON"),
        ("[1]", "is not a list of objects"),
        (dump({"app_name": "a", "last_run": "yesterday"}), "entry 2 (cron.job a): 'yesterday' is no time"),
        (dump({"app_name": "a", "error_count": "x"}), "error_count must be a number"),
    ],
)
def test_a_dump_that_is_none_is_refused(text: str, sentence: str) -> None:
    """With a sentence that says where."""
    with pytest.raises(DumpError, match=re.escape(sentence)):
        read_dump(text, "dump.json")
