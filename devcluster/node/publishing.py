"""Keeps one pod's status in the API equal to what the node knows, in as few writes as possible."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from devcluster.node.api import STRATEGIC_MERGE_PATCH, Api, ApiError, insist

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)
_GATHER_SECONDS = 0.03
"""Changes that come within this time are written together."""


class StatusPublisher:
    """Writes a pod's status whenever it changed.

    One write at a time, always the newest, until it is accepted.
    """

    def __init__(self, api: Api, path: str, uid: str, status: Callable[[], Mapping[str, Any]]) -> None:
        """`status` returns the status as it is now.

        `path` is the pod's, and `uid` keeps its successor untouched.
        """
        self._api = api
        self._path = f"{path}/status"
        self._uid = uid
        self._status = status
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_muted = False
        self.last: Mapping[str, Any] = {}
        """The status that was written last."""
        self.is_gone = False
        """Whether the pod turned out not to exist any more."""

    def changed(self) -> None:
        """Say that there may be something new to write."""
        if not self._is_muted and not self.is_gone:
            self._idle.clear()
            self._changed.set()

    def mute(self) -> None:
        """Write nothing any more."""
        self._is_muted = True
        self._idle.set()

    async def flush(self) -> None:
        """Wait until all that is known is written, or the pod is gone."""
        self._hurry.set()
        await self._idle.wait()
        self._hurry.clear()

    async def run(self) -> None:
        """Write for ever; ends when the pod is gone."""
        while not self.is_gone:
            await self._changed.wait()
            if not self._hurry.is_set():
                await _first_of(self._hurry.wait(), asyncio.sleep(_GATHER_SECONDS))
            self._changed.clear()
            status = self._status()
            if status != self.last and not self._is_muted:
                await self._write(status)
            if not self._changed.is_set():
                self._idle.set()
        self._idle.set()

    async def _write(self, status: Mapping[str, Any]) -> None:
        body = {"metadata": {"uid": self._uid}, "status": status}
        try:
            await insist(lambda: self._api.patch(self._path, body, STRATEGIC_MERGE_PATCH))
        except ApiError as error:
            if error.code in (404, 409):
                self.is_gone = True  # removed, or another pod of the same name
                return
            _log.error("%s: the API server refuses the status: %s", self._path, error)
        self.last = status


async def _first_of(*awaitables: Any) -> None:
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
