"""Keeping an engine's lease while a tenure lasts."""

import asyncio

import structlog

from comfy_mcp.domain.errors import Fenced, StoreFault
from comfy_mcp.driving.clock import Clock
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store import Lease, Store

log = structlog.get_logger(__name__)


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
