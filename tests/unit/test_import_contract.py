"""The core is pure: it imports nothing that watches, writes or waits, and reads no clock; and operator/ is no package.

import-linter checks the first part as well (pyproject.toml); clocks it can't see.
"""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "crontabber_operator"
FOLDER = Path(__file__).parents[2] / "operator"
PURE = (
    "backfill",
    "bookkeeping",
    "commands",
    "crd",
    "cron_chain",
    "cron_text",
    "cron_walk",
    "decision",
    "echoes",
    "election",
    "exposition",
    "failures",
    "figures",
    "gated",
    "manifests",
    "models",
    "observed",
    "output_lines",
    "output_progress",
    "page_rows",
    "plain",
    "pod_starts",
    "projection",
    "report_errors",
    "schedule",
    "store",
    "telling",
    "tracebacks",
    "upkeep",
    "wall_clock",
    "workloads",
    "zone_offsets",
)
IMPURE = {
    "aiohttp",
    "asyncio",
    "kopf",
    "kubernetes",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
}
"""What watches, writes or waits, and what is different each time."""
CLOCKS = {"monotonic", "now", "perf_counter", "time", "time_ns", "today", "utcnow"}
"""Methods and functions that tell the time of day, called on datetime, date or time."""
CLOCK_HOLDERS = {"date", "datetime", "time"}


@cache
def tree(name: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse((FOLDER / f"{name}.py").read_text())


def imported(name: str) -> Iterator[str]:
    """Yield the full names of what a module imports."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: kopf run operator/handlers.py needs absolute imports"
            if node.module == PACKAGE:
                yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def ways_to(name: str) -> dict[str, tuple[str, ...]]:
    """Map each module that is imported, however indirectly, to the way there."""
    ways: dict[str, tuple[str, ...]] = {}
    todo: list[tuple[str, tuple[str, ...]]] = [(name, (name,))]
    while todo:
        module, way = todo.pop()
        for found in imported(module):
            head, _, rest = found.partition(".")
            if found in ways:
                continue
            ways[found] = (*way, found)
            if head == PACKAGE and rest:
                todo.append((rest.split(".")[0], (*way, rest)))
    return ways


def clocks_read(source: ast.Module) -> list[str]:
    """List the calls that read a clock."""
    found = []
    for node in ast.walk(source):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        holder = node.func.value
        name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
        if node.func.attr in CLOCKS and name in CLOCK_HOLDERS:
            found.append(f"{name}.{node.func.attr}, line {node.lineno}")
    return found


@pytest.mark.parametrize("name", PURE)
def test_the_core_imports_nothing_that_watches_writes_or_waits(name: str) -> None:
    """Not by way of another module, either."""
    bad = {found: way for found, way in ways_to(name).items() if found.split(".")[0] in IMPURE}
    assert not bad


@pytest.mark.parametrize("name", PURE)
def test_the_core_reads_no_clock(name: str) -> None:
    """Time is an argument. Nor do the modules that it imports."""
    modules = {name, *(found.split(".")[1] for found in ways_to(name) if found.startswith(f"{PACKAGE}."))}
    assert {module: clocks_read(tree(module)) for module in modules if clocks_read(tree(module))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "datetime.now(UTC)",
        "datetime.datetime.now()",
        "dt.datetime.utcnow()",
        "date.today()",
        "datetime.today()",
        "time.time()",
        "time.monotonic()",
        "x = [time.time_ns() for _ in y]",
    ],
)
def test_a_clock_that_is_read_would_be_found(text: str) -> None:
    """The test can fail."""
    assert clocks_read(ast.parse(text))


@pytest.mark.parametrize(
    "text", ["view.now", "self.now()", "now = clock()", "datetime.fromisoformat(x)", "time(5)"]
)
def test_what_is_no_clock_is_not_taken_for_one(text: str) -> None:
    """A view has a time, too."""
    assert not clocks_read(ast.parse(text))


def test_an_indirect_import_would_be_found() -> None:
    """The shell imports what the core must not."""
    ways = ways_to("reconciler")
    assert any(found.split(".")[0] == "aiohttp" for found in ways)
    assert ways_to("backfill")[f"{PACKAGE}.schedule"][-1] == f"{PACKAGE}.schedule"


def test_the_folder_operator_is_no_package() -> None:
    """With an __init__.py it would hide the standard library's operator, and Python itself would break."""
    assert not (FOLDER / "__init__.py").exists()
    assert not list(FOLDER.glob("__init__*"))
    assert Path(__import__("operator").__file__ or "").parent != FOLDER


def test_no_module_is_called_like_one_of_python_or_of_a_dependency() -> None:
    """`kopf run operator/handlers.py` puts the folder first on sys.path."""
    ours = {path.stem for path in FOLDER.glob("*.py")}
    assert not ours & set(sys.stdlib_module_names)
    others = set(importlib.metadata.packages_distributions()) - {PACKAGE}
    assert not ours & others


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_each_module_says_what_it_is_for(name: str) -> None:
    """In its first line."""
    docstring = ast.get_docstring(tree(name)) or ""
    assert docstring.split("\n")[0].endswith((".", ":", "?"))
