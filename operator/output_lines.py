"""Lines of what a container printed: put together from bytes, cut, decoded, and made harmless.

Pure. A line that comes out of here holds no line break, no control character and no direction mark, so that
nothing that a command prints can look like another line of the log. Where a line is sent is not decided here.
This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

LINE_MAX_BYTES = 16 * 1024
"""Of a longer line the rest is cut; it is also where container runtimes cut theirs."""
TEXT_MAX = 16 * 1024
"""What can't be shown takes more room: so many characters at most come out of a line."""
JSON_DEPTH_MAX = 64
"""What is nested deeper is text."""
SECOND = 1_000_000_000

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d) ?")
_STAMP_MAX_BYTES = 40
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_HARMFUL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""All but the tab that moves the cursor, breaks lines, reverses or hides text; and halves of characters."""

_TRACEBACK_BEGINS = (
    "Traceback (most recent call last):",
    "+ Exception Group Traceback (most recent call last):",
)
_MESSAGE_KEYS = ("message", "msg", "event")
_LEVEL_KEYS = ("severity", "level", "levelname", "log_level")
_LEVELS = {
    "TRACE": "DEBUG",
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "INFORMATIONAL": "INFO",
    "NOTICE": "INFO",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "ERR": "ERROR",
    "ERROR": "ERROR",
    "EXCEPTION": "ERROR",
    "CRITICAL": "CRITICAL",
    "FATAL": "CRITICAL",
    "ALERT": "CRITICAL",
    "EMERGENCY": "CRITICAL",
}
_SYSLOG = ("CRITICAL", "CRITICAL", "CRITICAL", "ERROR", "WARNING", "INFO", "INFO", "DEBUG")
"""The severities of syslog, which mozlog uses, by their number."""


class Position(NamedTuple):
    """How far an output was told."""

    nanoseconds: int = 0
    """Since 1970, of the last line told."""
    lines: int = 0
    """So many lines of exactly that time were told; 0: none at all."""

    def after(self, nanoseconds: int | None) -> Position:
        """Return the position behind a further line."""
        if nanoseconds is None:
            return self
        return Position(nanoseconds, self.lines + 1 if nanoseconds == self.nanoseconds else 1)


class Line(NamedTuple):
    """One line, as it may be shown."""

    nanoseconds: int | None
    """When it was printed; None where the container runtime doesn't say."""
    text: str
    severity: str
    """DEBUG, INFO, WARNING, ERROR or CRITICAL."""
    app: Mapping[str, Any] | None = None
    """What the app says itself, where the line is a JSON object."""
    message: str = ""
    """The message in that."""


class LineReader:
    """Takes the bytes of one `pods/log` with timestamps, gives lines; goes on where another one ended.

    Whatever is printed, it keeps one line in memory, and of that what is shown.
    """

    def __init__(self, told: Position | None = None) -> None:
        """`told`: the log is read from that second on; up to there, nothing comes out again."""
        self.position = told or Position()
        """Behind the last line that came out."""
        self._skip = told if told is not None and told.lines else None
        self._skipped = 0
        self._head = bytearray()
        self._bytes = 0
        self._in_traceback = False

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that are complete with these bytes. `position` moves with each."""
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._hold(piece)
            yield from self._line()
        self._hold(rest)

    def end(self) -> Iterator[Line]:
        """Yield what was printed last, without a line break: the container has ended."""
        if self._bytes:
            yield from self._line()

    def _hold(self, piece: bytes) -> None:
        self._bytes += len(piece)
        room = LINE_MAX_BYTES + _STAMP_MAX_BYTES - len(self._head)
        if room > 0:
            self._head += piece[:room]

    def _line(self) -> Iterator[Line]:
        data, size = bytes(self._head), self._bytes
        self._head.clear()
        self._bytes = 0
        stamp = _STAMP.match(data)
        nanoseconds = None
        if stamp is not None:
            nanoseconds = _nanoseconds(stamp[1], stamp[3], stamp[2] or b"0")
            data, size = data[stamp.end() :], size - stamp.end()
        if self._skip is not None and self._was_told(self._skip, nanoseconds):
            return
        self.position = self.position.after(nanoseconds)
        yield self._read(nanoseconds, data, size)

    def _was_told(self, told: Position, nanoseconds: int | None) -> bool:
        if nanoseconds is None or nanoseconds < told.nanoseconds:
            return (
                True  # without a time: the end of a long line that began before the second that was asked for
            )
        if nanoseconds == told.nanoseconds:
            self._skipped += 1
            if self._skipped >= told.lines:
                self._skip = None
            return True
        # Of the last line that was told there is nothing any more: the log was rotated.
        self._skip = None
        return False

    def _read(self, nanoseconds: int | None, data: bytes, size: int) -> Line:
        shown = data[:LINE_MAX_BYTES]
        is_cut = size > len(shown)
        text = _decode(shown, is_cut=is_cut).removesuffix("\r")
        severity = self._severity(text)
        app = None if is_cut else read_json(text)
        text = harmless(text)
        if is_cut or len(text) > TEXT_MAX:
            text = f"{text[:TEXT_MAX]}… [cut: {size} bytes]"
        if app is None:
            return Line(nanoseconds, text, severity)
        return Line(nanoseconds, text, app_severity(app) or severity, app, harmless(app_message(app) or ""))

    def _severity(self, text: str) -> str:
        """Of a traceback, all lines up to the exception are errors; of everything else nothing is known."""
        stripped = text.lstrip(" |")
        if stripped.startswith(_TRACEBACK_BEGINS):
            self._in_traceback = True
            return "ERROR"
        if self._in_traceback:
            self._in_traceback = text[:1] in (" ", "\t") or not text
            return "ERROR"
        return "INFO"


def harmless(text: str) -> str:
    """Make visible what would take effect: control characters, line breaks of all kinds, direction marks.

    Colours are left out.
    """
    if text.isascii() and text.isprintable():
        return text
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    return _HARMFUL.sub(_escaped, text)


def harmless_json(value: object) -> str:
    """Write JSON in one line that holds no character of those either. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() and text.isprintable() else _HARMFUL.sub(_json_escaped, text)


def read_json(text: str) -> Mapping[str, Any] | None:
    """Read a line that is a JSON object; None where it is none, or none that can be written again."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        found = json.loads(text, parse_constant=_refuse)
        if not isinstance(found, dict) or _is_deep(found):
            return None
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return found


def app_message(app: Mapping[str, Any]) -> str | None:
    """Return the message in an app's own entry, as the usual libraries write it; mozlog keeps it in Fields."""
    fields = app.get("Fields")
    for entry in (app, fields) if isinstance(fields, dict) else (app,):
        for key in _MESSAGE_KEYS:
            if isinstance(entry.get(key), str):
                return str(entry[key])
    return None


def app_severity(app: Mapping[str, Any]) -> str | None:
    """Return how severe an app's own entry is, None where it doesn't say."""
    number = app.get("Severity")
    if "EnvVersion" in app and isinstance(number, int) and 0 <= number < len(_SYSLOG):
        return _SYSLOG[number]
    for key in _LEVEL_KEYS:
        level = _LEVELS.get(str(app.get(key)).upper())
        if level is not None:
            return level
    return None


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _decode(data: bytes, *, is_cut: bool) -> str:
    if not is_cut:
        return data.decode("utf-8", "backslashreplace")
    # A character that the cut goes through is left out.
    return codecs.getincrementaldecoder("utf-8")("backslashreplace").decode(data, final=False)


def _nanoseconds(moment: bytes, zone: bytes, fraction: bytes) -> int | None:
    seconds = _seconds(moment, zone)
    return None if seconds is None else seconds * SECOND + int(fraction.ljust(9, b"0"))


@lru_cache(maxsize=256)
def _seconds(moment: bytes, zone: bytes) -> int | None:
    try:
        return int(datetime.fromisoformat((moment + zone).decode()).timestamp())
    except (ValueError, OverflowError):
        return None


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _json_escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
