"""Containers' output: written to files line by line as it is printed, read back for ``kubectl logs``.

An entry of a file is the CRI's: ``<RFC 3339 time with nanoseconds> stdout <F|P> <text>``; P is a piece of a
line that goes on in the next entry (longer than 16 KiB), or a last line without a newline. A container's
stdout and stderr are one pipe, which keeps their order exact; every entry therefore says stdout. Files are
not rotated.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.node.status import FALLBACK_LIMIT_BYTES, FALLBACK_LIMIT_LINES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime
    from pathlib import Path

_log = logging.getLogger(__name__)
_TIME_LENGTH = len("2026-11-24T08:00:00.000000000Z")
_TAG_AT = _TIME_LENGTH + len(" stdout ")
_TEXT_AT = _TAG_AT + len("F ")
_PIECE_BYTES = 16 * 1024
_READ_BYTES = 256 * 1024
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What of a log is asked for; the fields are those of the API's PodLogOptions."""

    follow: bool = False
    tail_lines: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    limit_bytes: int | None = None


def format_entry(text: bytes, tag: bytes, at_nanoseconds: int) -> bytes:
    """Return one entry of a log file."""
    seconds, nanoseconds = divmod(at_nanoseconds, _NANOSECONDS)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return b"%s.%09dZ stdout %s %s\n" % (moment.encode(), nanoseconds, tag, text)


class LineSplitter:
    """Cuts a stream of output into entries."""

    def __init__(self) -> None:
        """Start with an empty line."""
        self._rest = b""

    def feed(self, chunk: bytes, at_nanoseconds: int) -> bytes:
        """Return the entries that are complete with this output.

        b"" ends the stream, and an unfinished line with it.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        entries = [entry for line in lines for entry in _entries(line, b"F", at_nanoseconds)]
        while len(self._rest) > _PIECE_BYTES:
            entries.append(format_entry(self._rest[:_PIECE_BYTES], b"P", at_nanoseconds))
            self._rest = self._rest[_PIECE_BYTES:]
        if not chunk and self._rest:
            entries += _entries(self._rest, b"P", at_nanoseconds)
            self._rest = b""
        return b"".join(entries)


class ContainerLog:
    """The log of one run of a container, while it is written."""

    def __init__(self, path: Path) -> None:
        """Make the file, empty."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._splitter = LineSplitter()
        self._readers: set[asyncio.Future[None]] = set()
        self.closed = False

    def write(self, chunk: bytes) -> None:
        """Append output, b"" for its end, and wake who follows."""
        if self.closed:
            return
        entries = self._splitter.feed(chunk, time.time_ns())
        try:
            while entries:
                entries = entries[os.write(self._file, entries) :]
        except OSError as error:  # a full disk must not end the container
            _log.warning("%s: output is lost: %s", self.path, error)
        if not chunk:
            self.closed = True
            os.close(self._file)
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()

    def news(self) -> asyncio.Future[None]:
        """Return a future that is done at the next `write`."""
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        return reader


async def read_log(path: Path, query: LogQuery, live: ContainerLog | None) -> AsyncIterator[bytes]:
    """Yield what was asked for, as ``kubectl logs`` prints it; with `follow` until the container ends."""
    render = _Renderer(query)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        if query.tail_lines is not None:
            file.seek(_tail_offset(path, query.tail_lines))
        rest = b""
        while not render.is_full:
            # asked before reading: whatever is written after this wakes us
            ended = live is None or live.closed
            news = live.news() if live is not None and query.follow and not ended else None
            chunk = file.read(_READ_BYTES)
            if chunk:
                complete, newline, rest = (rest + chunk).rpartition(b"\n")
                text = render.entries(complete + newline)
                if text:
                    yield text
            elif news is None:
                return
            else:
                await news


def last_lines(
    path: Path, limit_lines: int = FALLBACK_LIMIT_LINES, limit_bytes: int = FALLBACK_LIMIT_BYTES
) -> bytes:
    """Return the end of a log, as a termination message falls back to it: so many lines and bytes at most."""
    try:
        with path.open("rb") as file:
            file.seek(_tail_offset(path, limit_lines))
            return _Renderer(LogQuery()).entries(file.read())[-limit_bytes:]
    except FileNotFoundError:
        return b""


class _Renderer:
    """Turns entries into what the reader gets."""

    def __init__(self, query: LogQuery) -> None:
        self._since = query.since.strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode() if query.since else b""
        self._timestamps = query.timestamps
        self._left = query.limit_bytes
        self._in_line = False

    @property
    def is_full(self) -> bool:
        return self._left is not None and self._left <= 0

    def entries(self, entries: bytes) -> bytes:
        text = b"".join(self._rendered(entries))
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _rendered(self, entries: bytes) -> Iterator[bytes]:
        for entry in entries.split(b"\n"):
            # fixed width: times compare as text
            if len(entry) < _TEXT_AT or entry[:_TIME_LENGTH] < self._since:
                continue
            if self._timestamps and not self._in_line:
                yield entry[: _TIME_LENGTH + 1]
            yield entry[_TEXT_AT:]
            self._in_line = entry[_TAG_AT : _TAG_AT + 1] == b"P"
            if not self._in_line:
                yield b"\n"


def _entries(line: bytes, tag: bytes, at_nanoseconds: int) -> Iterator[bytes]:
    while len(line) > _PIECE_BYTES:
        yield format_entry(line[:_PIECE_BYTES], b"P", at_nanoseconds)
        line = line[_PIECE_BYTES:]
    yield format_entry(line, tag, at_nanoseconds)


def _tail_offset(path: Path, lines: int) -> int:
    """Return where the last so many entries of a file begin, reading from its end."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        if lines <= 0:
            return position
        wanted = lines + 1  # the newline before the first of them
        while position:
            size = min(_READ_BYTES, position)
            position -= size
            file.seek(position)
            block = file.read(size)
            found = block.count(b"\n")
            if found < wanted:
                wanted -= found
                continue
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return position + at + 1
    return 0
