"""Clients that read nothing: each write has a time limit, and whoever exceeds it is cut off."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

import structlog

from comfy_mcp.logs import Repeats

log = structlog.get_logger(__name__)

T = TypeVar("T")

_CUT = Repeats(log, "slow_client_cut")


class ClientTooSlow(Exception):
    """The client has read nothing for too long."""


async def write_within(
    limit_s: float, write: Awaitable[T], *, cut: asyncio.WriteTransport | None = None
) -> T:
    """The result of `write`. Raises ClientTooSlow after `limit_s`; the connection `cut` is aborted by then.

    Aborted, since a close would wait for the client to read. Most writes have nothing to wait for, and then
    no timer is set: that costs more than the write.
    """
    steps = write.__await__()
    try:
        first = next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    try:
        async with asyncio.timeout(limit_s):
            return await _Begun(first, steps)
    except TimeoutError:
        if cut is not None:
            _CUT.happened()
            cut.abort()
        raise ClientTooSlow from None


def write_now(transport: asyncio.WriteTransport | None, frame: bytes, most: int) -> bool:
    """Write a frame without waiting. False where the client is gone.

    Raises ClientTooSlow where it has left more than `most` bytes unread; then nothing is written.
    """
    if transport is None or transport.is_closing():
        return False
    if transport.get_write_buffer_size() > most:
        raise ClientTooSlow
    transport.write(frame)
    return True


class _Begun(Generator[Any, Any, T]):
    """What a coroutine still has to do after its first step, to be awaited."""

    def __init__(self, first: Any, steps: Generator[Any, Any, T]) -> None:
        self._ahead = [first]
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def send(self, value: Any) -> Any:
        return self._ahead.pop() if self._ahead else self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        return self._steps.throw(*error)
