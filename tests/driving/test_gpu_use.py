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
from tests.driving.conftest import House
from tests.driving.test_driver import FaultyStore, with_store
from tests.support.gpus import CARD, GIB, card_stats, sample
from tests.support.scripted_place import ScriptedPlace


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Meter:
    """A GPU whose time is the test's."""

    place: ScriptedPlace
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.usage = GpuUsage(local=[self.place.engine], monotonic=self.clock)

    def works(self, seconds: float, **shown: Any) -> None:
        self.clock.now += seconds
        device: GpuDevice = replace(CARD, **shown)
        (vram,) = vram_of_engine(card_stats(), self.place.engine)
        self.usage.hear(sample(device, engines=[replace(vram, gpu=0)]))


async def running(house: House, place: ScriptedPlace) -> tuple[JobId, PromptId]:
    job_id = await house.submit()
    await place.until(lambda: bool(place.pending))
    prompt_id = next(iter(place.pending))
    await place.start(prompt_id)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    return job_id, prompt_id


@pytest.fixture
def meter(place: ScriptedPlace) -> Meter:
    return Meter(place)


async def test_a_job_ends_with_what_it_took(house: House, place: ScriptedPlace, meter: Meter) -> None:
    house.drive(place, gpu=meter.usage)
    job_id, prompt_id = await running(house, place)
    meter.works(10, utilization_percent=80.0, memory_used_bytes=9 * GIB)
    meter.works(10, utilization_percent=0.0)
    await place.finish(prompt_id)
    job = await house.final(job_id)
    assert (job.gpu_seconds, job.peak_vram_bytes) == (8.0, 9 * GIB)
    (end,) = [each.event for each in await house.store.events_after(0, job_id=job_id) if each.is_final]
    assert isinstance(end, JobCompleted)
    assert end.gpu_use == GpuUse(seconds=8.0, peak_bytes=9 * GIB, held_bytes=3 * GIB)
    assert not meter.usage.running


async def test_a_job_that_no_sample_told_of_has_no_numbers(
    house: House, place: ScriptedPlace, meter: Meter
) -> None:
    house.drive(place, gpu=meter.usage)
    job_id, prompt_id = await running(house, place)
    await place.finish(prompt_id)
    job = await house.final(job_id)
    assert (job.gpu_seconds, job.peak_vram_bytes) == (None, None)
    assert not meter.usage.running


async def test_attempts_add_up(house: House, place: ScriptedPlace, meter: Meter) -> None:
    house.drive(place, gpu=meter.usage)
    job_id, first = await running(house, place)
    meter.works(4, utilization_percent=100.0, memory_used_bytes=9 * GIB)
    await place.restart()
    await place.until(lambda: bool(place.pending))
    (second,) = place.pending
    assert second != first
    await place.start(second)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    meter.works(2, utilization_percent=50.0)
    await place.finish(second)
    job = await house.final(job_id)
    assert (job.attempt, job.gpu_seconds, job.peak_vram_bytes) == (2, 5.0, 9 * GIB)


async def test_a_store_that_refuses_the_end_loses_no_number(
    house: House, place: ScriptedPlace, meter: Meter
) -> None:
    store = FaultyStore(house.store)
    with_store(house, store).drive(place, gpu=meter.usage)
    job_id, prompt_id = await running(house, place)
    meter.works(4, utilization_percent=50.0)
    store.refused_records = 1
    await place.finish(prompt_id)
    assert (await house.final(job_id)).gpu_seconds == 2.0


async def test_a_run_that_another_process_began_is_not_measured(
    house: House, place: ScriptedPlace, meter: Meter
) -> None:
    _, task = house.drive(place, "first")
    job_id, prompt_id = await running(house, place)
    task.cancel()
    await asyncio.wait([task])
    driver, _ = house.drive(place, "second", gpu=meter.usage)
    await place.until(lambda: driver.connected)
    meter.works(4, utilization_percent=50.0)
    await place.finish(prompt_id)
    assert (await house.final(job_id)).gpu_seconds is None


async def test_a_tenure_that_ends_gives_its_runs_up(house: House, place: ScriptedPlace, meter: Meter) -> None:
    _, task = house.drive(place, gpu=meter.usage)
    await running(house, place)
    began = meter.usage.running
    task.cancel()
    await asyncio.wait([task])
    assert (began, meter.usage.running) == (True, False)
