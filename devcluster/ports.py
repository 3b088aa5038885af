"""Finds the ports of a cluster: a block of ten that no other cluster on this machine has.

The first port of the block is a listening socket that its owner keeps open as long as the cluster lives: so
the kernel itself sees to it that no two clusters, of whatever users and state directories, share a block.
"""

from __future__ import annotations

import contextlib
import random
import socket
from dataclasses import dataclass

_BLOCK = 10
#: Below where systems take ports for outgoing connections (Linux from 32768, macOS from 49152), so none is
#: taken while a component is down, and below Kubernetes' NodePorts (from 30000).
_RANGE = range(20000, 30000, _BLOCK)

ADDRESS = "127.0.0.1"


class NoFreePortsError(Exception):
    """All blocks are in use."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one cluster, all on 127.0.0.1; they stay the same over restarts of its components."""

    control: int
    """The supervisor's own, kept open as the block's lock."""

    @property
    def etcd(self) -> int:
        """Where etcd serves the API server."""
        return self.control + 1

    @property
    def etcd_peer(self) -> int:
        """Where etcd would serve other etcds; it can't be switched off."""
        return self.control + 2

    @property
    def api_server(self) -> int:
        """Where the API server serves."""
        return self.control + 3

    @property
    def controller_manager(self) -> int:
        """Where the controller manager serves its health and metrics."""
        return self.control + 4

    @property
    def node(self) -> int:
        """Where the node serves `kubectl logs`."""
        return self.control + 5

    @property
    def scheduler(self) -> int:
        """Where the scheduler serves its health, where there is one."""
        return self.control + 6


def allocate() -> tuple[Ports, socket.socket]:
    """Return a block of free ports, and the listening socket that holds it. Raises NoFreePortsError."""
    # Random, because blocks that were in use a moment ago are the likeliest to be still closing.
    for first in random.sample(_RANGE, len(_RANGE)):
        lock = socket.socket()
        try:
            lock.bind((ADDRESS, first))
            lock.listen()
            for port in range(first + 1, first + _BLOCK):
                with contextlib.closing(socket.socket()) as probe:
                    probe.bind((ADDRESS, port))
        except OSError:
            lock.close()
            continue
        return Ports(first), lock
    message = f"no block of {_BLOCK} free ports between {_RANGE.start} and {_RANGE.stop} on {ADDRESS}"
    raise NoFreePortsError(message)
