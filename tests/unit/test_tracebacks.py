"""What tracebacks.py reads out of what commands print.

The texts in tracebacks/ were printed by the interpreters that they are named after; a section for each case.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crontabber_operator.tracebacks import Frame, How, Raised, read

PRINTED = sorted(Path(__file__).with_name("tracebacks").glob("python-*.txt"))


def sections(path: Path) -> dict[str, str]:
    """Return the texts of a file by the name of the case."""
    parts = path.read_text(encoding="utf-8").split("==== ")[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


def outline(raised: Raised, *, unfolded: bool = False) -> str:
    """Write an exception in a line: `KeyError('b') at f:1 >cause> ValueError('v') at g:2 {members}`."""
    before = ""
    if raised.before is not None:
        before = f"{outline(raised.before, unfolded=unfolded)} >{str(raised.link).strip('_')}> "
    places = ",".join(place(frame, unfolded=unfolded) for frame in raised.frames)
    members = "; ".join(outline(member, unfolded=unfolded) for member in raised.members)
    name = f"{raised.module}.{raised.type}" if raised.module else raised.type
    return (
        f"{before}{name}({raised.value!r})"
        + (f" at {places}" if places else "")
        + (f" {{{members}}}" if raised.is_group else "")
    )


def place(frame: Frame, *, unfolded: bool) -> str:
    """Write a frame as `f:1`, its repetitions as `f:1*9`, or one by one."""
    text = f"{frame.function}:{frame.line}"
    if unfolded:
        return ",".join([text] * (1 + frame.repeated))
    return f"{text}*{frame.repeated}" if frame.repeated else text


EXPECTED = {
    "attribute": "AttributeError(\"module 'collections' has no attribute 'ordereddict'. Did you mean:"
    " 'OrderedDict'?\") at <module>:63,attribute:61",
    "binary": "ZeroDivisionError('division by zero') at <module>:63,binary:40",
    "cause": "KeyError(\"'b'\") at cause:8,fetch:6 >cause> ValueError('no such key') at <module>:63,cause:9",
    "context": "KeyError(\"'b'\") at context:11,fetch:6 >context> NameError(\"name 'undefined_nam' is not"
    " defined. Did you mean: 'undefined_name'?\") at <module>:63,context:12",
    "empty": "AssertionError('') at <module>:63,empty:24",
    "group": "ExceptionGroup('several (2 sub-exceptions)') at <module>:63,group:53 {KeyError(\"'b'\") at"
    " cause:8,fetch:6 >cause> ValueError('no such key') at group:51,cause:9; ExceptionGroup('inner (2"
    " sub-exceptions)') {ZeroDivisionError('division by zero') at group:51,binary:40; KeyError(\"'k'\")}}",
    "group_chain": "KeyError(\"'b'\") at group_chain:55,fetch:6 >cause> ExceptionGroup('many (18"
    " sub-exceptions)') at group_chain:57 {"
    + "; ".join(f"ValueError('{number}')" for number in range(15))
    + "} >cause> RuntimeError('after') at <module>:63,group_chain:58",
    "local": "Odd('') at <module>:63,local:23",
    "main_syntax": "SyntaxError(\"'(' was never closed\") at None:3",
    "multiline": "RuntimeError('first line\\n  second line\\n\\nfourth line') at <module>:63,multiline:19",
    "nested": "Outer.Inner('nested') at <module>:63,nested:20",
    "never_raised": "FileNotFoundError('[Errno 2] No such file or directory') >cause> TypeError('t') at"
    " <module>:63,never_raised:26",
    "notes": "ValueError('with notes\\nnote one\\nnote two\\nsecond line of it') at <module>:63,notes:47",
    "recursion": "RecursionError('maximum recursion depth exceeded') at"
    " <module>:63,recursion:17,recursion:17,recursion:17*996",
    "suppressed": "ValueError('hidden') at <module>:63,suppressed:16",
    "syntax": "SyntaxError(\"'(' was never closed\") at <module>:63,syntax:18,None:3",
    "three": "KeyError(\"'x'\") at three:43,fetch:6 >cause> ValueError('v') at three:44 >context>"
    " RuntimeError('r') at <module>:63,three:45",
    "wide": "KeyError(\"'b'\") at <module>:63,wide:30,fetch:6",
}
OLD_SYNTAX = "SyntaxError('unexpected EOF while parsing') at "
OLD_ATTRIBUTE = (
    "AttributeError(\"module 'collections' has no attribute 'ordereddict'\") at <module>:63,attribute:61"
)
OLD = {
    "context": "KeyError(\"'b'\") at context:11,fetch:6 >context> NameError(\"name 'undefined_nam' is not"
    ' defined") at <module>:63,context:12',
    "main_syntax": OLD_SYNTAX + "None:4",
    "syntax": OLD_SYNTAX + "<module>:63,syntax:18,None:3",
}
"""What was printed otherwise before Python 3.10."""
EXPECTED_OF = {
    "python-3.8": OLD
    | {"attribute": OLD_ATTRIBUTE + ",__getattr__:55", "nested": "Inner('nested') at <module>:63,nested:20"},
    "python-3.9": OLD | {"attribute": OLD_ATTRIBUTE + ",__getattr__:68"},
}


@pytest.mark.parametrize(
    ("version", "case", "text"),
    [
        pytest.param(path.stem, case, text, id=f"{path.stem}-{case}")
        for path in PRINTED
        for case, text in sections(path).items()
    ],
)
def test_what_each_python_prints_is_read_alike(version: str, case: str, text: str) -> None:
    """Types, messages, chains, groups and places are the same, whichever Python printed them."""
    plain = case.removeprefix("colour_")
    ending = read(text)
    assert ending is not None
    assert outline(ending.raised) == EXPECTED_OF.get(version, {}).get(plain, EXPECTED[plain])
    assert ending.how is How.UNCAUGHT
    if plain == case:
        assert ending.text == text.strip("\n")


def test_every_python_is_among_the_printed_texts() -> None:
    """The texts of 3.8 to 3.13 are there, each with its cases."""
    assert [path.stem for path in PRINTED] == sorted(f"python-3.{minor}" for minor in range(8, 14))
    assert all(len(sections(path)) >= 15 for path in PRINTED)


@pytest.mark.parametrize("path", PRINTED, ids=lambda path: path.stem)
def test_source_is_read_without_indentation_and_carets(path: Path) -> None:
    """A frame's first line of source is the one at its line number; `~~~^^^` is no source."""
    ending = read(sections(path)["binary"])
    assert ending is not None
    assert ending.raised.frames[-1] == Frame("/app/cases.py", 40, "binary", ("return 2 + a / b",))


def test_source_of_several_lines_is_kept_with_its_indentation() -> None:
    """Python 3.13 prints a call that spans lines with carets under each; colours are removed."""
    for case in ("wide", "colour_wide"):
        ending = read(sections(PRINTED[0].with_name("python-3.13.txt"))[case])
        assert ending is not None
        assert ending.raised.frames[1].source == ("fetch(", '    "b"', "),")


def test_place_of_a_syntax_error_has_no_function() -> None:
    """Its last frame names the file that could not be read, which nothing was called in."""
    ending = read(sections(Path(__file__).parent / "tracebacks" / "python-3.12.txt")["syntax"])
    assert ending is not None
    assert ending.raised.frames[-1] == Frame("/app/broken.py", 3, None, ("foo(",))


# --- Exceptions of this very interpreter ------------------------------------------------------------------

# Three quotes alone in a line end what another process raised: that can't be told from a message.
words = (
    st.text(st.sampled_from("abcxyz019 _-.,;()[]'\"äß中"), min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda text: text and text != '"""')
)
messages = st.lists(words, min_size=1, max_size=3).map("\n".join) | st.just("")


class Told(Exception):  # noqa: N818 - any name will do
    """An exception of a module."""


@st.composite
def exceptions(draw: st.DrawFn, depth: int = 3) -> BaseException:
    """Make exceptions that were raised, with causes, contexts, notes and members."""
    made: BaseException
    if depth and draw(st.integers(0, 3)) == 0:
        members = draw(
            st.lists(
                exceptions(depth - 1).filter(lambda one: isinstance(one, Exception)), min_size=1, max_size=3
            )
        )
        made = ExceptionGroup(draw(words), members)  # type: ignore[type-var]
    else:
        made = draw(st.sampled_from([ValueError, OSError, KeyboardInterrupt, Told]))(draw(messages))
    for note in draw(st.lists(words, max_size=2)):
        made.add_note(note)
    other = draw(exceptions(depth - 1)) if depth and draw(st.booleans()) else None
    kind = draw(st.sampled_from(["cause", "context", "suppressed"]))
    if draw(st.booleans()) or other is None:
        with contextlib.suppress(BaseException):
            raised_from(draw(st.integers(1, 5)), made)
    if other is not None:
        if kind == "cause":
            made.__cause__ = other
        else:
            made.__context__ = other
            made.__suppress_context__ = kind == "suppressed"
    return made


def raised_from(depth: int, error: BaseException) -> None:
    """Raise from so many calls deep."""
    if depth == 0:
        raise error
    raised_from(depth - 1, error)


def true_outline(error: BaseException) -> str:
    """Write an exception as `outline` does, from the exception itself."""
    before = ""
    if error.__cause__ is not None:
        before = f"{true_outline(error.__cause__)} >cause> "
    elif error.__context__ is not None and not error.__suppress_context__:
        before = f"{true_outline(error.__context__)} >context> "
    value = "\n".join([str(error), *getattr(error, "__notes__", ())]).strip("\n")
    frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    name = type(error).__qualname__
    if type(error).__module__ != "builtins":
        name = f"{type(error).__module__}.{name}"
    text = f"{before}{name}({value!r})" + (f" at {','.join(frames)}" if frames else "")
    if isinstance(error, BaseExceptionGroup):
        text += f" {{{'; '.join(true_outline(member) for member in error.exceptions)}}}"
    return text


@settings(max_examples=150, deadline=None)
@given(exceptions())
def test_any_exception_is_read_as_it_was(error: BaseException) -> None:
    """What this interpreter prints of any chain and group of exceptions is read back whole."""
    with contextlib.suppress(BaseException):
        raised_from(1, error)
    text = "".join(traceback.format_exception(error))
    ending = read("starting\nhalf way\n" + text)
    assert ending is not None
    assert outline(ending.raised, unfolded=True) == true_outline(error)
    assert ending.text == text.rstrip()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "Traceback (most recent call last):",
                "  + Exception Group Traceback (most recent call last):",
                "    | Traceback (most recent call last):",
                '  File "/a.py", line 3, in f',
                '  |   File "/a.py", line 3, in f',
                '    |   File "/a.py", line 3',
                "    x = 1",
                "        ^^^",
                "ValueError: x",
                "  | ExceptionGroup: g (1 sub-exception)",
                "  +-+---------------- 1 ----------------",
                "    +---------------- 2 ----------------",
                "    +------------------------------------",
                "      | KeyError: 1",
                "The above exception was the direct cause of the following exception:",
                "During handling of the above exception, another exception occurred:",
                "",
                "2026-11-24 08:00:00 ERROR x",
                "2026-11-24 08:00:00 Traceback (most recent call last):",
                '2026-11-24 08:00:01   File "/a.py", line 3, in f',
                "  [Previous line repeated 3 more times]",
                "Fatal Python error: Aborted",
                "CommandError: no",
                '"""',
                "\x1b[31mred\x1b[0m",
            ]
        )
        | st.text(max_size=20),
        max_size=40,
    ).map("\n".join)
)
def test_no_text_makes_it_fail(text: str) -> None:
    """Whatever is printed, reading ends, and what is found is part of the text."""
    ending = read(text)
    if ending is not None:
        assert ending.raised.type


def test_long_outputs_are_read_in_proportion_to_their_length() -> None:
    """The worst outputs known are read with a bounded number of steps a line."""
    hostile = [
        '2026 Traceback (most recent call last):\n2026   File "/a.py", line 1, in f\n',
        "During handling of the above exception, another exception occurred:\nx\n",
        "  + Exception Group Traceback (most recent call last):\n",
        "E: \n  \n",
        '  File "' + '", line ' * 30 + "\n",
        "a." * 60 + "\n",
    ]

    def steps(text: str) -> int:
        count = 0

        def trace(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(trace)
        try:
            read(text)
        finally:
            sys.setprofile(None)
        return count

    for piece in hostile:
        short, long = piece * 100, piece * 400
        assert steps(long) < 6 * steps(short) + 2000, piece


# --- Outputs ----------------------------------------------------------------------------------------------

FATAL = """\
Traceback (most recent call last):
  File "/app/manage.py", line 22, in <module>
    main()
  File "/app/reports/tasks.py", line 7, in fetch
    raise OSError("boom")
OSError: boom
"""


def found(text: str) -> tuple[How, str] | None:
    """Read a text, indented as here."""
    ending = read(textwrap.dedent(text))
    return (ending.how, outline(ending.raised)) if ending is not None else None


def test_command_error_has_no_traceback() -> None:
    """Django prints a CommandError in a line; what follows belongs to it."""
    assert found("working\nCommandError: No such slot\n") == (How.SAID, "CommandError('No such slot')")
    assert found(
        """\
        SystemCheckError: System check identified some issues:

        ERRORS:
        ?: (reports.E001) No queue.
        """
    ) == (
        How.SAID,
        "SystemCheckError('System check identified some issues:\\n\\nERRORS:\\n?: (reports.E001) No queue.')",
    )


def test_command_error_behind_a_printed_traceback_is_what_ended_the_process() -> None:
    """A command that prints what it caught, and then gives up, gave up with the CommandError."""
    assert found(FATAL + "CommandError: Gave up\n") == (How.SAID, "CommandError('Gave up')")


def test_real_django_says_command_error_as_expected(tmp_path: Path) -> None:
    """The CommandError, the traceback and the usage error of the Django that is installed are told apart."""
    command = tmp_path / "reports" / "management" / "commands"
    command.mkdir(parents=True)
    for package in (tmp_path / "reports", command.parent, command):
        (package / "__init__.py").touch()
    (command / "work.py").write_text(
        "from django.core.management.base import BaseCommand, CommandError\n"
        "class Command(BaseCommand):\n"
        "    def add_arguments(self, parser): parser.add_argument('--how', required=True)\n"
        "    def handle(self, *args, how, **options):\n"
        "        if how == 'said': raise CommandError('not today')\n"
        "        raise KeyError('gone')\n"
    )
    program = (
        "import sys, django; from django.conf import settings;"
        " settings.configure(INSTALLED_APPS=['reports']); django.setup();"
        " from django.core.management import execute_from_command_line;"
        " execute_from_command_line(['manage.py', 'work', *sys.argv[1:]])"
    )

    def printed(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        return done.stderr

    assert found(printed("--how=said")) == (How.SAID, "CommandError('not today')")
    ending = read(printed("--how=said", "--traceback"))
    assert ending is not None
    assert (ending.how, ending.raised.module, ending.raised.type, ending.raised.value) == (
        How.UNCAUGHT,
        "django.core.management.base",
        "CommandError",
        "not today",
    )
    ending = read(printed("--how=raised"))
    assert ending is not None
    assert (ending.raised.type, ending.raised.frames[-1].function) == ("KeyError", "handle")
    assert read(printed()) is None


@pytest.mark.parametrize(
    "cut",
    [
        'a = b\n  File "/app/reports/tasks.py", line 7, in fetch\n    raise OSError("boom")\nOSError: boom\n',
        '    ^^^^\n  File "/app/reports/tasks.py", line 7, in fetch\nOSError: boom\n',
        (
            '"/app/manage.py", line 22, in <module>\n    main()\n'
            '  File "/app/reports/tasks.py", line 7, in fetch\n    raise OSError("boom")\nOSError: boom\n'
        ),
    ],
)
def test_traceback_that_was_cut_off_at_the_front_is_read_from_there(cut: str) -> None:
    """The frames that are left, and the exception, are found without the header."""
    assert found(cut) == (How.UNCAUGHT, "OSError('boom') at fetch:7")


def test_chain_that_was_cut_off_at_the_front_keeps_what_is_left() -> None:
    """An exception of which only the last line is left is still the one that the next came from."""
    text = "KeyError: 'k'\n\nDuring handling of the above exception, another exception occurred:\n\n" + FATAL
    assert found(text) == (How.UNCAUGHT, "KeyError(\"'k'\") >context> OSError('boom') at <module>:22,fetch:7")
    text = "\nDuring handling of the above exception, another exception occurred:\n\n" + FATAL
    assert found(text) == (How.UNCAUGHT, "OSError('boom') at <module>:22,fetch:7")


def test_group_that_was_cut_off_at_the_front_gives_its_last_member() -> None:
    """Better one of the exceptions than none."""
    assert found(
        """\
            |   File "/app/a.py", line 1, in f
            | ValueError: a
            +---------------- 2 ----------------
            | Traceback (most recent call last):
            |   File "/app/b.py", line 2, in g
            | KeyError: 'b'
            +------------------------------------
        """
    ) == (How.UNCAUGHT, "KeyError(\"'b'\") at g:2")


@pytest.mark.parametrize(
    "behind",
    [
        "Sentry is attempting to send 2 pending events\nWaiting up to 2 seconds\nPress Ctrl-C to quit\n",
        "2026-11-24 08:00:00,123 INFO shutting down\n",
        (
            "ERROR:opentelemetry:Exception while exporting\nTraceback (most recent call last):\n"
            '  File "/x/site-packages/otel.py", line 3, in send\nConnectionError: refused\n'
        ),
        '{"level": "info", "message": "bye"}\n',
        (
            "Exception ignored in: <function D.__del__ at 0x7fad8ee45760>\nTraceback (most recent call last):\n"
            '  File "/app/d.py", line 3, in __del__\nValueError: in del\n'
        ),
        (
            "Exception ignored while calling deallocator <function D.__del__ at 0x7fad8ee45760>:\n"
            'Traceback (most recent call last):\n  File "/app/d.py", line 3, in __del__\nValueError: in del\n'
        ),
        (
            "Exception ignored in atexit callback: <function f at 0x7fad8ee45760>\nTraceback (most recent call last):\n"
            '  File "/app/d.py", line 3, in f\nValueError: at exit\n'
        ),
        (
            "Exception in thread Thread-1 (th):\nTraceback (most recent call last):\n"
            '  File "/app/d.py", line 3, in th\nValueError: in thread\n'
        ),
    ],
)
def test_what_comes_behind_the_fatal_traceback_is_not_taken_for_it(behind: str) -> None:
    """What an ending process still says is neither its exception nor part of the message."""
    assert found("working\n" + FATAL + behind) == (How.UNCAUGHT, "OSError('boom') at <module>:22,fetch:7")


def test_last_of_several_tracebacks_counts() -> None:
    """Exceptions that were logged on the way did not end the process."""
    logged = (
        "2026-11-24 08:00:00 ERROR could not fetch 1\nTraceback (most recent call last):\n"
        '  File "/app/a.py", line 1, in f\nKeyError: 1\nfetching 2\n'
    )
    assert found(logged * 3 + FATAL) == (How.UNCAUGHT, "OSError('boom') at <module>:22,fetch:7")
    assert found(logged * 2) == (How.LOGGED, "KeyError('1') at f:1")
    assert found(logged + "reports.errors.QueueError: all failed\n") == (
        How.SAID,
        "reports.errors.QueueError('all failed')",
    )


def test_message_of_a_logged_exception_ends_where_it_ends() -> None:
    """Its indented lines, and PostgreSQL's, belong to it; what the command prints next doesn't."""
    assert found(
        """\
        ERROR:reports:query failed
        Traceback (most recent call last):
          File "/app/a.py", line 1, in f
        django.db.utils.ProgrammingError: relation "x" does not exist
        LINE 1: SELECT * FROM x
                              ^
        processed 5 rows
        """
    ) == (
        How.LOGGED,
        (
            'django.db.utils.ProgrammingError(\'relation "x" does not exist\\nLINE 1: SELECT * FROM x\\n'
            "                      ^') at f:1"
        ),
    )


def test_only_incidental_exceptions_are_better_than_nothing() -> None:
    """Where a thread's exception is the only sign, it is given, as what it is."""
    assert found(
        """\
        Exception in thread Thread-1 (th):
        Traceback (most recent call last):
          File "/app/d.py", line 3, in th
        ValueError: in thread
        done
        """
    ) == (How.INCIDENTAL, "ValueError('in thread\\ndone') at th:3")


def test_remote_traceback_of_a_process_pool_is_the_cause() -> None:
    """The exception of the worker stands in quotes, in front of the one that it became."""
    inner = FATAL.replace("OSError: boom", "KeyError: 'x'")
    text = (
        'multiprocessing.pool.RemoteTraceback: \n"""\n' + inner + '"""\n\n'
        "The above exception was the direct cause of the following exception:\n\n" + FATAL
    )
    assert found(text) == (
        How.UNCAUGHT,
        "KeyError(\"'x'\") at <module>:22,fetch:7 >cause> OSError('boom') at <module>:22,fetch:7",
    )


@pytest.mark.parametrize(
    "prefix", ["2026-11-24T08:00:0{}.123456789Z ", "2026-11-24T08:00:00Z stderr F ", "[worker-{}] ERROR | "]
)
def test_prefix_of_each_line_is_removed(prefix: str) -> None:
    """Where every line has a time or a level in front, as some loggers do it, the traceback is read all the same."""
    chain = FATAL + "\nDuring handling of the above exception, another exception occurred:\n\n" + FATAL
    text = "".join(
        prefix.format(number % 10) + line for number, line in enumerate(chain.splitlines(keepends=True))
    )
    ending = read(text)
    assert ending is not None
    assert outline(ending.raised).count("OSError('boom') at <module>:22,fetch:7") == 2
    assert ending.text == chain.strip()


def test_header_behind_other_text_is_found() -> None:
    """A progress bar without a line break, or a logger's name, in front of the header."""
    assert found("50 % done ... " + FATAL) == (How.UNCAUGHT, "OSError('boom') at <module>:22,fetch:7")
    assert found("ERROR:root:" + FATAL) == (How.LOGGED, "OSError('boom') at <module>:22,fetch:7")


def test_traceback_in_a_line_of_json_is_read() -> None:
    """Structured loggers put it into a field."""
    text = '{"level": "error", "exc_info": ' + json.dumps(FATAL.strip()) + "}\n"
    assert found(text + '{"level": "info", "message": "bye"}\n') == (
        How.LOGGED,
        "OSError('boom') at <module>:22,fetch:7",
    )


def test_fatal_error_of_the_interpreter_is_read_oldest_frame_first() -> None:
    """faulthandler prints the newest frame first, and other threads behind the one that broke down."""
    assert found(
        """\
        Fatal Python error: Segmentation fault

        Current thread 0x00007f82f2dbcb80 (most recent call first):
          File "/app/native.py", line 2 in call
          File "/app/manage.py", line 22 in <module>

        Thread 0x00007f82f2dbcb81 (most recent call first):
          File "/usr/lib/python3.11/threading.py", line 5 in run

        Extension modules: _cffi_backend (total: 1)
        """
    ) == (How.CRASHED, "FatalPythonError('Segmentation fault') at <module>:22,call:2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "done\n",
        "3 errors\nError\n",
        "Traceback (most recent call last):\n",
        'Traceback (most recent call last):\n  File "/app/a.py", line 1, in f\n    x\n',
        "python: can't open file '/app/manage.py': [Errno 2] No such file or directory\n",
        "usage: manage.py work [-h] --how HOW\nmanage.py work: error: the following arguments are required: --how\n",
        'Stack (most recent call last):\n  File "/app/a.py", line 1, in f\n    log.info("x")\nMore: x\n',
        "/app/a.py:3: DeprecationWarning: old\n",
    ],
)
def test_outputs_without_an_exception_have_none(text: str) -> None:
    """Nothing is invented where nothing was raised, or the end of it was never printed."""
    ending = read(text)
    assert ending is None or ending.how is How.INCIDENTAL


@pytest.mark.parametrize(
    ("line", "module", "name"),
    [
        ("ValueError: x", None, "ValueError"),
        ("django.db.utils.OperationalError: x", "django.db.utils", "OperationalError"),
        ("app.errors.Outer.Inner: x", "app.errors", "Outer.Inner"),
        ("app.tasks.run.<locals>.Odd: x", None, "Odd"),
        ("socket.timeout: x", "socket", "timeout"),
        ("__main__.Odd: x", None, "Odd"),
        ("app.Fehlä: x", "app", "Fehlä"),
        ("KeyboardInterrupt", None, "KeyboardInterrupt"),
        ("ValueError:", None, "ValueError"),
    ],
)
def test_module_and_name_of_a_class_are_told_apart(line: str, module: str | None, name: str) -> None:
    """Modules are written small; a class within a class has the outer one's name in front."""
    ending = read(f'Traceback (most recent call last):\n  File "/app/a.py", line 1, in f\n{line}\n')
    assert ending is not None
    assert (ending.raised.module, ending.raised.type) == (module, name)


def test_windows_line_ends_and_lines_of_other_separators_are_harmless() -> None:
    """A carriage return is no part of a message; a line separator within one does not end it."""
    assert found(FATAL.replace("\n", "\r\n")) == (How.UNCAUGHT, "OSError('boom') at <module>:22,fetch:7")
    assert found(FATAL.replace("boom\n", "bo\u2028om\x0b!\n"))[1] == (  # type: ignore[index]
        "OSError('bo\\u2028om\\x0b!') at <module>:22,fetch:7"
    )


def test_only_the_end_of_a_huge_output_is_read() -> None:
    """A traceback far back in it is not looked for; one at the end is found."""
    assert read(FATAL + "x\n" * 200_000) is None
    ending = read("x\n" * 200_000 + FATAL)
    assert ending is not None

    assert outline(ending.raised) == "OSError('boom') at <module>:22,fetch:7"
