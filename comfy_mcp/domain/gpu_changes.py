"""When a new sample is worth telling: small wobbles are not (docs/gpu.md has the same numbers)."""

from collections.abc import Callable
from typing import TypeVar

from comfy_mcp.domain.gpu import EngineVram, GpuDevice, GpuSample, MigDevice

T = TypeVar("T")

UTILIZATION_POINTS = 10.0
MEMORY_SHARE = 0.05
"""Of the device's memory."""

TEMPERATURE_DEGREES = 5.0


def changed(before: GpuSample, after: GpuSample) -> bool:
    """Whether a reader who has seen `before` should read again. Compare with the last sample that was
    announced, not with the previous one: else a slow drift is never announced."""
    return (
        before.source is not after.source
        or before.gone != after.gone
        or (not after.devices and before.reason != after.reason)
        or _any(before.devices, after.devices, _device_changed)
        or _any(before.engines, after.engines, _engine_changed)
    )


def _device_changed(before: GpuDevice, after: GpuDevice) -> bool:
    return (
        _identity(before) != _identity(after)
        or _moved(before.utilization_percent, after.utilization_percent, UTILIZATION_POINTS)
        or _moved(before.temperature_celsius, after.temperature_celsius, TEMPERATURE_DEGREES)
        or _memory_moved(before.memory_used_bytes, after.memory_used_bytes, after.memory_total_bytes)
        or _any(before.mig_devices, after.mig_devices, _mig_changed)
    )


def _identity(device: GpuDevice) -> tuple[object, ...]:
    """The values whose smallest change is reported."""
    return (
        device.index,
        device.name,
        device.uuid,
        device.state,
        device.engine,
        device.memory_total_bytes,
        device.slowed_by,
        device.ecc_uncorrected,
    )


def _mig_changed(before: MigDevice, after: MigDevice) -> bool:
    return (before.index, before.uuid, before.memory_total_bytes) != (
        after.index,
        after.uuid,
        after.memory_total_bytes,
    ) or _memory_moved(before.memory_used_bytes, after.memory_used_bytes, after.memory_total_bytes)


def _engine_changed(before: EngineVram, after: EngineVram) -> bool:
    return (
        (before.engine, before.name, before.vram_total_bytes, before.gpu)
        != (after.engine, after.name, after.vram_total_bytes, after.gpu)
        or _memory_moved(before.vram_free_bytes, after.vram_free_bytes, after.vram_total_bytes)
        or _memory_moved(before.torch_total_bytes, after.torch_total_bytes, after.vram_total_bytes)
    )


def _any(before: tuple[T, ...], after: tuple[T, ...], differs: Callable[[T, T], bool]) -> bool:
    return len(before) != len(after) or any(differs(*pair) for pair in zip(before, after, strict=True))


def _memory_moved(before: int | None, after: int | None, total: int | None) -> bool:
    return _moved(before, after, MEMORY_SHARE * (total or 0))


def _moved(before: float | None, after: float | None, by: float) -> bool:
    """None against a number is a change; equal numbers never are."""
    if before is None or after is None:
        return before is not after
    return before != after and abs(after - before) >= by
