"""Engines that are added, changed and removed, and what others see of them meanwhile."""

import asyncio
from pathlib import Path
from typing import Any, cast

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.driving.engine_reports import EngineReports
from comfy_mcp.driving.lanes import Lanes
from comfy_mcp.driving.roster import Roster
from comfy_mcp.places.pool import Pool
from comfy_mcp.places.protocol import Place, Trouble
from comfy_mcp.settings import EngineSettings, load_settings
from tests.driving.conftest import House
from tests.support.scripted_place import ScriptedPlace

A, B = EngineId("a"), EngineId("b")


class Down(ScriptedPlace):
    """An engine that can't be used, and is closed when the test says so."""

    url = "http://127.0.0.1:9"
    labels = frozenset[str]()
    asleep = False
    nodes_now = ObjectInfo.parse({})

    def __init__(self, engine: EngineId) -> None:
        super().__init__(engine)
        self.trouble = Trouble(cause=f"{engine} is down.", fix="Start it.")
        self.closing, self.may_close = asyncio.Event(), asyncio.Event()

    async def close(self) -> None:
        self.closing.set()
        await self.may_close.wait()


def engine(name: EngineId, *labels: str) -> EngineSettings:
    return EngineSettings(id=name, url=Down.url, ws_url="ws://127.0.0.1:9/ws", labels=labels)


async def test_engines_are_asked_for_while_they_change(house: House, tmp_path: Path) -> None:
    """One is new, and another one's settings have changed: that takes as long as its old place has to end."""
    house.settings = load_settings(state_dir=tmp_path / "state", engines_file=tmp_path / "none")
    made: list[Any] = []

    def make(each: EngineSettings) -> Place:
        made.append(Down(each.id))
        return cast("Place", made[-1])

    means = house.means()
    roster = Roster(Pool(), means, make, holder="me", drive=False)
    reports = EngineReports(roster, Lanes([], means, holder="me", drive=False), house.store)
    await roster.take([engine(A)])
    taking = house.group.create_task(roster.take([engine(B), engine(A, "another")]))
    await made[0].closing.wait()
    try:
        assert reports.blocked(None) == "b is down. Start it. a is down. Start it."
        assert list(roster.pool.values()) == made[1:]
    finally:
        made[0].may_close.set()
        await taking
    assert list(roster.pool.values()) == made[1:]
