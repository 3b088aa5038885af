"""What a pod's worker needs of whatever runs containers: the seam between `pods` and `local` or `instant`.

Only names and shapes; nothing is run here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    Manifest = Mapping[str, Any]


class NotReadyError(Exception):
    """A container can't be started yet: image, configuration. The kubelet's word for it, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason that the container's waiting state shows."""
        super().__init__(message)
        self.reason = reason


class StartError(Exception):
    """The command could not be executed; the message is the one that runc gives."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    finished_at: datetime


class RunningContainer(Protocol):
    """A container that was started."""

    @property
    def container_id(self) -> str:
        """The id in the pod's status, ``type://id``."""

    @property
    def image_id(self) -> str:
        """What the image name stood for."""

    async def wait(self) -> Ended:
        """Return how it ended, once it has and nothing of it is left."""

    def terminate(self) -> None:
        """Ask it to end: SIGTERM."""

    def kill(self) -> None:
        """End it and all its processes."""

    async def execute(self, command: Sequence[str], timeout_seconds: float) -> int:
        """Run a further command in it and return its exit code; TimeoutError if it takes too long."""


class Runtime(Protocol):
    """Runs containers."""

    def lost(self, pod: Manifest) -> bool:
        """Tell whether an earlier node started containers of this pod, which ended with it."""

    async def prepare(self, pod: Manifest) -> None:
        """Set up what the pod's containers share: volumes. Raises `VolumeError`."""

    async def start(self, pod: Manifest, container: Manifest, attempt: int) -> RunningContainer:
        """Start a container for the n-th time, counted from 0. Raises `NotReadyError` and `StartError`."""

    async def finish(self, pod: Manifest) -> None:
        """Free what a pod that runs no more containers doesn't need: all but its logs."""

    async def release(self, pod: Manifest) -> None:
        """Forget all about a pod that no longer exists."""
