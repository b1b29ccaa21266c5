"""Clients that read nothing: each write has a time limit, and whoever exceeds it is cut off."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

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

    Aborted, since a close would wait for the client to read.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await write
    except TimeoutError:
        if cut is not None:
            _CUT.happened()
            cut.abort()
        raise ClientTooSlow from None
