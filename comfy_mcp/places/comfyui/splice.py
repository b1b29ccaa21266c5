"""The rest of an answer's body, moved by the kernel from the engine's socket to another one (Linux).

A byte that Python reads and writes costs several times the CPU of one that passes through a pipe.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from functools import cache
from typing import Self

import aiohttp

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.places.protocol import Target

PIPE_BYTES = 512 * 1024
"""What one turn of the event loop moves: 0.2 ms of work. Half of it takes a quarter more CPU a byte; with a
megabyte eight clients waited longer."""


class SocketBody:
    """A body whose connection was detached from aiohttp. Call `close` at the end.

    `early` are the bytes that had come by then; `send` moves those behind them.
    """

    def __init__(
        self,
        source: int,
        pipe: tuple[int, int],
        early: bytes,
        *,
        timeout_s: float,
        fault: Callable[[str], BridgeError],
    ) -> None:
        self.early = early
        self._source = source
        self._pipe_out, self._pipe_in = pipe
        self._timeout_s = timeout_s
        self._fault = fault

    @classmethod
    def of(
        cls, response: aiohttp.ClientResponse, *, timeout_s: float, fault: Callable[[str], BridgeError]
    ) -> Self | None:
        """Take the connection over; None where that can't be done: then `response` is as it was.

        The body must be as long as its Content-Length says, neither compressed nor in chunks. `response` must
        be closed afterwards, not released: aiohttp can't use its connection again.
        """
        protocol = None if response.connection is None else response.connection.protocol
        encoded = {"Transfer-Encoding", "Content-Encoding"} & set(response.headers)
        if protocol is None or protocol.transport is None or encoded or response.content_length is None:
            return None
        if protocol.transport.get_extra_info("sslcontext") is not None or not can_splice():
            return None
        try:
            pipe = _pipe()
        except OSError:  # no descriptor is left
            return None
        early = b""
        while piece := response.content.read_nowait():  # this may resume the connection: pause it afterwards
            early += piece
        protocol.pause_reading()
        # A descriptor of its own: once aiohttp has closed its own, that number may be another connection's.
        source = os.dup(protocol.transport.get_extra_info("socket").fileno())
        return cls(source, pipe, early, timeout_s=timeout_s, fault=fault)

    def close(self) -> None:
        for descriptor in (self._source, self._pipe_out, self._pipe_in):
            os.close(descriptor)

    async def send(self, target: Target, amount: int) -> None:
        """Send the next `amount` bytes.

        Raises `fault` where the engine breaks off or is silent, ConnectionError where the target is closed,
        and what `target.writable` raises.
        """
        while amount:
            moved = await self._fill(min(amount, PIPE_BYTES))
            amount -= moved
            while moved:
                try:
                    moved -= os.splice(self._pipe_out, target.descriptor, moved, flags=_FLAGS)
                except BlockingIOError:
                    await target.writable()
            await asyncio.sleep(0)  # a fast engine and a fast client must not keep the loop for themselves

    async def _fill(self, amount: int) -> int:
        """Bytes that came into the pipe."""
        while True:
            try:
                moved = os.splice(self._source, self._pipe_in, amount, flags=_FLAGS)
            except BlockingIOError:
                await self._readable()
                continue
            except OSError:
                moved = 0
            if not moved:
                raise self._fault("the connection broke half-way")
            return moved

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._source, ready.set)
        try:
            async with asyncio.timeout(self._timeout_s):
                await ready.wait()
        except TimeoutError:
            raise self._fault("no answer in time") from None
        finally:
            loop.remove_reader(self._source)


@cache
def can_splice() -> bool:
    """Whether this system moves bytes between sockets and a pipe: sandboxes may lack it."""
    if sys.platform != "linux":
        return False
    try:
        out, into = _pipe()
    except OSError:
        return False
    left, right = socket.socketpair()
    try:
        left.send(b"x")
        return os.splice(right.fileno(), into, 1) == 1 and os.splice(out, right.fileno(), 1) == 1
    except OSError:
        return False
    finally:
        left.close()
        right.close()
        os.close(out)
        os.close(into)


def _pipe() -> tuple[int, int]:
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a user who has many large pipes gets small ones
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return out, into


_FLAGS = 0 if sys.platform != "linux" else os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
