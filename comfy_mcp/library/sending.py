"""The rest of an open output, moved to a socket by the kernel: its bytes never come into this process."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from io import FileIO
from typing import Protocol

from comfy_mcp.daemon_threads import on_daemon_thread
from comfy_mcp.domain.errors import BridgeError

PIECE_BYTES = 2**20
"""What one call in a thread sends at most."""


class Target(Protocol):
    """A socket that does not block."""

    @property
    def descriptor(self) -> int: ...

    async def writable(self) -> None:
        """Wait until it accepts bytes. What this raises ends the transfer."""


class Rest(Protocol):
    """`early` are bytes that are here already and come first; `send` moves those behind them."""

    early: bytes

    async def send(self, target: Target, amount: int) -> None:
        """Send the next `amount` bytes. Raises BridgeError where they can't be read, ConnectionError where
        the target is closed, and what `target.writable` raises."""

    def close(self) -> None: ...


class FileRest:
    """The rest of a file, by sendfile(2) in a thread: a disk may keep its reader waiting."""

    def __init__(
        self, stream: FileIO, start: int, early: bytes, *, timeout_s: float, if_short: BridgeError
    ) -> None:
        """From `start` on. `if_short` is raised where the file ends too early."""
        self.early = early
        self._at = start
        self._timeout_s = timeout_s
        self._if_short = if_short
        self._source = os.dup(stream.fileno())
        self._running: asyncio.Future[int] | None = None

    def close(self) -> None:
        self._when_idle(lambda: on_daemon_thread(partial(os.close, self._source), name="sendfile"))

    async def send(self, target: Target, amount: int) -> None:
        descriptor = os.dup(target.descriptor)
        try:
            while amount:
                sent = await self._piece(descriptor, min(amount, PIECE_BYTES))
                if not sent:
                    await target.writable()
                self._at += sent
                amount -= sent
        finally:
            self._when_idle(lambda: os.close(descriptor))

    async def _piece(self, descriptor: int, amount: int) -> int:
        """Bytes sent; 0 when the socket accepts none now."""
        source, at = self._source, self._at
        self._running = on_daemon_thread(lambda: _sendfile(descriptor, source, at, amount), name="sendfile")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(self._running)
        except EOFError:
            raise self._if_short from None

    def _when_idle(self, close: Callable[[], object]) -> None:
        """A thread can't be cancelled: as long as it runs its descriptors must not become another's."""
        if self._running is None or self._running.done():
            close()
        else:
            self._running.add_done_callback(lambda _: close())


def _sendfile(target: int, source: int, start: int, amount: int) -> int:
    sent = 0
    while sent < amount:
        try:
            count = os.sendfile(target, source, start + sent, amount - sent)
        except BlockingIOError:
            break
        if not count:
            raise EOFError
        sent += count
    return sent
