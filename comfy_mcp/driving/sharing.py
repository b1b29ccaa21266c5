"""Several bridges that have the same engines drive an equal part of them each.

A bridge is seen by a lease in its own name, which is renewed with those of its engines. Bridges whose
settings name the same engines share them; to others they are engines that somebody drives.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from math import inf

import structlog

from comfy_mcp.domain.engine_shares import EngineShares
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.leasing import Candidate, LeaseKeeper
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store import BRIDGES, Lease, Store

log = structlog.get_logger(__name__)


class Sharing:
    """What this process may drive of the engines that it `knows`."""

    def __init__(self, store: Store, settings: StoreGroup, clock: Clock, *, holder: str) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._holder = holder
        self.know(())
        self._mine: set[EngineId] = set()
        self._waited: set[EngineId] = set()
        self._live: Mapping[EngineId, str] = {}
        self._read_at = -inf
        self._reading = asyncio.Lock()

    def know(self, engines: Sequence[EngineId]) -> None:
        """These are the engines of the settings."""
        self._engines = frozenset(engines)
        digest = sha256(repr(sorted(self._engines)).encode()).hexdigest()[:16]
        self._group = f"{BRIDGES}{digest}/"
        """What the names of all bridges with these engines begin with."""

    @asynccontextmanager
    async def turn(self, engine: EngineId) -> AsyncIterator[bool]:
        """Whether this process may drive the engine, which counts as its own for the time of the context.
        Raises StoreFault."""
        await self._read(max_age_s=self._settings.lease_ttl_s / 10)
        allowed = self._may_take(engine)
        if allowed:
            self._mine.add(engine)
        try:
            yield allowed
        finally:
            self._mine.discard(engine)

    async def run(self, give_up: Callable[[int], None], reaches_some: Callable[[], bool]) -> None:
        """Until cancelled: be seen, and call `give_up` again and again with how many engines are beyond the
        share. Not at once: a command that soon ends takes nothing from others. Nor does a bridge that
        reaches no engine."""
        await asyncio.sleep(self._settings.lease_ttl_s)
        async with asyncio.TaskGroup() as group:
            while True:
                engines, seen = self._engines, None
                if reaches_some():
                    seen = group.create_task(self._be_seen(), name="bridge")
                while engines == self._engines and (seen is not None) == reaches_some():
                    await asyncio.sleep(self._settings.lease_ttl_s / 3)
                    await self._balance(give_up)
                if seen is not None:
                    seen.cancel()

    async def _balance(self, give_up: Callable[[int], None]) -> None:
        try:
            await self._read(max_age_s=0)
        except StoreFault as fault:
            log.warning("engines_not_shared", code=fault.code.value, error=str(fault))
        else:
            give_up(self._shares.excess)

    async def _be_seen(self) -> None:
        candidate = Candidate(self._name, holder=self._holder, store=self._store, settings=self._settings)

        async def hold(lease: Lease) -> None:
            try:
                await self._store.forget_bridges()
                await LeaseKeeper(lease, self._store, self._settings, self._clock).run()
            except StoreFault as fault:
                log.warning("bridge_not_seen", code=fault.code.value, error=str(fault))
            finally:
                await candidate.release(lease)

        await candidate.run(hold)

    @property
    def _name(self) -> EngineId:
        """Of the lease by which this bridge is seen."""
        return EngineId(f"{self._group}{self._holder}")

    async def _read(self, *, max_age_s: float) -> None:
        """Many engines ask at the same moment, and one of them reads."""
        async with self._reading:
            now = self._clock.monotonic()
            if now - self._read_at > max_age_s:
                self._live = await self._store.live_leases()
                self._read_at = now

    def _may_take(self, engine: EngineId) -> bool:
        if self._live.get(engine, self._holder) != self._holder:
            self._waited.discard(engine)
            return False
        shares, waited = self._shares, engine in self._waited
        first = waited or len(shares.held) == 1 or self._name in self._live  # else those who are seen
        if first and (engine not in self._engines or shares.may_take(waited=waited)):
            self._waited.discard(engine)
            return True
        self._waited.add(engine)
        return False

    @property
    def _shares(self) -> EngineShares:
        """By what was last read. What this process drives, it knows."""
        mine, others = self._mine & self._engines, self._engines - self._mine
        counts = Counter(holder for each, holder in self._live.items() if each in others)
        names = {holder for each, holder in self._live.items() if each.startswith(self._group)}
        held = {name: counts[name] for name in names} | {self._holder: len(mine)}
        free = len(others) - counts.total() + counts[self._holder]
        return EngineShares(me=self._holder, held=held, free=free)
