"""A job goes to an engine whose GPU has the memory that such jobs needed."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu import monitor
from tests.fleet.conftest import Fleet, Open
from tests.support.graphs import picture, slow
from tests.support.vram_engine import Vram, play_each


async def ends_at(fleet: Fleet, graph: dict[str, Any], count: int) -> set[tuple[str, str]]:
    """Where that many of them, submitted at once, ended and how."""
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(fleet.run(graph)) for _ in range(count)]
    return {(run.result().status, run.result().engine) for run in runs}


async def test_what_needs_much_memory_runs_on_the_large_engine_until_that_is_out_of_use(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = {"small": Vram(total=8), "large": Vram(total=24, held=20)}
    play_each(monkeypatch, gpus)
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.05)
    async with open_fleet(small={}, large={}) as fleet:
        learnt = await fleet.run(slow(steps=60), engine="large")
        assert (learnt.status, learnt.warnings) == ("completed", [])
        gpus["large"].held = 1
        assert await ends_at(fleet, slow(steps=2, step_ms=5), 4) == {("completed", "large")}
        busy = await fleet("submit_workflow", workflow=slow(steps=10_000), engine="large")
        await fleet.running(busy.workflow_id)
        assert (await fleet.run(picture())).engine == "small", "nothing is known of that one"
        await fleet("cancel_workflow", workflow_id=busy.workflow_id)
        await fleet("drain_engine", engine="large")
        assert await ends_at(fleet, slow(steps=2, step_ms=5), 2) == {("completed", "small")}


async def test_the_sizes_of_gpus_are_known_after_a_restart_before_anybody_was_asked(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_each(monkeypatch, {"small": Vram(total=8), "large": Vram(total=24, held=20)})
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.05)
    async with open_fleet(small={}, large={}) as fleet:
        assert (await fleet.run(slow(steps=60), engine="large")).status == "completed"
        async with asyncio.timeout(20):
            while len(kept := await fleet.services.store.gpu_memory()) < 2:
                await asyncio.sleep(0.02)
        assert kept[EngineId("small")] < kept[EngineId("large")]

    async def asks_nobody(_monitor: monitor.GpuMonitor) -> None:
        """As of engines that sleep, or do not answer in time."""

    monkeypatch.setattr(monitor.GpuMonitor, "_ask_engines", asks_nobody)
    async with open_fleet(small={}, large={}) as fleet:
        await fleet.connected()  # a small engine that is alone takes what there is
        assert await ends_at(fleet, slow(steps=2, step_ms=5), 4) == {("completed", "large")}
