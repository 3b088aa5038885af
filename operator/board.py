"""The rows of the status page, each with the number of its last change: who asks again gets what is newer.

However many look on, the jobs are compared once a second at most, and each row is written once for all of them.
Nobody is remembered, so nobody who goes away leaves anything behind. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crontabber_operator.figures import Figures
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.page_rows import row
from crontabber_operator.store import Key, Resource, Store

FRESH_SECONDS: Final = 1.0
SLICE_JOBS: Final = 100
REMEMBERED_DELETIONS: Final = 1000


@dataclass(slots=True)
class _Row:
    resource: Resource
    figures: Figures | None
    text: bytes
    changed: int


class Board:
    """Writes the rows of a store as JSON. `life` is different for each operator that ever ran."""

    def __init__(self, store: Store, figures: KnownFigures, clock: Callable[[], datetime], life: str) -> None:
        self._store = store
        self._known_figures = figures
        self._clock = clock
        self._life = life
        self._rows: OrderedDict[Key, _Row] = OrderedDict()
        """The one that changed last is the last."""
        self._deleted: deque[tuple[int, Key]] = deque()
        self._forgotten = 0
        """Deletions up to this number are not remembered any more."""
        self._number = 0
        self._compared: datetime | None = None
        self._turn = asyncio.Lock()
        self._whole: tuple[int, bytes, bytes] | None = None

    async def changes(self, since: str, *, compressed: bool) -> bytes:
        """Return what changed since an answer's `version`; all, where that can't be told."""
        async with self._turn:
            await self._compare()
            life, _, number = since.rpartition("-")
            known = int(number) if life == self._life and number.isdecimal() else -1
            if not self._forgotten <= known <= self._number:
                return await self._all(compressed=compressed)
            body = self._written(
                self._newer(known), [key for at, key in self._deleted if at > known], whole=False
            )
            return gzip.compress(body, 1) if compressed else body

    async def _all(self, *, compressed: bool) -> bytes:
        if self._whole is None or self._whole[0] != self._number:
            body = self._written([one.text for one in self._rows.values()], [], whole=True)
            self._whole = (self._number, body, await asyncio.to_thread(gzip.compress, body, 5))
        return self._whole[2] if compressed else self._whole[1]

    def _newer(self, known: int) -> list[bytes]:
        texts = []
        for one in reversed(self._rows.values()):
            if one.changed <= known:
                break
            texts.append(one.text)
        return texts

    def _written(self, texts: list[bytes], deleted: list[Key], *, whole: bool) -> bytes:
        head = {"version": f"{self._life}-{self._number}", "whole": whole, "deleted": deleted}
        return json.dumps(head)[:-1].encode() + b', "jobs": [' + b",".join(texts) + b"]}"

    async def _compare(self) -> None:
        now = self._clock()
        if self._compared is not None and 0 <= (now - self._compared).total_seconds() < FRESH_SECONDS:
            return
        for number, key in enumerate(self._store.keys(), start=1):
            if number % SLICE_JOBS == 0:
                await asyncio.sleep(0)
            resource = self._store.resource(key)
            if resource is not None:
                self._take(key, resource, now)
        for key in [key for key in self._rows if self._store.resource(key) is None]:
            del self._rows[key]
            self._number += 1
            self._deleted.append((self._number, key))
        while len(self._deleted) > REMEMBERED_DELETIONS:
            self._forgotten = self._deleted.popleft()[0]
        self._compared = now

    def _take(self, key: Key, resource: Resource, now: datetime) -> None:
        known, figures = self._rows.get(key), self._known_figures.of(resource, now)
        if known is not None and known.resource is resource and known.figures is figures:
            return
        text = json.dumps(row(resource, figures)).encode()
        if known is not None and known.text == text:
            known.resource, known.figures = resource, figures
            return
        self._number += 1
        self._rows[key] = _Row(resource, figures, text, self._number)
        self._rows.move_to_end(key)
