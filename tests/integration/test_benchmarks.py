"""The benchmarks run, with small numbers; how fast anything was is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS_AT_MOST = 280


@pytest.mark.parametrize("part", ["release", "size", "batch"])
def test_a_part_of_the_benchmarks_runs(part: str, tmp_path: Path) -> None:
    """It prints its table, and keeps figures and the machine that they are of; a storm would wait for its minute."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", f"--only={part}", f"--out={tmp_path / 'out'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_AT_MOST,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| measured" in done.stdout
    told = json.loads((tmp_path / "out" / f"{part}.json").read_text(encoding="utf-8"))
    assert told["table"]
    assert "cores" in told["machine"]
