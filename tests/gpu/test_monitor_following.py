"""Who follows the GPUs: how often they are sampled for it, and what it hears."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.driving.clock import system_clock
from comfy_mcp.gpu import GpuChanges, GpuMonitor, GpuUsage
from comfy_mcp.gpu.nvml import NvmlReading
from comfy_mcp.settings import Settings
from tests.gpu.test_monitor import CUDA, NOTHING, Clock, FakeEngine
from tests.support.gpus import CARD, GIB, ScriptedDriver, busy, card_stats, reading


def watching(
    driver: ScriptedDriver,
    clock: Clock,
    usage: GpuUsage | None = None,
    **engines: FakeEngine,
) -> GpuMonitor:
    """All its engines are on this machine."""
    return GpuMonitor(
        Settings(
            engine_urls=tuple(f"{name}=http://127.0.0.1:{8188 + n}" for n, name in enumerate(engines))
            or ("x=http://127.0.0.1:1",),
        ),
        engines={EngineId(name): engine for name, engine in engines.items()},
        now_ms=clock,
        driver=driver,
        usage=usage,
        job_share=0.25,
    )


async def ticks(monitor: GpuMonitor, clock: Clock, count: int, every_ms: int = 500) -> None:
    for _ in range(count):
        clock.now += every_ms
        await monitor.tick()


async def test_nobody_looks_and_nothing_is_asked() -> None:
    driver, engine, clock = ScriptedDriver(), FakeEngine({"devices": [CUDA]}), Clock()
    monitor = watching(driver, clock, e=engine)
    with monitor.follow(lambda: False):
        await ticks(monitor, clock, 100)
    with monitor.follow(lambda: True):
        assert driver.reads == 0
    await ticks(monitor, clock, 100)
    assert (driver.reads, engine.asked) == (0, 0)


async def test_a_follower_is_sampled_for_at_the_set_pace() -> None:
    driver, clock = ScriptedDriver(), Clock()
    monitor = watching(driver, clock)
    with monitor.follow(lambda: True):
        await ticks(monitor, clock, 12)  # six seconds
    assert driver.reads == 3


async def told(changes: GpuChanges) -> bool:
    """Whether there is news; takes it."""
    try:
        async with asyncio.timeout(0):
            await changes.next()
    except TimeoutError:
        return False
    return True


async def test_a_follower_hears_of_real_changes_only_and_of_a_drift_once_it_has_gone_far() -> None:
    driver, clock = ScriptedDriver(), Clock()
    monitor = watching(driver, clock)
    heard = []
    with monitor.follow(lambda: True) as changes:
        for percent in (50.0, 55.0, 59.0, 63.0, 66.0, 72.0, 73.5):
            driver.shows = reading(busy(percent))
            await ticks(monitor, clock, 1, every_ms=2_000)
            if await told(changes):
                heard.append(percent)
    assert heard == [63.0, 73.5]


async def test_changes_while_a_follower_is_busy_are_one() -> None:
    driver, clock = ScriptedDriver(), Clock()
    monitor = watching(driver, clock)
    with monitor.follow(lambda: True) as changes:
        for percent in (0.0, 50.0, 100.0):
            driver.shows = reading(busy(percent))
            await ticks(monitor, clock, 1, every_ms=2_000)
        assert await told(changes)
        assert not await told(changes)


async def test_a_device_that_goes_and_one_that_comes_are_changes() -> None:
    driver, clock = ScriptedDriver(), Clock()
    monitor = watching(driver, clock)
    await monitor.sample()
    with monitor.follow(lambda: True) as changes:
        for devices in ((), (CARD,), (CARD, replace(CARD, index=1, uuid="GPU-b"))):
            driver.shows = NvmlReading(devices=devices, reason=None if devices else "NVML: gone")
            await ticks(monitor, clock, 1, every_ms=2_000)
            assert await told(changes)


async def test_a_job_on_this_machines_gpu_is_measured_while_it_runs() -> None:
    driver, clock, engine = ScriptedDriver(), Clock(), FakeEngine(card_stats())
    usage = GpuUsage(local=[EngineId("e")], monotonic=lambda: clock.now / 1000)
    monitor = watching(driver, clock, usage, e=engine)
    usage.begin(PromptId("p"), EngineId("e"))
    await ticks(monitor, clock, 4)
    driver.shows = reading(busy(100.0, memory_used_bytes=7 * GIB))
    await ticks(monitor, clock, 4)
    assert usage.use(PromptId("p")) == GpuUse(seconds=3.0, peak_bytes=7 * GIB, held_bytes=3 * GIB)
    assert (driver.reads, engine.asked) == (8, 2)  # an engine is asked at its own, slower pace
    usage.forget(PromptId("p"))
    await ticks(monitor, clock, 4)
    assert driver.reads == 8


async def test_a_job_on_one_of_two_equal_cards_is_measured_on_that_one() -> None:
    """Between two words of the engine its card fills, and the other one is as free as it had said."""
    idle = replace(CARD, index=1, uuid="GPU-b", utilization_percent=0.0)
    driver, clock, engine = ScriptedDriver(), Clock(), FakeEngine(card_stats())
    driver.shows = reading(CARD, replace(idle, memory_used_bytes=0))
    usage = GpuUsage(local=[EngineId("e")], monotonic=lambda: clock.now / 1000)
    monitor = watching(driver, clock, usage, e=engine)
    usage.begin(PromptId("p"), EngineId("e"))
    await ticks(monitor, clock, 1)
    driver.shows = reading(busy(100.0, memory_used_bytes=20 * GIB), idle)
    await ticks(monitor, clock, 2)
    assert engine.asked == 1
    assert usage.use(PromptId("p")) == GpuUse(seconds=1.25, peak_bytes=20 * GIB, held_bytes=3 * GIB)


async def test_a_job_on_a_remote_engine_with_a_gpu_is_measured_at_the_engines_pace() -> None:
    driver, clock, engine = ScriptedDriver(shows=NOTHING), Clock(), FakeEngine(card_stats())
    usage = GpuUsage(monotonic=lambda: clock.now / 1000)
    monitor = watching(driver, clock, usage, far=engine)
    usage.begin(PromptId("p"), EngineId("far"))
    await ticks(monitor, clock, 9)
    assert engine.asked == 3
    assert usage.use(PromptId("p")) == GpuUse(held_bytes=3 * GIB)


async def test_where_there_is_no_driver_jobs_make_it_look_once_a_minute() -> None:
    driver, clock = ScriptedDriver(shows=NvmlReading(devices=(), reason="NVML: no")), Clock()
    usage = GpuUsage(local=[EngineId("e")])
    monitor = watching(driver, clock, usage)
    usage.begin(PromptId("p"), EngineId("e"))
    await ticks(monitor, clock, 119)
    assert driver.reads == 1
    await ticks(monitor, clock, 10)
    assert driver.reads == 2


class Defective(FakeEngine):
    async def system_stats(self) -> Mapping[str, Any]:
        self.asked += 1
        raise ZeroDivisionError


async def test_a_defect_in_a_sample_ends_nothing() -> None:
    clock, engine = Clock(), Defective()
    monitor = watching(ScriptedDriver(), clock, e=engine)
    with monitor.follow(lambda: True):
        await ticks(monitor, clock, 3, every_ms=2_000)
    assert engine.asked == 3


async def test_it_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = ScriptedDriver()
    monkeypatch.setattr("comfy_mcp.gpu.monitor.SAMPLE_S", 0.01)
    monitor = GpuMonitor(
        Settings(),
        engines={},
        now_ms=system_clock().now_ms,
        driver=driver,
    )
    with monitor.follow(lambda: True) as changes:
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
            task = tasks.create_task(monitor.run())
            await monitor.sample()
            driver.shows = reading(busy(100.0))
            await changes.next()
            task.cancel()
    assert driver.reads >= 2
