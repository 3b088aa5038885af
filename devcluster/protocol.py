"""What the supervisor and its clients say to each other. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """How a component is started."""

    name: str
    command: list[str]
    log: str
    """The file that its standard output and error are appended to."""
    environment: dict[str, str]
    grace_seconds: float = 0
    """For one that has processes of its own: how long it may take to end them when the cluster ends.

    What is left of them when it ended is killed. 0: it has none, and is killed at once.
    """


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """What became of a component."""

    name: str
    state: str
    """`running`, `paused` (stopped by SIGSTOP), `stopped` or `killed` (as asked for), `died` (by itself)."""
    pid: int
    since: str
    """RFC 3339 UTC: when it was started, or ended."""
    exit_code: int | None
    """As subprocess has it: -N for signal N; None while it runs."""

    @property
    def runs(self) -> bool:
        """Whether its process exists, paused or not."""
        return self.exit_code is None
