"""Removes what the kernel doesn't take away with a node of real containers: empty cgroups and mount points.

All processes of the node must have ended.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.realnode.configuration import OWN_FOLDERS, cgroup_of

if TYPE_CHECKING:
    from devcluster.components import Layout

_CGROUPS = Path("/sys/fs/cgroup")
_TIMEOUT_SECONDS = 5.0


def make_mount_points(layout: Layout) -> None:
    """Make the folders that the node puts its own in place of, and note which of them are ours to remove."""
    noted = _noted(layout)
    missing = [name for name in OWN_FOLDERS if not Path(name).exists()]
    (layout.node / "mount-points.json").write_text(json.dumps([*noted, *missing]), encoding="utf-8")
    for name in missing:
        Path(name).mkdir(parents=True, exist_ok=True)


def make_cgroups(cluster: str) -> None:
    """Make the cgroup that the node's containers are in: the kubelet wants it to be there."""
    hierarchies = [_CGROUPS] if (_CGROUPS / "cgroup.controllers").exists() else _CGROUPS.glob("*/")
    for hierarchy in hierarchies:
        folder = hierarchy / cgroup_of(cluster).lstrip("/")
        folder.mkdir(exist_ok=True)
        for name in (
            "cpuset.cpus",
            "cpuset.mems",
        ):  # which are empty at first, on v1, and then nothing can run
            if hierarchy.name == "cpuset":
                (folder / name).write_text((hierarchy / name).read_text())


def remove_leftovers(cluster: str, layout: Layout) -> None:
    """Remove all that is left on this machine of a cluster's node, its folder aside; nothing may be."""
    for name in _noted(layout):
        with contextlib.suppress(OSError):  # somebody else uses it by now
            Path(name).rmdir()
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    for top in _cgroup_folders(cluster):
        # Deepest first. The kernel needs a moment to let go of a cgroup whose processes were killed.
        for folder in sorted((*top.rglob("*/"), top), key=lambda path: -len(path.parts)):
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.02)


def _noted(layout: Layout) -> list[str]:
    try:
        found: list[str] = json.loads((layout.node / "mount-points.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


def _cgroup_folders(cluster: str) -> list[Path]:
    """Return the cgroup in each hierarchy: one on cgroup v2, one for each controller on v1."""
    relative = cgroup_of(cluster).lstrip("/")
    return [path for path in (_CGROUPS / relative, *_CGROUPS.glob(f"*/{relative}")) if path.is_dir()]
