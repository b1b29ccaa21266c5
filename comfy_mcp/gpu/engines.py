"""What ComfyUI's `/system_stats` says of its devices. Source: recordings of 0.33.0 and 0.3.75.

Nothing in it is believed before it is looked at: a number that is none, is negative or contradicts its
neighbour is unknown.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.gpu import EngineVram, plain_name
from comfy_mcp.domain.ids import EngineId

MAX_DEVICES = 64
"""Taken from one engine at most."""

_NOT_GPUS = frozenset({"cpu", "meta"})
_TORCH_PREFIX = re.compile(r"^\w+:\d+ ")
_ALLOCATOR_SUFFIX = re.compile(r" : \w+$")
_MAX_COUNT = 2**53 - 1


def vram_of_engine(stats: object, engine: EngineId) -> tuple[EngineVram, ...]:
    """The GPUs of one engine. What is not of the known shape is left out."""
    devices = stats.get("devices") if isinstance(stats, Mapping) else None
    listed = devices if isinstance(devices, list) else []
    return tuple(_vram(device, engine) for device in listed if _is_gpu(device))[:MAX_DEVICES]


def _is_gpu(device: object) -> bool:
    kind = device.get("type") if isinstance(device, Mapping) else None
    return isinstance(kind, str) and bool(kind) and kind not in _NOT_GPUS


def _vram(device: Mapping[str, Any], engine: EngineId) -> EngineVram:
    total, free = _part(device.get("vram_total"), device.get("vram_free"))
    torch_total, torch_free = _part(device.get("torch_vram_total"), device.get("torch_vram_free"))
    index = _count(device.get("index"))
    return EngineVram(
        engine=engine,
        name=_plain_name(device),
        type=plain_name(device["type"]),
        index=index,
        vram_total_bytes=total,
        vram_free_bytes=free,
        torch_total_bytes=torch_total,
        torch_free_bytes=torch_free,
    )


def _plain_name(device: Mapping[str, Any]) -> str:
    """`cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync` is an NVIDIA GeForce RTX 4090."""
    name = device.get("name")
    text = name[:1_000] if isinstance(name, str) else ""
    return plain_name(_ALLOCATOR_SUFFIX.sub("", _TORCH_PREFIX.sub("", text))) or plain_name(device["type"])


def _part(total: object, free: object) -> tuple[int | None, int | None]:
    """A whole and what is free of it; more free than there is says nothing."""
    whole, part = _count(total), _count(free)
    return whole, None if whole is not None and part is not None and part > whole else part


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and 0 <= value <= _MAX_COUNT else None
