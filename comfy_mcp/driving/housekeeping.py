"""What one process does for all that share a store. Which one, is decided by a lease as of an engine.

Nothing of it needs the lease to be right: every piece is written against the state that it was decided on. It
keeps a hundred processes from looking for the same work.
"""

import asyncio

import structlog

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.leasing import Candidate, LeaseKeeper
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store import Lease, Store

log = structlog.get_logger(__name__)

SWEEP = EngineId("/sweep")
"""No engine can have this name."""

EVERY_S = 1.0
"""How far beyond its deadline a waiting job may end."""


class Sweeper:
    """`elected` is set while this process is the one."""

    def __init__(self, store: Store, settings: StoreGroup, clock: Clock, *, holder: str) -> None:
        self.elected = asyncio.Event()
        self._store = store
        self._settings = settings
        self._clock = clock
        self._candidate = Candidate(SWEEP, holder=holder, store=store, settings=settings)

    async def run(self) -> None:
        """Stand for it until cancelled."""
        await self._candidate.run(self._hold)

    async def _hold(self, lease: Lease) -> None:
        log.info("elected", fence=lease.fence)
        self.elected.set()
        try:
            await LeaseKeeper(lease, self._store, self._settings, self._clock).run()
        except StoreFault as fault:
            log.warning("elected_no_more", code=fault.code.value, error=str(fault))
        finally:
            self.elected.clear()
            await self._candidate.release(lease)


async def end_overdue_jobs(
    store: Store, clock: Clock, elected: asyncio.Event, *, every_s: float = EVERY_S
) -> None:
    """Run until cancelled: what has waited for too long fails as `timeout`, also while no engine is up. What
    waits for jobs that have ended goes on."""
    while True:
        await elected.wait()
        try:
            while ended := await store.expire_overdue(now=clock.now_ms()):
                log.info("jobs_overdue", job_ids=[job.id for job in ended])
            while settled := await store.settle_chains(now=clock.now_ms()):
                log.info("chains_settled", jobs=settled)
        except StoreFault as fault:
            log.warning("deadlines_not_checked", code=fault.code.value, error=str(fault))
        await asyncio.sleep(every_s)
