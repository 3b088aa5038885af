"""Go programs of the tests: each built once for each state of its source, in devcluster's cache and with its Go."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from devcluster import build
from devcluster.paths import cache_root


def built(folder: Path) -> Path:
    """Return the program whose source is in this folder."""
    sources = sorted(path for path in folder.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    program = cache_root() / f"{folder.name}-{digest[:10]}" / folder.name
    if not program.exists():
        go = build.find_go(build.Progress(sys.stderr))
        program.parent.mkdir(parents=True, exist_ok=True)
        # Under a name of its own first: another run may be building it, too.
        made = program.with_name(f"{folder.name}.{os.getpid()}")
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        subprocess.run(
            [go, "build", "-trimpath", "-o", made, "."], cwd=folder, check=True, env=environment, timeout=600
        )
        made.replace(program)
    return program
