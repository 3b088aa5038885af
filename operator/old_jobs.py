"""Read what the original crontabber ran: a JOBS list in a Python file, or lines `package.Class|1d|05:00`.

Python files are parsed and never run: literals, names bound to them, `dict(...)`, `+`, `+=` and `append` are
understood; whatever else stands in a job is refused with its line. This module must not import kopf or
kubernetes, read a clock, or know anything of the new resource.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_FREQUENCY = "1d"
"""The original's, where neither the job nor the file (DEFAULT_FREQUENCY) says one."""
DEFAULT_MAX_ONGOING_SECONDS = 7200
VARIABLES = ("JOBS", "CRONTABBER_JOBS", "DEFAULT_JOBS")
"""Where the list is looked for, in this order, before any other variable with jobs in it."""
KEYS = ("cmd", "cmd_args", "frequency", "time", "backfill", "last_success", "depends_on")
"""The keys of a job in a JOBS list, all that there are."""

_CLASS_LINE = re.compile(r"(?P<path>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\|(?P<rest>[^#\"']*)")
_SEPARATORS = re.compile(r"[\n,;]")


class OldJobsError(ValueError):
    """The file can't be read as a list of jobs; each of `sentences` says where and what to do."""

    def __init__(self, *sentences: str) -> None:
        """Take the sentences, in the order of the file."""
        super().__init__(" ".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True, slots=True)
class OldJob:
    """A job as it was configured; nothing is checked yet but the types."""

    place: str
    """File and line, for messages."""
    command: str
    """The management command; empty where only a class is known."""
    args: tuple[str, ...] = ()
    frequency: str = DEFAULT_FREQUENCY
    time: str | None = None
    backfill: bool = False
    last_success: bool = False
    depends_on: tuple[str, ...] = ()
    comment: tuple[str, ...] = ()
    """What stood beside it in the file, a line each."""
    class_path: str | None = None
    unknown_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OldJobs:
    """A file's jobs, and its settings for all of them."""

    jobs: tuple[OldJob, ...]
    max_ongoing_seconds: int = DEFAULT_MAX_ONGOING_SECONDS


def read_old_jobs(text: str, filename: str, variable: str | None = None) -> OldJobs:
    """Read a file's text; `variable` names the list where there are several.

    A file that isn't called `*.py` is read as lines `package.Class|frequency|time`, as in crontabber.ini.
    Raises OldJobsError.
    """
    if not filename.endswith(".py"):
        jobs = tuple(_class_lines(text, filename))
        if not jobs:
            message = (
                f"{filename}: has no line such as package.Class|1d|05:00; a Python file with a list of jobs"
                " must be called *.py."
            )
            raise OldJobsError(message)
        return OldJobs(jobs)
    try:
        tree = ast.parse(text, filename)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        message = f"{filename}{line}: is not Python that can be parsed: {reason}."
        raise OldJobsError(message) from error
    module = _Module(tree, filename)
    comments = _comments(text)
    try:
        found = _find(module, variable)
        jobs = tuple(_jobs(module, found, comments))
    except RecursionError as error:
        message = f"{filename}: a value is made from itself, which only running the file would resolve."
        raise OldJobsError(message) from error
    if not jobs:
        message = f"{filename}: the list {found.name} has no jobs in it."
        raise OldJobsError(message)
    limit = module.constant("MAX_ONGOING")
    return OldJobs(jobs, limit if isinstance(limit, int) and limit > 0 else DEFAULT_MAX_ONGOING_SECONDS)


# --- The module, as far as it can be known without running it -------------------------------------------


class _UnknownValueError(Exception):
    """An expression whose value only running the file would tell."""

    def __init__(self, node: ast.AST) -> None:
        super().__init__()
        self.line = getattr(node, "lineno", 0)
        self.text = ast.unparse(node)


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    elements: tuple[ast.expr, ...]


class _Module:
    """The assignments at the top of a module."""

    def __init__(self, tree: ast.Module, filename: str) -> None:
        self.filename = filename
        self._bound: dict[str, list[ast.expr]] = {}
        """By name: the values that make it up, in order; one, or with `+=`, append and extend several."""
        for statement in tree.body:
            self._read(statement)

    def names(self) -> Iterator[str]:
        """Yield the names that are bound, in the order of the file."""
        yield from self._bound

    def elements(self, name: str) -> tuple[ast.expr, ...]:
        """Return the expressions that are the elements of a list or text; empty where it is neither."""
        return tuple(element for value in self._bound.get(name, []) for element in self._elements(value))

    def constant(self, name: str) -> Any:
        """Return the value of a name, None where it has none or it can't be known."""
        values = self._bound.get(name, [])
        try:
            return self.value(values[0]) if len(values) == 1 else None
        except _UnknownValueError:
            return None

    def value(self, node: ast.expr) -> Any:
        """Evaluate an expression of literals and names. Raises _UnknownValueError."""
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple():
                return [self.value(element) for element in self._elements(node)]
            case ast.Dict():
                return {self.value(key): self.value(value) for key, value in self.items(node)}
            case ast.Name() if len(self._bound.get(node.id, [])) == 1:
                return self.value(self._bound[node.id][0])
            case ast.BinOp(op=ast.Add() | ast.Mult() | ast.Sub()):
                return self._calculated(node)
            case ast.UnaryOp(op=ast.USub()):
                return -self.value(node.operand)
            case ast.Call() if self.items(node):
                return {self.value(key): self.value(value) for key, value in self.items(node)}
            case _:
                raise _UnknownValueError(node)

    def items(self, node: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
        """Return keys and values of `{…}` or `dict(…)`; empty where it is neither."""
        items: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                items += self._spread(value) if key is None else [(key, value)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            if node.args:
                raise _UnknownValueError(node)
            for keyword in node.keywords:
                items += (
                    self._spread(keyword.value)
                    if keyword.arg is None
                    else [(ast.copy_location(ast.Constant(keyword.arg), keyword.value), keyword.value)]
                )
        elif isinstance(node, ast.Name) and len(self._bound.get(node.id, [])) == 1:
            items = self.items(self._bound[node.id][0])
        return items

    def _spread(self, node: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
        found = self.items(node)
        if not found and not (isinstance(node, ast.Dict) and not node.keys):
            raise _UnknownValueError(node)
        return found

    def _calculated(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        try:
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(left, int) and isinstance(right, int):
                return left * right if isinstance(node.op, ast.Mult) else left - right
        except TypeError:
            pass
        raise _UnknownValueError(node)

    def _elements(self, node: ast.expr) -> list[ast.expr]:
        match node:
            case ast.List() | ast.Tuple():
                found = []
                for element in node.elts:
                    found += self._elements(element.value) if isinstance(element, ast.Starred) else [element]
                return found
            case ast.BinOp(op=ast.Add()):
                return [*self._elements(node.left), *self._elements(node.right)]
            case ast.Name():
                return list(self.elements(node.id))
            case ast.Constant(value=str()):
                return [node]
            case ast.Call(func=ast.Attribute(attr="join"), args=[joined]):
                return self._elements(joined)
            case _:
                return []

    def _parts(self, name: str, value: ast.expr) -> list[ast.expr]:
        match value:
            case ast.BinOp(op=ast.Add(), left=ast.Name(id=left), right=right) if left == name:
                return [*self._bound.get(name, []), right]
            case _:
                return [value]

    def _read(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._bound[target.id] = self._parts(target.id, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._bound[name] = [value]
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                self._bound.setdefault(name, []).append(value)
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" as how), args=[value]
                )
            ):
                added = value if how == "extend" else ast.List(elts=[value], ctx=ast.Load())
                self._bound.setdefault(name, []).append(added)
            case _:
                pass


def _find(module: _Module, variable: str | None) -> _Variable:
    """Find the list of jobs: the named one, one of the usual names, else the only one."""
    if variable is not None:
        if variable not in module.names():
            message = f"{module.filename}: has no variable {variable} at its top level."
            raise OldJobsError(message)
        elements = module.elements(variable)
        if not elements:
            message = f"{module.filename}: {variable} is no list of jobs that can be read without running it."
            raise OldJobsError(message)
        return _Variable(variable, elements)
    for name in VARIABLES:
        if module.elements(name):
            return _Variable(name, module.elements(name))
    found = [
        name
        for name in module.names()
        if any(_looks_like_a_job(module, one) for one in module.elements(name))
    ]
    if len(found) == 1:
        return _Variable(found[0], module.elements(found[0]))
    if found:
        message = (
            f"{module.filename}: has several lists of jobs ({', '.join(found)}); name one with --variable."
        )
        raise OldJobsError(message)
    message = (
        f"{module.filename}: has no list of jobs at its top level, such as JOBS = [{{'cmd': 'clearsessions',"
        " 'frequency': '7d'}]; name its variable with --variable."
    )
    raise OldJobsError(message)


def _looks_like_a_job(module: _Module, node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and any(
            _CLASS_LINE.match(line.strip()) for line in _SEPARATORS.split(node.value)
        )
    try:
        return any(isinstance(key, ast.Constant) and key.value == "cmd" for key, _ in module.items(node))
    except _UnknownValueError:
        return False


# --- Jobs -----------------------------------------------------------------------------------------------


def _jobs(module: _Module, found: _Variable, comments: Mapping[int, str]) -> Iterator[OldJob]:
    mistakes: list[str] = []
    jobs: list[OldJob] = []
    end_of_last = 0
    for element in found.elements:
        place = f"{module.filename}:{element.lineno}"
        try:
            if isinstance(element, ast.Constant) and isinstance(element.value, str):
                jobs += _class_lines(element.value, module.filename, element.lineno)
            else:
                comment = _comment(element, end_of_last, comments)
                jobs.append(_job(module, element, place, comment))
        except _UnknownValueError as error:
            mistakes.append(
                f"{module.filename}:{error.line or element.lineno}: the value of {error.text} is not known"
                " without running the file; write it out."
            )
        except OldJobsError as error:
            mistakes += error.sentences
        end_of_last = element.end_lineno or element.lineno
    if mistakes:
        raise OldJobsError(*mistakes)
    yield from jobs


def _job(module: _Module, node: ast.expr, place: str, comment: tuple[str, ...]) -> OldJob:
    items = module.items(node)
    if not items:
        message = f"{place}: is not a job such as {{'cmd': 'clearsessions', 'frequency': '7d'}}."
        raise OldJobsError(message)
    # A later key wins, as in Python.
    given = {str(module.value(key)): module.value(value) for key, value in items}
    mistakes = []

    def take(key: str, kind: type | tuple[type, ...], what: str, default: Any) -> Any:
        value = given.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            mistakes.append(f"{place}: {key} must be {what}, not {value!r}.")
            return default
        return value

    if "cmd" not in given:
        mistakes.append(f"{place}: has no cmd, the management command that it runs.")
    default_frequency = module.constant("DEFAULT_FREQUENCY")
    args = take("cmd_args", list, "a list of texts", [])
    depends_on = take("depends_on", (list, str), "a list of names", [])
    if isinstance(depends_on, str):
        depends_on = [part.strip() for part in depends_on.split(",") if part.strip()]
    if any(not isinstance(arg, str | int | float) for arg in args):
        mistakes.append(f"{place}: cmd_args must be a list of texts, not {args!r}.")
    job = OldJob(
        place=place,
        command=take("cmd", str, "the name of a management command", ""),
        args=tuple(str(arg) for arg in args),
        frequency=take(
            "frequency",
            str,
            "such as '1h' or '7d'",
            default_frequency if isinstance(default_frequency, str) else DEFAULT_FREQUENCY,
        ),
        time=take("time", str, "such as '05:00'", None) or None,
        backfill=bool(given.get("backfill")),
        last_success=bool(given.get("last_success")),
        depends_on=tuple(str(name) for name in depends_on),
        comment=comment,
        unknown_keys=tuple(key for key in given if key not in KEYS),
    )
    if mistakes:
        raise OldJobsError(*mistakes)
    return job


def _class_lines(text: str, filename: str, first_line: int = 1) -> Iterator[OldJob]:
    """Read `package.Class|frequency`, `package.Class|time` or `package.Class|frequency|time`."""
    for number, line in enumerate(text.splitlines(), start=first_line):
        for part in _SEPARATORS.split(line.partition("#")[0].replace("'", "\n").replace('"', "\n")):
            stripped = part.strip().partition("=")[2].strip() if "=" in part else part.strip()
            match = _CLASS_LINE.fullmatch(stripped)
            if match is None:
                continue
            place = f"{filename}:{number}"
            rest = [one.strip() for one in match["rest"].split("|")]
            if len(rest) > 2 or not rest[0]:
                message = (
                    f"{place}: {stripped!r} must be package.Class|frequency|time, such as app.Class|1d|05:00."
                )
                raise OldJobsError(message)
            if len(rest) == 1 and ":" in rest[0]:
                rest = [DEFAULT_FREQUENCY, rest[0]]
            yield OldJob(
                place=place,
                command="",
                frequency=rest[0],
                time=rest[1] if len(rest) > 1 and rest[1] else None,
                class_path=match["path"],
            )


# --- Comments -------------------------------------------------------------------------------------------


def _comments(text: str) -> dict[int, str]:
    """Return the comments by line."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return {}
    return {
        token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT
    }


def _comment(node: ast.expr, after_line: int, comments: Mapping[int, str]) -> tuple[str, ...]:
    """Return the comments in a job, and those right above it."""
    first = node.lineno
    while first - 1 in comments and first - 1 != after_line:
        first -= 1
    lines = range(first, (node.end_lineno or node.lineno) + 1)
    return tuple(comments[line] for line in lines if comments.get(line))
