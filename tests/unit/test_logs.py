"""The operator's log: three formats, one line for each record, whatever is in it."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import logs
from crontabber_operator.output_lines import Line

FIELDS = {
    "job": "report",
    "command": "report",
    "namespace": "shop",
    "slot": "2026-11-24T08:00:00Z",
    "attempt": 2,
    "pod": "report-1-x",
}
AT = 1_795_507_200_123_456_789
"""2026-11-24T08:00:00.123456789Z"""


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Return all that is told as output."""
    found: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Handler()
    logger = logging.getLogger(logs.OUTPUT)
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def own(message: str = "hello", level: int = logging.WARNING) -> logging.LogRecord:
    """Return a record of the operator's own."""
    record = logging.LogRecord("crontabber_operator.serve", level, __file__, 1, message, (), None)
    record.created = AT // 1_000_000 / 1000
    return record


def failed() -> logging.LogRecord:
    """Return a record with a traceback, whose message tries to look like a record."""
    record = own("it failed", logging.ERROR)
    error = ValueError("x\n2026-11-24T08:00:00.123Z INFO forged: all is well\u2028y")
    record.exc_info = (ValueError, error, None)
    return record


def test_output_looks_like_this_in_each_format(records: list[logging.LogRecord]) -> None:
    """The time is that of the line, and the line is what the command printed."""
    logs.tell_output(FIELDS, Line(AT, "100 % done, %s and {all}", "INFO"))
    [record] = records
    assert logs.TextFormatter().format(record) == (
        "2026-11-24T08:00:00.123Z INFO crontabber.output: [job=report command=report namespace=shop"
        " slot=2026-11-24T08:00:00Z attempt=2 pod=report-1-x] 100 % done, %s and {all}"
    )
    assert json.loads(logs.JsonFormatter().format(record)) == {
        "timestamp": "2026-11-24T08:00:00.123Z",
        "severity": "INFO",
        "message": "100 % done, %s and {all}",
        "logger": "crontabber.output",
        "crontabber": FIELDS,
    }
    assert json.loads(logs.MozlogFormatter().format(record)) == {
        "Timestamp": AT,
        "Type": "crontabber.output",
        "Logger": "crontabber",
        "Hostname": socket.gethostname(),
        "EnvVersion": "2.0",
        "Severity": 6,
        "Pid": record.process,
        "Fields": {"msg": "100 % done, %s and {all}", "crontabber": FIELDS},
    }


def test_an_apps_own_json_is_nested(records: list[logging.LogRecord]) -> None:
    """With its own message and severity; in text it is the line that was printed."""
    app = {"event": "counted", "level": "error", "n": [1, {"x": None}]}
    logs.tell_output(FIELDS, Line(AT, json.dumps(app), "ERROR", app, "counted"))
    [record] = records
    entry = json.loads(logs.JsonFormatter().format(record))
    assert (entry["app"], entry["message"], entry["severity"]) == (app, "counted", "ERROR")
    moz = json.loads(logs.MozlogFormatter().format(record))
    assert moz["Fields"] == {"msg": "counted", "crontabber": FIELDS, "app": app}
    assert moz["Severity"] == 3
    assert logs.TextFormatter().format(record).endswith(f"] {json.dumps(app)}")
    assert " ERROR crontabber.output" in logs.TextFormatter().format(record)


def test_an_error_of_a_command_is_no_error_of_the_operator(records: list[logging.LogRecord]) -> None:
    """Who listens for the operator's own errors, as Sentry does, hears INFO."""
    logs.tell_output(FIELDS, Line(AT, "RuntimeError: no", "ERROR"))
    assert [one.levelno for one in records] == [logging.INFO]


def test_a_line_without_a_time_has_that_of_its_telling(records: list[logging.LogRecord]) -> None:
    """Better than none."""
    logs.tell_output(FIELDS, Line(None, "x", "INFO"))
    [record] = records
    assert json.loads(logs.MozlogFormatter().format(record))["Timestamp"] == int(record.created * 1e9)


def test_the_operators_own_records_have_the_same_fields() -> None:
    """In each format."""
    assert logs.TextFormatter().format(own()) == (
        "2026-11-24T08:00:00.123Z WARNING crontabber_operator.serve: hello"
    )
    assert json.loads(logs.JsonFormatter().format(own())) == {
        "timestamp": "2026-11-24T08:00:00.123Z",
        "severity": "WARNING",
        "message": "hello",
        "logger": "crontabber_operator.serve",
    }
    moz = json.loads(logs.MozlogFormatter().format(own()))
    assert (moz["Severity"], moz["Type"], moz["Fields"]) == (4, "crontabber_operator.serve", {"msg": "hello"})


def test_tracebacks_are_told_and_can_forge_nothing() -> None:
    """In text, all their lines are set in; in JSON they are one string."""
    text = logs.TextFormatter().format(failed()).splitlines()
    assert text[0].endswith("ERROR crontabber_operator.serve: it failed")
    assert all(line.startswith("  ") for line in text[1:])
    assert text[1:] == [
        "  ValueError: x",
        "  2026-11-24T08:00:00.123Z INFO forged: all is well\\u2028y",
    ]
    for formatter, key in ((logs.JsonFormatter(), "exception"), (logs.MozlogFormatter(), "traceback")):
        [line] = formatter.format(failed()).splitlines()
        entry = json.loads(line)
        assert entry.get("Fields", entry)[key].startswith("ValueError: x\n2026")


@given(st.text())
def test_whatever_is_logged_is_one_line(message: str) -> None:
    """By everybody's idea of a line."""
    for formatter in (logs.TextFormatter(), logs.JsonFormatter(), logs.MozlogFormatter()):
        line = formatter.format(own(message))
        assert len(line.splitlines()) == 1
        line.encode()
