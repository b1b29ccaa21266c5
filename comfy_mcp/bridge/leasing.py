"""Keeping an engine's lease while a tenure lasts."""

import asyncio

import structlog

from comfy_mcp.bridge.clock import Clock
from comfy_mcp.domain.errors import Fenced, StoreFault
from comfy_mcp.settings import Settings
from comfy_mcp.store import Lease, Store

log = structlog.get_logger(__name__)


async def keep_lease(lease: Lease, store: Store, settings: Settings, clock: Clock) -> None:
    """Renew well before the end, until cancelled. Without a renewal in time it is given up, not fought for.

    Raises Fenced once another process has it, StoreFault when the store has refused for a whole lease.
    """
    ttl = settings.lease_ttl_s
    renewed = clock.monotonic()
    while True:
        await asyncio.sleep(ttl / 3)
        try:
            await store.renew_lease(lease, ttl)
            renewed = clock.monotonic()
        except Fenced:
            raise
        except StoreFault as fault:
            log.warning("lease_not_renewed", engine=lease.engine, error=str(fault))
            if clock.monotonic() - renewed >= ttl:
                raise
