"""Whether an engine has the memory for a job, by the newest sample of the GPUs. Off by default.

domain/vram.py has the rule. This module decides when to take a sample: before a job is claimed, and at the
monitor's pace while jobs are held. None is needed while the setting is off or no job waits.
"""

import asyncio
from collections.abc import Awaitable, Callable

from comfy_mcp.domain.gpu import GpuSample
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.vram import Admission, EngineRoom, Rooms, rooms_of
from comfy_mcp.driving.clock import Clock
from comfy_mcp.gpu import monitor
from comfy_mcp.settings import Settings

Sampling = Callable[[], Awaitable[GpuSample]]
"""`GpuMonitor.sample`."""

KEPT_S = 30.0
"""Keep an engine's last reading this long when it misses a sample: it may be busy loading."""

MAX_HOLD_MS = 3_600_000
"""A job is held this long at most, because its need was learnt from others: then it runs all the same."""


class MemoryGate:
    """One engine's. Touched by its tenure's one task only; times are monotonic seconds.

    `holding`: the last look for work found jobs that are held.
    """

    def __init__(
        self, engine: EngineId, settings: Settings, clock: Clock, sampling: Sampling | None = None
    ) -> None:
        self.holding = False
        self.asking = False
        self._engine = engine
        self._clock = clock
        self._sampling = sampling if settings.vram_hold else None
        self._limit_s = min(settings.connect_timeout_s, settings.request_timeout_s) + 1.0
        self._rooms = Rooms()
        self._heard: dict[EngineId, tuple[float, EngineRoom]] = {}
        self._due = float("-inf")
        self._unused = False
        self._looked_with: Admission | None = None

    @property
    def on(self) -> bool:
        return self._sampling is not None

    @property
    def ready(self) -> bool:
        """Whether a job may be claimed by what is known; otherwise a sample is needed first."""
        return not self.on or self._unused or self._clock.monotonic() < self._due

    @property
    def due(self) -> float | None:
        """When the next sample is worth taking for the sake of held jobs. None: not by itself."""
        return self._due if self.on and self.holding and not self.asking else None

    def hurry(self) -> None:
        """Something ended somewhere: memory may have become free."""
        self._due = float("-inf")

    async def look(self) -> GpuSample | None:
        """Ask. None: no answer in time, or nobody to ask."""
        if self._sampling is None:
            return None
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._sampling()
        except TimeoutError:
            return None

    def take(self, sample: GpuSample | None) -> bool:
        """The answer. True: it lets through what the last look for work did not."""
        now = self._clock.monotonic()
        self.asking, self._unused, self._due = False, True, now + monitor.SAMPLE_S
        self._rooms = self._remembering(rooms_of(sample) if sample is not None else Rooms(), now)
        before, after = self._looked_with, self.admission()
        return before is None or after.limit > before.limit or after.rooms.ceiling != before.rooms.ceiling

    def admission(self) -> Admission:
        """What the engine may take now. Unknown memory, and the setting off, let everything through."""
        due = self._clock.now_ms() - MAX_HOLD_MS
        return Admission(engine=self._engine, rooms=self._rooms, due=due)

    def looked(self, admission: Admission, *, holding: bool) -> None:
        """Work was looked for with `admission`."""
        self._unused, self._looked_with, self.holding = False, admission, holding

    def _remembering(self, rooms: Rooms, now: float) -> Rooms:
        """With the last word of those that did not answer this time."""
        self._heard.update({room.engine: (now, room) for room in rooms.engines})
        self._heard = {engine: each for engine, each in self._heard.items() if now - each[0] < KEPT_S}
        known = sorted((room for _, room in self._heard.values()), key=lambda room: room.engine)
        return Rooms(engines=tuple(known), open=rooms.open)
