"""What any process does for the store, whether it drives an engine or not."""

import asyncio

import structlog

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.driving.clock import Clock
from comfy_mcp.store import Store

log = structlog.get_logger(__name__)


EVERY_S = 1.0
"""How far beyond its deadline a waiting job may end."""


async def end_overdue_jobs(store: Store, clock: Clock, *, every_s: float = EVERY_S) -> None:
    """Run until cancelled: what has waited for too long fails as `timeout`, also while no engine is up. What
    waits for jobs that have ended goes on."""
    while True:
        try:
            while ended := await store.expire_overdue(now=clock.now_ms()):
                log.info("jobs_overdue", job_ids=[job.id for job in ended])
            while settled := await store.settle_chains(now=clock.now_ms()):
                log.info("chains_settled", jobs=settled)
        except StoreFault as fault:
            log.warning("deadlines_not_checked", code=fault.code.value, error=str(fault))
        await asyncio.sleep(every_s)
