"""Makes what a node of real containers needs outside of itself, and removes it: cgroups and mount points.

All else the kernel takes away with the node. Several nodes may be on one machine: mount points, which they share, go
with the last of them, and only those that were made for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.realnode.configuration import CGROUP_PREFIX, OWN_FOLDERS, cgroup_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.components import Layout

_CGROUPS = Path("/sys/fs/cgroup")
_MARK = "needs-a-mount-point"
#: The mount points that were made on this machine; also the lock of those who make and remove them.
_NOTES = Path("/run/crontabber-devcluster.json")
_TIMEOUT_SECONDS = 5.0


def prepare(cluster: str, layout: Layout) -> None:
    """Make the cluster's cgroup, which the kubelet wants to be there, and the mount points that are missing."""
    (layout.node / _MARK).touch()
    with _notes() as made:
        _make_cgroups(cluster)
        for name in OWN_FOLDERS:
            path = Path(name)
            if not path.exists():
                path.mkdir(parents=True)
                made.append(name)


def remove_leftovers(cluster: str, layout: Layout) -> None:
    """Remove all that is left on this machine of a cluster's node, its folder aside. Its processes have ended.

    Does nothing for a cluster whose node was of another kind.
    """
    if not (layout.node / _MARK).exists():
        return
    with _notes() as made:
        for top in _cgroup_folders(cgroup_of(cluster)):
            _remove_cgroup(top)
        if _cgroup_folders(f"/{CGROUP_PREFIX}*"):
            return  # another node is up, and what it mounted there would be lost
        for name in made:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                Path(name).rmdir()
        made.clear()


@contextlib.contextmanager
def _notes() -> Iterator[list[str]]:
    """Hold the lock; give the list of the mount points that were made, and write down what becomes of it."""
    with _NOTES.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        made: list[str] = json.loads(file.read() or "[]")
        try:
            yield made
        finally:
            file.truncate(0)
            file.write(json.dumps(made))


def _make_cgroups(cluster: str) -> None:
    """Make the cgroup in each hierarchy: one on cgroup v2, one for each controller on v1."""
    name = cgroup_of(cluster).lstrip("/")
    if (_CGROUPS / "cgroup.controllers").exists():
        (_CGROUPS / name).mkdir(exist_ok=True)
        for controller in (_CGROUPS / "cgroup.controllers").read_text(encoding="utf-8").split():
            with contextlib.suppress(OSError):  # one that can't be had is missed by the kubelet, if need be
                (_CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}", encoding="utf-8")
        return
    for hierarchy in _CGROUPS.glob("*/"):
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        if hierarchy.name == "cpuset":  # empty at first, and then nothing can run
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (folder / setting).write_text(
                    (hierarchy / setting).read_text(encoding="utf-8"), encoding="utf-8"
                )


def _remove_cgroup(top: Path) -> None:
    """Remove a cgroup, deepest first. The kernel needs a moment to let go of one whose processes were killed."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    for folder in sorted((*top.rglob("*/"), top), key=lambda path: -len(path.parts)):
        while folder.exists():
            try:
                folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.02)


def _cgroup_folders(pattern: str) -> list[Path]:
    relative = pattern.lstrip("/")
    return [path for path in (*_CGROUPS.glob(relative), *_CGROUPS.glob(f"*/{relative}")) if path.is_dir()]
