"""The body of an answer, sent by the kernel past aiohttp (Linux, plain HTTP).

aiohttp's transport must hold no bytes meanwhile, and gets none: the handler of a request is the only one that
writes to its connection until it returns.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.operations.outputs import OutputContent
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.slow_clients import write_within

DIRECT_BYTES = 512 * 1024
"""From here on a body is worth the pipe or the threads that it takes."""

TAIL_BYTES = 64 * 1024
"""Kept back until the rest is known to be right. It is less than a socket's buffer, so the engine has read it
from its disk by then."""


async def send_directly(
    response: web.StreamResponse,
    request: web.Request,
    content: OutputContent,
    length: int,
    *,
    check: Callable[[], Awaitable[BridgeError | None]] | None,
) -> bool:
    """Send a body of `length` bytes behind the headers; False where it must be written as any other.

    `check` is asked before the last bytes leave; what it returns is raised instead of sending them. Raises
    ClientTooSlow, BridgeError, ConnectionError: then the answer must be cut.
    """
    client = ClientSocket.of(request) if length >= DIRECT_BYTES else None
    if client is None:
        return False
    rest = content.rest()
    if rest is None:
        client.close()
        return False
    try:
        await client.write(response, rest.early)
        left = length - len(rest.early)
        tail = 0 if check is None else min(left, TAIL_BYTES)
        await rest.send(client, left - tail)
        if check is not None and (wrong := await check()) is not None:
            raise wrong
        await rest.send(client, tail)
    finally:
        rest.close()
        client.close()
    return True


class ClientSocket:
    """A client's socket, under a descriptor of its own: aiohttp may close its own at any time."""

    def __init__(self, request: web.Request, transport: asyncio.Transport, limit_s: float) -> None:
        self._request = request
        self._transport = transport
        self._limit_s = limit_s
        self.descriptor = os.dup(transport.get_extra_info("socket").fileno())

    @classmethod
    def of(cls, request: web.Request) -> Self | None:
        """None where bytes can't go past aiohttp: they must be encrypted, or the system is another."""
        transport = request.transport
        if sys.platform != "linux" or transport is None or transport.is_closing():
            return None
        if transport.get_extra_info("sslcontext") is not None or transport.get_extra_info("socket") is None:
            return None
        return cls(request, transport, request.app[BOUNDS].send_timeout_s)

    def close(self) -> None:
        os.close(self.descriptor)

    async def write(self, response: web.StreamResponse, data: bytes) -> None:
        """Send the headers and `data` through aiohttp, and wait until it holds nothing more."""
        self._transport.set_write_buffer_limits(high=0)  # then draining is emptying
        try:
            await write_within(self._limit_s, self._flush(response, data), cut=self._transport)
        finally:
            self._transport.set_write_buffer_limits()
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            raise ConnectionResetError("the client has gone")

    async def writable(self) -> None:
        """Wait until the client has read. Raises ClientTooSlow."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(self.descriptor, _resolve, ready)
        try:
            await write_within(self._limit_s, ready, cut=self._transport)
        finally:
            loop.remove_writer(self.descriptor)

    async def _flush(self, response: web.StreamResponse, data: bytes) -> None:
        await response.write(data)
        await self._request.writer.drain()


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
