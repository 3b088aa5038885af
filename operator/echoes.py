"""PURE. Which of the operator's own writes the watches have not shown yet: a watch that shows none is deaf.

It takes no request: what the operator writes anyway is the test tone. `now` is a monotonic clock, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

What = TypeVar("What")


class Late(NamedTuple, Generic[What]):
    """An object whose echo does not come."""

    what: What
    uid: str


@dataclass(frozen=True, slots=True)
class _Tone(Generic[What]):
    what: What
    version: int
    since: float


@dataclass(slots=True)
class Echoes(Generic[What]):
    """The writes that wait for their echo, the newest of each object."""

    _waiting: dict[str, _Tone[What]] = field(default_factory=dict)
    """By uid."""

    def wrote(self, what: What, uid: str, version: int, now: float) -> None:
        """An object was written, which the watch has not shown yet at this resourceVersion."""
        before = self._waiting.get(uid)
        self._waiting[uid] = _Tone(what, version, before.since if before is not None else now)

    def heard(self, uid: str, version: int, now: float) -> None:
        """The watch has shown an object, perhaps at an older version: then it hears, and has the rest to come."""
        tone = self._waiting.get(uid)
        if tone is None:
            return
        if tone.version <= version:
            del self._waiting[uid]
        else:
            self._waiting[uid] = replace(tone, since=now)

    def forget(self, uid: str) -> None:
        """The object is gone: nothing shows it any more."""
        self._waiting.pop(uid, None)

    def late(self, now: float, seconds: float) -> Late[What] | None:
        """Return what has waited for its echo longest, if for longer than this."""
        oldest = min(self._waiting.items(), key=lambda item: item[1].since, default=None)
        if oldest is None or now - oldest[1].since <= seconds:
            return None
        return Late(oldest[1].what, oldest[0])
