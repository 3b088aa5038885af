"""The operator's own log: text for a terminal, JSON lines or Mozilla's mozlog for a log pipeline.

Standard output carries nothing else. A line never holds a line break, whatever was logged: a message that
came from a user can't forge a second line. What commands print comes in the same way (`tell_output`), with
what it belongs to; the fields of both are in docs/output.md and stable.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crontabber_operator.output_lines import SECOND, Line, harmless, harmless_json

TEXT, JSON, MOZLOG = FORMATS = ("text", "json", "mozlog")
OUTPUT = "crontabber.output"
"""The logger of what commands print."""

_QUIET = ("aiohttp.access", "kopf.activities.probe")
"""Loggers that would tell each request and each probe, at INFO."""
_SYSLOG = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}

_output = logging.getLogger(OUTPUT)


@dataclass(frozen=True, slots=True)
class Told:
    """What a record of a command's output carries."""

    fields: Mapping[str, Any]
    """job, command, namespace, slot, attempt, pod."""
    line: Line


def configure(log_format: str, level: int = logging.INFO) -> None:
    """Send everything that is logged to standard output in this format."""
    handler = logging.StreamHandler(sys.stdout)
    formatters = {TEXT: TextFormatter, JSON: JsonFormatter, MOZLOG: MozlogFormatter}
    handler.setFormatter(formatters[log_format]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def tell_output(fields: Mapping[str, Any], line: Line) -> None:
    """Log a line that a command printed, with the time at which it did.

    It is INFO to all who listen to the log, whatever it says: an error of a command is none of the operator's.
    """
    prefix = " ".join(f"{key}={value}" for key, value in fields.items())
    record = _output.makeRecord(
        OUTPUT,
        logging.INFO,
        __file__,
        0,
        f"[{prefix}] {line.text}",
        (),
        None,
        None,
        {"told": Told(fields, line)},
    )
    if line.nanoseconds is not None:
        record.created = line.nanoseconds / SECOND
        record.msecs = float(line.nanoseconds // 1_000_000 % 1000)
    _output.handle(record)


class TextFormatter(logging.Formatter):
    """`2026-11-24T08:00:00.123Z INFO logger: message`, a traceback behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = f"{_timestamp(record)} {_severity(record)} {record.name}: {harmless(record.getMessage())}"
        if not record.exc_info:
            return line
        # Set in, so that no line of a traceback, which may quote anything, looks like another record.
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"  {harmless(one)}" for one in traceback)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "timestamp": _timestamp(record),
            "severity": _severity(record),
            "message": _message(record),
            "logger": record.name,
            **_of_output(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return harmless_json(entry)


class MozlogFormatter(logging.Formatter):
    """One object of Mozilla's mozlog 2.0 a line."""

    def __init__(self) -> None:
        super().__init__()
        self._hostname = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {"msg": _message(record), **_of_output(record)}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        told = _told(record)
        exact = told.line.nanoseconds if told is not None else None
        return harmless_json(
            {
                "Timestamp": int(record.created * SECOND) if exact is None else exact,
                "Type": record.name,
                "Logger": "crontabber",
                "Hostname": self._hostname,
                "EnvVersion": "2.0",
                "Severity": _SYSLOG.get(_severity(record), 6),
                "Pid": record.process,
                "Fields": fields,
            }
        )


def _told(record: logging.LogRecord) -> Told | None:
    return getattr(record, "told", None)


def _severity(record: logging.LogRecord) -> str:
    told = _told(record)
    return record.levelname if told is None else told.line.severity


def _message(record: logging.LogRecord) -> str:
    told = _told(record)
    return record.getMessage() if told is None else told.line.message or told.line.text


def _of_output(record: logging.LogRecord) -> dict[str, Any]:
    told = _told(record)
    if told is None:
        return {}
    return {
        "crontabber": dict(told.fields),
        **({} if told.line.app is None else {"app": told.line.app}),
    }


def _timestamp(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
