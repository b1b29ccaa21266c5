"""Drivers, engines and samples for tests of what shows GPUs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_mcp.domain.gpu import EngineVram, GpuDevice, GpuSample, GpuSource
from comfy_mcp.gpu.nvml import NvmlReading

GIB = 2**30

CARD = GpuDevice(
    index=0,
    name="Card",
    uuid="GPU-a",
    utilization_percent=50.0,
    memory_used_bytes=4 * GIB,
    memory_total_bytes=24 * GIB,
    temperature_celsius=60.0,
)


def card_stats(**changes: Any) -> dict[str, Any]:
    """What ComfyUI's /system_stats says of CARD."""
    device = {
        "name": "cuda:0 Card : cudaMallocAsync",
        "type": "cuda",
        "index": 0,
        "vram_total": 23 * GIB,
        "vram_free": 21 * GIB,
        "torch_vram_total": 3 * GIB,
        "torch_vram_free": GIB,
    }
    return {"devices": [device | changes]}


def reading(*devices: GpuDevice) -> NvmlReading:
    return NvmlReading(devices=devices)


def sample(*devices: GpuDevice, engines: Sequence[EngineVram] = (), **more: Any) -> GpuSample:
    return GpuSample(
        source=GpuSource.NVML if devices else GpuSource.NONE,
        devices=devices,
        at_ms=1,
        engines=tuple(engines),
        **more,
    )


def busy(percent: float, **changes: Any) -> GpuDevice:
    return replace(CARD, utilization_percent=percent, **changes)


@dataclass
class ScriptedDriver:
    """Shows what the test puts in, from the next reading on."""

    shows: NvmlReading = field(default_factory=lambda: reading(CARD))
    reads: int = 0

    def read(self) -> NvmlReading:
        self.reads += 1
        return self.shows

    def close(self) -> None:
        """Nothing is open."""
