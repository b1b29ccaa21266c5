"""Getting a lease, keeping it, and giving it back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from comfy_mcp.domain.errors import Fenced, StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.clock import Clock
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store import Lease, Store

log = structlog.get_logger(__name__)

RELEASE_TIMEOUT_S = 2.0
"""At the end the lease is given back at once; when that fails it expires by itself."""


class Candidate:
    """A process that wants one lease, again and again."""

    def __init__(
        self,
        engine: EngineId,
        *,
        holder: str,
        store: Store,
        settings: StoreGroup,
        turn: Callable[[EngineId], AbstractAsyncContextManager[bool]] | None = None,
    ) -> None:
        """`turn` says whether to ask for the lease now, and lasts while it is held."""
        self._engine = engine
        self._holder = holder
        self._store = store
        self._turn = turn or self._while_free
        self._ttl_s = settings.lease_ttl_s

    async def run(self, serve: Callable[[Lease], Awaitable[None]]) -> None:
        """Until cancelled: `serve` whenever this process has the lease. If its holder dies, another process
        has it within two leases. A group of tasks that fails as it is cancelled raises the failure only."""
        pause, task = self._ttl_s / 3, asyncio.current_task()
        while task is None or not task.cancelling():
            served = await self._stand(serve)
            await asyncio.sleep(min(pause, 1.0) if served else pause)

    async def _stand(self, serve: Callable[[Lease], Awaitable[None]]) -> bool:
        """Once. Whether this process had the lease."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                if not await stack.enter_async_context(self._turn(self._engine)):
                    return False  # the usual case takes no writer
                lease = await self._store.acquire_lease(self._engine, self._holder, self._ttl_s)
            except StoreFault as fault:
                log.warning(
                    "lease_not_acquired", engine=self._engine, code=fault.code.value, error=str(fault)
                )
                return False
            if lease is not None:
                await serve(lease)
            return lease is not None

    @asynccontextmanager
    async def _while_free(self, engine: EngineId) -> AsyncIterator[bool]:
        now = await self._store.lease_of(engine)
        yield now is None or not now.live or now.holder == self._holder

    async def release(self, lease: Lease, then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Give it back, and do what is worth no more than the rest of the time for that."""
        with contextlib.suppress(StoreFault, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._store.release_lease(lease)
                if then is not None:
                    await then()


class LeaseKeeper:
    """Renews well before the end. Without a renewal in time the lease is given up, not fought for."""

    def __init__(self, lease: Lease, store: Store, settings: StoreGroup, clock: Clock) -> None:
        self._lease = lease
        self._store = store
        self._ttl_s = settings.lease_ttl_s
        self._clock = clock
        self._renewed_at = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled. Raises Fenced once another process has it, StoreFault when the store has refused
        for a whole lease."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self._renew()
            except Fenced:
                raise
            except StoreFault as fault:
                log.warning("lease_not_renewed", engine=self._lease.engine, error=str(fault))
                if self._is_over():
                    raise

    async def confirm(self) -> None:
        """Ahead of what no fence holds back. A process that was stopped for a while (SIGSTOP, a suspended
        machine) may long have been replaced: the store is asked, but only then. Raises Fenced, StoreFault."""
        if self._is_over():
            await self._renew()

    def _pause(self) -> float:
        """To the next third of a lease, the same moment for all engines of the process: so they are renewed
        together."""
        third = self._ttl_s / 3
        return third - self._clock.monotonic() % third

    def _is_over(self) -> bool:
        return self._clock.monotonic() - self._renewed_at >= self._ttl_s

    async def _renew(self) -> None:
        """A store that does not answer while the lease lasts refuses it. Once it is over, what is left is a
        third, to find out."""
        asked = self._clock.monotonic()
        left = max(self._ttl_s - (asked - self._renewed_at), self._ttl_s / 3)
        try:
            async with asyncio.timeout(left):
                await self._store.renew_lease(self._lease, self._ttl_s)
        except TimeoutError:
            raise StoreFault(
                "The store did not answer in time.", next_step="Check its disk, or its server."
            ) from None
        self._renewed_at = asked  # it lasts from some moment since then
