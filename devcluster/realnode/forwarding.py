"""Carries connections from the node's side of the cable to the API server, which serves on 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import IPv4Address

from devcluster.ports import ADDRESS

_CHUNK_BYTES = 65536


async def forward(address: IPv4Address, port: int) -> asyncio.Server:
    """Serve this address and port with what serves the same port on 127.0.0.1. Raises OSError."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # either side may end at any time, and then the other does
            try:
                far_reader, far_writer = await asyncio.open_connection(ADDRESS, port)
            except OSError:
                writer.transport.abort()
                return
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, far_writer))
                    both.create_task(_copy(far_reader, writer))
            except* OSError:
                pass
            finally:
                far_writer.transport.abort()
                writer.transport.abort()

    return await asyncio.start_server(carry, str(address), port, backlog=512)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side has nothing more to say, and tell the other."""
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
