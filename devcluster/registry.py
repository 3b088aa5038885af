"""Which clusters there are: what is written down of each, who may change it, and how one is removed whole.

Starts nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from devcluster.components import Layout
from devcluster.control import Control, ControlError, SupervisorGoneError
from devcluster.paths import state_root
from devcluster.ports import Ports
from devcluster.processes import ProcessIdentity, descendants, kill_all, of_session
from devcluster.realnode.leftovers import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")

#: Longer than the supervisor takes to end the node's pods and then all the rest.
_END_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.02


class ClusterError(Exception):
    """A cluster could not be started, found or used; the message says why and how to mend it."""


class NoClusterError(ClusterError):
    """There is no cluster of this name that is up."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is written down about a cluster, so that other processes find it."""

    name: str
    node_kind: str
    ports: Ports
    secret: str
    """Whoever knows it may control the supervisor."""
    guardian: ProcessIdentity | None
    """The process above all others of the cluster, and the leader of their session."""

    def text(self) -> str:
        """Return what is written down."""
        guardian = self.guardian
        data = {
            "name": self.name,
            "node": self.node_kind,
            "port": self.ports.control,
            "secret": self.secret,
            "guardian": {"pid": guardian.pid, "created": guardian.created} if guardian else None,
        }
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def read(cls, name: str) -> Description | None:
        """Return what is written down of this cluster; None when there is nothing, or nothing whole."""
        try:
            data = json.loads(layout_of(name).description.read_text(encoding="utf-8"))
            guardian = ProcessIdentity(**data["guardian"]) if data["guardian"] else None
            return cls(data["name"], data["node"], Ports(data["port"]), data["secret"], guardian)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def check_name(name: str) -> None:
    """Raise ClusterError unless a cluster can have this name."""
    if not _NAME.fullmatch(name):
        message = (
            f"{name!r} can't be a cluster's name: up to 40 of a-z, 0-9 and '-', which is not at its ends"
        )
        raise ClusterError(message)


def layout_of(name: str) -> Layout:
    """Return where the cluster's files are."""
    return Layout(state_root() / name)


def names() -> list[str]:
    """Return the names of all clusters: of those that are up, and of those that crashed."""
    return sorted(path.name for path in state_root().glob("*/") if _NAME.fullmatch(path.name))


def is_up(description: Description) -> bool:
    """Whether the cluster's supervisor lives. Raises ClusterError when it lives but does not answer."""
    try:
        Control(description.ports.control, description.secret).components()
    except SupervisorGoneError:
        return False
    except ControlError as error:
        if description.guardian is None or not description.guardian.is_alive():
            return False  # something else listens there now
        message = (
            f"the cluster {description.name!r} hangs ({error}): {command('down', description.name)} ends it"
        )
        raise ClusterError(message) from error
    return True


def remove(name: str) -> bool:
    """End a cluster, in whatever state it is, and remove all of it; return whether there was anything.

    Raises ClusterError when a process would not end.
    """
    check_name(name)
    with locked(name):
        existed = layout_of(name).folder.exists()
        remove_locked(name, Description.read(name))
    return existed


def remove_locked(name: str, description: Description | None) -> None:
    """End what runs of a cluster, and remove its folder unless that is another's by now. Needs the lock."""
    if description is not None:
        with contextlib.suppress(ControlError):
            Control(description.ports.control, description.secret).end()
        _end_processes(description)
        now = Description.read(name)
        if now is not None and now.secret != description.secret:
            return
    remove_leftovers(name, layout_of(name))
    _remove_folder(layout_of(name).folder)


def _remove_folder(folder: Path) -> None:
    """Remove the folder. It may vanish meanwhile: a cluster whose owner ended removes itself."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _end_processes(description: Description) -> None:
    guardian = description.guardian
    if guardian is None:  # its starter was killed right then, so its supervisor ends by itself
        return
    deadline = time.monotonic() + _END_TIMEOUT_SECONDS
    while guardian.is_alive() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)

    def rest() -> list[psutil.Process]:
        found = of_session(guardian)
        if guardian.is_alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [psutil.Process(guardian.pid), *descendants(guardian.pid)]
        return found

    left = kill_all(rest)
    if left:
        shown = ", ".join(str(process.pid) for process in left)
        message = f"processes of the cluster {description.name!r} would not end: {shown}"
        raise ClusterError(message)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time start or end the cluster of this name. Raises ClusterError."""
    root = state_root()
    path = root / f"{name}.lock"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _lock(path)
    except OSError as error:
        message = f"cannot write to {root} ({error.strerror}): set XDG_STATE_HOME to a folder of your own"
        raise ClusterError(message) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Return the descriptor of the locked file; its holder removes the file before it lets go."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one that was waited for is removed by now: what counts is its successor


def command(verb: str, name: str) -> str:
    """Return a command of the command line, to be put into a message."""
    return f"`python -m devcluster {verb}{'' if name == 'dev' else f' --name {name}'}`"
