"""Gives a process a file system view of its own: mount namespaces on Linux. Runs in the forked child only.

As root, or where unprivileged user namespaces are allowed, every path that a pod mounts (volumes, the service
account's directory, the termination message file) is really there for its process, and for nobody else;
nothing is created on this machine's own file systems, but in what is mounted itself. A mountPath whose parent
does not have it is made to exist by covering that parent with a small tmpfs in which everything else of the
parent is bound; entries that appear in a covered directory later are therefore not seen by a running
container.

Standard library only: this is imported by the spawner, which has no site-packages.
"""

# pathlib would be most of what the spawner loads
# ruff: noqa: PTH102, PTH103, PTH112, PTH115, PTH116, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 0x1
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def are_possible() -> bool:
    """Tell, by trying in a child, whether this process may make mount namespaces."""
    if not sys.platform.startswith("linux"):
        return False
    child = os.fork()
    if child == 0:
        try:
            enter()
            _mount("tmpfs", "/tmp", "tmpfs")  # noqa: S108 - private to this child, gone at once
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the answer is the exit code
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def enter() -> None:
    """Leave the machine's mount namespace for a private copy; raises OSError where that is not allowed."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _unshare(_CLONE_NEWNS)
    else:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)


class View:
    """The file system as one container sees it; made after `enter`, before exec."""

    def __init__(self, stage: str) -> None:
        """Start from the machine's own view.

        `stage` is an empty directory, used where "/" itself needs an entry.
        """
        self._stage = stage
        self._covered: set[str] = set()  # directories that take new entries without touching the machine
        self._own: set[str] = set()  # trees that are this container's altogether

    def bind(self, source: str, target: str, read_only: bool) -> None:
        """Show `source`, a file or directory, at the absolute path `target`."""
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)
        source_fd = os.open(source, os.O_PATH)  # a cover may hide the path itself
        try:
            target = self._existing(target, is_directory=is_directory)
            _mount(f"/proc/self/fd/{source_fd}", target, None, _MS_BIND | _MS_REC)
        finally:
            os.close(source_fd)
        if read_only:
            # a user namespace may not be allowed to; then the volume is merely writable
            with contextlib.suppress(OSError):
                _mount(None, target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        self._own.add(target)

    def _existing(self, target: str, *, is_directory: bool) -> str:
        """Make sure that there is something of the right kind to mount on; returns its resolved path."""
        target = os.path.realpath(target)
        if os.path.lexists(target):
            if os.path.isdir(target) != is_directory:
                raise OSError(errno.ENOTDIR, "not the same kind of file as what is mounted there", target)
            return target
        missing, parent = target, os.path.dirname(target)
        while not os.path.lexists(parent):
            missing, parent = parent, os.path.dirname(parent)
        if parent not in self._covered and not self._is_own(parent):
            self._cover(parent)
        if not self._is_own(parent):
            self._own.add(missing)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if is_directory:
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o666))
        return target

    def _is_own(self, directory: str) -> bool:
        return any(directory == own or directory.startswith(f"{own}/") for own in self._own)

    def _cover(self, directory: str) -> None:
        """Replace a directory by a tmpfs that shows the same entries and can take new ones."""
        below = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        # nothing can be mounted over the "/" that this process stands on: a new root is made and entered
        place = self._stage if directory == "/" else directory
        try:
            names = os.listdir(directory)
            mode = stat.S_IMODE(os.stat(directory).st_mode)
            _mount("tmpfs", place, "tmpfs", options=f"mode={mode:o}")
            _show_entries(f"/proc/self/fd/{below}", names, place)
        finally:
            os.close(below)
        if directory == "/":
            os.chroot(place)
            os.chdir("/")
        self._covered.add(directory)


def _show_entries(source: str, names: list[str], target: str) -> None:
    for name in names:
        origin, copy = f"{source}/{name}", f"{target}/{name}"
        # an entry that can't be bound (a stale network mount) is one that the container can't see
        with contextlib.suppress(OSError):
            mode = os.lstat(origin).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink(origin), copy)
                continue
            if stat.S_ISDIR(mode):
                os.mkdir(copy)
            else:
                os.close(os.open(copy, os.O_CREAT | os.O_WRONLY, 0o666))
            _mount(origin, copy, None, _MS_BIND | _MS_REC)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None
) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    if _libc.mount(*encoded, ctypes.c_ulong(flags), None if options is None else options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)
