"""What the watches show; what they list, at first and whenever they begin anew; and whether all was listed once.

Until then nothing is decided: a resource whose Jobs are not known yet would seem never to have run. The hooks
are in watches.py. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crontabber_operator.store import Kind

Body = Mapping[str, Any]

PICTURED = frozenset({Kind.RESOURCE, Kind.CRONJOB, Kind.JOB})
"""What decisions are made from. A Deployment is asked for when it is needed."""


class Listings:
    """Follows the listings of all streams: of each kind one for the whole cluster, or one for each namespace."""

    def __init__(
        self,
        take: Callable[[Kind, Body, str | None], None],
        complete: Callable[[], None],
        again: Callable[[Kind], None],
    ) -> None:
        """`take` an object and what became of it; all was listed for the first time; a kind was listed again.

        A kind that is listed again may have hidden deletions.
        """
        self._take = take
        self._complete = complete
        self._again = again
        self._open: set[tuple[Kind, str | None]] = set()
        """Streams that are listed for the first time."""
        self._listed: set[tuple[Kind, str | None]] = set()
        self._is_complete = False

    def begins(self, kind: Kind, namespace: str | None) -> None:
        """A stream begins with its listing."""
        if kind in PICTURED and (kind, namespace) not in self._listed:
            self._open.add((kind, namespace))

    def shows(self, kind: Kind, body: Body, type_: str | None) -> None:
        """An object is listed (without a type), or changed."""
        self._take(kind, body, type_)

    def ends(self, kind: Kind, namespace: str | None) -> None:
        """A listing is over; changes follow."""
        stream = (kind, namespace)
        if stream in self._listed:
            self._again(kind)
        self._listed.add(stream)
        self._close(stream)

    def leaves(self, kind: Kind, namespace: str | None) -> None:
        """A stream is ended: its namespace is no longer watched, or the operator ends."""
        stream = (kind, namespace)
        self._listed.discard(stream)
        self._close(stream)

    def _close(self, stream: tuple[Kind, str | None]) -> None:
        self._open.discard(stream)
        if not self._is_complete and not self._open and {kind for kind, _ in self._listed} >= PICTURED:
            self._is_complete = True
            self._complete()
