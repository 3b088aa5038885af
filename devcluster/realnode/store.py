"""Brings images to a node of real containers. Builds none."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from devcluster.realnode.configuration import ctr_command

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.components import Layout

_TIMEOUT_SECONDS = 300.0


class StoreError(Exception):
    """The node did not take an image; the message says why."""


def load(layout: Layout, archive: Path) -> None:
    """Give the node the images of an archive, as `docker save` or `buildah push` write it. Raises StoreError."""
    try:
        pid = (layout.node / "pid").read_text(encoding="utf-8")
        with archive.open("rb") as stream:
            result = subprocess.run(
                ["nsenter", f"--target={pid}", "--mount", *ctr_command("images", "import", "-")],
                stdin=stream,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_SECONDS,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"{archive} can't be loaded: {error}") from error
    if result.returncode != 0:
        raise StoreError(f"{archive} can't be loaded: {result.stderr.strip() or result.stdout.strip()}")
