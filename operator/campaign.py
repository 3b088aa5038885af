"""The Elector in a thread of its own: thousands of jobs that are looked at at once must not cost the Lease.

What it tells is done in the operator's event loop. The Lease is renewed only while that loop is alive, so an operator
that hangs is replaced. Decides nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from crontabber_operator.cluster import Cluster
from crontabber_operator.elector import GIVE_BACK_SECONDS, Elector

BEAT_SECONDS = 1.0
ALIVE_SECONDS = 60.0
"""A loop that did nothing for so long hangs."""


class Campaign:
    """One operator's part in the election, from its start to its end. Make it in the operator's event loop."""

    def __init__(
        self,
        cluster: Cluster,
        place: tuple[str, str],
        lead: Callable[[], None],
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        """`cluster` is used and closed by the thread alone, and must not have been used before."""
        self._cluster = cluster
        self._lead, self._follow = lead, follow
        self._loop = asyncio.get_running_loop()
        self._beat = time.monotonic()
        self._ends = False
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="election", daemon=True)
        self.elector = Elector(cluster, place, self._tell_lead, self._tell_follow, is_alive=self._is_alive)

    async def run(self) -> None:
        """Stand for election until cancelled. Raises what ended the election."""
        self._thread.start()
        while self._thread.is_alive():
            self._beat = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
        raise RuntimeError("the election ended") from self._error

    def retire(self) -> None:
        """Lead no more from now on; what this operator leads already, it may bring to an end."""
        self._ends = True

    async def give_back(self) -> None:
        """Let another operator lead; this one has stopped deciding."""
        self._over.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 2 * GIVE_BACK_SECONDS)
        elif self._thread.ident is None:
            await self._cluster.close()  # it was never used

    # --- In the thread -----------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            asyncio.run(self._stand())
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._error = error

    async def _stand(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._over.is_set():
                pause_seconds = await self.elector.step()
                await loop.run_in_executor(None, self._over.wait, pause_seconds)
            await self.elector.give_back()
        finally:
            await self._cluster.close()

    def _is_alive(self) -> bool:
        return time.monotonic() - self._beat < ALIVE_SECONDS

    def _tell_lead(self) -> None:
        self._loop.call_soon_threadsafe(self._lead_now)

    def _lead_now(self) -> None:
        if not self._ends:
            self._lead()

    async def _tell_follow(self) -> None:
        async def follow() -> None:
            await self._follow()

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(follow(), self._loop))
