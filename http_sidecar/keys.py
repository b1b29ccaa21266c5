"""Typed state: what the application and each request carry."""

import asyncio

from aiohttp import web

from comfy_mcp.operations.context import Caller, Services
from comfy_mcp.settings import Settings


class Drain:
    """Whether this process goes: then no submit is taken, and streams send their last frame and end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()

    async def wait(self) -> None:
        """Until it begins. A stream waits for this beside its events."""
        await self._begun.wait()


SERVICES = web.AppKey("services", Services)
SETTINGS = web.AppKey("settings", Settings)
DRAIN = web.AppKey("drain", Drain)

CALLER = web.RequestKey("caller", Caller)
"""Who calls; set by the auth middleware on every request that gets as far as a handler."""

REQUEST_ID = web.RequestKey("request_id", str)
"""Printable ASCII, at most 128 characters: the client's X-Request-ID, or one of ours."""
