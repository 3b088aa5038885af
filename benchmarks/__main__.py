"""Measure, print the table, and keep figures and plots: `python -m benchmarks [--quick] [--only NAME] [--profile]`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks import batch, flame, release, size
from benchmarks.figures import Result, joined, table
from benchmarks.stand import ROOT, Stand, standing
from devcluster import LocalImage

RESULTS = ROOT / "docs" / "performance"


@dataclass(frozen=True)
class Ask:
    """What is asked of a part."""

    folder: Path
    """For its logs."""
    quick: bool
    """With small numbers."""
    profile: bool
    """Sample what the operators do."""


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: only to see that it works")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only this part; repeatable")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="keep flame graphs of the operator, too, which slows it down a little",
    )
    parser.add_argument("--out", type=Path, help="keep figures and plots here (docs/performance)")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in options.only or PARTS:
            began, load = time.monotonic(), os.getloadavg()[0]
            print(f"{name} …", file=sys.stderr, flush=True)
            ask = Ask(Path(folder) / name, options.quick, options.profile)
            result = joined(list(told(PARTS[name](ask))))
            if ask.profile:
                result.plots |= profiles(ask.folder, name)
            result.figures["load_before"] = round(load, 1)
            results.append((name, result))
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if options.out is not None:
                keep(options.out, name, result)
    print()
    print(table([line for _, result in results for line in result.lines]))
    print()
    print(machine())


def told(results: Iterable[Result]) -> Iterator[Result]:
    """Print the table of each result as it comes: a part takes up to half an hour."""
    for one in results:
        if one.lines:
            print(table(one.lines), flush=True)
        yield one


def profiles(folder: Path, part: str) -> dict[str, str]:
    """Draw where the time of a part's last operator went."""
    last = max(folder.glob("*.folded"), key=lambda path: path.stat().st_mtime)
    title = f"{part}: the operator's time"
    ours = {path.name for path in (ROOT / "operator").glob("*.py")}
    return {f"{part}-profile": flame.draw(title, last.read_text(encoding="utf-8").splitlines(), ours)}


def keep(folder: Path, name: str, result: Result) -> None:
    """Write figures and plots of a part."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "table": [vars(line) for line in result.lines],
        **result.figures,
    }
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    for plot, drawn in result.plots.items():
        (folder / f"{plot}.svg").write_text(drawn, encoding="utf-8")


def machine() -> str:
    """Describe what was measured on."""
    versions = ", ".join(f"{one} {version(one)}" for one in ("kopf", "kubernetes", "django"))
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}, {versions}, Kubernetes v1.34.4"
    )


def _release(ask: Ask) -> Iterator[Result]:
    with _instant(ask) as stand:
        yield release.idle(stand, 5 if ask.quick else 100)
        yield release.chains(stand, *((5, 3, 1) if ask.quick else (100, 4, 20)))
        yield release.chains(stand, *((5, 3, 0) if ask.quick else (100, 10, 0)))
        yield release.idle_writes(stand, 3 if ask.quick else 30)


def _storm(ask: Ask) -> Iterator[Result]:
    with _instant(ask) as stand:
        for count in [20] if ask.quick else [1000, 5000]:
            yield release.storm(stand, count)


@contextlib.contextmanager
def _instant(ask: Ask) -> Iterator[Stand]:
    with standing("instant", ask.folder, is_profiled=ask.profile) as stand:
        stand.start_operator()
        yield stand


def _size(ask: Ask) -> Iterator[Result]:
    with standing("none", ask.folder, is_profiled=ask.profile) as stand:
        if ask.quick:
            yield from size.grown(stand, [50, 100], idle_seconds=3, edit_at=100)
        else:
            yield from size.grown(
                stand, [2000, 5000, 10_000, 20_000, 50_000], idle_seconds=30, edit_at=10_000
            )


def _batch(ask: Ask) -> Iterator[Result]:
    images = {"webapp": LocalImage.of(ROOT / "webapp")}
    with standing("process", ask.folder, images, is_profiled=ask.profile) as stand:
        stand.start_operator()
        yield batch.compared(stand, *((10, 2, 1) if ask.quick else (720, 20, 2)))


PARTS: dict[str, Callable[[Ask], Iterator[Result]]] = {
    "release": _release,
    "storm": _storm,
    "batch": _batch,
    "size": _size,
}


if __name__ == "__main__":
    main()
