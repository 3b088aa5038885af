"""PURE. Who of several operators decides, as their Lease tells: who holds it, who may take it, and when.

No wall clock is compared, because those of two machines differ: a Lease is taken when nothing in it changed for as
long as it lasts, by the monotonic clock of whoever wants it. `now` is that clock, in seconds. The Lease saves
operators from doing each other's work; that no slot runs twice, the fence of the release sees to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LASTS_SECONDS = 10
"""A Lease that was not renewed for so long may be taken."""
DECIDES_SECONDS = 7.0
"""So long after it asked for its last renewal a leader decides: it has stopped before anybody may take the Lease."""
RENEW_SECONDS = 2.0
LOOK_SECONDS = 1.0
"""So often a standby looks: a Lease that was given back is taken so soon."""
_LASTS_MAX_SECONDS = 60
"""What somebody else wrote into the Lease must not keep all operators from deciding for ever."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a Lease says; two are equal if its holder did nothing in between."""

    holder: str
    """Empty: nobody."""
    lasts_seconds: int
    renewed: str
    transitions: int
    version: str = field(compare=False)
    """The resourceVersion, which guards the next write."""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Lease:
        """Read a Lease as the API server has it."""
        spec = body.get("spec") or {}
        lasts = int(spec.get("leaseDurationSeconds") or LASTS_SECONDS)
        return cls(
            holder=spec.get("holderIdentity") or "",
            lasts_seconds=min(lasts, _LASTS_MAX_SECONDS),
            renewed=spec.get("renewTime") or "",
            transitions=int(spec.get("leaseTransitions") or 0),
            version=body["metadata"]["resourceVersion"],
        )


@dataclass(frozen=True, slots=True)
class Watch:
    """What one operator has seen of the Lease."""

    lease: Lease | None = None
    """None: never any."""
    since: float = 0.0
    """When this was first seen."""
    exists: bool = False

    def saw(self, lease: Lease | None, now: float) -> Watch:
        """Take what was read (None: there is no Lease).

        One that was deleted still counts for as long as a renewed one would: its holder may not know yet.
        """
        if lease is None:
            return Watch(self.lease, now, exists=False) if self.exists else self
        if self.lease == lease:
            return Watch(lease, self.since, exists=True)
        return Watch(lease, now, exists=True)

    def may_take(self, identity: str, now: float) -> bool:
        """Tell whether this operator may write itself into the Lease."""
        if self.lease is None or self.lease.holder in ("", identity):
            return True
        return now >= self.since + self.lease.lasts_seconds


def taken(identity: str, before: Lease | None, wall_clock: datetime) -> dict[str, Any]:
    """Return the spec of a Lease that this operator takes; the times in it are only for people."""
    transitions = before.transitions + (before.holder != identity) if before is not None else 0
    written = _written(wall_clock)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": LASTS_SECONDS,
        "acquireTime": written,
        "renewTime": written,
        "leaseTransitions": transitions,
    }


def renewed(wall_clock: datetime) -> dict[str, Any]:
    """Return what a renewal changes in the spec."""
    return {"renewTime": _written(wall_clock)}


def given_back(wall_clock: datetime) -> dict[str, Any]:
    """Return what changes in the spec when the leader ends: nobody has to wait."""
    return {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": _written(wall_clock)}


def _written(wall_clock: datetime) -> str:
    return wall_clock.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
