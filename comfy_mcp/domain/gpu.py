"""What the machines are doing, as values. "No GPU" is a value, not an error."""

from dataclasses import dataclass
from enum import StrEnum


class GpuSource(StrEnum):
    """Who said it: the local driver, or an engine's /system_stats."""

    NVML = "nvml"
    ENGINE = "engine"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """One device at one moment. None = the source does not know (normal for MIG, AMD, Apple)."""

    index: int
    name: str
    uuid: str | None = None
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """All devices that one source saw. `reason` says why there are none."""

    source: GpuSource
    devices: tuple[GpuDevice, ...]
    at_ms: int
    reason: str | None = None

    @property
    def available(self) -> bool:
        return bool(self.devices)
