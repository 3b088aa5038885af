"""Containers' output: written as entries, read back as `kubectl logs` prints it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devcluster.node.logs import ContainerLog, LineSplitter, LogQuery, format_entry, last_lines, read_log

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
AT = int(datetime(2026, 11, 24, 8, tzinfo=UTC).timestamp()) * SECOND


def read(path: Path, live: ContainerLog | None = None, **query: Any) -> bytes:
    """Read a log to its end."""

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in read_log(path, LogQuery(**query), live)])

    return asyncio.run(collect())


def written(path: Path, *chunks: bytes) -> Path:
    """Write a log, a second a chunk."""
    splitter = LineSplitter()
    entries = [splitter.feed(chunk, AT + at * SECOND) for at, chunk in enumerate(chunks)]
    path.write_bytes(b"".join([*entries, splitter.feed(b"", AT + len(chunks) * SECOND)]))
    return path


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one directory for all examples."""
    return tmp_path_factory.mktemp("logs")


def test_an_entry_has_the_form_of_the_cri() -> None:
    """Nanoseconds, always nine digits."""
    assert format_entry(b"hello", b"F", AT + 5) == b"2026-11-24T08:00:00.000000005Z stdout F hello\n"


def test_lines_become_entries_as_soon_as_they_end() -> None:
    """An unfinished line waits for its end, or for the end of the output."""
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw", AT).count(b"\n") == 1
    assert splitter.feed(b"o\n", AT) == format_entry(b"two", b"F", AT)
    assert splitter.feed(b"rest", AT) == b""
    assert splitter.feed(b"", AT) == format_entry(b"rest", b"P", AT)
    assert splitter.feed(b"", AT) == b""


@pytest.mark.parametrize("size", [16 * 1024, 16 * 1024 + 1, 100_000])
def test_a_long_line_comes_back_whole(tmp_path: Path, size: int) -> None:
    """It is stored in pieces of 16 KiB, also where it arrives in small chunks, and read without a seam."""
    line = b"x" * size
    path = written(tmp_path / "log", *[line[at : at + 4096] for at in range(0, size, 4096)], b"\nnext\n")
    assert max(len(entry) for entry in path.read_bytes().split(b"\n")) <= 16 * 1024 + 40
    assert read(path) == line + b"\nnext\n"
    with_times = read(path, timestamps=True)
    assert with_times.count(b"2026-11-24T08:") == 2


@settings(deadline=None)  # a busy machine is no failure
@given(chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=20))
def test_output_comes_back_as_it_was_printed(scratch: Path, chunks: list[bytes]) -> None:
    """However it was cut, binary or not, with or without a newline at its end."""
    path = written(scratch / "log", *chunks)
    assert read(path) == b"".join(chunks)


@settings(deadline=None)  # a busy machine is no failure
@given(chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=20), lines=st.integers(0, 30))
def test_the_tail_is_the_last_lines(scratch: Path, chunks: list[bytes], lines: int) -> None:
    """No more and no less."""
    path = written(scratch / "log", *chunks)
    pieces = b"".join(chunks).split(b"\n")
    pieces = [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    assert read(path, tail_lines=lines) == b"".join(pieces[len(pieces) - min(lines, len(pieces)) :])


def test_the_tail_of_a_big_log_is_found_from_its_end(tmp_path: Path) -> None:
    """Over several blocks, with lines across their borders."""
    path = written(tmp_path / "log", b"".join(b"%07d %s\n" % (at, b"y" * 50) for at in range(20_000)))
    for lines in (1, 10, 5_000, 19_999, 20_000, 30_000):
        text = read(path, tail_lines=lines)
        assert text.count(b"\n") == min(lines, 20_000)
        assert text.startswith(b"%07d " % max(20_000 - lines, 0))


def test_since_keeps_what_came_later(tmp_path: Path) -> None:
    """By the time of each entry."""
    path = written(tmp_path / "log", b"a\n", b"b\n", b"c\n")
    assert read(path, since=datetime(2026, 11, 24, 8, 0, 1, tzinfo=UTC)) == b"b\nc\n"


def test_timestamps_are_put_before_lines(tmp_path: Path) -> None:
    """A line that has no end yet has one too."""
    path = written(tmp_path / "log", b"a\n", b"b")
    assert read(path, timestamps=True) == (
        b"2026-11-24T08:00:00.000000000Z a\n2026-11-24T08:00:02.000000000Z b"
    )


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, b""), (3, b"one"), (4, b"one\n"), (6, b"one\ntw"), (99, b"one\ntwo\n")]
)
def test_the_limit_is_exact(tmp_path: Path, limit: int, expected: bytes) -> None:
    """In bytes of what is printed."""
    assert read(written(tmp_path / "log", b"one\ntwo\n"), limit_bytes=limit) == expected


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """Its pod may just have been removed."""
    assert read(tmp_path / "none") == b""
    assert last_lines(tmp_path / "none") == b""


def test_following_gets_every_line_once_and_ends_with_the_container(tmp_path: Path) -> None:
    """Lines that were there, lines that come, and no more after the end."""

    async def follow() -> list[bytes]:
        log = ContainerLog(tmp_path / "log")
        log.write(b"before\n")
        chunks = []
        to_write = [b"first\n", b"sec", b"ond\nlast", b"", b"ignored"]
        async for chunk in read_log(log.path, LogQuery(follow=True), log):
            chunks.append(chunk)
            log.write(to_write.pop(0))
            if not chunk.endswith(b"first\n"):
                continue
            for text in to_write:
                asyncio.get_running_loop().call_soon(log.write, text)
        return chunks

    assert b"".join(asyncio.run(asyncio.wait_for(follow(), 10))) == b"before\nfirst\nsecond\nlast"


def test_without_following_a_live_log_ends_where_it_is(tmp_path: Path) -> None:
    """Nobody waits for more."""

    async def once() -> bytes:
        log = ContainerLog(tmp_path / "log")
        log.write(b"so far\nunfinished")
        return b"".join([chunk async for chunk in read_log(log.path, LogQuery(), log)])

    assert asyncio.run(asyncio.wait_for(once(), 10)) == b"so far\n"


def test_the_fallback_of_a_termination_message_is_bounded(tmp_path: Path) -> None:
    """80 lines, 2,048 bytes, the end of them."""
    path = written(tmp_path / "log", b"".join(b"%03d\n" % at for at in range(200)))
    assert last_lines(path) == b"".join(b"%03d\n" % at for at in range(120, 200))
    path = written(tmp_path / "long", b"".join(b"%03d %s\n" % (at, b"z" * 95) for at in range(80)))
    assert len(last_lines(path)) == 2048
    assert last_lines(path).endswith(b"079 " + b"z" * 95 + b"\n")
