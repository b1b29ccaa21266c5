"""Who is asked, how often, and what comes out when nobody knows."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.domain.gpu import GpuDevice, GpuSource
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.driving.clock import system_clock
from comfy_mcp.gpu import GpuChanges, GpuMonitor, GpuUsage
from comfy_mcp.gpu.nvml import NvmlReading
from comfy_mcp.settings import Settings
from tests.support.gpus import CARD, GIB, ScriptedDriver, busy, card_stats, reading

CUDA = {
    "name": "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync",
    "type": "cuda",
    "index": 0,
    "vram_total": 24_000,
    "vram_free": 4_000,
    "torch_vram_total": 100,
    "torch_vram_free": 50,
}
CPU = {"name": "cpu", "type": "cpu", "index": None, "vram_total": 8_000, "vram_free": 1_000}
NOTHING = NvmlReading(devices=(), reason="NVML: no library")


@dataclass
class FakeDriver:
    """Answers in turn, the last one for ever; an exception is raised."""

    answers: Sequence[NvmlReading | Exception] = (NOTHING,)
    reads: int = 0
    closed: bool = False

    def read(self) -> NvmlReading:
        answer = self.answers[min(self.reads, len(self.answers) - 1)]
        self.reads += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


@dataclass
class HungDriver:
    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    reads: int = 0

    def read(self) -> NvmlReading:
        self.reads += 1
        self.entered.set()
        self.release.wait(60)
        return one_gpu()

    def close(self) -> None:
        raise AssertionError("a session in use must not be closed")


@dataclass
class FakeEngine:
    stats: Mapping[str, Any] | None = None
    hangs: bool = False
    asked: int = 0

    async def system_stats(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.stats is None:
            raise EngineUnreachable("refused", next_step="")
        return self.stats


@dataclass
class Clock:
    now: int = 1_000_000

    def __call__(self) -> int:
        return self.now


def one_gpu() -> NvmlReading:
    return NvmlReading(devices=(GpuDevice(index=0, name="Local"),))


def monitor_of(
    driver: FakeDriver | HungDriver | None = None,
    clock: Clock | None = None,
    timeout_s: float = 30,
    **engines: FakeEngine,
) -> GpuMonitor:
    return GpuMonitor(
        Settings(request_timeout_s=timeout_s),
        engines={EngineId(name): engine for name, engine in engines.items()},
        now_ms=clock or Clock(),
        driver=driver or FakeDriver(),
    )


async def test_the_local_driver_comes_first_and_remote_engines_after_it() -> None:
    sample = await monitor_of(FakeDriver([one_gpu()]), a=FakeEngine({"devices": [CUDA]})).sample()
    assert sample.source is GpuSource.NVML
    assert [(device.index, device.name, device.engine) for device in sample.devices] == [
        (0, "Local", None),
        (1, "NVIDIA GeForce RTX 4090", "a"),
    ]
    assert sample.available
    assert sample.at_ms == 1_000_000


async def test_without_a_driver_the_engines_say_it() -> None:
    two = {"devices": [CUDA, CUDA | {"name": "cuda:1 Other", "index": 1}]}
    sample = await monitor_of(a=FakeEngine(two), b=FakeEngine({"devices": [CUDA, CPU]})).sample()
    assert sample.source is GpuSource.ENGINE
    assert [(d.index, d.engine, d.name) for d in sample.devices] == [
        (0, "a", "NVIDIA GeForce RTX 4090"),
        (1, "a", "Other"),
        (2, "b", "NVIDIA GeForce RTX 4090"),
    ]
    first = sample.devices[0]
    assert (first.memory_used_bytes, first.memory_total_bytes) == (20_000, 24_000)
    assert first.utilization_percent is None


async def test_no_gpu_is_an_answer_with_its_reasons() -> None:
    sample = await monitor_of(a=FakeEngine({"devices": [CPU]}), b=FakeEngine(None)).sample()
    assert sample.source is GpuSource.NONE
    assert not sample.available
    assert sample.reason == "NVML: no library; engine a runs without a GPU; engine b does not answer"


async def test_stats_of_another_shape_are_no_gpu() -> None:
    for stats in (
        {},
        {"devices": None},
        {"devices": ["cuda", 3, {"name": "x"}, {"type": 5}]},
    ):
        sample = await monitor_of(a=FakeEngine(stats)).sample()
        assert sample.devices == ()


async def test_odd_values_of_a_gpu_are_unknown() -> None:
    odd = {"type": "xpu", "name": None, "vram_total": "lots", "vram_free": True}
    (device,) = (await monitor_of(a=FakeEngine({"devices": [odd]})).sample()).devices
    assert (device.name, device.memory_total_bytes, device.memory_used_bytes) == ("xpu", None, None)
    swapped = CUDA | {"vram_free": 30_000}
    (device,) = (await monitor_of(a=FakeEngine({"devices": [swapped]})).sample()).devices
    assert (device.memory_total_bytes, device.memory_used_bytes) == (24_000, None)


async def test_a_sample_is_shared_until_it_is_too_old() -> None:
    driver, clock = FakeDriver([one_gpu()]), Clock()
    monitor = monitor_of(driver, clock)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(monitor.sample()) for _ in range(5)]
    clock.now += 1_999
    assert await monitor.sample() is calls[0].result() is calls[4].result()
    assert driver.reads == 1
    clock.now += 1
    await monitor.sample()
    assert driver.reads == 2


async def test_a_clock_that_was_set_back_does_not_freeze_the_sample() -> None:
    driver, clock = FakeDriver([one_gpu()]), Clock()
    monitor = monitor_of(driver, clock)
    await monitor.sample()
    clock.now -= 3_600_000
    await monitor.sample()
    assert driver.reads == 2


async def test_a_driver_that_raises_is_asked_again_next_time() -> None:
    clock = Clock()
    monitor = monitor_of(FakeDriver([OSError("bus"), one_gpu()]), clock)
    assert (await monitor.sample()).reason == "NVML: OSError"
    clock.now += 5_000
    assert (await monitor.sample()).available


async def test_a_driver_that_hangs_is_left_alone_until_it_answers() -> None:
    driver, clock = HungDriver(), Clock()
    monitor = monitor_of(driver, clock, timeout_s=0.01, a=FakeEngine({"devices": [CUDA]}))
    assert (await monitor.sample()).source is GpuSource.ENGINE
    clock.now += 5_000
    assert (await monitor.sample()).source is GpuSource.ENGINE
    assert driver.reads == 1
    await monitor.aclose()
    driver.release.set()
    async with asyncio.timeout(10):
        while (await monitor.sample()).source is not GpuSource.NVML:
            clock.now += 5_000
    assert driver.reads == 1


async def test_an_engine_that_hangs_does_not_answer() -> None:
    sample = await monitor_of(timeout_s=0.01, a=FakeEngine(hangs=True)).sample()
    assert sample.reason == "NVML: no library; engine a does not answer"


async def test_closing_closes_the_drivers_session() -> None:
    driver = FakeDriver([one_gpu()])
    monitor = monitor_of(driver)
    await monitor.sample()
    await monitor.aclose()
    assert driver.closed


async def test_the_loop_goes_on_while_the_driver_reads() -> None:
    driver = HungDriver()
    monitor = monitor_of(driver)
    async with asyncio.TaskGroup() as group:
        pending = group.create_task(monitor.sample())
        assert await asyncio.to_thread(driver.entered.wait, 10)
        assert not pending.done()
        driver.release.set()
    assert pending.result().source is GpuSource.NVML


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
