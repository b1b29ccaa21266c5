"""The lanes beside the one of the engines: each a service that runs the jobs which asked for it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.fleet import Fleet
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.roster import EventSource
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.places.protocol import Runner

AT_ONCE = 8
"""Jobs at a service at once, for each lane: the others wait here, in the order of their turns."""


class CloudRunner(Runner, Protocol):
    @property
    def largest_input(self) -> int | None:
        """Bytes of one input file. None: no limit is known."""
        ...

    async def close(self) -> None: ...


class Lanes:
    """`places` have the lane's name as their engine. With `drive` False nothing is sent from this process."""

    def __init__(self, places: Sequence[CloudRunner], means: Means, *, holder: str, drive: bool) -> None:
        self._places = {place.engine: place for place in places}
        settings = means.settings.model_copy(update={"pipeline_depth": AT_ONCE, "vram_hold": False})
        self._drivers: Mapping[EngineId, Driver] = {}
        if drive:
            self._drivers = {
                place.engine: Driver(
                    place,
                    # A service is not judged by what was learnt of our own engines and GPUs.
                    replace(means, settings=settings, fleet=Fleet(), gpu=GpuUsage(), lane=place.engine),
                    holder=holder,
                )
                for place in places
            }

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._places)

    def trouble(self, lane: str) -> str | None:
        """What keeps the lane's jobs waiting, with what to do. None: nothing that is known."""
        place = self._places.get(EngineId(lane))
        if place is None:
            return f"The service {lane} is not configured. Configure it again, or cancel the workflow."
        trouble = place.trouble
        return None if trouble is None else trouble.sentence

    def largest_input(self, lane: str) -> int | None:
        """Bytes of one input file. None: no limit is known."""
        return self._places[EngineId(lane)].largest_input

    async def run(self, source: EventSource) -> None:
        """Drive until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane, driver in self._drivers.items():
                source.listen(driver.hear)
                group.create_task(driver.run(), name=f"lane {lane}")

    async def close(self) -> None:
        """When `run` has ended."""
        for place in self._places.values():
            await place.close()
