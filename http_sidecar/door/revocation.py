"""What is open for a long time (streams, MCP requests) ends soon after the key behind it has been revoked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from comfy_mcp.operations.context import Caller
from http_sidecar import api_keys
from http_sidecar.api_keys import Identity, KeyRing, identity_of
from http_sidecar.app_state import KEY_RING

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Open:
    revoked: asyncio.Event = field(default_factory=asyncio.Event)
    count: int = 0
    then: list[Callable[[], None]] = field(default_factory=list)


class Revocations:
    """One per process. While anything is open, the key ring is asked every `api_keys.REFRESH_S`; what it
    knows is no older: so a key's end is seen after twice that time at the latest."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._open: dict[Identity, _Open] = {}
        self._some = asyncio.Event()

    @contextlib.contextmanager
    def watched(self, caller: Caller, then: Callable[[], None] = lambda: None) -> Iterator[asyncio.Event]:
        """An event that is set once the caller would not be let in any more; `then` is called as well."""
        identity = identity_of(caller)
        entry = self._open.setdefault(identity, _Open())
        entry.count += 1
        entry.then.append(then)
        self._some.set()
        try:
            yield entry.revoked
        finally:
            entry.count -= 1
            entry.then.remove(then)
            if not entry.count:
                del self._open[identity]
            if not self._open:
                self._some.clear()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(api_keys.REFRESH_S)
            for identity, entry in list(self._open.items()):
                if not entry.revoked.is_set() and not await self._keys.counts(identity):
                    log.info("key_revoked", client=identity.client, cut=entry.count)
                    entry.revoked.set()
                    for then in entry.then:
                        then()


REVOCATIONS = web.AppKey("revocations", Revocations)


def setup(app: web.Application) -> None:
    app[REVOCATIONS] = Revocations(app[KEY_RING])
    app.cleanup_ctx.append(_running)


async def _running(app: web.Application) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(app[REVOCATIONS].run(), name="key-revocations")
        yield
        looking.cancel()
