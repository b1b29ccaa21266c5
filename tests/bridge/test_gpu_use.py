"""What a job took of the GPU is written with its end."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from comfy_mcp.domain.events import JobCompleted
from comfy_mcp.domain.gpu import GpuDevice
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.gpu.engines import vram_of_engine
from tests.bridge.conftest import House
from tests.bridge.test_driver import FaultyStore, with_store
from tests.support.gpus import CARD, GIB, card_stats, sample
from tests.support.scripted_lane import ScriptedLane


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Meter:
    """A GPU whose time is the test's."""

    lane: ScriptedLane
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.usage = GpuUsage(local=[self.lane.engine], monotonic=self.clock)

    def works(self, seconds: float, **shown: Any) -> None:
        self.clock.now += seconds
        device: GpuDevice = replace(CARD, **shown)
        (vram,) = vram_of_engine(card_stats(), self.lane.engine)
        self.usage.hear(sample(device, engines=[replace(vram, gpu=0)]))


async def running(house: House, lane: ScriptedLane) -> tuple[JobId, PromptId]:
    job_id = await house.submit()
    await lane.until(lambda: bool(lane.pending))
    prompt_id = next(iter(lane.pending))
    await lane.start(prompt_id)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    return job_id, prompt_id


@pytest.fixture
def meter(lane: ScriptedLane) -> Meter:
    return Meter(lane)


async def test_a_job_ends_with_what_it_took(house: House, lane: ScriptedLane, meter: Meter) -> None:
    house.drive(lane, gpu=meter.usage)
    job_id, prompt_id = await running(house, lane)
    meter.works(10, utilization_percent=80.0, memory_used_bytes=9 * GIB)
    meter.works(10, utilization_percent=0.0)
    await lane.finish(prompt_id)
    job = await house.final(job_id)
    assert (job.gpu_seconds, job.peak_vram_bytes) == (8.0, 9 * GIB)
    (end,) = [each.event for each in await house.store.events_after(0, job_id=job_id) if each.is_final]
    assert isinstance(end, JobCompleted)
    assert end.gpu_use == GpuUse(seconds=8.0, peak_bytes=9 * GIB, held_bytes=3 * GIB)
    assert not meter.usage.running


async def test_a_job_that_no_sample_told_of_has_no_numbers(
    house: House, lane: ScriptedLane, meter: Meter
) -> None:
    house.drive(lane, gpu=meter.usage)
    job_id, prompt_id = await running(house, lane)
    await lane.finish(prompt_id)
    job = await house.final(job_id)
    assert (job.gpu_seconds, job.peak_vram_bytes) == (None, None)
    assert not meter.usage.running


async def test_attempts_add_up(house: House, lane: ScriptedLane, meter: Meter) -> None:
    house.drive(lane, gpu=meter.usage)
    job_id, first = await running(house, lane)
    meter.works(4, utilization_percent=100.0, memory_used_bytes=9 * GIB)
    await lane.restart()
    await lane.until(lambda: bool(lane.pending))
    (second,) = lane.pending
    assert second != first
    await lane.start(second)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    meter.works(2, utilization_percent=50.0)
    await lane.finish(second)
    job = await house.final(job_id)
    assert (job.attempt, job.gpu_seconds, job.peak_vram_bytes) == (2, 5.0, 9 * GIB)


async def test_a_store_that_refuses_the_end_loses_no_number(
    house: House, lane: ScriptedLane, meter: Meter
) -> None:
    store = FaultyStore(house.store)
    with_store(house, store).drive(lane, gpu=meter.usage)
    job_id, prompt_id = await running(house, lane)
    meter.works(4, utilization_percent=50.0)
    store.refused_records = 1
    await lane.finish(prompt_id)
    assert (await house.final(job_id)).gpu_seconds == 2.0


async def test_a_run_that_another_process_began_is_not_measured(
    house: House, lane: ScriptedLane, meter: Meter
) -> None:
    _, task = house.drive(lane, "first")
    job_id, prompt_id = await running(house, lane)
    task.cancel()
    await asyncio.wait([task])
    driver, _ = house.drive(lane, "second", gpu=meter.usage)
    await lane.until(lambda: driver.connected)
    meter.works(4, utilization_percent=50.0)
    await lane.finish(prompt_id)
    assert (await house.final(job_id)).gpu_seconds is None


async def test_a_tenure_that_ends_gives_its_runs_up(house: House, lane: ScriptedLane, meter: Meter) -> None:
    _, task = house.drive(lane, gpu=meter.usage)
    await running(house, lane)
    began = meter.usage.running
    task.cancel()
    await asyncio.wait([task])
    assert (began, meter.usage.running) == (True, False)
