"""GPUs as every surface shows them."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from comfy_mcp.domain.gpu import (
    EngineVram,
    GoneGpu,
    GpuDevice,
    GpuProcess,
    GpuSample,
    GpuSource,
    GpuState,
    MigDevice,
    ThrottleReason,
)
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import JobId
from comfy_mcp.gpu import GpuMonitor, monitor
from comfy_mcp.operations.gpu_views import gpu_result
from comfy_mcp.operations.services import Services
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import CALLER, Bench
from tests.support.gpus import CARD, ScriptedDriver, card_stats
from tests.support.held import held
from tests.support.mcp_surface import slow_graph

BUSY = GpuDevice(
    index=0,
    name="H",
    utilization_percent=50,
    memory_used_bytes=2**30,
    memory_total_bytes=4 * 2**30,
    temperature_celsius=40,
)


def shown(*devices: GpuDevice, **more: Any) -> dict[str, Any]:
    return gpu_result(sample_of(*devices, **more)).model_dump(mode="json", by_alias=True)


def sample_of(*devices: GpuDevice, **more: Any) -> GpuSample:
    return GpuSample(source=GpuSource.NVML, devices=devices, at_ms=7, **more)


def test_a_gpu_is_shown_in_the_contracts_shape() -> None:
    item = shown(BUSY)["gpus"][0]
    assert item["memory"] == {"used": 2**30, "total": 4 * 2**30, "percentUsed": 25.0}
    assert (item["index"], item["name"], item["utilization"], item["temperature"]) == (0, "H", 50, 40)
    assert gpu_result(sample_of(BUSY)).text() == "H (50 %, 1.0 of 4.0 GiB, 40 °C)"


def test_what_is_not_known_is_null_and_not_in_the_line() -> None:
    item = shown(GpuDevice(index=0, name="M"))["gpus"][0]
    assert item["memory"] == {"used": None, "total": None, "percentUsed": None}
    assert (item["throttleReasons"], item["slowedBy"], item["processes"]) == (None, None, None)
    assert gpu_result(sample_of(GpuDevice(index=0, name="M"))).text() == "M"


def test_everything_that_a_driver_knows_is_shown() -> None:
    device = replace(
        BUSY,
        throttle_reasons=(ThrottleReason.SYNC_BOOST, ThrottleReason.SW_POWER_CAP),
        ecc_corrected=3,
        processes=(GpuProcess(pid=9, memory_bytes=5), GpuProcess(pid=10)),
        process_count=2,
        mig_devices=(MigDevice(index=1, name="slice", memory_used_bytes=1, memory_total_bytes=4),),
        graphics_clock_mhz=2500,
    )
    item = shown(device)["gpus"][0]
    assert item["throttleReasons"] == ["sync_boost", "sw_power_cap"]
    assert item["slowedBy"] == ["sw_power_cap"]
    assert (item["eccCorrected"], item["eccUncorrected"], item["graphicsClock"]) == (3, None, 2500)
    assert item["processes"] == [{"pid": 9, "memory": 5}, {"pid": 10, "memory": None}]
    assert item["mig"] == [
        {
            "index": 1,
            "name": "slice",
            "uuid": None,
            "memory": {"used": 1, "total": 4, "percentUsed": 25.0},
        }
    ]


def test_an_engines_word_stands_beside_its_gpu() -> None:
    vram = EngineVram(engine="e", name="H", type="cuda", torch_total_bytes=9, torch_free_bytes=4, gpu=0)
    (item,) = shown(BUSY, engines=(vram,))["engines"]
    assert (item["engine"], item["torchTotal"], item["torchFree"], item["gpu"]) == ("e", 9, 4, 0)
    assert (item["vramTotal"], item["vramFree"]) == (None, None)


def test_what_is_wrong_is_told_in_sentences() -> None:
    lost = replace(BUSY, index=1, state=GpuState.LOST, fault="GPU is lost")
    result = gpu_result(sample_of(BUSY, lost, gone=(GoneGpu(name="Old", uuid="GPU-1"),)))
    assert [item.uuid for item in result.gone] == ["GPU-1"]
    assert result.gpus[1].state == "lost"
    assert "(lost, 50 %" in result.text()
    assert "GPU 1 (H) does not work: GPU is lost." in result.text()
    assert "GPU Old (GPU-1) has disappeared" in result.text()


@dataclass(slots=True)
class OneSample:
    sample_now: GpuSample

    async def sample(self) -> GpuSample:
        return self.sample_now

    async def latest(self, _wait_s: float) -> GpuSample:
        return await self.sample()


async def test_the_overview_has_no_process_list_and_says_what_is_wrong_once(
    call_without_engine: Bench,
) -> None:
    hot = replace(
        BUSY,
        throttle_reasons=(ThrottleReason.HW_THERMAL,),
        processes=(GpuProcess(pid=9),),
        process_count=1,
    )
    services = replace(call_without_engine.services, gpu=cast("GpuMonitor", OneSample(sample_of(hot))))
    status = await Bench(services, call_without_engine.caller)("system_status")
    (item,) = status.gpu.gpus
    assert (item.processes, item.process_count) == (None, 1)
    assert status.text().count("too hot") == 1
    assert any("too hot" in problem for problem in status.problems)
    whole = await Bench(services, call_without_engine.caller)("gpu_status")
    assert [each.pid for each in whole.gpus[0].processes] == [9]


async def used(services: Services, workflow_id: str) -> GpuUse | None:
    """What the samples have shown of a job until now."""
    job = await services.store.get_job(JobId(workflow_id))
    return services.gpu.usage.use(job.prompt_id) if job is not None and job.prompt_id else None


async def test_a_job_on_this_machines_gpu_ends_with_what_it_took(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: the engine names a card, the driver shows it, samples are taken, the store keeps it."""

    async def stats(_client: ComfyUIClient) -> dict[str, Any]:
        return card_stats()

    monkeypatch.setattr(monitor, "Nvml", ScriptedDriver)
    monkeypatch.setattr(ComfyUIClient, "system_stats", stats)
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.02)
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        with held() as go_on:
            submitted = await call("submit_workflow", workflow=slow_graph(steps=2))
            async with asyncio.timeout(30):
                while not (use := await used(services, submitted.workflow_id)) or not use.seconds:
                    await asyncio.sleep(0.01)
            go_on()
        state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
        assert state.status == "completed"
        again = await call("workflow_status", workflow_id=submitted.workflow_id)
    wire = again.model_dump(mode="json", by_alias=True)
    assert wire["peakVramBytes"] == CARD.memory_used_bytes
    assert wire["gpuSeconds"] > 0
    assert (state.gpu_seconds, state.peak_vram_bytes) == (again.gpu_seconds, again.peak_vram_bytes)


async def test_a_job_on_an_engine_without_a_gpu_has_no_numbers(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=slow_graph(steps=1))
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.gpu_seconds, state.peak_vram_bytes) == (None, None)
