"""Where devcluster keeps its files: built binaries in a cache, clusters in a state directory.

Says where, and writes a file whole; knows nothing of what is in them.
"""

from __future__ import annotations

import os
from pathlib import Path

#: The Go modules whose tools are built; part of this package.
GO_MODULES = Path(__file__).resolve().parent / "go"

#: What must be on a child's PYTHONPATH so that `python -m devcluster.…` works from anywhere.
IMPORT_ROOT = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """Return the folder of built binaries: $CRONTABBER_CACHE, else $XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("CRONTABBER_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "crontabber-devcluster"


def state_root() -> Path:
    """Return the folder that holds a folder for each cluster: below $XDG_STATE_HOME, else ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "crontabber-devcluster"


def write_atomically(path: Path, text: str) -> None:
    """Write a file that only its owner can read; a reader sees the old or the new text, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
