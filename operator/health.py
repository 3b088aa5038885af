"""Whether watching and deciding still work: what the probes are told.

What looks wrong counts only if it lasts while the API server answers: an API server that is away must not have
the operator restarted. Nothing is mended here; a failing answer has Kubernetes start the operator anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from crontabber_operator.settings import Address

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
LASTS_SECONDS = 60.0
"""What looks wrong may pass by itself for so long, while the API server answers."""
ANSWER_SECONDS = 5.0
CLOSE_SECONDS = 0.5
BEAT_SECONDS = 60.0
"""Looks that are so late mean that this very task does not run."""


class Health:
    """What the probes are told, from the operator's start to its end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at: float | None = None
        self._wrong: dict[str, float] = {}
        """What looks wrong, and since when it does while the API server answers."""
        self._runner: web.AppRunner | None = None
        self.standing: dict[str, Callable[[], str]] = {}
        """More to tell, by name."""
        self.unready: Callable[[], str] = lambda: "it is starting"
        """Why the operator isn't ready; empty: it is."""

    async def run(self, look: Callable[[], list[str]], ask: Callable[[], Awaitable[object]]) -> None:
        """Look for ever at what seems wrong; `ask` the API server anything before that counts."""
        while True:
            await self.look(look, ask)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, look: Callable[[], list[str]], ask: Callable[[], Awaitable[object]]) -> None:
        """Look once."""
        self._looked_at = self._clock()
        seems = look()
        if seems and not await _answers(ask):
            self._wrong.clear()
            return
        for what in [known for known in self._wrong if known not in seems]:
            del self._wrong[what]
        for what in seems:
            if what not in self._wrong:
                logger.warning("It seems that %s", what)
                self._wrong[what] = self._clock()

    def failures(self) -> list[str]:
        """Return why the operator should be started anew."""
        now = self._clock()
        found = [what for what, since in self._wrong.items() if now - since >= LASTS_SECONDS]
        if self._looked_at is not None and now - self._looked_at > BEAT_SECONDS:
            found.append("nothing is looked at any more")
        return found

    # --- As HTTP -----------------------------------------------------------------------------------------

    async def serve(self, address: Address) -> None:
        """Answer /healthz and /readyz from now on. Raises OSError where nobody can listen there."""
        application = web.Application()
        application.router.add_get("/healthz", self._live)
        application.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, address.host or None, address.port).start()

    async def close(self) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return self._answer(self.failures())

    async def _ready(self, _: web.Request) -> web.Response:
        why = self.unready()
        return self._answer([*self.failures(), *([why] if why else [])])

    def _answer(self, reasons: list[str]) -> web.Response:
        told: dict[str, Any] = {"ok": not reasons, "reasons": reasons}
        told |= {name: tell() for name, tell in self.standing.items()}
        return web.json_response(
            told, status=503 if reasons else 200, dumps=lambda value: json.dumps(value) + "\n"
        )


async def _answers(ask: Callable[[], Awaitable[object]]) -> bool:
    """Tell whether the API server answers, promptly and well."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await ask()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no fault of this process
        logger.info("The API server doesn't answer well: %s", str(error) or type(error).__name__)
        return False
    return True
