"""PURE. Which of the operator's own writes the watches have not shown yet: a watch that shows none is deaf.

It takes no request: what the operator writes anyway is the test tone. `now` is a monotonic clock, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class _Tone(NamedTuple):
    what: str
    version: int
    since: float


@dataclass(slots=True)
class Echoes:
    """The writes that wait for their echo, the newest of each object."""

    _waiting: dict[str, _Tone] = field(default_factory=dict)
    """By uid."""

    def wrote(self, what: str, uid: str, version: int, now: float) -> None:
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
            self._waiting[uid] = tone._replace(since=now)

    def late(self, now: float, seconds: float) -> str | None:
        """Return what has waited for its echo for longer than this; None where nothing has."""
        oldest = min(self._waiting.values(), key=lambda tone: tone.since, default=None)
        return oldest.what if oldest is not None and now - oldest.since > seconds else None
