"""The sample web app as the cluster runs it: one process a command, several at once, and gunicorn."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

WEBAPP = Path(__file__).resolve().parents[2] / "webapp"
SECONDS_AT_MOST = 60
AT_ONCE = 4


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the app's tables and some crashes; made once, copied for each test."""
    path = tmp_path_factory.mktemp("webapp") / "filled.sqlite3"
    for arguments in (("migrate", "-v0"), ("seed", "--crashes=2000", "--until=2026-11-24T12:00")):
        assert manage(path, *arguments).returncode == 0
    return path


@pytest.fixture
def database(filled: Path, tmp_path: Path) -> Path:
    """A test's own copy of the filled database."""
    return Path(shutil.copy(filled, tmp_path / "crashes.sqlite3"))


def environment(database: Path, **more: str) -> dict[str, str]:
    """What a pod would have: no setting of this process's own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"DATABASE_URL": f"sqlite:///{database}", "PYTHONDONTWRITEBYTECODE": "1"} | more


def start(database: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start manage.py with these arguments in the app's directory, as a job's container does."""
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=WEBAPP,
        env=environment(database),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def manage(database: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py to its end."""
    with start(database, *arguments) as process:
        try:
            output, errors = process.communicate(timeout=SECONDS_AT_MOST)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def test_failed_command_ends_with_its_traceback_and_status_1(database: Path) -> None:
    """This is what the operator reads of an error that nobody handled."""
    result = manage(database, "crontest", "--crash")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line == "crashes.management.commands.crontest.PlannedCrashError: crash requested"


def test_wrong_order_ends_with_one_sentence_and_status_1(database: Path) -> None:
    """A CommandError has no traceback."""
    result = manage(
        database, "updatesignatures", "--last-success=2026-11-24T06:00", "--run-time=2026-11-24T05:00"
    )
    assert result.returncode == 1
    assert re.fullmatch(r"CommandError: --last-success .*: there is nothing between them\n", result.stderr)


def test_wrong_option_ends_with_status_2(database: Path) -> None:
    """As with any program: nothing was started."""
    result = manage(database, "updatesignatures", "--run-time=yesterday")
    assert result.returncode == 2
    assert "argument --run-time: 'yesterday' is not a time" in result.stderr


def test_command_that_needs_no_table_runs_without_any(tmp_path: Path) -> None:
    """The evidence can't be kept, which is told, and is no failure of the run."""
    result = manage(tmp_path / "empty.sqlite3", "crontest", "--print=hello")
    assert (result.returncode, result.stdout) == (0, "hello\n")
    assert result.stderr.count("This run is not in the table of runs") == 1


def test_command_that_needs_tables_fails_without_them(tmp_path: Path) -> None:
    """And the error names the table."""
    result = manage(tmp_path / "empty.sqlite3", "updatesignatures")
    assert result.returncode == 1
    assert (
        result.stderr.strip().splitlines()[-1].startswith("django.db.utils.OperationalError: no such table")
    )


def test_several_processes_write_to_one_sqlite_file(database: Path) -> None:
    """Hourly slots run all at once: none meets a locked database, and none overwrites another's sighting."""
    slots = [
        ("updatesignatures", f"--last-success=2026-11-24T0{hour}:00", f"--run-time=2026-11-24T0{hour + 1}:00")
        for hour in range(AT_ONCE)
    ]
    processes = [start(database, *slot) for slot in slots]
    for process in processes:
        with process:
            _, errors = process.communicate(timeout=SECONDS_AT_MOST)
            assert (process.returncode, errors) == (0, "")
    with closing(sqlite3.connect(database)) as connection:
        known = connection.execute(
            "select signature, first_seen, first_build from crashes_signature"
        ).fetchall()
        expected = connection.execute(
            "select signature, min(date_processed), min(build_id) from crashes_crashreport"
            " where date_processed >= '2026-11-23 23:50' and date_processed < '2026-11-24 04:00' group by 1"
        ).fetchall()
        evidence = connection.execute("select count(*) from crashes_cronrun where outcome = 'succeeded'")
        assert evidence.fetchone() == (AT_ONCE,)
    assert len(known) > 10
    assert sorted(known) == sorted(expected)


def test_several_processes_open_a_new_sqlite_file_at_once(tmp_path: Path) -> None:
    """The first write-ahead log of a file is made by one of them, and the others wait."""
    database = tmp_path / "new.sqlite3"
    processes = [start(database, "crontest", f"--print={index}") for index in range(AT_ONCE)]
    for index, process in enumerate(processes):
        with process:
            output, errors = process.communicate(timeout=SECONDS_AT_MOST)
            assert (process.returncode, output) == (0, f"{index}\n")
            assert "locked" not in errors


def test_gunicorn_serves_the_page_and_ends_when_told(database: Path) -> None:
    """With its configuration file alone, as the Deployment starts it; SIGTERM ends it in order."""
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn"],
        cwd=WEBAPP,
        env=environment(database, PORT="0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            # The line comes once the socket listens; connections wait in its backlog for a worker.
            listening = next(
                found for line in server.stderr if (found := re.search(r"0\.0\.0\.0:(\d+)", line))
            )
            for path, expected in (("/healthz", "ok\n"), ("/", "Crash reports")):
                address = f"http://127.0.0.1:{listening[1]}{path}"
                with urllib.request.urlopen(address, timeout=SECONDS_AT_MOST) as response:
                    assert expected in response.read().decode()
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=SECONDS_AT_MOST)
        finally:
            server.kill()
    assert server.returncode == 0
