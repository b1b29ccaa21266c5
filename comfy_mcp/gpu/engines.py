"""Devices from ComfyUI's `/system_stats`. Source: recordings of 0.33.0 and 0.3.75.

Nothing in it is believed before it is looked at: a number that is none, is negative or contradicts its
neighbour is unknown.
"""

import re
from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.gpu import EngineVram, plain_name
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu.number_parsing import count, whole_and_part

MAX_DEVICES = 64
"""The most devices read from one engine."""

_NOT_GPUS = frozenset({"cpu", "meta"})
_TORCH_PREFIX = re.compile(r"^\w+:\d+ ")
_ALLOCATOR_SUFFIX = re.compile(r" : \w+$")


def vram_of_engine(stats: object, engine: EngineId) -> tuple[EngineVram, ...]:
    """The GPUs of one engine. Entries of an unknown shape are left out."""
    devices = stats.get("devices") if isinstance(stats, Mapping) else None
    listed = devices if isinstance(devices, list) else []
    return tuple(_vram(device, engine) for device in listed if _is_gpu(device))[:MAX_DEVICES]


def _is_gpu(device: object) -> bool:
    kind = device.get("type") if isinstance(device, Mapping) else None
    return isinstance(kind, str) and bool(kind) and kind not in _NOT_GPUS


def _vram(device: Mapping[str, Any], engine: EngineId) -> EngineVram:
    total, free = whole_and_part(device.get("vram_total"), device.get("vram_free"))
    _, held = whole_and_part(total, device.get("torch_vram_total"))
    torch_total, torch_free = whole_and_part(held, device.get("torch_vram_free"))
    index = count(device.get("index"))
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
