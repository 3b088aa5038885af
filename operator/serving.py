"""The operator's own web servers: for metrics, and for the status page.

They are for people and machines that look on, so nothing that goes wrong here stops the operator's work: a port
that is taken is told, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from crontabber_operator.settings import Address

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 0.5
"""So long the operator's end waits for answers that go on."""


class Server:
    """Serves an application at an address from its making on, until it is closed."""

    def __init__(self, flag: str, address: Address, application: web.Application) -> None:
        """Start. `flag` is the setting that the address is from."""
        self._flag = flag
        self._address = address
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS
        )
        self._task = asyncio.create_task(self._start(), name=f"server of --{flag}")

    async def close(self) -> None:
        """End; whoever is being answered has a moment."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._runner.cleanup()

    async def _start(self) -> None:
        await self._runner.setup()
        told = False
        while True:
            site = web.TCPSite(self._runner, self._address.host or None, self._address.port)
            try:
                await site.start()
            except OSError as error:
                await site.stop()
                if not told:
                    logger.warning(
                        "--%s: can't listen at %s:%d: %s. The operator works without it; name another port, or"
                        " 'off'.",
                        *(self._flag, self._address.host, self._address.port, error.strerror or error),
                    )
                told = True
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                logger.info("--%s: listening at %s:%d", self._flag, self._address.host, self._address.port)
                return


def metrics_application(text: Callable[[], Iterator[bytes]], content_type: str) -> web.Application:
    """Serve metrics at /metrics; `text` gives them in slices, between which the operator works on."""

    async def metrics(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        if request.method != "HEAD":
            for part in text():
                if part:
                    await response.write(part)
                await asyncio.sleep(0)
        await response.write_eof()
        return response

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    return application
