"""The operator with a mistake in it: `kopf run -m tests.chaos.mutant_operator`. To show that the checker finds it.

The environment's MUTANT names the mistake. Those of the fence take one guard away; those of the core change one
line of it, as the unit tests' mutants do.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

import crontabber_operator.handlers  # noqa: F401 - registers with kopf
from crontabber_operator import bookkeeping, gated, job_writer, manifests
from crontabber_operator.cluster import Cluster
from crontabber_operator.decision import Release

Patch = list[dict[str, Any]]


# --- Guards taken away ----------------------------------------------------------------------------------------


def _send_without(is_guard: Callable[[Mapping[str, Any]], bool], part: str) -> None:
    """Leave operations out of all JSON patches of what is in this part of the API."""
    original = Cluster._request  # noqa: SLF001 - the one door through which all goes

    async def request(
        self: Cluster, method: str, path: str, body: Any = None, *rest: Any, **options: Any
    ) -> Any:
        if part in path and isinstance(body, list):
            body = [one for one in body if not is_guard(one)]
        return await original(self, method, path, body, *rest, **options)

    Cluster._request = request  # type: ignore[method-assign] # noqa: SLF001


def _no_claim_guard() -> None:
    _send_without(lambda one: one["path"] == "/metadata/resourceVersion", "/crontabberjobs/")


def _no_command_guard() -> None:
    original = Cluster._request  # noqa: SLF001 - as above

    async def request(
        self: Cluster, method: str, path: str, body: Any = None, *rest: Any, **options: Any
    ) -> Any:
        if "/crontabberjobs/" in path and isinstance(body, dict):
            body = {"metadata": {"annotations": body["metadata"]["annotations"]}}
        return await original(self, method, path, body, *rest, **options)

    Cluster._request = request  # type: ignore[method-assign] # noqa: SLF001


def _no_release_guard(path: str) -> Callable[[], None]:
    original = manifests.release_patch

    def unguarded(release: Release) -> Patch:
        return [
            one for one in original(release) if not (one["op"] == "test" and one["path"].startswith(path))
        ]

    def install() -> None:
        vars(job_writer)["release_patch"] = unguarded

    return install


# --- Lines changed --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A mistake in the text of one function."""

    module: ModuleType
    function: str
    old: str
    new: str

    def code(self) -> CodeType:
        """Compile the function with the mistake. Raises ValueError where it no longer has that text, once."""
        source = textwrap.dedent(inspect.getsource(getattr(self.module, self.function)))
        if source.count(self.old) != 1:
            message = f"{self.module.__name__}.{self.function} has no longer one {self.old!r}"
            raise ValueError(message)
        return compile(source.replace(self.old, self.new), self.function, "exec")

    def __call__(self) -> None:
        """Put it in the function's place."""
        made: dict[str, Any] = {}
        exec(self.code(), vars(self.module), made)  # noqa: S102 - our own text
        setattr(self.module, self.function, made[self.function])


MUTANTS: dict[str, Callable[[], None]] = {
    "claims without a guard": _no_claim_guard,
    "takes commands without a guard": _no_command_guard,
    "releases whatever has the name": _no_release_guard("/metadata/uid"),
    "releases what was released": _no_release_guard("/spec/template"),
    "releases without any guard": _no_release_guard("/"),
    "releases beside another run": Line(
        gated, "_why_occupied", "if running is None:\n        return None", "return None"
    ),
    "releases beside a pod that is left": Line(
        gated, "_why_occupied", "if running is None and view.seen.left_behind:", "if False:"
    ),
    "records before the outcome": Line(
        gated,
        "record",
        "if run.finished is None:",
        "if run.released and run.finished is None:\n"
        "        return _record_good(view, books, run, view.now, claim, claim.through), None\n"
        "    if run.finished is None:",
    ),
    "records a batch ahead": Line(
        gated,
        "_record_progress",
        "bookkeeping.settle_success(view.job, books, good)",
        "bookkeeping.settle_success(view.job, books, rest.slot)",
    ),
    "takes a batch that failed for good": Line(
        gated, "_last_good", "return max(goods, default=None)", "return claim.through"
    ),
    "runs the newest first": Line(
        bookkeeping, "head", "oldest = view.spec.slots.next_after(settled)", "oldest = view.newest"
    ),
    "settles what failed": Line(
        bookkeeping,
        "record_failure",
        "error_count=status.error_count + 1,",
        "error_count=status.error_count + 1, settled_through=max(entry.slot, cursor(job, status)),",
    ),
    "forgets what succeeded": Line(
        bookkeeping, "settle_success", "settled_through=max(through, cursor(job, status)),", ""
    ),
    "releases without a claim": Line(
        gated,
        "_towards_claim",
        "books = _claim(view, books, chosen)",
        "release += (_release(view, books, chosen, _claim(view, books, chosen).ongoing),)",
    ),
    "tells the wrong run time": Line(
        gated, "_release", "view.spec.written(claim.slot)", "view.spec.written(view.now)"
    ),
    "tells the wrong last success": Line(
        gated,
        "_release",
        "view.spec.written(books.last_success_time)",
        "view.spec.written(books.first_run_time)",
    ),
    "takes a failure for the last success": Line(
        bookkeeping,
        "record_failure",
        "error_count=status.error_count + 1,",
        "error_count=status.error_count + 1, last_success_time=entry.slot,",
    ),
    "counts no failures": Line(bookkeeping, "record_failure", "error_count=status.error_count + 1,", ""),
}
"""Each mistake, and what makes the operator make it."""


def _install(name: str) -> None:
    MUTANTS[name]()


if os.environ.get("MUTANT"):
    _install(os.environ["MUTANT"])
