"""The operator's own log: text for a terminal, JSON lines for a log pipeline.

Standard output carries nothing else. A line never holds a line break, whatever was logged: a message that
came from a user can't forge a second line.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_QUIET = ("kopf.objects", "aiohttp.access", "kopf.activities.probe")
"""Loggers that would tell each event seen, at INFO."""


def configure(log_format: str, level: int = logging.INFO) -> None:
    """Send everything that is logged to standard output in this format."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """`2026-11-24T08:00:00.123Z INFO logger: message`, a traceback behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = f"{_timestamp(record)} {record.levelname} {record.name}: {_one_line(record.getMessage())}"
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "timestamp": _timestamp(record),
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _timestamp(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(message: str) -> str:
    """Make control characters, line breaks among them, visible instead of effective."""
    return "".join(
        one if one.isprintable() or one == " " else one.encode("unicode_escape").decode() for one in message
    )
