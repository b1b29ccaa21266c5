"""Merge the readings of the local driver and the engines into one sample. Pure.

An engine on this machine speaks of devices that the driver shows too: they are listed once, and the engine's
word on them stands beside. Free memory shows which of several equal cards it means: both readings are of the
whole device, moments apart. Where two fit, none is chosen.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from comfy_mcp.domain.gpu import EngineVram, GpuDevice, GpuSample, GpuSource
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu.nvml import NvmlReading

Answers = Mapping[EngineId, Sequence[EngineVram] | None]
"""Engine → its GPUs; None: it does not answer."""

SAME_TOTAL = 0.1
"""CUDA shows a little less memory than NVML: what the driver keeps for itself."""

SAME_FREE_BYTES = 64 * 2**20


def merge(
    reading: NvmlReading,
    answers: Answers,
    *,
    local: Collection[EngineId],
    at_ms: int,
    fresh: bool = True,
) -> GpuSample:
    """`local` are the engines on this machine. Without `fresh`, the answers are of an earlier moment than the
    reading: which card an engine means is then what they say themselves."""
    devices = list(reading.devices)
    engines: list[EngineVram] = []
    for engine, listed in answers.items():
        for vram in listed or ():
            here = _here(vram, reading.devices) if engine in local else []
            if here:
                engines.append(replace(vram, gpu=_certain(vram, here) if fresh else _still(vram, here)))
            else:
                engines.append(vram)
                devices.append(_device_of(vram, _next_index(devices)))
    return GpuSample(
        source=_source(reading, devices),
        devices=tuple(devices),
        at_ms=at_ms,
        reason=reading.reason if reading.devices else _why_none(reading, answers, devices),
        engines=tuple(engines),
        gone=reading.gone,
        without_gpu=tuple(engine for engine, listed in answers.items() if listed is not None and not listed),
    )


def _source(reading: NvmlReading, devices: Collection[GpuDevice]) -> GpuSource:
    if reading.devices:
        return GpuSource.NVML
    return GpuSource.ENGINE if devices else GpuSource.NONE


def _why_none(reading: NvmlReading, answers: Answers, devices: Collection[GpuDevice]) -> str | None:
    if devices:
        return None
    reasons = [
        f"engine {engine} does not answer" if listed is None else f"engine {engine} runs without a GPU"
        for engine, listed in answers.items()
    ]
    return "; ".join([reading.reason or "NVML: no devices", *reasons])


def _here(vram: EngineVram, devices: Sequence[GpuDevice]) -> list[GpuDevice]:
    """The local devices that it may be."""
    return [device for device in devices if _same_model(vram, device)]


def _same_model(vram: EngineVram, device: GpuDevice) -> bool:
    if _slice_of(vram, device):
        return True
    if vram.name != device.name:
        return False
    total, shown = device.memory_total_bytes, vram.vram_total_bytes
    return total is None or shown is None or abs(total - shown) <= SAME_TOTAL * total


def _slice_of(vram: EngineVram, device: GpuDevice) -> bool:
    """`NVIDIA A100-SXM4-40GB MIG 1g.5gb` is a part of an `NVIDIA A100-SXM4-40GB`."""
    return vram.name.startswith(f"{device.name} MIG ")


def _certain(vram: EngineVram, here: Sequence[GpuDevice]) -> int | None:
    """The index of the one device that it must be. A slice's numbers are not the device's: None."""
    if any(_slice_of(vram, device) for device in here):
        return None
    if len(here) == 1:
        return here[0].index
    alike = [device for device in here if _same_free(vram, device)]
    return alike[0].index if len(alike) == 1 else None


def _still(vram: EngineVram, here: Sequence[GpuDevice]) -> int | None:
    return vram.gpu if any(device.index == vram.gpu for device in here) else None


def _same_free(vram: EngineVram, device: GpuDevice) -> bool:
    """ComfyUI counts what its torch has reserved and does not use as free; the driver counts it as used."""
    total, used, free = device.memory_total_bytes, device.memory_used_bytes, vram.vram_free_bytes
    return (
        total is not None
        and used is not None
        and free is not None
        and abs(total - used - (free - (vram.torch_free_bytes or 0))) <= SAME_FREE_BYTES
    )


def _device_of(vram: EngineVram, index: int) -> GpuDevice:
    total, free = vram.vram_total_bytes, vram.vram_free_bytes
    return GpuDevice(
        index=index,
        name=vram.name,
        memory_used_bytes=None if total is None or free is None else total - free,
        memory_total_bytes=total,
        engine=vram.engine,
    )


def _next_index(devices: Sequence[GpuDevice]) -> int:
    return max((device.index for device in devices), default=-1) + 1
