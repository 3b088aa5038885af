"""What a component that failed said, and how to mend it. Reads logs, nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LINES = 15
_LINE_LENGTH = 500
_READ_BYTES = 64 * 1024

#: What components say when they can't run, and what to do about it.
_MENDS = (
    (r"address already in use", "another program took one of its ports at that moment: try again"),
    (
        r"no space left on device",
        "the disk is full: free some, or set XDG_STATE_HOME to a folder on another disk",
    ),
    (r"too many open files", "raise the limit of open files: `ulimit -n 65536`"),
    (r"cannot allocate memory|out of memory", "the machine is out of memory: a cluster needs about 1 GB"),
    (r"No module named", "a Python package is missing: `pip install -r requirements-dev.lock`"),
    (r"unknown flag|invalid argument", "a flag that it was given is wrong"),
)


def tail(log: Path) -> str:
    """Return the end of a log to append to a message, on lines of its own; empty when there is no log."""
    lines = _last_lines(log)
    return "".join(f"\n  {line[:_LINE_LENGTH]}" for line in (f"The end of {log}:", *lines)) if lines else ""


def explain_end(name: str, exit_code: int | None, log: Path) -> str:
    """Say that a component ended, what may mend it, and the last lines that it logged."""
    said = "\n".join(_last_lines(log))
    mend = next((f": {mend}" for pattern, mend in _MENDS if re.search(pattern, said)), "")
    status = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
    return f"{name} ended with {status}{mend}{tail(log)}"


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _READ_BYTES))
            return stream.read().decode(errors="replace").splitlines()[-_LINES:]
    except OSError:
        return []
