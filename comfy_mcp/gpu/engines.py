"""What ComfyUI's `/system_stats` says of its devices. Source: recordings of 0.33.0 and 0.3.75."""

import re
from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.gpu import GpuDevice
from comfy_mcp.domain.ids import EngineId

_NOT_GPUS = frozenset({"cpu", "meta"})
_TORCH_PREFIX = re.compile(r"^\w+:\d+ ")
_ALLOCATOR_SUFFIX = re.compile(r" : \w+$")


def gpus_of_engine(stats: Mapping[str, Any], engine: EngineId, first_index: int) -> tuple[GpuDevice, ...]:
    """The GPUs of one engine, numbered on from `first_index`. What is not of the known shape is left out."""
    devices = stats.get("devices")
    listed = devices if isinstance(devices, list) else []
    gpus = [device for device in listed if isinstance(device, Mapping) and _is_gpu(device)]
    return tuple(_gpu(device, engine, first_index + place) for place, device in enumerate(gpus))


def _is_gpu(device: Mapping[str, Any]) -> bool:
    return isinstance(device.get("type"), str) and device["type"] not in _NOT_GPUS


def _gpu(device: Mapping[str, Any], engine: EngineId, index: int) -> GpuDevice:
    total, free = _count(device.get("vram_total")), _count(device.get("vram_free"))
    used = None if total is None or free is None else max(total - free, 0)
    return GpuDevice(
        index=index,
        name=_plain_name(device),
        memory_used_bytes=used,
        memory_total_bytes=total,
        engine=engine,
    )


def _plain_name(device: Mapping[str, Any]) -> str:
    """`cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync` is an NVIDIA GeForce RTX 4090."""
    name = device.get("name")
    text = name if isinstance(name, str) else ""
    return _ALLOCATOR_SUFFIX.sub("", _TORCH_PREFIX.sub("", text)).strip() or str(device["type"])


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
