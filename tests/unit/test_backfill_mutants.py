"""The machine and the tables find mistakes: each of these is one that a hand could make in the core.

A mutant is one line of the core, changed. Those of the machine are tried with random walks,
those of the tables by the tables' own tests.
"""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from crontabber_operator import bookkeeping, commands, gated, observed, plain, upkeep
from tests.unit.backfill_walk import walk

WALKS = 500
"""So many walks at most; most mutants are found within a dozen."""


@dataclass(frozen=True)
class Mutant:
    """A change of one function's text."""

    module: ModuleType
    function: str
    old: str
    new: str
    why: str

    def source(self) -> str:
        """Return the function's text as it is."""
        return inspect.getsource(getattr(self.module, self.function))

    def changed(self) -> str:
        """Return its text with the change."""
        source = self.source()
        assert source.count(self.old) == 1, f"{self.function} has no longer one {self.old!r}"
        return source.replace(self.old, self.new)


BY_MACHINE = (
    Mutant(
        gated,
        "_towards_claim",
        "books = _claim(view, books, chosen)",
        "release += (_release(view, books, chosen, _claim(view, books, chosen).ongoing),)",
        "release without a claim",
    ),
    Mutant(
        bookkeeping,
        "head",
        "oldest = view.spec.slots.next_after(settled)",
        "oldest = view.newest",
        "run the newest missed slot first",
    ),
    Mutant(
        bookkeeping,
        "record_failure",
        "error_count=status.error_count + 1,",
        "error_count=status.error_count + 1, settled_through=max(entry.slot, cursor(job, status)),",
        "settle a slot that failed, as the original crontabber did",
    ),
    Mutant(
        bookkeeping,
        "settle_success",
        "settled_through=max(through, cursor(job, status)),",
        "",
        "forget to settle a slot that succeeded",
    ),
    Mutant(
        bookkeeping,
        "record_vanished",
        "return replace(status, ongoing=None)",
        "return status",
        "keep the claim of a run that the operator removed itself",
    ),
    Mutant(gated, "_superseded", "run.slot <= settled", "False", "keep runs of settled slots"),
    Mutant(gated, "_superseded", "or view.is_outdated(run)", "", "keep outdated runs"),
    Mutant(gated, "_next_attempt", "max(attempts, default=0) + 1", "1", "use a name twice"),
    Mutant(
        gated,
        "_why_occupied",
        "run.running and",
        "run.running and not run.suspended and",
        "forget a suspended run",
    ),
    Mutant(
        plain,
        "_record_run",
        "run.failed_pods - counted",
        "run.failed_pods",
        "count failed pods again and again",
    ),
    Mutant(
        upkeep,
        "_mend",
        "(view.spec.is_plain or starts_anew) and fires_settled(view, books)",
        "False",
        "invent runs on resuming",
    ),
    Mutant(upkeep, "is_as_asked", "live.hash == desired.hash", "True", "leave the CronJob as it is"),
    Mutant(
        commands,
        "next_step",
        "if given:",
        "if given and not any(r.result == PENDING for r in job.status.last_commands):",
        "do a command before its annotation is removed",
    ),
)

TABLES = {
    "backfill_slots": (
        Mutant(
            observed,
            "latest_proof",
            "latest = max(stamps)",
            "latest = now",
            "believe the operator's clock alone",
        ),
        Mutant(
            bookkeeping,
            "cursor",
            "job.spec.backfill_since - SECOND",
            "job.spec.backfill_since",
            "leave out the first slot",
        ),
        Mutant(bookkeeping, "skip_surplus", "limit + 1)", "limit)", "skip one slot too many"),
        Mutant(
            bookkeeping, "skip_late", "or failing_slot(view, status) is not None", "", "skip a failing slot"
        ),
    ),
    "backfill_retries": (
        Mutant(bookkeeping, "delay", "2**doublings", "2*doublings", "let the delay grow slower"),
        Mutant(
            bookkeeping,
            "retries_exhausted",
            "retry.failures > limit",
            "retry.failures >= limit",
            "give up too early",
        ),
        Mutant(bookkeeping, "retry_at", "and status.retry.of == view.of", "", "let a mended job wait"),
        Mutant(
            bookkeeping,
            "record_failure",
            "(0 if attempt.result in (Result.LOST, Result.EVICTED) else 1)",
            "1",
            "use up retries by lost runs",
        ),
    ),
    "backfill_fence": (
        Mutant(
            gated,
            "_superseded",
            "chosen is not None and run.slot < chosen.slot",
            "run.slot != view.newest",
            "discard what proves that a slot is due",
        ),
        Mutant(
            gated,
            "_why_occupied",
            "live is not None and live.starts_runs and not live.suspended",
            "False",
            "release beside a plain job's CronJob",
        ),
        Mutant(plain, "_counts", "and not run.attempt", "", "count a gated run again"),
        Mutant(gated, "_choose", "and not view.is_outdated(run)", "", "start outdated runs"),
        Mutant(
            gated,
            "record",
            "if claim.uid not in view.seen.gone:",
            "if False:",
            "believe a watch that a run is gone",
        ),
        Mutant(gated, "_around_claim", "if waiting_for is None:", "if True:", "release beside another run"),
        Mutant(
            gated,
            "_native_until",
            "live.template_hash != desired.template_hash",
            "False",
            "wait for an outdated run",
        ),
        Mutant(
            gated,
            "_native_until",
            "NATIVE_LAG if fired else NATIVE_WAIT",
            "NATIVE_WAIT",
            "wait a minute in vain",
        ),
        Mutant(
            gated,
            "_release",
            "view.spec.written(claim.slot)",
            "view.spec.written(view.now)",
            "tell the wrong run time",
        ),
    ),
    "backfill_plain": (
        Mutant(plain, "_counts", "and run.uid not in ignored", "", "count what was marked"),
        Mutant(
            upkeep,
            "needless_retries",
            "if run.between_attempts",
            "if False",
            "let a marked run retry for ever",
        ),
        Mutant(
            plain,
            "_to_fire",
            "or not run.between_attempts",
            "or not run.failed_pods",
            "fire beside an attempt",
        ),
        Mutant(
            plain,
            "_record_runs",
            "or books.ongoing is not None:\n            return",
            "or False:\n            return",
            "read several runs at once",
        ),
    ),
    "bookkeeping": (
        Mutant(
            bookkeeping,
            "settle_success",
            "success = max(success, status.last_success_time)",
            "pass",
            "let the last success move back",
        ),
    ),
    "commands": (
        Mutant(
            commands,
            "_do",
            "if claimed is not None and not claimed.released:",
            "if False:",
            "drop the claim of a run that may still be released",
        ),
    ),
    "backfill_upkeep": (
        Mutant(
            upkeep, "is_as_asked", " and live.suspended == view.spec.suspend", "", "leave a suspended CronJob"
        ),
        Mutant(
            upkeep, "quiet_until", "near - QUIET < view.now", "near - QUIET > view.now", "write near a slot"
        ),
        Mutant(upkeep, "_needless_at", "failed.through > ", "failed.slot > ", "remove a batch too early"),
        Mutant(
            upkeep,
            "prune",
            "books.settled_through != told.settled_through",
            "False",
            "prune before it is written",
        ),
    ),
}


def mutate(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the changed function in the place of the real one, for one test."""
    made: dict[str, object] = {}
    code = compile(textwrap.dedent(mutant.changed()), mutant.function, "exec")
    exec(code, vars(mutant.module), made)  # noqa: S102 - our own text
    monkeypatch.setattr(mutant.module, mutant.function, made[mutant.function])


@pytest.mark.parametrize("mutant", BY_MACHINE, ids=lambda mutant: mutant.why)
def test_the_machine_finds_who_would(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some walk breaks a promise, or breaks down."""
    mutate(mutant, monkeypatch)
    for seed in range(WALKS):
        try:
            walk(seed)
        except Exception:  # noqa: BLE001 - whatever it is: it was found
            return
    pytest.fail(f"none of {WALKS} walks found a core that would {mutant.why}")


class Failures:
    """A plugin of pytest that counts what failed, and says nothing."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the outcome of one test."""
        if report.when == "call":
            self.passed += report.passed
            if report.failed:
                self.failed.append(report.nodeid)


def run_table(table: str) -> Failures:
    """Run a table's tests in this process, up to the first that fails."""
    failures = Failures()
    quiet = ["-p", "no:terminal", "-p", "no:randomly", "-p", "no:cacheprovider"]
    file = Path(__file__).parent / f"test_{table}.py"
    pytest.main(
        ["-x", *quiet, "-o", "addopts=--import-mode=importlib", "-o", "timeout=0", str(file)], [failures]
    )
    return failures


@pytest.mark.parametrize(
    ("table", "mutant"),
    [(table, mutant) for table, mutants in TABLES.items() for mutant in mutants],
    ids=lambda value: value.why if isinstance(value, Mutant) else value,
)
def test_the_tables_find_who_would(table: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some test of a table fails with it."""
    mutate(mutant, monkeypatch)
    assert run_table(table).failed, f"no test of {table} found a core that would {mutant.why}"


@pytest.mark.parametrize("table", TABLES)
def test_the_core_as_it_is_stands_the_tables(table: str) -> None:
    """Otherwise a mutant would be found for nothing."""
    outcome = run_table(table)
    assert outcome.failed == []
    assert outcome.passed > 20


def test_the_core_as_it_is_stands_these_walks() -> None:
    """As many as a mutant needs at most, mostly."""
    for seed in range(60):
        walk(seed)
