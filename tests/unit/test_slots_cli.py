"""`crontabber slots`, and the console script around it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crontabber_operator import cli

ROOT = Path(__file__).parents[2]


def slots(*arguments: str) -> list[str]:
    """Return the arguments of a `crontabber slots` that starts in March 2026."""
    return ["slots", "--after", "2026-03-28T00:00Z", *arguments]


PRINTED = [
    (
        ["--schedule", "*/7 3 * * 1", "--time-zone", "Europe/Berlin", "--count", "5"],
        [f"2026-03-30T01:{minute:02}:00Z" for minute in (0, 7, 14, 21, 28)],
    ),
    (["--schedule", "@monthly", "--count", "2"], ["2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"]),
    (["--frequency", "7d", "--time", "05:00", "--count", "1"], ["2026-03-30T05:00:00Z"]),
    (["--frequency", "7h", "--count", "2"], ["2026-03-28T06:00:00Z", "2026-03-28T13:00:00Z"]),
    (
        ["--schedule", "0 * * * *", "--until", "2026-03-28T02:00Z"],
        ["2026-03-28T01:00:00Z", "2026-03-28T02:00:00Z"],
    ),
    (["--schedule", "0 * * * *", "--until", "2026-03-29", "--count", "1"], ["2026-03-28T01:00:00Z"]),
    (["--schedule", "0 * * * *", "--until", "2026-03-28T00:59"], []),
    (["--schedule", "0 * * * *", "--until", "2026-03-01"], []),
]


@pytest.mark.parametrize(("arguments", "lines"), PRINTED)
def test_slots_are_printed_in_utc_one_a_line(
    arguments: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In RFC 3339, and nothing else."""
    assert cli.main(slots(*arguments)) == 0
    output = capsys.readouterr()
    assert output.out == "".join(f"{line}\n" for line in lines)
    assert output.err == ""


def test_ten_slots_are_printed_and_with_until_all(capsys: pytest.CaptureFixture[str]) -> None:
    """A count is only needed for another number of them."""
    cli.main(slots("--schedule", "* * * * *"))
    assert len(capsys.readouterr().out.splitlines()) == 10
    cli.main(slots("--schedule", "* * * * *", "--until", "2026-03-28T01:00Z"))
    assert len(capsys.readouterr().out.splitlines()) == 60


def test_slots_start_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --after, the slots to come are shown."""
    before = datetime.now(UTC)
    assert cli.main(["slots", "--frequency", "1m", "--count", "1"]) == 0
    slot = datetime.fromisoformat(capsys.readouterr().out.strip())
    assert before < slot
    assert (slot - before).total_seconds() < 600


@pytest.mark.parametrize(
    "after",
    ["2026-03-28T01:00:30Z", "2026-03-28T03:00:30+02:00", "2026-03-28 01:00:30", "2026-03-28T01:00:30.5"],
)
def test_a_time_may_have_an_offset_and_is_utc_without(after: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What people paste: with Z, with an offset, without either."""
    cli.main(["slots", "--schedule", "*/30 * * * *", "--after", after, "--count", "1"])
    assert capsys.readouterr().out == "2026-03-28T01:30:00Z\n"


def test_a_date_is_midnight_utc(capsys: pytest.CaptureFixture[str]) -> None:
    """--after is exclusive: the slot at midnight itself is not printed."""
    cli.main(["slots", "--frequency", "1h", "--after", "2026-03-28", "--count", "1"])
    assert capsys.readouterr().out == "2026-03-28T01:00:00Z\n"


def test_a_schedule_without_slots_prints_none_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a good schedule, so the exit code is 0; the reason is not among the slots."""
    assert cli.main(slots("--schedule", "0 0 30 2 *")) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "crontabber slots: there is no slot within five years.\n"


WRONG = [
    (["--schedule", "60 * * * *"], "schedule '60 * * * *': minute '60': 60 is not within 0-59."),
    (["--schedule", "0 5 * * *", "--time-zone", "Mars/Base"], "timeZone 'Mars/Base': is not known"),
    (["--schedule", "@every 5m"], "set frequency instead"),
    (
        ["--schedule", "0 5 * * *", "--time", "05:00"],
        "time: goes only with a frequency in days; remove --time.",
    ),
    (["--frequency", "1w"], "frequency '1w': must be a number from 1 and a unit"),
    (["--frequency", "1h", "--time", "05:00"], "time '05:00': goes only with a frequency in days"),
    (["--frequency", "1d", "--time", "5am"], "time '5am': must be HH:MM"),
    (["--frequency", "1d", "--time-zone", "UTC"], "timeZone: goes only with a schedule"),
    (["--frequency", "1d", "--schedule", "@daily"], "not allowed with argument --frequency"),
    ([], "one of the arguments --schedule --frequency is required"),
    (["--schedule", "@daily", "--after", "tomorrow"], "'tomorrow' is no time such as 2026-03-28T00:00Z"),
    (["--schedule", "@daily", "--until", "2026-02-30"], "'2026-02-30' is no time"),
    (["--schedule", "@daily", "--after", "0001-01-01T00:00+05:00"], "is no time"),
    (["--schedule", "@daily", "--count", "0"], "'0' is no number from 1"),
    (["--schedule", "@daily", "--count", "-1"], "'-1' is no number from 1"),
    (["--schedule", "@daily", "--count", "\u00b2"], "is no number from 1"),
    (["--schedule", "@daily", "--colour"], "unrecognized arguments: --colour"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, with exit code 2 and nothing on standard output."""
    code: object
    try:
        code = cli.main(["slots", *arguments])
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    assert code == 2
    assert output.out == ""
    assert output.err.startswith("crontabber")
    assert said in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "the following arguments are required: COMMAND"), (["slot"], "invalid choice: 'slot'")],
)
def test_a_wrong_command_is_told_which_there_are(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence, too."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_help_lists_all_commands_in_the_words_of_their_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The list is kept beside the modules' names, so that it needs no import: it must not be out of date."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    overview = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"{command.name} " in overview
        assert command.help in overview
        with pytest.raises(SystemExit) as stop:
            cli.main([command.name, "--help"])
        assert stop.value.code == 0
        assert f"usage: crontabber {command.name} " in capsys.readouterr().out


def test_version_is_that_of_the_repository(capsys: pytest.CaptureFixture[str]) -> None:
    """`crontabber --version`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    assert capsys.readouterr().out == f"crontabber {version}\n"


def test_slots_start_fast_because_nothing_large_is_imported() -> None:
    """Neither kopf nor the API client nor pydantic."""
    program = (
        "import sys; from crontabber_operator.cli import main;"
        " main(['slots', '--schedule', '0 5 * * *', '--time-zone', 'Europe/Berlin', '--count', '1']);"
        " print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(run.stdout.splitlines()[-1].split())
    assert "crontabber_operator" in loaded
    assert not loaded & {"kopf", "kubernetes", "pydantic", "aiohttp", "asyncio", "yaml", "sentry_sdk"}


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`crontabber slots … | head -1` ends quietly, as every program does there."""
    program = [sys.executable, "-c", "import sys; from crontabber_operator.cli import main; sys.exit(main())"]
    arguments = slots("--schedule", "* * * * *", "--until", "2099-01-01")
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*program, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writer)
        assert os.read(reader, 21) == b"2026-03-28T00:01:00Z\n"
        os.close(reader)
        _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 141
