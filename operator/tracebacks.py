"""Read Python's tracebacks out of what a command printed.

PURE, and the only module that knows how Python (3.8 to 3.14) prints an exception. `read()` finds the exception
that ended the process: an output may hold several that did not (logged ones, those of threads, of `__del__`),
none at all, one whose beginning was cut off, or one line of Django's (`CommandError: …`).

It never fails and takes time in proportion to the text: an output is what a stranger printed. It must not
import kopf or kubernetes, read a clock, or know what is done with the result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CHARACTERS_MAX: Final = 256 * 1024
"""So much of the end of an output is read."""
VALUE_LINES_MAX: Final = 200
LOOK_BACK_LINES: Final = 50
DEPTH_MAX: Final = 20
"""Python itself prints exception groups to a depth of 10."""


class How(StrEnum):
    """How the exception came to be printed."""

    UNCAUGHT = "uncaught"
    """By the interpreter: it ended the process."""
    SAID = "said"
    """As one line without a traceback: Django's `CommandError: …`."""
    CRASHED = "crashed"
    """By the interpreter itself breaking down: `Fatal Python error: Segmentation fault`."""
    LOGGED = "logged"
    """By a logger; the process went on for some time at least."""
    INCIDENTAL = "incidental"
    """In a thread, a `__del__` or the like, where it ends nothing; the only hint that there is."""


class Link(StrEnum):
    """How an exception follows from the one before it, by the name of Python's attribute."""

    CAUSE = "__cause__"
    CONTEXT = "__context__"


@dataclass(frozen=True, slots=True)
class Frame:
    """One place in the stack."""

    path: str
    line: int | None
    function: str | None
    """None for the place of a SyntaxError, which is in no function."""
    source: tuple[str, ...] = ()
    """The lines of code as printed, without indentation and carets; the first is `line`."""
    repeated: int = 0
    """So many more times the frame follows itself (a recursion)."""


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception, and those that it came from."""

    type: str
    """The class's name, without its module."""
    module: str | None
    """The class's module; None for built-in exceptions, and those of `__main__`."""
    value: str
    """The message, with its notes behind it."""
    frames: tuple[Frame, ...] = ()
    """Oldest first."""
    members: tuple[Raised, ...] = ()
    """What an exception group holds."""
    before: Raised | None = None
    """The exception that this one was raised from or during."""
    link: Link | None = None
    """How it follows from `before`."""
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """The exception that ended the process."""

    raised: Raised
    how: How
    text: str
    """As it was printed, from the first exception of its chain on; colours and prefixes of lines removed."""


def read(text: str) -> Ending | None:
    """Find the exception that ended the process in what it printed; None: there is no sign of one."""
    lines = _plain_lines(text[-CHARACTERS_MAX:])
    ending = _read_lines(lines)
    if ending is None and any(_INNER_MARGIN.match(line) for line in lines):
        # A group whose beginning was cut off: its last member has to do.
        ending = _read_lines([_INNER_MARGIN.sub("", line) for line in lines])
    return ending


def _read_lines(lines: list[str]) -> Ending | None:
    found = list(_blocks(lines))
    last = _last_that_counts(found)
    anything = last is None or last.how is How.LOGGED
    if last is None and found:
        last = found[-1]
    said = _said(lines, last.end if last is not None else 0, anything=anything)
    if said is not None or last is None:
        return said
    return Ending(last.raised, last.how, "\n".join(lines[last.start : last.end]).rstrip())


def _last_that_counts(found: list[_Found]) -> _Found | None:
    """Choose among the exceptions that may have ended the process.

    What a logger tells behind an uncaught exception happened while the process was ending already.
    """
    for kinds in ((How.UNCAUGHT, How.CRASHED), (How.LOGGED,)):
        of_kind = [one for one in found if one.how in kinds]
        if of_kind:
            return of_kind[-1]
    return None


# --- Lines ----------------------------------------------------------------------------------------------

_COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z])")
_PLAIN = "Traceback (most recent call last):"
_GROUP = "Exception Group Traceback (most recent call last):"
_LEVELS = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)"
_LOGGED = re.compile(
    r"\[?\d{4}[-/]\d\d[-/]\d\d[ T_]\d\d:\d\d"  # 2026-11-24 08:00
    r"|\[?\d\d:\d\d:\d\d"
    r"|\[?\d\d/[A-Z][a-z]{2}/\d{4}[ :]"
    rf"|\[?{_LEVELS}\b[\s:|\]-]"
    r"|[IWEF]\d{4} \d\d:\d\d"
    r"|\{\"[^\"]+\" ?:"
)


def without_colours(text: str) -> str:
    """Remove the escape sequences of terminals."""
    return _COLOURS.sub("", text) if "\x1b" in text else text


def _plain_lines(text: str) -> list[str]:
    # Not str.splitlines(): that splits at characters that a message may well contain.
    lines = [line.rstrip("\r") for line in without_colours(text).split("\n")]
    return _without_prefixes([part for line in lines for part in _unfold(line)])


def _unfold(line: str) -> list[str]:
    """Take the traceback out of a line of JSON, as structured loggers write it."""
    if not line.startswith("{") or _PLAIN not in line:
        return [line]
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return [line]
    texts = [one for one in entry.values() if isinstance(one, str) and _PLAIN in one]
    return ['{"…": ', *texts[0].split("\n")] if texts else [line]


def _without_prefixes(lines: list[str]) -> list[str]:
    """Where every line of a traceback has a prefix (a time, a level), remove it."""
    result = list(lines)
    done = 0
    for number, line in enumerate(lines):
        if number < done or not line.endswith(_PLAIN) or line == _PLAIN or number + 1 >= len(lines):
            continue
        prefix = line.removesuffix(_PLAIN).removesuffix("  + Exception Group ")
        if not prefix.strip() or prefix.strip() == "|":
            continue
        # Another line has the same prefix with other digits in it.
        pattern = re.compile(r"\d+".join(re.escape(part) for part in re.split(r"\d+", prefix)))
        if not _has_frame_behind(pattern, lines[number + 1]):
            continue
        for following in range(number, len(lines)):
            match = pattern.match(lines[following])
            if match is None and lines[following].strip() and lines[following] != prefix.rstrip():
                break
            result[following] = lines[following][match.end() :] if match is not None else ""
            done = following + 1
    return result


def _has_frame_behind(prefix: re.Pattern[str], line: str) -> bool:
    match = prefix.match(line)
    return match is not None and _FRAME.fullmatch(line[match.end() :].removeprefix("  |")) is not None


# --- Blocks ---------------------------------------------------------------------------------------------

_FRAME = re.compile(r'  File "(?P<path>.*)", line (?P<line>\d+|None|\?)(?:, in (?P<function>.+))?')
_REPEATED = re.compile(r"  \[Previous line repeated (\d{1,9}) more times?\]")
_CARETS = re.compile(r"[ \t]*[~^][~^ \t]*")
_NAME = r"(?:[^\W\d]\w*|<locals>)"
_EXCEPTION = re.compile(rf"(?P<type>{_NAME}(?:\.{_NAME})*)(?::(?: (?P<value>.*))?)?")
_SEPARATORS: Final = {
    "During handling of the above exception, another exception occurred:": Link.CONTEXT,
    "The above exception was the direct cause of the following exception:": Link.CAUSE,
}
_GROUP_START = re.compile(r"(?P<indent> *)\+ " + re.escape(_GROUP))
_GROUP_WITHOUT_HEADER = re.compile(rf"(?P<indent> +)\| {_NAME}")
_MEMBER = re.compile(r"(?P<indent> *)(?P<first>\+-)?\+-+ (?:\d+|\.\.\.) -+")
_MEMBERS_END = re.compile(r" *\+-{10,}")
_MARGIN = re.compile(r" *(?:\||\+-)")
_INNER_MARGIN = re.compile(r" *(?:\| ?|\+-+[-+ 0-9.]*$)")

# What is printed of exceptions that don't end the process.
_INCIDENTAL = re.compile(
    r"Exception ignored (?:in|while|on)\b.*"
    r"|Exception in thread .*"
    r"|Error in (?:sys\.excepthook|atexit\._run_exitfuncs):.*"
    r"|--- Logging error ---|Call stack:|Stack \(most recent call last\):"
    r"|Task exception was never retrieved.*|Future exception was never retrieved.*"
)
# What may stand behind the traceback that ended the process: the first is the Sentry SDK's own, at exit.
_AFTERWARDS = re.compile(
    r"Sentry is attempting to send \d+ pending.*|Waiting up to \d+(?:\.\d+)? seconds?|Press Ctrl-(?:C|Break) to quit"
    r"|Original exception was:|sys:1: \w*Warning: .*|make: \*\*\* .*|command terminated with exit code \d+"
)
_DJANGO = re.compile(r"(?:CommandError|SystemCheckError): .*")
_ERROR_LINE = re.compile(r"[^\W\d][\w.]*(?:Error|Exception|Exit|Interrupt): .*")
_CONTINUED = re.compile(r"\s|[A-Z][A-Z ]+\d*:|\]|\}|\)")
"""How a logged exception's message goes on: indented, or as PostgreSQL's do (DETAIL:, HINT:, LINE 1:)."""
_FATAL = re.compile(r"Fatal Python error: (?P<value>.+)")
_FATAL_FRAME = re.compile(r'  File "(?P<path>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.+)')
_THREAD = re.compile(r"(?:Current t|T)hread 0x[0-9a-fA-F]+ .*\(most recent call first\):")


@dataclass(slots=True)
class _Found:
    raised: Raised
    how: How
    start: int
    end: int
    """Behind its last line."""


@dataclass(slots=True)
class _Part:
    """An exception that is being read."""

    type: str = ""
    value: list[str] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    members: list[Raised] = field(default_factory=list)
    is_group: bool = False

    def finished(self, before: Raised | None, link: Link | None) -> Raised:
        module, name = _split_name(self.type)
        return Raised(
            type=name,
            module=module,
            value="\n".join(self.value).strip("\n").rstrip(),
            frames=tuple(self.frames),
            members=tuple(self.members),
            before=before,
            link=link if before is not None else None,
            is_group=self.is_group or bool(self.members),
        )


def _blocks(lines: list[str]) -> Iterator[_Found]:
    """Find all chains of exceptions, in the order in which they were printed."""
    reader, number, free = _Reader(lines), 0, 0
    while number < len(lines):
        line = lines[number]
        start, how = number, None
        if line in _SEPARATORS:
            # What stands before it has no header: it was cut off, or never raised (`raise … from X()`).
            start = _look_back(lines, free, number)
        elif (first := _MEMBER.fullmatch(line)) is not None and first["first"]:
            # A group without a header: likewise.
            start = _look_back(lines, free, number, first["indent"] + "| ")
        elif (fatal := _FATAL.fullmatch(line)) is not None:
            crash, number = _read_crash(lines, number + 1, fatal["value"])
            yield _Found(crash, How.CRASHED, start, number)
            free = number
            continue
        elif not (line.endswith(_PLAIN) or _FRAME.fullmatch(line)):
            number += 1
            continue
        how = _how(lines, start, free)
        reader.logged = how is How.LOGGED
        raised, end = reader.chain(start, None, 0)
        if raised is None:
            number = max(number + 1, end)
            continue
        yield _Found(raised, how, start, end)
        number = free = max(end, number + 1)


def _look_back(lines: list[str], free: int, end: int, margin: str = "") -> int:
    """Find where the exception above a line begins; the line itself where there is none."""
    for number in range(end - 1, max(free, end - LOOK_BACK_LINES) - 1, -1):
        if lines[number].startswith(margin):
            match = _EXCEPTION.fullmatch(lines[number].removeprefix(margin))
            if match is not None and _is_likely(match["type"]):
                return number
    return end


def _is_likely(name: str) -> bool:
    """Whether a word alone in a line is the name of an exception."""
    return "." in name or name[:1].isupper()


def _how(lines: list[str], start: int, free: int) -> How:
    """Tell how a block came to be printed, from what stands in and just before its first line."""
    if any(_INCIDENTAL.fullmatch(line) for line in lines[max(free, start - 3) : start]):
        return How.INCIDENTAL
    prefix = lines[start].removesuffix(_PLAIN) if lines[start].endswith(_PLAIN) else ""
    if _INCIDENTAL.fullmatch(prefix.strip()):
        return How.INCIDENTAL
    if _LOGGED.match(prefix) or (start > free and _LOGGED.match(lines[start - 1])):
        return How.LOGGED
    return How.UNCAUGHT


class _Reader:
    """Reads chains of exceptions; `indent` is the margin's place inside of a group, None outside."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.logged = False

    def chain(self, number: int, indent: int | None, depth: int) -> tuple[Raised | None, int]:
        """Read from a line on; return the last exception of the chain and the line behind it."""
        raised: Raised | None = None
        link: Link | None = None
        if self._content(number, indent) in _SEPARATORS:
            number, link = self._separator(number, indent) or (number + 1, None)
        while True:
            part, end = self._part(number, indent, depth)
            if part is None:
                return raised, end if raised is None else number
            raised = part.finished(raised, link)
            separator = self._separator(end, indent)
            if separator is None:
                return raised, end
            number, link = separator

    def _separator(self, number: int, indent: int | None) -> tuple[int, Link] | None:
        """Find the sentence between two exceptions, behind at most a few empty lines and quotes."""
        for ahead in range(number, min(number + 4, len(self._lines))):
            content = self._content(ahead, indent)
            if content in _SEPARATORS:
                behind = ahead + 1
                while behind < len(self._lines) and self._content(behind, indent) == "":
                    behind += 1
                return behind, _SEPARATORS[content or ""]
            if content is None or content.strip() not in ("", '"""'):
                return None
        return None

    def _content(self, number: int, indent: int | None) -> str | None:
        """Return a line without its margin; None: it is not of this level, or there is none."""
        if number >= len(self._lines):
            return None
        line = self._lines[number]
        if indent is None:
            return line if line.strip() else ""
        margin = " " * indent + "|"
        if not line.startswith(margin):
            return None
        return line[len(margin) + 1 :] if line[len(margin) :].strip() else ""

    def _part(self, number: int, indent: int | None, depth: int) -> tuple[_Part | None, int]:
        part = _Part()
        content = self._content(number, indent)
        if content is None or depth > DEPTH_MAX:
            return None, number + 1
        group = (
            _GROUP_START.search(content) if content.endswith(_GROUP) else _GROUP_WITHOUT_HEADER.match(content)
        )
        if group is not None and indent is None:
            indent, part.is_group = len(group["indent"]), True
            number += content.endswith(_GROUP)
        elif content.endswith(_PLAIN):
            part.is_group = content.endswith(_GROUP)
            number += 1
        number = self._frames(part, number, indent)
        match = _EXCEPTION.fullmatch(self._content(number, indent) or "")
        if match is None or not (part.frames or _is_likely(match["type"])):
            return None, number
        part.type = match["type"]
        part.value.append(match["value"] or "")
        number = self._message(part, number + 1, indent)
        if indent is not None:
            number = self._members(part, number, indent, depth)
        return part, number

    def _frames(self, part: _Part, number: int, indent: int | None) -> int:
        source: list[str] = []
        while (content := self._content(number, indent)) is not None:
            match = _FRAME.fullmatch(content)
            repeated = _REPEATED.fullmatch(content)
            if match is not None:
                _take_source(part, source)
                line = int(match["line"]) if match["line"].isdecimal() else None
                part.frames.append(Frame(match["path"], line, match["function"]))
            elif repeated is not None and part.frames:
                _take_source(part, source)
                last = part.frames[-1]
                part.frames[-1] = Frame(last.path, last.line, last.function, last.source, int(repeated[1]))
            elif part.frames and content.startswith("    "):
                source.append(content[4:])
            elif not (part.frames and content == "" and self._goes_on(number + 1, indent)):
                break
            number += 1
        _take_source(part, source)
        return number

    def _goes_on(self, number: int, indent: int | None) -> bool:
        """Whether source follows an empty line: Python prints those inside of a long expression."""
        content = self._content(number, indent)
        return content is not None and content.startswith("    ") and not _FRAME.fullmatch(content)

    def _message(self, part: _Part, number: int, indent: int | None) -> int:
        end = number
        while number < len(self._lines):
            content = self._content(number, indent)
            if content is None and indent is not None and not _MARGIN.match(self._lines[number]):
                content = self._lines[number]  # the interpreter itself sets no margin before further lines
            if content is None or self._ends_message(content, number, indent):
                break
            if content and len(part.value) < VALUE_LINES_MAX:
                part.value += [""] * min(number - end, VALUE_LINES_MAX)
                part.value.append(content)
            number += 1
            if content:
                end = number
        return end

    def _ends_message(self, content: str, number: int, indent: int | None) -> bool:
        if content.endswith(_PLAIN) or content in _SEPARATORS:
            return True
        if content == '"""' and self._separator(number, indent) is not None:
            return True  # the end of what another process raised
        if indent is not None or not content:
            return False
        if self.logged:
            return not _CONTINUED.match(content)
        return bool(
            _LOGGED.match(content)
            or _INCIDENTAL.fullmatch(content)
            or _AFTERWARDS.fullmatch(content)
            or _DJANGO.fullmatch(content)
            or _FATAL.fullmatch(content)
        )

    def _members(self, part: _Part, number: int, indent: int, depth: int) -> int:
        """Read what a group holds, each behind a line `+---------------- 1 ----------------`."""
        while number < len(self._lines):
            line = self._lines[number]
            match = _MEMBER.fullmatch(line)
            if match is not None and len(match["indent"]) == (indent if match["first"] else indent + 2):
                member, end = self.chain(number + 1, indent + 2, depth + 1)
                number = max(end, number + 1)
                if member is not None:
                    part.members.append(member)
            elif _MEMBERS_END.fullmatch(line) and part.members:
                return number + 1
            elif part.members and line.startswith(" " * (indent + 2) + "|"):
                number += 1  # "and 3 more exceptions", or what could not be read
            else:
                return number
        return number


def _take_source(part: _Part, source: list[str]) -> None:
    """Give the lines of code that were read to the frame that they belong to."""
    lines = [line for line in source if not _CARETS.fullmatch(line)]
    source.clear()
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and part.frames:
        last = part.frames[-1]
        part.frames[-1] = Frame(last.path, last.line, last.function, (*last.source, *lines))


def _split_name(name: str) -> tuple[str | None, str]:
    """Split a class's full name into its module and its own name.

    Modules are written small and classes with a capital: `app.errors.Outer.Inner`. A class made in a function
    (`app.f.<locals>.Odd`) has only its own name.
    """
    parts = name.split(".")
    if "<locals>" in parts:
        return None, parts[-1]
    first = next((at for at, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    module = ".".join(parts[:first])
    return module if module not in ("", "__main__") else None, ".".join(parts[first:])


# --- Without a traceback --------------------------------------------------------------------------------


def _said(lines: list[str], start: int, *, anything: bool) -> Ending | None:
    """Find the line in which Django, or else any program, said at the end what was wrong."""
    last = len(lines)
    for number in range(last - 1, start - 1, -1):
        if _DJANGO.fullmatch(lines[number]):
            return _said_at(lines, number, last)
    if not anything:
        return None
    full = [number for number in range(start, last) if lines[number].strip()][-20:]
    for number in reversed(full):
        if _ERROR_LINE.fullmatch(lines[number]):
            return _said_at(lines, number, number + 1)
    return None


def _said_at(lines: list[str], number: int, last: int) -> Ending | None:
    end = number + 1
    while end < last and end - number < VALUE_LINES_MAX:
        line = lines[end]
        if _LOGGED.match(line) or _AFTERWARDS.fullmatch(line) or line.endswith(_PLAIN):
            break
        end += 1
    name, _, value = lines[number].partition(": ")
    part = _Part(type=name, value=[value, *lines[number + 1 : end]])
    text = "\n".join(lines[number:end]).rstrip()
    return Ending(part.finished(None, None), How.SAID, text)


def _read_crash(lines: list[str], number: int, value: str) -> tuple[Raised, int]:
    """Read what faulthandler prints: the newest frame first, of the thread that broke down first."""
    frames: list[Frame] = []
    threads = 0
    end = number
    while number < len(lines):
        line = lines[number]
        match = _FATAL_FRAME.fullmatch(line)
        if match is not None and threads == 1:
            at = int(match["line"]) if match["line"].isdecimal() else None
            frames.append(Frame(match["path"], at, match["function"]))
        elif _THREAD.fullmatch(line):
            threads += 1
        elif (
            match is None and line.strip() and not line.startswith(("  <", "  ...", "Python runtime state:"))
        ):
            break
        number += 1
        if line.strip():
            end = number
    return Raised("FatalPythonError", None, value, tuple(reversed(frames))), end
