"""Typed state: what the application and each request carry."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from aiohttp import web

from comfy_mcp.operations.context import Caller, Services
from comfy_mcp.settings import Settings
from http_sidecar.auth import KeyRing


class Drain:
    """Whether this process goes: then no submit is taken, and streams send their last frame and end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._active = 0
        self._limits: set[asyncio.Timeout] = set()

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()
        for limit in list(self._limits):
            limit.reschedule(asyncio.get_running_loop().time())

    async def wait(self) -> None:
        """Until it begins. A stream waits for this beside its events."""
        await self._begun.wait()

    @contextlib.asynccontextmanager
    async def ends(self) -> AsyncIterator[None]:
        """Raises TimeoutError as soon as it begins: for a wait that has something to answer then."""
        async with asyncio.timeout(0 if self.begun else None) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """A request is being answered; a stream is one for as long as it is open."""
        self._active += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Until no request is being answered."""
        await self._idle.wait()


SERVICES = web.AppKey("services", Services)
SETTINGS = web.AppKey("settings", Settings)
DRAIN = web.AppKey("drain", Drain)
KEY_RING = web.AppKey("key_ring", KeyRing)

IDENTIFIERS = web.AppKey("identifiers", list[Callable[[web.Request], Awaitable[Caller | None]]])
"""Other ways than a key in a header to show who calls (a ticket, a WebSocket subprotocol): asked in order
where a key is required and no header has one. None: not shown here. A feature's `setup` may append."""

CALLER = web.RequestKey("caller", Caller)
"""Who calls; set by the auth middleware on every request that gets as far as a handler."""

REQUEST_ID = web.RequestKey("request_id", str)
"""Printable ASCII, at most 128 characters: the client's X-Request-ID, or one of ours."""
