"""Turns of the event loop, for tests in which nothing waits for time to pass."""

from __future__ import annotations

import asyncio

TURNS = 200


async def settle() -> None:
    """Let all have their turns."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
