"""Who is asked, how often, and what comes out when nobody knows."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.domain.gpu import GpuDevice, GpuSource
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu import GpuMonitor
from comfy_mcp.gpu.nvml import NvmlReading
from comfy_mcp.settings import Settings

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
    async with asyncio.timeout(60):
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
