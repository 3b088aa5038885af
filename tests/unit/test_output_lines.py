"""What commands print becomes lines: complete, in order, each once, and harmless whatever is in them."""

from __future__ import annotations

import itertools
import json
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crontabber_operator.output_lines import (
    LINE_MAX_BYTES,
    SECOND,
    TEXT_MAX,
    Line,
    LineReader,
    Position,
    app_message,
    app_severity,
    harmless,
    harmless_json,
    read_json,
)

BASE = datetime(2026, 11, 24, 8, tzinfo=UTC)
BASE_NS = int(BASE.timestamp()) * SECOND


def stamp(nanoseconds: int) -> bytes:
    """Write a time as a kubelet does."""
    seconds, rest = divmod(nanoseconds, SECOND)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z ".encode()


def read(data: bytes, told: Position | None = None) -> list[Line]:
    """Read a whole log."""
    reader = LineReader(told)
    return [*reader.feed(data), *reader.end()]


def texts(data: bytes) -> list[str]:
    """Read a whole log; only what was printed."""
    return [line.text for line in read(data)]


# --- From bytes to lines ----------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=40).map(lambda one: one.replace(b"\n", b"")), max_size=12),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_lines_do_not_depend_on_how_the_bytes_arrive(printed: list[bytes], cuts: list[int]) -> None:
    """Cut anywhere, within a time or a character, the same lines come out."""
    data = b"".join(stamp(BASE_NS + number) + text + b"\n" for number, text in enumerate(printed))
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    reader = LineReader()
    found = [line for first, last in itertools.pairwise(places) for line in reader.feed(data[first:last])]
    assert found == read(data)
    assert [line.nanoseconds for line in found] == [BASE_NS + number for number in range(len(printed))]


def test_a_last_line_without_a_line_break_comes_out_at_the_end_and_not_before() -> None:
    """Before the end, nobody knows whether it goes on."""
    reader = LineReader()
    assert list(reader.feed(stamp(BASE_NS) + b"half")) == []
    assert list(reader.feed(b" and half")) == []
    assert [line.text for line in reader.end()] == ["half and half"]
    assert list(reader.end()) == []


@pytest.mark.parametrize(
    ("written", "nanoseconds"),
    [
        (b"2026-11-24T08:00:00.000000001Z x", BASE_NS + 1),
        (b"2026-11-24T08:00:00.5Z x", BASE_NS + SECOND // 2),
        (b"2026-11-24T08:00:00Z x", BASE_NS),
        (b"2026-11-24T10:00:00.000000001+02:00 x", BASE_NS + 1),
        (b"2026-11-24T03:30:00-04:30 x", BASE_NS),
        (b"2026-11-24T08:00:00.1234567891234Z x", BASE_NS + 123_456_789),
    ],
)
def test_times_are_read_as_any_container_runtime_writes_them(written: bytes, nanoseconds: int) -> None:
    """With an offset, and with as many digits as it likes."""
    assert read(written + b"\n") == [Line(nanoseconds, "x", "INFO")]


@pytest.mark.parametrize("written", [b"x", b"2026-13-45T08:00:00Z x", b"0000-00-00T00:00:00Z x", b""])
def test_a_line_without_a_time_is_a_line_all_the_same(written: bytes) -> None:
    """A kubelet puts its own messages in between so."""
    [line] = read(written + b"\n")
    assert line.nanoseconds is None
    assert line.text in ("x", "")


def test_empty_lines_stay() -> None:
    """They part what belongs together."""
    assert texts(stamp(BASE_NS) + b"\n" + stamp(BASE_NS) + b"\n") == ["", ""]


@pytest.mark.parametrize("beyond", [1, 100, 1_000_000])
def test_a_very_long_line_is_cut_with_a_mark(beyond: int) -> None:
    """What it says, and how long it was, is told; the next line is whole."""
    size = LINE_MAX_BYTES + beyond
    long, after = read(stamp(BASE_NS) + b"x" * size + b"\n" + stamp(BASE_NS + 1) + b"after\n")
    assert long.text == "x" * LINE_MAX_BYTES + f"… [cut: {size} bytes]"
    assert after.text == "after"


def test_a_line_of_the_greatest_length_is_not_cut() -> None:
    """One byte less than too much."""
    assert texts(stamp(BASE_NS) + b"x" * LINE_MAX_BYTES + b"\n") == ["x" * LINE_MAX_BYTES]


def test_of_a_very_long_line_only_its_beginning_is_kept() -> None:
    """Ten megabytes without a line break take no ten megabytes."""
    reader = LineReader()
    reader_head = reader._head  # noqa: SLF001 - what it keeps is what this is about
    for _ in range(160):
        assert list(reader.feed(b"x" * 65_536)) == []
        assert len(reader_head) < 2 * LINE_MAX_BYTES
    [line] = reader.end()
    assert line.text.endswith(f"… [cut: {160 * 65_536} bytes]")


def test_a_cut_through_a_character_leaves_it_out() -> None:
    """And makes no rubbish of it."""
    text = "x" * (LINE_MAX_BYTES - 1) + "éé"
    [line] = read(stamp(BASE_NS) + text.encode() + b"\n")
    assert line.text == "x" * (LINE_MAX_BYTES - 1) + f"… [cut: {LINE_MAX_BYTES + 3} bytes]"


def test_what_takes_more_room_when_it_is_made_visible_is_cut_again() -> None:
    """Sixteen thousand NULs are not sixty thousand characters."""
    [line] = read(stamp(BASE_NS) + b"\0" * LINE_MAX_BYTES + b"\n")
    assert len(line.text) < TEXT_MAX + 40
    assert line.text.endswith(f"… [cut: {LINE_MAX_BYTES} bytes]")


# --- Going on ---------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.data(),
)
def test_who_goes_on_misses_nothing_and_repeats_nothing(steps: list[int], data: st.DataObject) -> None:
    """From any line, with times that repeat, when all from the same second on is given again."""
    times, at = [], BASE_NS
    for step in steps:
        at += (0, 1, SECOND // 2, SECOND)[step]
        times.append(at)
    lines = [stamp(time) + str(number).encode() + b"\n" for number, time in enumerate(times)]
    stopped = data.draw(st.integers(1, len(lines)))
    first = LineReader()
    told = [line.text for line in first.feed(b"".join(lines[:stopped]))]
    position = first.position
    since = position.nanoseconds // SECOND * SECOND
    again = b"".join(line for line, time in zip(lines, times, strict=True) if time >= since)
    second = LineReader(position)
    told += [line.text for line in second.feed(again)]
    assert told == [str(number) for number in range(len(lines))]
    assert second.position.nanoseconds == times[-1]


def test_a_line_that_is_half_printed_is_told_when_it_is_whole() -> None:
    """The first reader stopped in its middle."""
    first = LineReader()
    whole = stamp(BASE_NS) + b"one\n" + stamp(BASE_NS + 1) + b"two\n"
    assert [line.text for line in first.feed(whole[:-2])] == ["one"]
    assert [line.text for line in LineReader(first.position).feed(whole)] == ["two"]


def test_where_the_log_was_rotated_all_that_is_left_is_told() -> None:
    """The line that was told last is not there any more; nothing newer is missed."""
    left = b"".join(stamp(BASE_NS + number) + str(number).encode() + b"\n" for number in (7, 8))
    assert [line.text for line in LineReader(Position(BASE_NS + 5, 2)).feed(left)] == ["7", "8"]


def test_a_clock_that_was_set_back_hides_nothing_behind_the_last_line() -> None:
    """Only what comes before that line was told."""
    lines = stamp(BASE_NS + 5) + b"told\n" + stamp(BASE_NS + 1) + b"earlier, and yet new\n"
    found = LineReader(Position(BASE_NS + 5, 1)).feed(lines)
    assert [line.text for line in found] == ["earlier, and yet new"]


def test_the_rest_of_a_line_that_began_before_is_not_taken_for_a_line() -> None:
    """A runtime writes long lines in pieces; from a second on, only the later pieces may be given."""
    again = b"the rest of it\n" + stamp(BASE_NS + 5) + b"told\n" + stamp(BASE_NS + 6) + b"new\n"
    assert [line.text for line in LineReader(Position(BASE_NS + 5, 1)).feed(again)] == ["new"]


def test_without_a_position_everything_is_told() -> None:
    """No time at all is earlier than that."""
    assert texts(b"no time\n" + stamp(0) + b"1970\n") == ["no time", "1970"]


# --- Harmless ---------------------------------------------------------------------------------------------

FORGED = "2026-11-24T08:00:00.123Z INFO crontabber_operator.serve: all is well"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"plain", "plain"),
        (b"with\ttab", "with\ttab"),
        ("Größe 3 €, 東京, \N{GRINNING FACE}".encode(), "Größe 3 €, 東京, \N{GRINNING FACE}"),
        ("no\u00a0break".encode(), "no\u00a0break"),
        ("\u0645\u06cc\u200c\u062e\u0648".encode(), "\u0645\u06cc\u200c\u062e\u0648"),
        (b"DOS\r", "DOS"),
        (b"10 %\r20 %\r30 %", "10 %\\r20 %\\r30 %"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[Hgone", "\\x1b[2J\\x1b[Hgone"),
        (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        (b"\x9b31mC1", "\\x9b31mC1"),
        ("\u009b31mC1".encode(), "\\x9b31mC1"),
        (b"a\0b", "a\\x00b"),
        (b"back\x08space\x7f", "back\\x08space\\x7f"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"half \xe2\x82", "half \\xe2\\x82"),
        (b"overlong \xc0\x8a", "overlong \\xc0\\x8a"),
        (b"surrogate \xed\xa0\x80", "surrogate \\xed\\xa0\\x80"),
        (f"x\u2028{FORGED}".encode(), f"x\\u2028{FORGED}"),
        (f"x\u2029{FORGED}".encode(), f"x\\u2029{FORGED}"),
        (f"x\u0085{FORGED}".encode(), f"x\\x85{FORGED}"),
        (f"x\x0b{FORGED}\x0c".encode(), f"x\\x0b{FORGED}\\x0c"),
        (f"x\r{FORGED}".encode(), f"x\\r{FORGED}"),
        ("\u202eolleh".encode(), "\\u202eolleh"),
        ("zero\u200bwidth\ufeff".encode(), "zero\\u200bwidth\\ufeff"),
        ("tag\U000e0041".encode(), "tag\\U000e0041"),
    ],
)
def test_what_has_an_effect_is_shown_instead(printed: bytes, shown: str) -> None:
    """Letters of all scripts stay; what moves, hides, breaks or reverses is written out."""
    assert texts(stamp(BASE_NS) + printed + b"\n") == [shown]


@given(st.binary(max_size=300))
@example(b"\xe2\x80\xa8")
@example(b'{"a": "\xe2\x80\xa8"}')
def test_whatever_is_printed_is_one_line_of_text_and_one_of_json(printed: bytes) -> None:
    """By everybody's idea of a line, and it can be encoded."""
    for line in read(stamp(BASE_NS) + printed.replace(b"\n", b"") + b"\n"):
        assert len(line.text.splitlines()) <= 1
        assert not set(line.text) & (set(map(chr, range(32))) - {"\t"})
        line.text.encode()
        written = harmless_json({"message": line.text, "app": line.app})
        assert len(written.splitlines()) == 1
        assert json.loads(written) == {"message": line.text, "app": line.app}
        written.encode()


@given(st.text())
def test_json_is_read_back_as_it_was(text: str) -> None:
    """Escaping changes how it is written, not what it says."""
    assert json.loads(harmless_json({text: [text]})) == {text: [text]}


@given(st.text(string.printable.replace("\x0b", "").replace("\x0c", "").replace("\r", "").replace("\n", "")))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    """Also backslashes."""
    assert harmless(text) == text


# --- What lines say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "message", "severity"),
    [
        ('{"message": "hello", "level": "warning"}', "hello", "WARNING"),
        ('{"msg": "hello", "levelname": "ERROR", "n": 3}', "hello", "ERROR"),
        ('{"event": "hello", "severity": "Critical"}', "hello", "CRITICAL"),
        ('{"event": "hello", "level": 30}', "hello", "INFO"),
        ('{"n": 3}', "", "INFO"),
        (
            '{"Timestamp": 1, "EnvVersion": "2.0", "Severity": 3, "Fields": {"msg": "hello"}}',
            "hello",
            "ERROR",
        ),
        ('{"EnvVersion": "2.0", "Severity": 99, "Fields": []}', "", "INFO"),
    ],
)
def test_an_apps_own_json_is_kept_and_understood(printed: str, message: str, severity: str) -> None:
    """Its message and its level, as the usual libraries and Mozilla's write them."""
    [line] = read(stamp(BASE_NS) + printed.encode() + b"\n")
    assert line == Line(BASE_NS, printed, severity, json.loads(printed), message)


@pytest.mark.parametrize(
    "printed",
    [
        "[1, 2]",
        "3",
        '"text"',
        "{not json}",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": 1} and more',
        '{"a":' * 100 + "1" + "}" * 100,
        "{" * 9000 + "}",
        '{"a":' + "[" * 8000 + "]" * 8000 + "}",
        '{"a": ' + "9" * 5000 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_object_that_can_be_written_again_is_text(printed: str) -> None:
    """Nesting without end, numbers that JSON doesn't have, and numbers that Python refuses."""
    [line] = read(stamp(BASE_NS) + printed.encode() + b"\n")
    assert (line.text, line.app) == (printed, None)


def test_a_line_that_was_cut_is_not_taken_for_json() -> None:
    """Its end may be a brace by chance."""
    printed = b'{"a": "' + b"}" * (2 * LINE_MAX_BYTES) + b'"}'
    [line] = read(stamp(BASE_NS) + printed + b"\n")
    assert line.app is None


def test_a_message_of_an_app_is_made_harmless_too() -> None:
    """It becomes the message of the log's own entry."""
    [line] = read(stamp(BASE_NS) + b'{"message": "a\\nb\\u001b[2J"}\n')
    assert line.message == "a\\nb\\x1b[2J"


@pytest.mark.parametrize(
    "app", [{}, {"message": 3}, {"level": None}, {"level": ["x"]}, {"Fields": {"msg": 1}}]
)
def test_what_an_app_does_not_say_is_not_guessed(app: dict[str, object]) -> None:
    """No message, no level."""
    assert app_message(app) is None
    assert app_severity(app) is None


def test_only_objects_are_an_apps_json() -> None:
    """Everything else is text."""
    assert read_json('{"a": {"b": [1, 2.5, true, null, "x"]}}') == {"a": {"b": [1, 2.5, True, None, "x"]}}
    assert read_json("null") is None


TRACEBACK = b"""before
Traceback (most recent call last):
  File "/app/manage.py", line 3, in <module>
    burn()

  File "/app/burning.py", line 6, in burn
RuntimeError: the database is on fire
after
  + Exception Group Traceback (most recent call last):
  |   File "x.py", line 1, in <module>
  | ExceptionGroup: two (2 sub-exceptions)
CommandError: no such signature
"""


def test_the_lines_of_a_traceback_are_errors() -> None:
    """From its first line to the exception; and they stay as they are."""
    printed = TRACEBACK.splitlines()
    data = b"".join(stamp(BASE_NS + number) + line + b"\n" for number, line in enumerate(printed))
    found = read(data)
    assert [line.text.encode() for line in found] == printed
    assert [line.severity == "ERROR" for line in found] == [False, *[True] * 6, False, *[True] * 4]


def test_ten_megabytes_are_read_at_the_speed_of_a_container() -> None:
    """All of it, line by line, keeping nothing."""
    line = stamp(BASE_NS) + b"x" * 99 + b"\n"
    reader = LineReader()
    count = sum(1 for _ in range(100) for _ in reader.feed(line * 1000))
    assert count == 100_000
    assert reader.position == Position(BASE_NS, 100_000)


def test_the_position_is_behind_the_last_line_that_came_out() -> None:
    """While a chunk is taken apart, too: an operator may be killed between any two lines."""
    reader = LineReader()
    data = b"".join(stamp(BASE_NS + number // 2) + b"x\n" for number in range(4))
    seen = [reader.position for _ in reader.feed(data)]
    assert seen == [
        Position(BASE_NS, 1),
        Position(BASE_NS, 2),
        Position(BASE_NS + 1, 1),
        Position(BASE_NS + 1, 2),
    ]


def test_times_before_1970_and_after_2038_are_times() -> None:
    """A node's clock may be wrong."""
    for year in (1969, 2100):
        at = datetime(year, 1, 1, tzinfo=UTC) + timedelta(seconds=1)
        [line] = read(f"{at:%Y-%m-%dT%H:%M:%S}Z x\n".encode())
        assert line.nanoseconds == int(at.timestamp()) * SECOND
