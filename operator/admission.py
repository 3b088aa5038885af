"""Who may start next where only so many runs may go on at once.

A *gate* is a concurrency group of a namespace (one run at a time) or a namespace's own limit. Of the
jobs that wait at a gate, the one with the oldest slot goes first. Nothing here is lasting: after a
restart, what runs is read from the claims, and who waits asks again. This module must not import kopf or
kubernetes, or read a clock.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Gate:
    """Something that only so many runs may pass at a time."""

    namespace: str
    group: str | None
    """None: the namespace's own limit."""
    limit: int

    @property
    def what(self) -> str:
        """The gate as a person would call it."""
        return f"concurrencyGroup {self.group}" if self.group is not None else "the namespace's limit of runs"


@dataclass(slots=True)
class _Queue(Generic[Key]):
    inside: set[Key] = field(default_factory=set)
    waiting: dict[Key, datetime] = field(default_factory=dict)

    def first(self, count: int) -> list[Key]:
        """Return those who are next, the oldest slot first; equal slots by name."""
        return sorted(self.waiting, key=lambda key: (self.waiting[key], str(key)))[:count]


class Admission(Generic[Key]):
    """Keeps, for each gate, who is inside and who waits."""

    def __init__(self) -> None:
        self._queues: dict[Gate, _Queue[Key]] = {}
        self._places: dict[Key, tuple[Gate, ...]] = {}

    def ask(self, key: Key, gates: tuple[Gate, ...], slot: datetime) -> str | None:
        """Ask to start a run of `slot`: None where it may, else why not yet.

        Who may start is inside from then on, until `left()`; who may not waits until it asks again or leaves.
        """
        self.left(key)
        self._places[key] = gates
        for gate in gates:
            self._queues.setdefault(gate, _Queue()).waiting[key] = slot
        for gate in gates:
            reason = self._refusal(key, gate)
            if reason is not None:
                return reason
        self.entered(key, gates)
        return None

    def entered(self, key: Key, gates: tuple[Gate, ...]) -> None:
        """Take note of a run that goes on."""
        self.left(key)
        self._places[key] = gates
        for gate in gates:
            self._queues.setdefault(gate, _Queue()).inside.add(key)

    def left(self, key: Key) -> set[Key]:
        """The job neither runs nor waits any more; return those who should ask again."""
        woken: set[Key] = set()
        for gate in self._places.pop(key, ()):
            queue = self._queues[gate]
            queue.inside.discard(key)
            queue.waiting.pop(key, None)
            woken.update(queue.first(gate.limit - len(queue.inside)))
            if not queue.inside and not queue.waiting:
                del self._queues[gate]
        return woken

    def _refusal(self, key: Key, gate: Gate) -> str | None:
        queue = self._queues[gate]
        free = gate.limit - len(queue.inside)
        if free <= 0:
            return f"{gate.what} is taken by {_listed(queue.inside)}."
        if key not in queue.first(free):
            return f"{gate.what} is for an older slot first, of {_listed(queue.first(free))}."
        return None


def _listed(keys: set[Key] | list[Key]) -> str:
    names = sorted(key[-1] if isinstance(key, tuple) else str(key) for key in keys)
    return ", ".join(str(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
