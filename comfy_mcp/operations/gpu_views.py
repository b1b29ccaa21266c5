"""GPUs on the wire: the v1 contract's shape, and what the sources know beyond it."""

from comfy_mcp.domain.gpu import EngineVram, GpuDevice, GpuSample, MigDevice, gpu_problems
from comfy_mcp.operations.shapes import (
    EngineVramItem,
    GoneGpuItem,
    GpuItem,
    GpuMemory,
    GpuProcessItem,
    GpuResult,
    MigItem,
)


def gpu_result(sample: GpuSample) -> GpuResult:
    return GpuResult(
        available=sample.available,
        source=sample.source.value,
        gpus=[_gpu_item(device) for device in sample.devices],
        reason=sample.reason,
        engines=[_engine_item(vram) for vram in sample.engines],
        gone=[GoneGpuItem(name=each.name, uuid=each.uuid) for each in sample.gone],
        problems=list(gpu_problems(sample)),
        sampled_at=sample.at_ms,
    )


def in_short(result: GpuResult) -> GpuResult:
    """For an overview: without the processes, which are still counted, and the problems."""
    gpus = [item.model_copy(update={"processes": None}) for item in result.gpus]
    return result.model_copy(update={"gpus": gpus, "problems": []})


def _gpu_item(device: GpuDevice) -> GpuItem:
    processes, reasons = device.processes, device.throttle_reasons
    return GpuItem(
        index=device.index,
        name=device.name,
        uuid=device.uuid,
        state=device.state.value,
        fault=device.fault,
        utilization=device.utilization_percent,
        memory=_memory(device),
        temperature=device.temperature_celsius,
        temperature_limit=device.temperature_limit_celsius,
        power_watts=device.power_watts,
        power_limit_watts=device.power_limit_watts,
        graphics_clock=device.graphics_clock_mhz,
        memory_clock=device.memory_clock_mhz,
        throttle_reasons=None if reasons is None else [reason.value for reason in reasons],
        slowed_by=None if reasons is None else [reason.value for reason in device.slowed_by],
        ecc_corrected=device.ecc_corrected,
        ecc_uncorrected=device.ecc_uncorrected,
        processes=None
        if processes is None
        else [GpuProcessItem(pid=each.pid, memory=each.memory_bytes) for each in processes],
        process_count=device.process_count,
        mig=[
            MigItem(index=each.index, name=each.name, uuid=each.uuid, memory=_memory(each))
            for each in device.mig_devices
        ],
        engine=device.engine,
    )


def _memory(device: GpuDevice | MigDevice) -> GpuMemory:
    used, total = device.memory_used_bytes, device.memory_total_bytes
    percent = round(100 * used / total, 1) if used is not None and total else None
    return GpuMemory(used=used, total=total, percent_used=percent)


def _engine_item(vram: EngineVram) -> EngineVramItem:
    return EngineVramItem(
        engine=vram.engine,
        name=vram.name,
        type=vram.type,
        index=vram.index,
        vram_total=vram.vram_total_bytes,
        vram_free=vram.vram_free_bytes,
        torch_total=vram.torch_total_bytes,
        torch_free=vram.torch_free_bytes,
        gpu=vram.gpu,
    )
